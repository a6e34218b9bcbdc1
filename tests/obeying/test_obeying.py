"""What docs/obeying.md promises, on fewer limits than ``scripts/bench obeying`` puts."""

import pytest

from tests.obeying.closed_loop import Nature, settled_s
from tests.obeying.trials import SETTLED_WITHIN_S, emerald, follow_surplus, percentile, random_limits

LATE = Nature(meter_lag_s=3.0, gpu_lag_s=0.33, load_meter=False, wake_s=0.05)


def test_settling_is_counted_to_the_first_sample_after_which_all_are_inside() -> None:
    samples = [
        (0.0, 900.0),
        (1.0, 900.0),
        (2.0, 500.0),
        (3.0, 700.0),
        (4.0, 500.0),
        (5.0, 549.0),
        (6.0, 900.0),
    ]
    assert settled_s(samples, from_s=0.5, to_s=6.0, limit_w=500.0) == 3.5
    assert settled_s(samples, from_s=3.5, to_s=6.0, limit_w=500.0) == 0.0
    assert settled_s(samples, from_s=0.5, to_s=6.5, limit_w=500.0) == float("inf")


def test_random_limits_are_kept() -> None:
    figures = random_limits(seed=3, count=40)
    assert len(figures.settle_s) == 40
    assert max(figures.settle_s) > 0.5, "they were limits"
    assert percentile(figures.settle_s, 99) <= SETTLED_WITHIN_S
    assert (figures.breaches, figures.ramp_excesses) == (0, 0)


@pytest.mark.parametrize(
    "nature",
    [
        LATE,
        Nature(cap_error_frac=0.1, load_meter=False, wake_s=0.05),
        Nature(blinks=0.1, wake_s=0.05),
        Nature(wake_s=None, control_s=0.5),
    ],
    ids=["a meter 3 s late, a GPU of 1 s", "a cap that lets 10 % through", "polls that fail", "no wake"],
)
def test_what_the_site_truly_imports_is_inside_in_time_in_a_worse_world(nature: Nature) -> None:
    figures = random_limits(seed=5, count=12, nature=nature)
    assert percentile(figures.true_settle_s, 99) <= SETTLED_WITHIN_S
    assert figures.ramp_excesses == 0


def test_emeralds_events_are_met() -> None:
    events = emerald(seed=2, count=2)
    assert all(event.met for event in events), events


@pytest.mark.parametrize("load_meter", [True, False])
def test_the_surplus_is_followed_through_clouds_without_swinging(load_meter: bool) -> None:
    follows = follow_surplus(seed=2, hours=0.5, load_meter=load_meter)
    ignores = follow_surplus(seed=2, hours=0.5, load_meter=load_meter, follow=False)
    assert follows.beyond_wh < 0.2 * ignores.beyond_wh
    assert follows.unused_wh < 0.15 * follows.drawn_wh
    assert follows.turns <= 30, "the sky has a new mind once a minute"


@pytest.mark.long
def test_a_thousand_limits_and_two_hundred_events() -> None:
    figures = random_limits(seed=1, count=1000)
    assert percentile(figures.settle_s, 99) <= SETTLED_WITHIN_S
    assert (figures.breaches, figures.ramp_excesses) == (0, 0)
    events = emerald(seed=1, count=200, longest=3)
    assert sum(event.met for event in events) == 200
