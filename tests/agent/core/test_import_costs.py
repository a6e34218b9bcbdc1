"""What of an operator's prices and greenhouse gas figures is told of the days ahead."""

from datetime import timedelta

import pytest

from agent.core.declaring import MOST, told_until
from agent.core.import_costs import import_costs
from agent.model.openadr import Signal, SignalKind
from tests.agent.core.test_declaring import NOW, signal

HOUR = timedelta(hours=1)
WEEK = (told_until(NOW) - NOW) / HOUR
GHG = SignalKind.GHG


def told(*signals: Signal, kind: SignalKind = SignalKind.PRICE) -> list[tuple[float, float, float]]:
    costs = import_costs(signals, kind, NOW)
    return [((one.start_at - NOW) / HOUR, (one.end_at - NOW) / HOUR, one.per_kwh) for one in costs]


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ([], []),
        ([signal((1, 2), -0.01)], [(1, 2, -0.01)]),
        ([signal((1, 2), None)], []),
        ([signal((-2, -1), 0.5)], []),
        ([signal((-1, 1), 0.5)], [(-1, 1, 0.5)]),
        ([signal((1, None), 0.5)], [(1, WEEK, 0.5)]),
        ([signal((WEEK + 1, WEEK + 2), 0.5)], []),
        ([signal((1, 3), 0.1), signal((2, 3), 0.2)], [(1, 2, 0.1), (2, 3, 0.2)]),  # the dearest
        ([signal((1, 3), 0.1, priority=1), signal((2, 3), 0.2, priority=2)], [(1, 3, 0.1)]),
        ([signal((1, 2), 400.0, GHG), signal((1, 2), 0.1, SignalKind.EXPORT_PRICE)], []),
    ],
)
def test_prices(signals: list[Signal], expected: list[tuple[float, float, float]]) -> None:
    assert told(*signals) == expected


def test_greenhouse_gas_is_told_by_itself() -> None:
    assert told(signal((1, 2), 400.0, GHG), signal((1, 2), 0.1), kind=GHG) == [(1, 2, 400.0)]


def test_no_more_is_told_than_fits() -> None:
    many = [signal((n / 4, (n + 1) / 4), float(n % 2)) for n in range(2 * MOST)]
    assert len(told(*many)) == MOST
