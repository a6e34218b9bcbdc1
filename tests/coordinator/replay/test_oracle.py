"""`oracle` knows what is to come and what is left, whatever others are told; nobody gets below the bound."""

import pytest

from coordinator.core.deferring import may_defer
from coordinator.core.policies import policy_names
from coordinator.replay.bound import bound_wh
from coordinator.replay.evaluation import outcomes, table
from coordinator.replay.exact import run
from coordinator.replay.foresight import Foresight, Perfect
from coordinator.replay.oracle import ORACLE, OraclePolicy, replayed
from coordinator.replay.record import settings_of
from coordinator.replay.sight import Sight
from coordinator.replay.world import World
from sterna.errors import ConfigError
from tests.coordinator.replay.worlds import HOUR, needs_data, recorded_world, task, world


def blind(_: World) -> Foresight:
    """Tell nobody anything."""

    class Blind:
        def forecast(self, site: object, step: int) -> None:
            return None

        def import_cost(self, site: object, step: int) -> None:
            return None

    return Blind()


def test_it_is_no_policy_of_a_fleet() -> None:
    assert ORACLE not in policy_names()
    made = world({"a": [0.0]}, task())
    with pytest.raises(ConfigError, match="expected one of"):
        replayed(made, "prophet", Perfect, declared=False)


def test_it_moves_for_what_a_job_will_use_and_not_for_what_comes_after_it() -> None:
    # The sun at a sets after two hours, at b it shines on. A move of 1 GB takes 33 s and some energy.
    surplus = {"a": [500.0, 500.0, 0.0, 0.0, 0.0, 0.0], "b": [500.0] * 6}
    long = world(surplus, task(work_s=6 * HOUR))
    assert {row.site_id for row in replayed(long, ORACLE, blind, declared=False).intervals} == {"a", "b"}
    ends = world(surplus, task(work_s=2 * HOUR + 30.0))
    # `sterna` with the same truth but for the end of the job moves it all the same.
    assert {row.site_id for row in replayed(ends, "sterna", Perfect, declared=False).intervals} == {"a", "b"}
    assert {row.site_id for row in replayed(ends, ORACLE, blind, declared=False).intervals} == {"a"}


def test_a_table_has_the_bound_in_a_row_of_its_own() -> None:
    made = world({"a": [500.0, 0.0, 0.0], "b": [0.0, 500.0, 500.0]}, task(work_s=3 * HOUR))
    text = table({"one": list(outcomes(made, [ORACLE, "bound"], blind))})
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert [line[1] for line in lines[2:]] == ["static", ORACLE, "bound"]
    assert len({len(line) for line in lines}) == 1
    bound = lines[-1]
    assert (bound[2], bound[3], bound[4]) == ("0 ± 0", "100.0 ± 0.0", "100.0")
    assert set(bound[5:]) == {"–"}


def test_it_says_as_much_as_any_policy_and_decides_the_same_when_it_says_less() -> None:
    made = world({"a": [500.0, 0.0], "b": [500.0] * 9}, task(work_s=6 * HOUR), task("2", at_s=60.0))
    policy = OraclePolicy()

    class Wordy:
        """The oracle, asked for all its words."""

        name = policy.name
        decide = policy.decide

    told = run(made, Wordy(), settings_of(made), Perfect(made), declared=True)
    assert told.intervals == run(made, policy, settings_of(made), Perfect(made), declared=True).intervals


def test_it_holds_jobs_back_where_they_may_wait() -> None:
    made = world({"a": [0.0, 0.0, 500.0, 500.0]}, task(), hold_back_s=24 * HOUR)
    assert may_defer(Sight(made, Perfect(made)).view(0.0, [], [], {"a": 0}, {})) in (True, False)
    (row,) = replayed(made, ORACLE, blind, declared=False).intervals
    assert (row.start_s, row.end_s) == (2 * HOUR, 4 * HOUR)


@needs_data
@pytest.mark.long
def test_between_the_bound_and_what_sterna_gets_with_forecasts_as_good() -> None:
    made = recorded_world("us5-thin", "jul")
    found = {one.policy: one.metrics for one in outcomes(made, ["sterna", ORACLE], Perfect)}
    assert bound_wh(made) < found[ORACLE].nonrenewable_wh < found["static"].nonrenewable_wh
    # It sees more than `sterna` with perfect forecasts; deciding job by job, that need not be better always.
    assert found[ORACLE].nonrenewable_wh < 1.01 * found["sterna"].nonrenewable_wh
