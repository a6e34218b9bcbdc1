"""What every setting was before we changed it, in a file that outlives this process but not this boot.

A value is written down before its knob is touched: whatever dies when, no cap is ever in force without its
original on record.
"""

import json
import os
from pathlib import Path

from agent.power.refusal import Refusal


class Held:
    """The originals of the knobs that differ from what they were.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder must exist.
    boot_id : str
        Of this boot: the kernel forgets what was set, so an older file says nothing.
    """

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._values = self._read()

    def original(self, knob: str) -> int | None:
        """Return the value from before our first change; None: the knob is as it was found."""
        return self._values.get(knob)

    def keep(self, knob: str, value: int) -> None:
        """Note the value that a knob has before it is changed; the first one counts.

        Raises
        ------
        Refusal
            ``io``: it cannot be stored, so the knob must not be touched.
        """
        if knob not in self._values:
            self._store({**self._values, knob: value})

    def raise_to(self, knob: str, value: int) -> None:
        """Somebody else has set a knob above what we found: that is the original now."""
        if value > self._values.get(knob, value):
            self._store({**self._values, knob: value})

    def forget(self, knob: str) -> None:
        """Drop a record: the knob is as it was, or its new setting is somebody else's."""
        if knob in self._values:
            self._store({name: value for name, value in self._values.items() if name != knob})

    def _store(self, values: dict[str, int]) -> None:
        scratch = f"{self._path}.new"
        try:
            fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, json.dumps({"boot_id": self._boot_id, "originals": values}).encode())
            finally:
                os.close(fd)
            os.replace(scratch, self._path)  # noqa: PTH105 - no fsync: it is worth nothing after a crash of the machine
        except OSError as error:
            raise Refusal("io", f"{self._path}: originals not stored: {error.strerror}") from error
        self._values = values

    def _read(self) -> dict[str, int]:
        """Read the file; one that is missing, damaged or from another boot says nothing."""
        try:
            document = json.loads(self._path.read_bytes())
            if document["boot_id"] != self._boot_id:
                return {}
            return {str(knob): int(value) for knob, value in document["originals"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
