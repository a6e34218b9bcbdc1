"""What the hooks tell people, in the job's log."""

import sys


def say(text: str) -> None:
    """Write one line."""
    sys.stderr.write(f"sterna: {text}\n")
    sys.stderr.flush()
