"""What a report can tell, in OpenADR's units, and its JSON. Knows no meter; is handed figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.model.figures import Figure, Quantity, Window
from agent.model.openadr import Due, ReportDescriptor
from agent.model.readings import Quality
from sterna.units import w_to_kw


@dataclass(frozen=True, slots=True)
class Term:
    """How a report names a quantity."""

    quantity: Quantity
    units: str
    per_unit: float = 1.0


_KILO = w_to_kw(1.0)
_Q = Quantity
_ENERGY = {"": Term(_Q.IMPORT_WH, "KWH", _KILO), "KWH": Term(_Q.IMPORT_WH, "KWH", _KILO)}
_POWER = {"": Term(_Q.IMPORT_W, "KW", _KILO), "KW": Term(_Q.IMPORT_W, "KW", _KILO)}


def _only(quantity: Quantity, units: str, per_unit: float = 1.0) -> dict[str, Term]:
    return {"": Term(quantity, units, per_unit), units: Term(quantity, units, per_unit)}


TERMS: dict[str, dict[str, Term]] = {
    "USAGE": {**_ENERGY, "KW": _POWER["KW"]},
    "USAGE_FORECAST": {**_ENERGY, "KW": _POWER["KW"]},
    "DEMAND": _POWER,
    "READING": {
        **_POWER,
        "KWH": _ENERGY["KWH"],
        "VOLTS": Term(_Q.VOLTAGE_V, "VOLTS"),
        "KVAR": Term(_Q.REACTIVE_VAR, "KVAR", _KILO),
    },
    "BASELINE": _only(_Q.BASELINE_W, "KW", _KILO),
    "DELTA_USAGE": _only(_Q.DELTA_WH, "KWH", _KILO),
    "SETPOINT": _only(_Q.LIMIT_W, "KW", _KILO),
    "SIMPLE_LEVEL": {"": Term(_Q.LEVEL, "")},
    "OPERATING_STATE": {"": Term(_Q.OPERATING_STATE, "")},
    "LOAD_SHED_DELTA_AVAILABLE": _only(_Q.SHED_AVAILABLE_W, "KW", _KILO),
    # Seen from the grid, leaving load off regulates up and drawing more regulates down.
    "UP_REGULATION_AVAILABLE": _only(_Q.SHED_AVAILABLE_W, "KW", _KILO),
    "DOWN_REGULATION_AVAILABLE": _only(_Q.RISE_AVAILABLE_W, "KW", _KILO),
    "STORAGE_USABLE_CAPACITY": _only(_Q.BATTERY_CAPACITY_WH, "KWH", _KILO),
    "STORAGE_CHARGE_LEVEL": _only(_Q.BATTERY_SOC_FRAC, "PERCENT"),
    "STORAGE_MAX_DISCHARGE_POWER": _only(_Q.BATTERY_DISCHARGE_MAX_W, "KW", _KILO),
    "STORAGE_MAX_CHARGE_POWER": _only(_Q.BATTERY_CHARGE_MAX_W, "KW", _KILO),
}

_QUALITY = {
    Quality.OK: "OK",
    Quality.STALE: "ESTIMATED",
    Quality.ESTIMATED: "ESTIMATED",
    Quality.BAD: "BAD",
}


def term(descriptor: ReportDescriptor) -> Term | None:
    """Return what a descriptor asks for; None: nothing that a site can tell."""
    return TERMS.get(descriptor.payload_type, {}).get((descriptor.units or "").upper())


def body(
    due: Due,
    figures: Mapping[tuple[int, int], Figure],
    *,
    client_name: str,
    resource_name: str,
) -> dict[str, object]:
    """Write a report.

    Parameters
    ----------
    due : Due
        What is to be told.
    figures : mapping of (descriptor number, window number) to Figure
        What could be told; what is missing is reported as such.
    client_name, resource_name : str
        As registered with the VTN.
    """
    told = [(n, d, t) for n, d in enumerate(due.descriptors) if (t := term(d)) is not None]
    aggregate = any(descriptor.aggregate for _, descriptor, _ in told)
    resource: dict[str, object] = {
        "resourceName": "AGGREGATED_REPORT" if aggregate else resource_name,
        "intervals": [_interval(number, window, told, figures) for number, window in enumerate(due.windows)],
    }
    return {
        "reportName": f"{due.event.name or due.event.id}-{due.group}-{due.number}",
        "eventID": due.event.id,
        "clientName": client_name,
        "payloadDescriptors": [_descriptor(descriptor, found) for _, descriptor, found in told],
        "resources": [resource],
    }


_Told = Sequence[tuple[int, ReportDescriptor, Term]]


def _interval(
    number: int, window: Window, told: _Told, figures: Mapping[tuple[int, int], Figure]
) -> dict[str, object]:
    """Write one interval; its quality is that of its worst figure."""
    payloads: list[dict[str, object]] = []
    words = []
    for place, descriptor, found in told:
        figure = figures.get((place, number))
        words.append("MISSING" if figure is None else _QUALITY[figure.quality])
        if figure is not None:
            payloads.append({"type": descriptor.payload_type, "values": [_scaled(figure.value, found)]})
    worst = min(words, key=_WORST.index)
    seconds = (window.end_at - window.start_at).total_seconds()
    return {
        "id": window.id,
        "intervalPeriod": {"start": _instant(window.start_at), "duration": f"PT{seconds:.0f}S"},
        "payloads": [*payloads, {"type": "DATA_QUALITY", "values": [worst]}],
    }


_WORST = ("MISSING", "BAD", "ESTIMATED", "OK")


def _scaled(value: float | str, found: Term) -> float | str:
    return value if isinstance(value, str) else round(value * found.per_unit, 6)


def _descriptor(descriptor: ReportDescriptor, found: Term) -> dict[str, object]:
    written: dict[str, object] = {
        "objectType": "REPORT_PAYLOAD_DESCRIPTOR",
        "payloadType": descriptor.payload_type,
    }
    if descriptor.reading_type is not None:
        written["readingType"] = descriptor.reading_type
    if found.units:
        written["units"] = found.units
    return written


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
