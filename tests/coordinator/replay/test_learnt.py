"""Learnt forecasts in a replay: made from what was seen, shared by those who saw the same."""

from dataclasses import replace
from math import pi, sin

import numpy as np

from coordinator.core.policies import policy_named
from coordinator.model.forecast import SurplusForecast
from coordinator.replay.exact import run
from coordinator.replay.learnt import LearntSource
from coordinator.replay.record import settings_of
from coordinator.replay.world import World
from tests.coordinator.replay.worlds import HOUR, task, world

PAST_DAYS = 30


def sunny(hours: int, phase: float) -> tuple[float, ...]:
    return tuple(max(0.0, 2000.0 * sin(2 * pi * (hour % 24) / 24 + phase)) for hour in range(hours))


def made(future_days: int = 3) -> World:
    days = {"a": sunny(24 * future_days, 0.0), "b": sunny(24 * future_days, pi)}
    small = world(days, task(work_s=30 * HOUR))
    past = {"a": sunny(24 * PAST_DAYS, 0.0), "b": sunny(24 * PAST_DAYS, pi)}
    return replace(small, sites=tuple(replace(s, past_w=past[s.site_id]) for s in small.sites))


def asked(place: World, step: int, source: LearntSource | None = None) -> SurplusForecast:
    got = (source or LearntSource(leads=24, rehearse=0))(place).forecast(place.sites[0], step)
    assert got is not None
    return got


def test_what_is_foreseen_begins_where_the_step_ends_and_knows_the_day() -> None:
    place = made()
    got = asked(place, 5)
    assert got.slots[0].start_at == place.at(6 * HOUR)
    assert len(got.slots) == 24 and got.paths_w is not None
    truth = np.array(place.sites[0].surplus_w[6:30])
    assert np.abs(np.array([slot.p50_w for slot in got.slots]) - truth).mean() < 100.0


def test_the_future_changes_nothing_and_the_present_does() -> None:
    place = made()

    def with_surplus(watts: tuple[float, ...]) -> World:
        return replace(place, sites=(replace(place.sites[0], surplus_w=watts), *place.sites[1:]))

    trace = place.sites[0].surplus_w
    before = asked(place, 5)
    other_future = asked(with_surplus((*trace[:6], *[777.0] * (len(trace) - 6))), 5)
    other_present = asked(with_surplus((*trace[:5], 0.0, *trace[6:])), 5)
    assert other_future.slots == before.slots
    assert other_present.slots != before.slots


def test_steps_may_be_left_out_and_asked_again() -> None:
    place = made()
    one = LearntSource(leads=24, rehearse=0)(place)
    assert one.forecast(place.sites[0], 7) is one.forecast(place.sites[0], 7)
    late = one.forecast(place.sites[0], 3)
    assert late is not None and late.slots == asked(place, 3).slots


def test_worlds_with_the_same_days_share_what_is_learnt() -> None:
    source = LearntSource(leads=24, rehearse=0)
    place = made()
    again = replace(place, tasks=(task("2", "b"),))
    assert asked(place, 2, source) is asked(again, 2, source)
    longer = made(future_days=4)
    assert asked(longer, 2, source) is not asked(place, 2, source)


def test_too_short_a_past_foresees_nothing() -> None:
    place = made()
    young = replace(place, sites=tuple(replace(site, past_w=()) for site in place.sites))
    assert LearntSource(rehearse=0)(young).forecast(young.sites[0], 0) is None


def test_a_replay_follows_the_sun_on_what_was_learnt() -> None:
    place = made()
    source = LearntSource(leads=24, rehearse=24)
    record = run(place, policy_named("sterna"), settings_of(place), source(place))
    assert {interval.site_id for interval in record.intervals} == {"a", "b"}
