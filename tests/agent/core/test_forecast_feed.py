import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.forecast_feed import parse_forecast
from agent.model.forecast import PlantForecast
from agent.model.grid import Reason, Refusal

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def slot(offset_s: float = 0.0, duration_s: object = 900, **surplus: object) -> dict:
    start = (NOW + timedelta(seconds=offset_s)).isoformat()
    return {"start": start, "durationS": duration_s, "surplusW": {"p10": 1, "p50": 2, "p90": 3.5, **surplus}}


def payload(slots: object, **changes: object) -> bytes:
    body = {"v": 1, "issued": NOW.isoformat(), "source": "plant", "slots": slots, **changes}
    return json.dumps(body).encode()


def test_a_forecast_is_read() -> None:
    forecast = parse_forecast(payload([slot(), slot(900)]), now=NOW)
    assert isinstance(forecast, PlantForecast)
    assert [s.start_at for s in forecast.slots] == [NOW, NOW + timedelta(seconds=900)]
    first = forecast.slots[0]
    assert (first.surplus_p10_w, first.surplus_p50_w, first.surplus_p90_w) == (1.0, 2.0, 3.5)


@pytest.mark.parametrize(
    ("bytes_", "reason", "field"),
    [
        (b"\x00", Reason.MALFORMED, "message"),
        (payload([slot()], v=3), Reason.WRONG_VERSION, "v"),
        (payload([]), Reason.MALFORMED, "slots"),
        (payload("x"), Reason.MALFORMED, "slots"),
        (payload([slot(), 5]), Reason.MALFORMED, "slots[1]"),
        (payload([{"surplusW": 5}]), Reason.MALFORMED, "slots[0].surplusW"),
        (payload([slot(p50=-1)]), Reason.NEGATIVE_VALUE, "slots[0].surplusW.p50"),
        (payload([slot(p50=None)]), Reason.MALFORMED, "slots[0].surplusW.p50"),
        (payload([slot(p10=3)]), Reason.MALFORMED, "slots[0].surplusW"),
        (payload([slot(duration_s=0)]), Reason.MALFORMED, "slots[0].durationS"),
        (payload([slot(), slot(899)]), Reason.MALFORMED, "slots[1].start"),
        (payload([slot(-900)]), Reason.EXPIRED, "slots"),
        (payload([slot()], issued="2026-11-22T10:01:01Z"), Reason.FUTURE_ISSUE, "issued"),
        (payload([{**slot(), "start": "9999-12-31T23:59:59Z"}]), Reason.OUT_OF_BOUNDS, "slots"),
    ],
)
def test_refusals_name_reason_and_field(bytes_: bytes, reason: Reason, field: str) -> None:
    refusal = parse_forecast(bytes_, now=NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.field) == (reason, field)


@given(
    st.recursive(
        st.none() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_law_no_slots_escape_as_an_exception(slots: object) -> None:
    assert isinstance(parse_forecast(payload(slots), now=NOW), Refusal)
