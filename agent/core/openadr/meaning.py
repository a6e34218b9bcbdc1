"""What each payload type means to a site: one table, and figures in the house's units.

Owns the conversion from kilowatts. A figure that limits us and cannot be read stays a signal without a
figure; `plan` puts the site's fall-back in its place, since unknown is never unlimited.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from agent.core.fields import MAX_POWER_W
from agent.core.openadr.schedule import Slot
from agent.model.openadr import Event, Payload, Point, Signal, SignalKind
from sterna.units import kw_to_w


class Figure(Enum):
    """How the values of a payload type are read."""

    POWER = "kW, not negative"
    SIGNED_POWER = "kW of either sign"
    LEVEL = "0 to 3"
    PRICE = "currency per kWh; several split the interval evenly"
    GHG = "g per kWh; several split the interval evenly"
    TEXT = "words"
    NONE = "kept, not read"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a payload type is, and how its values are read."""

    kind: SignalKind
    figure: Figure


_K, _F = SignalKind, Figure

MEANINGS: dict[str, Meaning] = {
    "IMPORT_CAPACITY_LIMIT": Meaning(_K.IMPORT_LIMIT, _F.POWER),
    "EXPORT_CAPACITY_LIMIT": Meaning(_K.EXPORT_LIMIT, _F.POWER),
    "IMPORT_CAPACITY_SUBSCRIPTION": Meaning(_K.IMPORT_SUBSCRIPTION, _F.POWER),
    "IMPORT_CAPACITY_RESERVATION": Meaning(_K.IMPORT_RESERVATION, _F.POWER),
    "EXPORT_CAPACITY_SUBSCRIPTION": Meaning(_K.EXPORT_SUBSCRIPTION, _F.POWER),
    "EXPORT_CAPACITY_RESERVATION": Meaning(_K.EXPORT_RESERVATION, _F.POWER),
    # As the User Guide's examples call them.
    "CAPACITY_SUBSCRIPTION": Meaning(_K.IMPORT_SUBSCRIPTION, _F.POWER),
    "CAPACITY_RESERVATION": Meaning(_K.IMPORT_RESERVATION, _F.POWER),
    "DISPATCH_SETPOINT": Meaning(_K.SETPOINT, _F.POWER),
    "DISPATCH_SETPOINT_RELATIVE": Meaning(_K.SETPOINT_RELATIVE, _F.SIGNED_POWER),
    "SIMPLE": Meaning(_K.LEVEL, _F.LEVEL),
    "PRICE": Meaning(_K.PRICE, _F.PRICE),
    "EXPORT_PRICE": Meaning(_K.EXPORT_PRICE, _F.PRICE),
    "GHG": Meaning(_K.GHG, _F.GHG),
    "DISPATCH_INSTRUCTION": Meaning(_K.INSTRUCTION, _F.TEXT),
}

OTHER = Meaning(SignalKind.OTHER, Figure.NONE)
ALERT = Meaning(SignalKind.ALERT, Figure.TEXT)
SPLIT = (Figure.PRICE, Figure.GHG)
MAX_LEVEL = 3


def meaning(payload_type: str) -> Meaning:
    """Return what a payload type means; types that we do not know are kept, and move nothing."""
    if payload_type.startswith("ALERT_"):
        return ALERT
    return MEANINGS.get(payload_type, OTHER)


def signals(event: Event, slots: tuple[Slot, ...]) -> tuple[Signal, ...]:
    """Say what an event's placed intervals mean, in order of time and payload."""
    return tuple(
        signal
        for slot in slots
        for payload in slot.interval.payloads
        for signal in _signals(event, slot, payload)
    )


def _signals(event: Event, slot: Slot, payload: Payload) -> Iterator[Signal]:
    means = meaning(payload.type)
    if means.figure in SPLIT and len(payload.values) > 1 and slot.end_at is not None:
        part = (slot.end_at - slot.start_at) / len(payload.values)
        for index, value in enumerate(payload.values):
            start_at = slot.start_at + index * part
            last = index == len(payload.values) - 1
            one = Payload(type=payload.type, values=(value,))
            end_at = slot.end_at if last else start_at + part
            yield _signal(event, one, means=means, start_at=start_at, end_at=end_at)
        return
    yield _signal(event, payload, means=means, start_at=slot.start_at, end_at=slot.end_at)


def _signal(
    event: Event, payload: Payload, *, means: Meaning, start_at: datetime, end_at: datetime | None
) -> Signal:
    descriptor = event.descriptor(payload.type)
    words = [str(value) for value in payload.values if isinstance(value, str)]
    units = [] if descriptor is None else [descriptor.currency, descriptor.units]
    return Signal(
        kind=means.kind,
        payload_type=payload.type,
        event_id=event.id or "",
        priority=event.priority,
        start_at=start_at,
        end_at=end_at,
        value=_figure(means.figure, payload, None if descriptor is None else descriptor.units),
        unit="/".join(unit for unit in units if unit),
        text=", ".join(words)[:500],
    )


def _figure(figure: Figure, payload: Payload, units: str | None) -> float | None:
    """Read the figure; None where there is none that can be trusted."""
    numbers = [v for v in payload.values if not isinstance(v, bool | str | Point)]
    if not numbers or len(numbers) != len(payload.values):
        return None
    unit = (units or "").upper()
    if figure in (Figure.POWER, Figure.SIGNED_POWER):
        power_w = kw_to_w(min(numbers))  # several for one interval: the most restrictive
        in_bounds = abs(power_w) <= MAX_POWER_W and (figure is Figure.SIGNED_POWER or power_w >= 0)
        return power_w + 0.0 if unit in ("", "KW") and in_bounds else None
    if figure is Figure.LEVEL:
        return float(max(numbers)) if min(numbers) >= 0 else None
    if figure is Figure.PRICE:
        # An endless interval cannot be split; the dearest of its prices is the cautious one.
        return max(numbers) if unit in ("", "KWH") else None
    if figure is Figure.GHG:
        return max(numbers) if unit in ("", "GHG") else None
    return None
