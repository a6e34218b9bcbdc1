"""How the `sterna` command ends: its exit codes, and the error that carries one. Imports nothing heavy."""

from enum import IntEnum

from sterna.errors import SternaError


class Exit(IntEnum):
    """Exit codes of the `sterna` command; docs/operations.md promises them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    DENIED = 6
    INTERRUPTED = 130
    """128 + SIGINT, as shells have it."""


class CallError(SternaError):
    """A call to the coordinator failed.

    Parameters
    ----------
    message : str
        For people; details on lines of their own.
    exit_code : Exit
        In which way.
    """

    def __init__(self, message: str, exit_code: Exit) -> None:
        super().__init__(message)
        self.exit_code = exit_code
