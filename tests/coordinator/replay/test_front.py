"""The front: every point from one replay, the picture from the points, and both readable again."""

from xml.etree import ElementTree

import pytest

from coordinator.replay.bound import bound_wh
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.front import Knobs, drawn, knobs, means, point, replayed
from coordinator.replay.metrics import measure
from coordinator.replay.record import settings_of
from tests.coordinator.replay.worlds import HOUR, task, world

MADE = world(
    {"a": [500.0, 500.0, 0.0, 0.0, 0.0, 0.0], "b": [0.0, *[1000.0] * 9]},
    *(task(str(number), work_s=4 * HOUR, at_s=600.0 * number, size_gb=4) for number in range(2)),
    link_bps=1e9,
)


def test_a_front_is_averaged_and_drawn() -> None:
    foresight = Perfect(MADE)
    static = Knobs(policy="static")
    baseline = replayed(MADE, static, foresight)
    points = [
        point(one, replayed(MADE, one, foresight), baseline, bound_wh(MADE), period=period, offset=0)
        for period in ("x", "y")
        for one in knobs(MADE.costs.alpha)
    ]
    assert {one.policy for one in points} == {"energy-only", "feasibility-aware", "sterna"}
    assert all(one.reduction_frac <= one.bound_frac + 1e-9 for one in points)
    average = means(points)
    assert len(average) == len(points) / 2
    # Both periods are the same world, so that their mean is each of them.
    assert [one.reduction_frac for one in average] == pytest.approx(
        [one.reduction_frac for one in points[: len(average)]]
    )
    picture = ElementTree.fromstring(drawn(average, "made"))
    text = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"sterna, over ε", "feasibility-aware, over ε", "sterna, over α at ε = 0.5"} <= set(text)
    assert any("energy-only" in (words or "") for words in text)
    assert any("0.9" in (words or "") for words in text)


def test_the_knobs_are_those_of_the_policy() -> None:
    strict = Knobs(policy="sterna", alpha=0.001, epsilon=0.5)
    # A thousandth of a window is too little for any move here.
    assert replayed(MADE, strict, Perfect(MADE)).migrations == 0
    loose = Knobs(policy="sterna", alpha=1.0, epsilon=0.5)
    assert replayed(MADE, loose, Perfect(MADE)).migrations > 0
    sterna = run(MADE, Knobs(policy="sterna").made(), settings_of(MADE), Perfect(MADE))
    assert sterna.policy == "sterna" and measure(MADE, sterna.intervals).jobs == 2
