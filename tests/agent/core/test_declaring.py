"""Which signals make energy count as surplus, when, and how much."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.declaring import AHEAD, MOST, SurplusRules, declare, declare_curtailed
from agent.model.limits import Limit
from agent.model.openadr import Signal, SignalKind

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
RULES = SurplusRules(price_below_per_kwh=0.0, price_w=5000.0, curtailed_w=3000.0)
Hours = tuple[float, float | None]
HOUR = timedelta(hours=1)


def at(hours: float) -> datetime:
    return NOW + timedelta(hours=hours)


def signal(
    hours: Hours, value: float | None, kind: SignalKind = SignalKind.PRICE, priority: int | None = None
) -> Signal:
    start, end = hours
    return Signal(
        kind=kind,
        payload_type=kind.name,
        event_id="e",
        priority=priority,
        start_at=at(start),
        end_at=None if end is None else at(end),
        value=value,
    )


def told(*signals: Signal, rules: SurplusRules = RULES) -> list[tuple[float, float, float]]:
    return [
        ((one.start_at - NOW) / timedelta(hours=1), (one.end_at - NOW) / timedelta(hours=1), one.surplus_w)
        for one in declare(signals, rules, NOW)
    ]


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ([signal((1, 2), -0.01)], [(1, 2, 5000)]),
        ([signal((1, 2), 0.0)], []),
        ([signal((1, 2), None)], []),
        ([signal((-2, -1), -0.5)], []),
        ([signal((-1, 1), -0.5)], [(-1, 1, 5000)]),
        ([signal((1, 2), -0.5), signal((2, 3), -0.1)], [(1, 3, 5000)]),
        ([signal((1, 3), -0.5), signal((2, 3), 0.2)], [(1, 2, 5000)]),
        ([signal((1, 3), -0.5, priority=1), signal((2, 3), 0.2, priority=2)], [(1, 3, 5000)]),
        ([signal((1, 2), 0.0, SignalKind.EXPORT_LIMIT)], [(1, 2, 3000)]),
        ([signal((1, 2), -0.5, SignalKind.GHG), signal((1, 2), -1.0, SignalKind.EXPORT_PRICE)], []),
        (
            [signal((1, 2), -0.5), signal((1, 3), 100.0, SignalKind.EXPORT_LIMIT)],
            [(1, 3, 3000), (1, 2, 5000)],
        ),
    ],
)
def test_what_counts(signals: list[Signal], expected: list[tuple[float, float, float]]) -> None:
    assert told(*signals) == expected


def test_by_default_nothing_counts() -> None:
    cheap, limit = signal((1, 2), -9.0), signal((1, 2), 0.0, SignalKind.EXPORT_LIMIT)
    assert told(cheap, limit, rules=SurplusRules()) == []


def test_a_price_without_end_is_told_for_a_week_and_does_not_change_every_second() -> None:
    endless = [signal((-1, None), -0.5)]
    (one,) = declare(endless, RULES, NOW)
    assert one.end_at - NOW > AHEAD - timedelta(hours=1)
    assert declare(endless, RULES, NOW + timedelta(minutes=20)) == (one,)


@given(st.lists(st.tuples(st.integers(-5, 400), st.integers(1, 5), st.floats(-1, 1)), max_size=300))
def test_spans_are_bounded_in_order_and_do_not_overlap(drawn: list[tuple[int, int, float]]) -> None:
    spans = told(*(signal((start, start + length), value) for start, length, value in drawn))
    assert len(spans) <= MOST
    assert all(end > 0 for _, end, _ in spans)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize(
    ("source", "limit_w", "hours", "rules", "spans"),
    [
        ("modbus-wset", 4000.0, (-1, 2), RULES, [(-1, 2)]),
        ("modbus-wmaxlim", 0.0, (-1, None), RULES, [(-1, 167.5)]),
        ("modbus-wmaxlim", 10_000.0, (-1, None), RULES, []),
        ("failsafe", 0.0, (-1, None), RULES, []),
        ("modbus-wset", 4000.0, (-1, 2), SurplusRules(), []),
    ],
)
def test_what_a_curtailed_plant_cannot_feed_in(
    source: str, limit_w: float, hours: Hours, rules: SurplusRules, spans: list[Hours]
) -> None:
    start, end = hours
    limit = Limit(
        source=source,
        command_id="c",
        limit_w=limit_w,
        start_at=at(start),
        end_at=None if end is None else at(end),
        ramp_s=0.0,
        reason="",
    )
    told = declare_curtailed([limit], rules, NOW, rated_w=10_000.0)
    assert [((one.start_at - NOW) / HOUR, (one.end_at - NOW) / HOUR) for one in told] == spans
    assert {(one.surplus_w, one.source) for one in told} <= {(3000.0, f"{source} export limit")}
