"""Reads and probes files below ``/sys``: what cannot be read is None, never an error and never zero."""

import os
from pathlib import Path


def read_text(path: Path) -> str | None:
    """Return a file's text without its line end; None when it cannot be read.

    Device-tree strings end in a NUL, which is taken off as well.
    """
    try:
        return path.read_text().strip().rstrip("\0")
    except (OSError, UnicodeDecodeError):
        return None


def read_int(path: Path) -> int | None:
    """Return a file's whole number in the file's own unit; None when it cannot be read or is none."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def is_writable(path: Path) -> bool:
    """Tell whether this process may write a file, as far as it can be told without writing."""
    try:
        # The mode as well: root is told "yes" for a file without a write bit, and sysfs refuses it.
        return bool(path.stat().st_mode & 0o222) and os.access(path, os.W_OK)
    except OSError:
        return False
