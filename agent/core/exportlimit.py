"""SunSpec model 704 as a limit on what the site feeds in: what a write means, what the registers say. Pure.

Two of its controls are served, each with its own reversion: WMaxLimPct, a part of WMax, and WSet, watts. Both
can only take generation away: a set-point is a limit here, as nobody can order the sun. Values that were
written while a control is off are *staged* by the client that wrote them; its switch makes them a command.
While it is on, what is written holds at once.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.core.commands import MAX_DURATION_S, LimitRequest, Reversion
from agent.core.limits import HeldCommand
from agent.model.grid import Reason, Refusal
from agent.model.limits import LimitKind
from agent.model.sunspec.codec import Value

PCT_SCALE = -2
"""Per cents are written in hundredths."""
WATTS = 1
"""The one WSetMod that is served."""
_NEGATIVE_32 = 0x80000000
_OFF, _ON = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One control's points by name; `step_frac` is a step of its value as a part of WMax, None: a watt."""

    name: str
    switch: str
    value: str
    after: str
    after_switch: str
    timer: str
    remaining: str
    step_frac: float | None = None

    @property
    def lasting(self) -> frozenset[str]:
        """What a client writes once for all its commands: the reversion."""
        return frozenset({self.after, self.after_switch, self.timer})

    @property
    def points(self) -> frozenset[str]:
        """Everything that may be written."""
        return self.lasting | {self.switch, self.value}

    def watts(self, raw: int, rated_w: float) -> float:
        """Read a value as it was written."""
        return float(raw) if self.step_frac is None else raw * self.step_frac * rated_w

    def raw(self, power_w: float, rated_w: float) -> int:
        """Write a value; `rated_w` > 0."""
        return round(power_w if self.step_frac is None else power_w / (self.step_frac * rated_w))


W_MAX = Control(
    name="wmaxlim",
    switch="WMaxLimPctEna",
    value="WMaxLimPct",
    after="WMaxLimPctRvrt",
    after_switch="WMaxLimPctEnaRvrt",
    timer="WMaxLimPctRvrtTms",
    remaining="WMaxLimPctRvrtRem",
    step_frac=0.0001,
)
W_SET = Control(
    name="wset",
    switch="WSetEna",
    value="WSet",
    after="WSetRvrt",
    after_switch="WSetEnaRvrt",
    timer="WSetRvrtTms",
    remaining="WSetRvrtRem",
)
CONTROLS = (W_MAX, W_SET)
MODE = "WSetMod"
POINTS = W_MAX.points | W_SET.points | {MODE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What holds of one control: its command in force, and its reversion; None: there is none."""

    limit: HeldCommand | None
    after: HeldCommand | None = None


def registers(control: Control, standing: Standing, *, now_boot_s: float, rated_w: float) -> dict[str, int]:
    """Tell a control's points, raw; a control that is off shows the site's whole export.

    Parameters
    ----------
    control : Control
        One of `CONTROLS`.
    standing : Standing
        What holds of it.
    now_boot_s : float
        CLOCK_BOOTTIME now, in seconds.
    rated_w : float
        WMax, > 0.
    """
    limit, after = standing.limit, standing.after
    timed = limit is not None and limit.end_boot_s is not None
    limit_w = None if limit is None else limit.command.value_w
    after_w = after.command.value_w if timed and after is not None else None
    told = {
        control.switch: _OFF if limit_w is None else _ON,
        control.value: control.raw(rated_w if limit_w is None else limit_w, rated_w),
        control.after: control.raw(rated_w if after_w is None else after_w, rated_w),
        control.after_switch: _OFF if after_w is None else _ON,
        control.timer: 0,
        control.remaining: 0,
    }
    if limit is not None and limit_w is not None and limit.end_boot_s is not None:
        told[control.timer] = round(limit.end_boot_s - limit.start_boot_s)
        told[control.remaining] = round(limit.remaining_s(now_boot_s) or 0.0)
    return told


def values(raw: Mapping[str, int]) -> dict[str, Value]:
    """Tell the points in SunSpec's units, with the scale factors, for the encoder."""
    per_cent = {W_MAX.value, W_MAX.after}
    told: dict[str, Value] = {
        name: number * 10.0**PCT_SCALE if name in per_cent else number for name, number in raw.items()
    }
    return told | {MODE: WATTS, "WMaxLimPct_SF": PCT_SCALE, "WSet_SF": 0}


def command(
    control: Control,
    written: Mapping[str, int],
    shown: Mapping[str, int],
    *,
    last: int | None,
    now: datetime,
    rated_w: float,
) -> LimitRequest | Refusal | None:
    """Make the command that a write is.

    Parameters
    ----------
    control : Control
        One of `CONTROLS`.
    written : mapping of point name to int
        What this write set of `control.points`, raw.
    shown : mapping of point name to int
        What the client saw before it: `registers`, and over them what it had staged.
    last : int or None
        The last sequence of this control; None: none ever.
    now : datetime
        Calendar now; a Modbus write is issued as it arrives.
    rated_w : float
        WMax, > 0.

    Returns
    -------
    LimitRequest, Refusal or None
        None: the control is off and stays so; the values are only staged.
    """
    meant = {**shown, **written}
    # The sequence before it belongs to the reversion.
    sequence = 2 if last is None else last + 2
    switch, duration_s = meant[control.switch], meant[control.timer]
    refusal = _refusal(control, meant, rated_w, f"modbus-{control.name}-{sequence}")
    if refusal is not None:
        return refusal
    if switch == _OFF and control.switch not in written:
        return None
    limit_w = control.watts(meant[control.value], rated_w) if switch == _ON else None
    timed = switch == _ON and duration_s > 0
    after_w = control.watts(meant[control.after], rated_w) if meant[control.after_switch] == _ON else None
    content = f"{sequence}|{limit_w}|{duration_s}|{after_w}"
    return LimitRequest(
        command_id=f"modbus-{control.name}-{sequence}",
        sequence=sequence,
        kind=LimitKind.EXPORT_CAPACITY_LIMIT,
        issued_at=now,
        value_w=limit_w,
        start_at=None,
        duration_s=float(duration_s) if timed else None,
        ramp_s=0.0,
        reason=f"Modbus {control.switch}",
        expires_at=None,
        site=None,
        digest=hashlib.sha256(content.encode()).hexdigest(),
        issued_here=True,
        reversion=Reversion(value_w=after_w) if timed else None,
    )


def _refusal(control: Control, meant: Mapping[str, int], rated_w: float, command_id: str) -> Refusal | None:
    """Say what no control of this kind can have."""
    most = control.raw(rated_w, rated_w)
    for name in (control.switch, control.after_switch):
        if meant[name] not in {_OFF, _ON}:
            return Refusal(reason=Reason.MALFORMED, field=name, command_id=command_id)
    for name in (control.value, control.after):
        if meant[name] >= _NEGATIVE_32:
            # To absorb is not ours to order: charging has rules of its own.
            return Refusal(reason=Reason.NEGATIVE_VALUE, field=name, command_id=command_id)
        if meant[name] > most:
            return Refusal(reason=Reason.OUT_OF_BOUNDS, field=name, command_id=command_id)
    if meant[control.timer] > MAX_DURATION_S:
        return Refusal(reason=Reason.OUT_OF_BOUNDS, field=control.timer, command_id=command_id)
    return None
