"""What inverters and batteries are told to do."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from agent.config.meters import ControlName, MeterTable

SHORTEST_REVERSION_S, LONGEST_REVERSION_S = 10, 3600


class SetpointBase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every ``[[setpoints]]`` has."""

    meter: str
    """Name of the device among the meters; its `writable` must name the control."""
    reversion_s: int = 60
    """Seconds of our silence after which the device returns by itself."""
    allow_lasting: bool = False
    """Set it also on a device without such a timer: it then stays in force if the agent dies."""

    @property
    def set_by(self) -> str:
        """Name of the control."""
        raise NotImplementedError

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if not SHORTEST_REVERSION_S <= self.reversion_s <= LONGEST_REVERSION_S:
            yield (
                "reversion_s",
                f"expected {SHORTEST_REVERSION_S} to {LONGEST_REVERSION_S}, got {self.reversion_s}",
            )
        for key in ("rated_w", "max_charge_w", "min_charge_w", "rise_w_per_s"):
            if getattr(self, key, 1.0) <= 0:
                yield key, f"expected more than zero, got {getattr(self, key)}"
        for key in ("export_limit_w", "band_w", "grace_s"):
            if (getattr(self, key, None) or 0.0) < 0:
                yield key, f"expected zero or more, got {getattr(self, key)}"


class ExportLimitTable(SetpointBase, frozen=True, kw_only=True, tag_field="rule", tag="export-limit"):
    """``rule = "export-limit"``: curtail a plant so that the site exports no more than it may."""

    rated_w: float
    """The plant's maximum, which its per cents count from."""
    export_limit_w: float
    """Most export at the grid connection."""
    band_w: float | None = None
    """How far below the limit to aim; default: 1 % of rated_w."""
    rise_w_per_s: float = 200.0
    """How fast the plant is let up again; it comes down at once."""
    grace_s: float = 30.0
    """For so long meters may be silent; then the plant makes at most export_limit_w."""

    @property
    def set_by(self) -> str:
        """Name of the control."""
        return "generation-limit"


class ChargeSurplusTable(SetpointBase, frozen=True, kw_only=True, tag_field="rule", tag="charge-surplus"):
    """``rule = "charge-surplus"``: charge a battery from what the site would export."""

    control: Literal["active-power", "storage-rates"]
    """What the device is told by."""
    max_charge_w: float
    """Greatest charge; storage-rates count their per cents from it."""
    min_charge_w: float = 200.0
    """With less left over the battery is left to itself."""
    band_w: float = 100.0
    """Export that is left over on purpose."""
    rise_w_per_s: float = 200.0
    """How fast charging rises; it falls at once."""
    grace_s: float = 30.0
    """For so long meters may be silent; then the battery is left to itself."""

    @property
    def set_by(self) -> str:
        """Name of the control."""
        return self.control

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        yield from super().faults()
        if self.min_charge_w > self.max_charge_w:
            yield "min_charge_w", f"{self.min_charge_w} is more than max_charge_w"


class FixedTable(SetpointBase, frozen=True, kw_only=True, tag_field="rule", tag="fixed"):
    """``rule = "fixed"``: the same values as long as the agent runs."""

    control: ControlName
    """What the device is told by."""
    values: dict[str, float]
    """By SunSpec's names, e.g. {"WMaxLimPct" = 70.0}."""

    @property
    def set_by(self) -> str:
        """Name of the control."""
        return self.control

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        from agent.model.sunspec.setpoints import CONTROLS_BY_NAME

        yield from super().faults()
        limits = CONTROLS_BY_NAME[self.control][0].limits
        if set(self.values) != set(limits):
            yield "values", f"{self.control} takes {', '.join(limits)}"
        for name, value in self.values.items():
            low, high = limits.get(name, (value, value))
            if not low <= value <= high:
                yield f"values.{name}", f"expected {low:g} to {high:g}, got {value:g}"


SetpointTable = ExportLimitTable | ChargeSurplusTable | FixedTable


def curtailed(setpoints: Sequence[SetpointTable]) -> tuple[str, ...]:
    """Name the plants that obey an export limit."""
    return tuple(table.meter for table in setpoints if isinstance(table, ExportLimitTable))


def curtails(setpoints: Sequence[SetpointTable]) -> bool:
    """Whether something at the site obeys an export limit."""
    return bool(curtailed(setpoints))


def setpoint_faults(
    setpoints: Sequence[SetpointTable], meters: Sequence[MeterTable]
) -> Iterable[tuple[str, str]]:
    """Yield where a set-point has no device, none that may be written to, or two masters."""
    known = {meter.name: meter for meter in meters}
    seen: set[tuple[str, str]] = set()
    for index, table in enumerate(setpoints):
        at, meter = f"setpoints[{index}]", known.get(table.meter)
        if meter is None:
            yield f"{at}.meter", f'no meter is named "{table.meter}"'
        elif table.set_by not in meter.writable:
            yield f"{at}.meter", f'"{table.meter}" lacks writable = ["{table.set_by}"]'
        if (table.meter, table.set_by) in seen:
            yield at, f'"{table.meter}" has two set-points for {table.set_by}'
        seen.add((table.meter, table.set_by))
        if not isinstance(table, FixedTable) and not any(one.role == "grid" for one in meters):
            yield at, "needs a meter of the role grid"
        role = {"export-limit": "generation", "charge-surplus": "battery"}.get(_rule(table))
        if meter is not None and role is not None and meter.role != role:
            yield f"{at}.meter", f'"{table.meter}" has the role {meter.role}; this rule is for {role}'


def _rule(table: SetpointTable) -> str:
    return str(table.__struct_config__.tag)
