"""Where the `sterna` command prints for people."""

from rich.console import Console

PIPE_COLUMNS = 200
"""Width of tables where nobody's terminal sets one: lines that `grep` can use."""


def open_console(*, stderr: bool = False) -> Console:
    """Return standard output or error; a job's name may have brackets and colons: no markup here."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    return console
