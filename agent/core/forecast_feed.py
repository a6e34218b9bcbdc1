"""The plant's forecast message (``plant/v1/<site>/forecast``), read strictly into a value or a refusal."""

from datetime import datetime, timedelta

from agent.core import fields
from agent.core.fields import FieldError, Message
from agent.model.forecast import ForecastSlot, PlantForecast
from agent.model.grid import Reason, Refusal

VERSION = 1
MAX_SLOTS = 1000
MAX_BYTES = 262_144
MAX_SLOT_S = 86_400.0
MAX_SKEW_S = 60.0
"""How far in the future it may be issued."""


def parse_forecast(payload: bytes, *, now: datetime) -> PlantForecast | Refusal:
    """Read a forecast; whatever the bytes are, the answer is a value.

    Parameters
    ----------
    payload : bytes
        As received.
    now : datetime
        Calendar now: a forecast from the future, or one that is wholly past, is refused.

    Returns
    -------
    PlantForecast or Refusal
        The refusal names the field, e.g. ``slots[3].surplusW.p50``.
    """
    try:
        message = fields.message(payload, MAX_BYTES)
        fields.version(message, VERSION)
        issued_at = fields.instant(message, "issued")
        source = fields.text(message, "source", longest=64, shortest=1)
        slots = _slots(message)
        if (issued_at - now).total_seconds() > MAX_SKEW_S:
            raise FieldError(Reason.FUTURE_ISSUE, "issued")
        if slots[-1].start_at + timedelta(seconds=slots[-1].duration_s) <= now:
            raise FieldError(Reason.EXPIRED, "slots")
    except OverflowError:
        return Refusal(reason=Reason.OUT_OF_BOUNDS, field="slots")
    except FieldError as error:
        return error.refusal
    return PlantForecast(source=source, issued_at=issued_at, slots=slots)


def _slots(message: Message) -> tuple[ForecastSlot, ...]:
    rows = message.get("slots")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_SLOTS:
        raise fields.malformed("slots", f"not a list of 1 to {MAX_SLOTS}")
    slots: list[ForecastSlot] = []
    for number, row in enumerate(rows):
        try:
            slot = _slot(row)
        except FieldError as error:
            refusal = error.refusal
            where = f"slots[{number}].{refusal.field}".rstrip(".")
            raise FieldError(refusal.reason, where, refusal.detail) from error
        previous = slots[-1] if slots else None
        if previous and slot.start_at < previous.start_at + timedelta(seconds=previous.duration_s):
            raise fields.malformed(f"slots[{number}].start", "before the end of the slot before")
        slots.append(slot)
    return tuple(slots)


def _slot(row: object) -> ForecastSlot:
    if not isinstance(row, dict):
        raise fields.malformed("", "not an object")
    surplus = row.get("surplusW")
    if not isinstance(surplus, dict):
        raise fields.malformed("surplusW", "not an object")
    try:
        p10_w, p50_w, p90_w = (fields.power_w(surplus, name) for name in ("p10", "p50", "p90"))
    except FieldError as error:
        raise FieldError(
            error.refusal.reason, f"surplusW.{error.refusal.field}", error.refusal.detail
        ) from error
    if not p10_w <= p50_w <= p90_w:
        raise fields.malformed("surplusW", "not p10 <= p50 <= p90")
    return ForecastSlot(
        start_at=fields.instant(row, "start"),
        duration_s=fields.number(row, "durationS", above=0.0, most=MAX_SLOT_S),
        surplus_p10_w=p10_w,
        surplus_p50_w=p50_w,
        surplus_p90_w=p90_w,
    )
