"""The links of a large fleet: a mapping like any other, and rows of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.bookings import Bookings
from coordinator.core.policies import policy_named
from coordinator.core.policy import PlannerSettings
from coordinator.model.links import LinkTable
from coordinator.model.view import FleetView, LinkView
from tests.coordinator.core.test_planner_laws import fleets

NAN = np.nan


def table(view: FleetView, names: list[str]) -> LinkTable:
    free = np.full((len(names), len(names)), NAN)
    for (source, destination), link in view.links.items():
        free[names.index(source), names.index(destination)] = link.free_bps
    return LinkTable(names, free, np.full(free.shape, NAN))


def test_it_is_a_mapping_of_the_links_that_there_are() -> None:
    links = LinkTable(["a", "b"], np.array([[NAN, 5.0], [NAN, NAN]]), np.array([[NAN, 7.0], [NAN, NAN]]))
    link = LinkView(source="a", destination="b", free_bps=5.0, whole_bps=7.0)
    assert links == {("a", "b"): link}
    assert (len(links), list(links), links.get(("b", "a"))) == (1, [("a", "b")], None)
    for unknown in (("b", "a"), ("a", "z"), ("z", "a")):
        with pytest.raises(KeyError):
            links[unknown]
    assert np.array_equal(links.free_from("a", ["z", "b"]), [NAN, 5.0], equal_nan=True)
    assert np.isnan(links.free_from("z", ["a", "b"])).all()


def test_a_row_is_the_callers_own() -> None:
    links = LinkTable(["a", "b"], np.array([[NAN, 5.0], [3.0, NAN]]), np.full((2, 2), NAN))
    links.free_from("a", ["a", "b"])[1] = 0.0
    assert links["a", "b"].free_bps == 5.0
    assert links["a", "b"].whole_bps is None


@settings(max_examples=40, deadline=None)
@given(view=fleets(), names=st.permutations(["a", "b", "c", "d"]))
def test_a_table_decides_as_single_links_do(view: FleetView, names: list[str]) -> None:
    other = replace(view, links=table(view, names))
    assert other.links == view.links
    for source in view.sites:
        rows = [Bookings(one).rates_from(source) for one in (view, other)]
        assert np.array_equal(rows[0], rows[1], equal_nan=True)
    policy, planner = policy_named("sterna"), PlannerSettings()
    assert policy.decide(view, planner) == policy.decide(other, planner)
