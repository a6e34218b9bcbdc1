"""Freezing and thawing the jobs in Sterna's own job units through cgroup v2, and nothing else.

Only the job's own cgroup inside of its unit: the shim beside it must go on, for it enforces the lease.
"""

import re
import time

from agent.power.refusal import Refusal
from agent.power.tree import Tree

SLICES = ("sterna.slice/sterna-jobs.slice", "sterna.slice", "system.slice")
"""Where job units may lie, below the cgroup root."""
_UNIT = re.compile(r"sterna-job[@-][A-Za-z0-9][A-Za-z0-9_.:@\\-]{0,200}\.(service|scope)")
_GROUP = "job"
_SETTLE_S = 0.2
_LOOK_S = 0.005


class JobUnits:
    """The job units of this machine.

    Parameters
    ----------
    tree : Tree
        Of ``/sys/fs/cgroup``.
    slices : tuple of str
        Folders below it that are looked through.
    """

    def __init__(self, tree: Tree, slices: tuple[str, ...] = SLICES) -> None:
        self._tree = tree
        self._slices = slices

    def frozen(self) -> list[str]:
        """Return the names of the units whose job is told to be frozen now."""
        found = []
        for folder in self._slices:
            for name in self._tree.names(folder):
                if is_job(name) and self._tree.integer(f"{folder}/{name}/{_GROUP}/cgroup.freeze") == 1:
                    found.append(name)
        return found

    def set_frozen(self, unit: str, frozen: bool) -> bool:
        """Freeze or thaw one job, every process of it.

        Returns
        -------
        bool
            Whether the kernel says that all of it has stopped; it may need longer than we wait.

        Raises
        ------
        Refusal
            ``not_a_job``: the name is not of a job unit. ``unknown_unit``: no such unit here. ``no_group``:
            its job has no cgroup of its own. ``io``, ``not_taken``.
        """
        if not is_job(unit):
            raise Refusal("not_a_job", "unit: only jobs of sterna-job@*.service may be frozen and thawed")
        folder = next((place for place in self._slices if unit in self._tree.names(place)), None)
        if folder is None:
            raise Refusal("unknown_unit", "unit: no such unit runs on this machine")
        group = f"{folder}/{unit}/{_GROUP}"
        file = f"{group}/cgroup.freeze"
        if self._tree.text(file) is None:
            raise Refusal("no_group", "unit: its job has no cgroup of its own; its shim pauses it")
        self._tree.write(file, int(frozen))
        if self._tree.integer(file) != int(frozen):
            raise Refusal("not_taken", "unit: the kernel did not take it")
        until_s = time.clock_gettime(time.CLOCK_BOOTTIME) + _SETTLE_S
        while (now := self._stopped(group)) is not frozen:
            if time.clock_gettime(time.CLOCK_BOOTTIME) >= until_s:
                break
            time.sleep(_LOOK_S)
        return now

    def _stopped(self, path: str) -> bool:
        events = self._tree.text(f"{path}/cgroup.events") or ""
        return "frozen 1" in events.splitlines()


def is_job(unit: str) -> bool:
    """Tell whether a unit's name is that of a job of ours."""
    return _UNIT.fullmatch(unit) is not None
