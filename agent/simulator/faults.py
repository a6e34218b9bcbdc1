"""What goes wrong on purpose: a control file, looked at each tick, says which device fails and how."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

log = logging.getLogger(__name__)


class Fault(Enum):
    """Ways in which a simulated device fails."""

    DEAD = "dead"
    """It takes requests and answers nothing."""
    STUCK = "stuck"
    """Its figures stand still."""
    NAN = "nan"
    """Its figures are not-implemented, or NaN where they are floats."""
    SLOW = "slow"
    """It answers after `slow_s`."""
    GARBAGE = "garbage"
    """It answers wrong bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults in force."""

    devices: Mapping[str, Fault] = field(default_factory=dict)
    """By device: ``inverter``, ``grid`` or ``load``."""
    slow_s: float = 5.0
    limit_generation_w: float | None = None


def parse_faults(text: str, *, devices: frozenset[str]) -> Faults:
    """Read the control file's JSON, e.g. ``{"grid": "nan", "slow_s": 3, "limit_generation_w": 2000}``.

    Raises
    ------
    ValueError
        It is not JSON, or names a device, fault or figure that does not exist.
    """
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("expected an object")
    slow_s, limit_w = data.pop("slow_s", 5.0), data.pop("limit_generation_w", None)
    if unknown := set(data) - devices:
        raise ValueError(f"no such device: {', '.join(sorted(unknown))}")
    for name, figure in (("slow_s", slow_s), ("limit_generation_w", limit_w)):
        if figure is not None and not (isinstance(figure, int | float) and figure >= 0):
            raise ValueError(f"{name}: expected a number of zero or more, got {figure!r}")
    return Faults(
        devices={name: Fault(fault) for name, fault in data.items() if fault is not None},
        slow_s=float(slow_s),
        limit_generation_w=None if limit_w is None else float(limit_w),
    )


class FaultFile:
    """The control file; absent: no faults. One that cannot be read leaves the faults as they are.

    Parameters
    ----------
    path : Path or None
        Where it may appear; None: never.
    devices : frozenset of str
        Devices that may be named.
    """

    def __init__(self, path: Path | None, *, devices: frozenset[str]) -> None:
        self._path = path
        self._devices = devices
        self._seen: str | None = None
        self.faults = Faults()

    def refresh(self) -> Faults:
        """Look again."""
        text = _text_of(self._path)
        if text == self._seen:
            return self.faults
        self._seen = text
        if text is None:
            self.faults = Faults()
            return self.faults
        try:
            self.faults = parse_faults(text, devices=self._devices)
        except (ValueError, TypeError) as error:
            log.warning("the fault file is not usable", extra={"path": str(self._path), "fault": str(error)})
        else:
            named = {name: fault.value for name, fault in self.faults.devices.items()}
            log.info("faults changed", extra={"faults": named})
        return self.faults


class ComputeFile:
    """Watts that the simulated nodes draw, as their fake GPU writes them: one plain number.

    Absent means 0 W, for a simulated node that is not there draws nothing; half-written keeps the last
    figure.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._power_w = 0.0

    def refresh(self) -> float:
        """Look again; watts, >= 0."""
        text = _text_of(self._path)
        if text is None:
            self._power_w = 0.0
            return 0.0
        try:
            power_w = float(text)
        except ValueError:
            return self._power_w
        if 0 <= power_w < float("inf"):
            self._power_w = power_w
        return self._power_w


def _text_of(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
