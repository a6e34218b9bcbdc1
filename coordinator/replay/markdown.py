"""Tables in Markdown, as every page of results has them."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], lines: Iterable[Sequence[str]], *, texts: int) -> str:
    """Return a table; its first `texts` columns are words, the others figures."""
    rules = ("---",) * texts + ("---:",) * (len(head) - texts)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rules, *lines))
