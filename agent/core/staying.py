"""Which files of a checkpoint stay where they are, by its owner's word: never sealed, never moved."""

from collections.abc import Iterable
from fnmatch import fnmatchcase


def stays(path: str, patterns: Iterable[str]) -> bool:
    """Tell whether a file stays.

    Parameters
    ----------
    path : str
        Relative to the checkpoint's folder, with forward slashes.
    patterns : iterable of str
        Globs as the shell knows them; a ``*`` stands for slashes too, so that ``cache/*`` is all below it.
    """
    return any(fnmatchcase(path, pattern) for pattern in patterns)
