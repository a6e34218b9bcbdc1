"""Clocks of GPUs (devfreq) and CPUs (cpufreq): what they can be set to, what they are, and setting them.

Hertz everywhere; cpufreq's kilohertz end here. A clock is never set above what it was when we first touched
it: that ceiling is the owner's (an nvpmodel mode, say), not ours.
"""

from fnmatch import fnmatchcase
from typing import NamedTuple

from agent.power.held import Held
from agent.power.refusal import Refusal
from agent.power.tree import Tree

GPU_PATTERNS = ("gpu-gpc-*", "gpu-nvd-*", "*.gpu", "*.gpu.0", "*.ga10b", "*.gv11b", "*.gp10b", "*.gm20b")
"""devfreq names of GPUs; other devices (memory, video) are left alone."""
CPU_PATTERNS = ("policy[0-9]", "policy[0-9][0-9]", "policy[0-9][0-9][0-9]")
_DEVFREQ = "class/devfreq"
_CPUFREQ = "devices/system/cpu/cpufreq"


class _Kind(NamedTuple):
    """Where one kind of clock has its files, and how many hertz their unit is."""

    name: str
    folder: str
    patterns: tuple[str, ...]
    unit_hz: int
    highest: str
    lowest: str
    steps: str
    bounds: tuple[str, ...] = ()


_KINDS = (
    _Kind(
        name="gpu",
        folder=_DEVFREQ,
        patterns=GPU_PATTERNS,
        unit_hz=1,
        highest="max_freq",
        lowest="min_freq",
        steps="available_frequencies",
    ),
    _Kind(
        name="cpu",
        folder=_CPUFREQ,
        patterns=CPU_PATTERNS,
        unit_hz=1000,
        highest="scaling_max_freq",
        lowest="scaling_min_freq",
        steps="scaling_available_frequencies",
        bounds=("cpuinfo_min_freq", "cpuinfo_max_freq"),
    ),
)


class Clocks:
    """The clocks of this machine.

    Parameters
    ----------
    tree : Tree
        Of ``/sys``.
    held : Held
        Remembers what was found.
    """

    def __init__(self, tree: Tree, held: Held) -> None:
        self._tree = tree
        self._held = held

    def devices(self, kind: str) -> list[str]:
        """Return the names of the clocks of one kind, ``gpu`` or ``cpu``."""
        files = _kind(kind)
        return [name for name in self._tree.names(files.folder) if _matches(files, name)]

    def status(self, kind: str, device: str) -> dict[str, object]:
        """Read one clock back: what is set, what it may be set to, and what it was before we changed it."""
        files = self._found(kind, device)
        steps_hz = self._steps_hz(files, device)
        return {
            "device": device,
            "max_hz": self._get_hz(files, device, files.highest),
            "min_hz": self._get_hz(files, device, files.lowest),
            "steps_hz": steps_hz,
            "original_max_hz": self._held.original(_knob(files, device, files.highest)),
            "original_min_hz": self._held.original(_knob(files, device, files.lowest)),
            "writable": bool(steps_hz) and self._tree.writable(_path(files, device, files.highest)),
        }

    def set_max_hz(self, kind: str, device: str, asked_hz: int | None) -> int:
        """Set the highest step that is not above what is asked, and return what is in force then.

        Parameters
        ----------
        kind, device : str
            Which clock.
        asked_hz : int or None
            Hertz; below the lowest step: that one. None: as it was before we changed it.

        Raises
        ------
        Refusal
            ``unknown_device``, ``no_range``, ``io``, or ``not_taken``: the kernel holds a higher clock.
        """
        files = self._found(kind, device)
        steps_hz = self._steps_hz(files, device)
        now_hz = self._get_hz(files, device, files.highest)
        if not steps_hz or now_hz is None:
            raise Refusal("no_range", f"{device}: does not say which clocks it has")
        knob = _knob(files, device, files.highest)
        self._held.raise_to(knob, now_hz)
        ceiling_hz = self._held.original(knob) or now_hz
        target_hz = ceiling_hz if asked_hz is None else _step(steps_hz, min(asked_hz, ceiling_hz))
        if target_hz != now_hz:
            self._held.keep(knob, now_hz)
            self._lower_floor(files, device, target_hz)
            self._put_hz(files, device, files.highest, target_hz)
        set_hz = self._get_hz(files, device, files.highest)
        if set_hz is None or set_hz > target_hz:
            raise Refusal("not_taken", f"{device}: asked for {target_hz} Hz, reads {set_hz} Hz")
        if set_hz >= ceiling_hz:
            self._held.forget(knob)
        self._lift_floor(files, device, set_hz)
        return set_hz

    def restore(self, kind: str, device: str, *, full: bool) -> int | None:
        """Undo our changes to one clock; return what is in force then, None: it cannot be read.

        Parameters
        ----------
        kind, device : str
            Which clock.
        full : bool
            To the highest step whatever the clock was before.
        """
        files = self._found(kind, device)
        steps_hz = self._steps_hz(files, device)
        if full and steps_hz:
            self._put_hz(files, device, files.highest, steps_hz[-1])
            self._held.forget(_knob(files, device, files.highest))
            self._lift_floor(files, device, steps_hz[-1])
        elif self._held.original(_knob(files, device, files.highest)) is not None:
            return self.set_max_hz(kind, device, None)
        return self._get_hz(files, device, files.highest)

    def caps_hz(self) -> list[tuple[str, str, int]]:
        """Return what is held below its original now: kind, device, hertz."""
        found = []
        for files in _KINDS:
            for device in self.devices(files.name):
                now_hz = self._get_hz(files, device, files.highest)
                if (
                    now_hz is not None
                    and self._held.original(_knob(files, device, files.highest)) is not None
                ):
                    found.append((files.name, device, now_hz))
        return found

    def adopt(self) -> None:
        """Take every clock as it is now for its original: its owner has set it anew."""
        for files in _KINDS:
            for device in self.devices(files.name):
                self._held.forget(_knob(files, device, files.highest))
                self._held.forget(_knob(files, device, files.lowest))

    def _lower_floor(self, files: _Kind, device: str, target_hz: int) -> None:
        """Lower the least clock first where it is in the way (jetson_clocks sets it to the highest)."""
        floor_hz = self._get_hz(files, device, files.lowest)
        if floor_hz is not None and floor_hz > target_hz:
            self._held.keep(_knob(files, device, files.lowest), floor_hz)
            self._put_hz(files, device, files.lowest, target_hz)

    def _lift_floor(self, files: _Kind, device: str, set_hz: int) -> None:
        """Give the least clock back as far as there is room for it."""
        knob = _knob(files, device, files.lowest)
        original_hz = self._held.original(knob)
        if original_hz is None:
            return
        self._put_hz(files, device, files.lowest, min(original_hz, set_hz))
        if original_hz <= set_hz:
            self._held.forget(knob)

    def _found(self, kind: str, device: str) -> _Kind:
        """Check a name against what is there: no name of a request ever becomes a path by itself."""
        if device not in self.devices(kind):
            raise Refusal("unknown_device", f"device: no {kind} clock of this name on this machine")
        return _kind(kind)

    def _steps_hz(self, files: _Kind, device: str) -> list[int]:
        """Return what a clock can be set to, ascending; empty when the driver does not say."""
        text = self._tree.text(_path(files, device, files.steps)) or ""
        steps = {int(word) for word in text.split() if word.isascii() and word.isdigit()}
        if not steps and files.bounds:
            found = [self._tree.integer(_path(files, device, name)) for name in files.bounds]
            lowest, highest = (bound or 0 for bound in found)
            # Such a driver takes any clock between its bounds: a hundred steps are as good.
            steps = {lowest + (highest - lowest) * part // 100 for part in range(101)} if lowest else set()
        return sorted(step * files.unit_hz for step in steps if step > 0)

    def _get_hz(self, files: _Kind, device: str, file: str) -> int | None:
        value = self._tree.integer(_path(files, device, file))
        return None if value is None else value * files.unit_hz

    def _put_hz(self, files: _Kind, device: str, file: str, value_hz: int) -> None:
        self._tree.write(_path(files, device, file), value_hz // files.unit_hz)


def _kind(name: str) -> _Kind:
    return next(files for files in _KINDS if files.name == name)


def _matches(files: _Kind, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in files.patterns)


def _path(files: _Kind, device: str, file: str) -> str:
    return f"{files.folder}/{device}/{file}"


def _knob(files: _Kind, device: str, file: str) -> str:
    return f"{files.name}/{device}/{file}"


def _step(steps_hz: list[int], asked_hz: int) -> int:
    return max((step_hz for step_hz in steps_hz if step_hz <= asked_hz), default=steps_hz[0])
