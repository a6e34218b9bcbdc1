"""The policy `sterna` in replay: what it adds to the paper's rules, in a made world and in recorded ones."""

import pytest

from coordinator.core.policies import policy_named
from coordinator.replay.bound import bound_wh
from coordinator.replay.exact import run
from coordinator.replay.foresight import MakeForesight, Perfect
from coordinator.replay.learnt import LearntSource
from coordinator.replay.metrics import Metrics, measure
from coordinator.replay.record import settings_of
from coordinator.replay.world import World
from tests.coordinator.replay.worlds import HOUR, needs_data, recorded_world, task, world


def measured(place: World, name: str, foresight: MakeForesight = Perfect) -> Metrics:
    return measure(place, run(place, policy_named(name), settings_of(place), foresight(place)).intervals)


def test_of_a_crowded_site_the_small_checkpoint_leaves() -> None:
    # a covers one of two from the third hour on, b the other; moving 100 GB takes most of a slow hour.
    place = world(
        {"a": [1000.0] * 2 + [500.0] * 40, "b": [0.0] * 2 + [500.0] * 40},
        task("small", "a", work_s=30 * HOUR, size_gb=1),
        task("large", "a", at_s=60.0, work_s=30 * HOUR, size_gb=100),
        link_bps=250e6,
    )
    record = run(place, policy_named("sterna"), settings_of(place), Perfect(place))
    sites = {row.job_id: row.site_id for row in sorted(record.intervals, key=lambda row: row.start_s)}
    assert sites == {"small": "b", "large": "a"}
    ours, paper = measured(place, "sterna"), measured(place, "feasibility-aware")
    assert ours.migrations == paper.migrations == 1
    assert ours.nonrenewable_wh < paper.nonrenewable_wh
    assert ours.mean_completion_s < paper.mean_completion_s


@needs_data
@pytest.mark.long
@pytest.mark.parametrize(
    ("scenario", "share", "overruns", "completion"),
    [("us5", 0.90, 0.05, 1.0), ("us5-thin", 0.80, 0.15, 1.03)],
)
def test_on_learnt_forecasts_it_comes_close_to_the_bound(
    scenario: str, share: float, overruns: float, completion: float
) -> None:
    place = recorded_world(scenario, "apr")
    static = measured(place, "static")
    source = LearntSource()
    ours, paper = measured(place, "sterna", source), measured(place, "feasibility-aware", source)
    gained_wh = static.nonrenewable_wh - ours.nonrenewable_wh
    assert gained_wh >= share * (static.nonrenewable_wh - bound_wh(place))
    assert ours.overrun_frac <= overruns
    assert ours.mean_completion_s <= completion * static.mean_completion_s
    assert ours.nonrenewable_wh < paper.nonrenewable_wh
