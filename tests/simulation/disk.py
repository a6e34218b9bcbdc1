"""A disk with a cache: what was not synced may be gone after a power cut, one value at a time.

A process that is killed loses nothing of what it wrote: the kernel still has it.
"""

import random
from typing import Any

Folder = tuple[str, str]
_ABSENT: Any = object()


class Disk:
    """Folders of named values; a value is replaced whole, as by a rename."""

    def __init__(self) -> None:
        self._now: dict[Folder, dict[str, Any]] = {}
        self._synced: dict[tuple[Folder, str], Any] = {}
        """What a power cut would leave of each value that has changed since its last sync."""

    def folder(self, folder: Folder) -> dict[str, Any]:
        """Return what is there now. Read only."""
        return self._now.get(folder, {})

    def read(self, folder: Folder, name: str) -> Any:
        return self._now.get(folder, {}).get(name)

    def write(self, folder: Folder, name: str, value: Any, *, durable: bool) -> None:
        """Put a value; `durable`: it is on the platter before this returns."""
        self._note(folder, name)
        self._now.setdefault(folder, {})[name] = value
        if durable:
            del self._synced[folder, name]

    def remove(self, folder: Folder, name: str, *, durable: bool = False) -> None:
        if name in self._now.get(folder, {}):
            self._note(folder, name)
            del self._now[folder][name]
            if durable:
                del self._synced[folder, name]

    def remove_all(self, folder: Folder) -> None:
        for name in list(self._now.get(folder, {})):
            self.remove(folder, name)

    def sync(self, folder: Folder) -> None:
        """Make everything in a folder durable."""
        self._synced = {key: value for key, value in self._synced.items() if key[0] != folder}

    def power_cut(self, chance: random.Random, survival: float = 0.5) -> None:
        """Lose what was not synced; each value by itself may have been written back in time."""
        for (folder, name), value in self._synced.items():
            if chance.random() < survival:
                continue
            if value is _ABSENT:
                self._now[folder].pop(name, None)
            else:
                self._now.setdefault(folder, {})[name] = value
        self._synced.clear()

    def _note(self, folder: Folder, name: str) -> None:
        self._synced.setdefault((folder, name), self._now.get(folder, {}).get(name, _ABSENT))
