"""Pictures: well-formed, and saying what the tables say."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import domain
from coordinator.core.policies import policy_named
from coordinator.replay import pictures, svg
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.journal import Interval
from coordinator.replay.metrics import measure
from coordinator.replay.record import settings_of
from coordinator.replay.timeline import timeline
from coordinator.replay.world import World
from tests.coordinator.replay.worlds import task, world

SVG = "{http://www.w3.org/2000/svg}"


def made() -> World:
    """Site a has no sun; whoever follows it moves to b."""
    tasks = [task(str(number), at_s=600.0 * number, work_s=3 * 3600.0) for number in range(3)]
    return world({"a": [0.0] * 24, "b": [3000.0] * 24}, *tasks, slots=3)


def replayed(policy: str) -> tuple[World, tuple[Interval, ...]]:
    one = made()
    return one, run(one, policy_named(policy), settings_of(one), Perfect(one)).intervals


def parsed(text: str) -> ElementTree.Element:
    root = ElementTree.fromstring(text)
    for element in root.iter():
        for value in element.attrib.values():
            assert "nan" not in value and "inf" not in value
    return root


def words(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_energy_by_source_has_the_shares_of_the_metrics() -> None:
    runs = {policy: [replayed(policy)] for policy in ("static", "feasibility-aware")}
    moved_wh = {policy: measure(*some[0]).network_wh for policy, some in runs.items()}
    root = parsed(pictures.energy_by_source(runs, moved_wh))
    told = words(root)
    for some in runs.values():
        assert f"{measure(*some[0]).renewable_frac:.1%}" in told
    assert {"surplus at a", "surplus at b", "beyond the surplus", "the network, for moves"} <= set(told)
    heights = [float(bar.attrib["height"]) for bar in root.iter(f"{SVG}rect") if len(bar)]
    drawn_wh = [measure(*some[0]).total_wh for some in runs.values()]
    assert sum(heights[:4]) / sum(heights[4:]) == pytest.approx(drawn_wh[0] / drawn_wh[1], rel=2e-3)


def test_placement_has_a_panel_for_each_site_and_the_dates() -> None:
    one, rows = replayed("feasibility-aware")
    told = words(parsed(pictures.placement(one, timeline(one, rows), "feasibility-aware")))
    assert {"a", "b", "01 Apr", "02 Apr"} <= set(told)


def test_completions_state_the_median() -> None:
    root = parsed(pictures.completions({"static": [replayed("static")]}))
    assert "static, median 3.00 h" in words(root)
    line = next(root.iter(f"{SVG}polyline")).attrib["points"].split()
    assert len(line) == 3


def test_the_domain_counts_moves_and_those_who_stayed() -> None:
    one, rows = replayed("feasibility-aware")
    moves = measure(one, rows).migrations
    assert moves > 0
    root = parsed(pictures.feasible_domain(one, rows, "feasibility-aware"))
    assert f"{moves} moves within α of the window met" in words(root)
    dots = [int(re.sub(r"\D", "", dot[0].text or "")) for dot in root.iter(f"{SVG}circle")]
    assert sum(dots) == len(one.tasks)
    assert any("left of it class A" in text for text in words(root))


def test_a_replay_in_which_nothing_happened_can_be_drawn() -> None:
    empty = world({"a": [0.0] * 24, "b": [0.0] * 24})
    for text in (
        pictures.placement(empty, timeline(empty, ()), "static"),
        pictures.energy_by_source({"static": [(empty, ())]}, {"static": 0.0}),
        pictures.completions({"static": [(empty, ())]}),
        pictures.feasible_domain(empty, (), "static"),
    ):
        parsed(text)


@given(st.floats(1e6, 1e12), st.sampled_from([domain.SHORT_WINDOW_S, domain.LONG_WINDOW_S]))
def test_the_drawn_bound_is_where_the_class_changes(link_bps: float, window_s: float) -> None:
    one = made()
    most = pictures.largest_bytes(one, window_s, link_bps)
    for factor, inside in ((0.999, True), (1.001, False)):
        size = most * factor
        store_s = one.costs.store_s(size)
        total_s = domain.migration_s(
            store_s, domain.transfer_s(size, link_bps, one.costs.eta), store_s, one.costs.downtime_s
        )
        assert (total_s < domain.budget_s(window_s, one.costs.alpha)) is inside


@pytest.mark.parametrize(
    ("axis", "value", "place"),
    [
        (svg.linear(0.0, 10.0), 5.0, 0.5),
        (svg.linear(0.0, 10.0), 99.0, 1.0),
        (svg.linear(0.0, 10.0), -1.0, 0.0),
        (svg.linear(0.0, 0.0), 0.0, 0.0),
        (svg.logarithmic(1.0, 100.0, ""), 10.0, 0.5),
        (svg.logarithmic(1.0, 100.0, ""), 0.0, 0.0),
    ],
)
def test_where_values_lie(axis: svg.Axis, value: float, place: float) -> None:
    assert axis.place(value) == pytest.approx(place)


def test_ticks_are_round() -> None:
    assert [text for _, text in svg.linear(0.0, 7800.0, "kW", 1e3).ticks] == ["0", "2", "4", "6"]
    assert [text for _, text in svg.logarithmic(1e9, 3e10, "GB", 1e9).ticks] == ["1", "2", "5", "10", "20"]
    many = svg.logarithmic(1.0, 1e6, "").ticks
    assert [text for _, text in many] == ["1", "10", "100", "1000", "10000", "100000", "1e+06"]
    assert svg.document(10, 10, "<&>", []).count("&lt;&amp;&gt;") == 1
