"""What must be written to make a device do something, in which order, and what it does when we fall silent.

Data and pure functions; who may write at all is `agent.modbus`'s business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.model.sunspec.battery import BATTERY
from agent.model.sunspec.codec import Value, decode, raw_value
from agent.model.sunspec.controls import CONTROLS
from agent.model.sunspec.der_controls import DER_CONTROLS
from agent.model.sunspec.points import Model
from agent.model.sunspec.storage import STORAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One thing that a model lets us set.

    Parameters
    ----------
    name : str
        As configured.
    model : Model
        Where it is.
    limits : mapping of str to (float, float)
        The points that carry the wish, with the least and greatest value in the point's unit.
    timer : str
        Point with the seconds after which the device returns by itself; empty: it never does.
    first : mapping of str to int
        Points that are set beside the wish.
    on, off : mapping of str to int
        Written last, to put it in force and to end it.
    """

    name: str
    model: Model
    limits: Mapping[str, tuple[float, float]]
    timer: str
    first: Mapping[str, int] = field(default_factory=dict)
    on: Mapping[str, int] = field(default_factory=dict)
    off: Mapping[str, int] = field(default_factory=dict)

    @property
    def points(self) -> tuple[str, ...]:
        """Every point that it may write."""
        names = (*self.limits, *((self.timer,) if self.timer else ()), *self.first, *self.on, *self.off)
        return tuple(dict.fromkeys(names))


GENERATION_LIMIT = Control(
    name="generation-limit",
    model=DER_CONTROLS,
    limits={"WMaxLimPct": (0.0, 100.0)},
    timer="WMaxLimPctRvrtTms",
    first={"WMaxLimPctEnaRvrt": 0},
    on={"WMaxLimPctEna": 1},
    off={"WMaxLimPctEna": 0},
)
GENERATION_LIMIT_BASIC = Control(
    name="generation-limit",
    model=CONTROLS,
    limits={"WMaxLimPct": (0.0, 100.0)},
    timer="WMaxLimPct_RvrtTms",
    on={"WMaxLim_Ena": 1},
    off={"WMaxLim_Ena": 0},
)
ACTIVE_POWER = Control(
    name="active-power",
    model=DER_CONTROLS,
    # Injection is positive, charging negative: SunSpec's sign, not the house's.
    limits={"WSet": (-1e9, 1e9)},
    timer="WSetRvrtTms",
    first={"WSetMod": 1, "WSetEnaRvrt": 0},
    on={"WSetEna": 1},
    off={"WSetEna": 0},
)
STORAGE_RATES = Control(
    name="storage-rates",
    model=STORAGE,
    limits={"InWRte": (-100.0, 100.0), "OutWRte": (-100.0, 100.0)},
    timer="InOutWRte_RvrtTms",
    on={"StorCtl_Mod": 3},
    off={"StorCtl_Mod": 0},
)
BATTERY_CONNECTION = Control(name="battery-connection", model=BATTERY, limits={"SetOp": (1.0, 2.0)}, timer="")

CONTROLS_BY_NAME: Mapping[str, tuple[Control, ...]] = {
    "generation-limit": (GENERATION_LIMIT, GENERATION_LIMIT_BASIC),
    "active-power": (ACTIVE_POWER,),
    "storage-rates": (STORAGE_RATES,),
    "battery-connection": (BATTERY_CONNECTION,),
}
"""What can be configured, with the models that can do it, the preferred one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Registers in a row, from a model's ID register on."""

    offset: int
    registers: tuple[int, ...]


def missing(control: Control, image: Sequence[int]) -> tuple[str, ...]:
    """Name the points of a control that the device does not implement, by its registers from ID on."""
    values = decode(control.model, image)
    return tuple(name for name in control.points if values[name] is None)


def apply_writes(
    control: Control, image: Sequence[int], wish: Mapping[str, float], *, reversion_s: int
) -> list[Write]:
    """Make the writes that put a wish in force: the wish and its timer first, the switch last.

    Parameters
    ----------
    control : Control
        What is set.
    image : sequence of int
        The model's registers as read just now: they hold the scale factors.
    wish : mapping of str to float
        A value for every point of ``control.limits``.
    reversion_s : int
        Seconds after which the device shall return by itself.

    Raises
    ------
    ValueError
        A value is missing, beyond its limits, or does not fit its registers.
    """
    if set(wish) != set(control.limits):
        raise ValueError(f"{control.name}: expected {', '.join(control.limits)}, got {', '.join(wish)}")
    for name, value in wish.items():
        low, high = control.limits[name]
        if not low <= value <= high:
            raise ValueError(f"{control.name}: {name} {value:g} is not within {low:g}..{high:g}")
    lacking = missing(control, image)
    aside: dict[str, float] = dict(control.first)
    if control.timer:
        aside[control.timer] = reversion_s
    values = {name: value for name, value in aside.items() if name not in lacking} | dict(wish)
    return [*_joined(control.model, image, values), *_joined(control.model, image, control.on)]


def release_writes(control: Control, image: Sequence[int]) -> list[Write]:
    """Make the writes that end it; none for a control that has no switch."""
    return _joined(control.model, image, control.off)


def _joined(model: Model, image: Sequence[int], values: Mapping[str, float]) -> list[Write]:
    """Write neighbours at once, so that a device sees them together."""
    known: dict[str, Value] = decode(model, image)
    writes: list[Write] = []
    for point in sorted((model.point(name) for name in values), key=lambda point: point.offset):
        registers = tuple(raw_value(model, point.name, values[point.name], known.get(point.sf)))
        last = writes[-1] if writes else None
        if last is not None and last.offset + len(last.registers) == point.offset:
            writes[-1] = Write(offset=last.offset, registers=(*last.registers, *registers))
        else:
            writes.append(Write(offset=point.offset, registers=registers))
    return writes
