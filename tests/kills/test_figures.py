"""What kills and jobs add up to."""

from dataclasses import replace

import pytest

from agent.simulator.steplog import StepEntry
from tests.kills.figures import Kill, Verdict, by_load, judged, percentile, rollbacks, tally, together


def log(*stints: tuple[int, int, str]) -> list[StepEntry]:
    """Return the log of processes that did the steps from..to at a site, one after the other."""
    entries = []
    for pid, (first, last, site) in enumerate(stints):
        for step in range(first, last + 1):
            at_s = float(len(entries))
            entries.append(StepEntry(step=step, epoch=pid, pid=pid, site=site, boottime_s=at_s))
    return entries


def kill(recovery_s: float | None, *, victim: str = "source", phase: str = "STOPPING") -> Kill:
    return Kill(victim=victim, phase=phase, hit=1, recovery_s=recovery_s, load=2.0)


WHOLE = log((1, 7, "a"), (6, 10, "b"))


def test_a_job_that_lost_nothing() -> None:
    verdict = judged("j", WHOLE, total=10, state="COMPLETED", digest="d", reference="d")
    assert verdict == Verdict(name="j", faults=(), ran_twice=0, worst_steps_lost=2, handovers=1)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"state": "FAILED"}, "ended FAILED"),
        ({"total": 12}, "2 steps were never done"),
        ({"digest": None}, "its final weights are not those of an undisturbed run"),
        ({"digest": "other"}, "its final weights are not those of an undisturbed run"),
    ],
)
def test_a_job_that_lost_something(changed: dict[str, object], fault: str) -> None:
    given = {"total": 10, "state": "COMPLETED", "digest": "d", "reference": "d"} | changed
    assert judged("j", WHOLE, **given).faults == (fault,)  # type: ignore[arg-type]


def test_two_at_once_are_seen() -> None:
    late = [StepEntry(step=8, epoch=0, pid=0, site="a", boottime_s=8.5)]
    assert judged("j", [*WHOLE, *late], total=10, state="", digest="", reference="").ran_twice == 1


def test_each_process_is_compared_with_the_one_before() -> None:
    assert rollbacks(log((1, 30, "a"), (21, 25, "a"), (21, 40, "b"), (41, 42, "a"))) == [10, 5, 0]
    assert rollbacks([]) == []


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 201)]
    assert [percentile(values, frac) for frac in (0.5, 0.99, 1.0)] == [100.0, 198.0, 200.0]
    assert percentile([], 0.5) is None


def test_what_does_not_recover_counts_as_later_than_all_others() -> None:
    kills = [kill(1.0)] * 98 + [kill(2.0, victim="shim"), kill(None, phase="STARTING")]
    figures = tally(kills, [], unfinished=0)
    assert (figures["recovery_p50_s"], figures["recovery_p99_s"], figures["recovery_max_s"]) == (
        1.0,
        2.0,
        None,
    )
    assert figures["not_recovered"] == 1
    assert figures["by_victim"] == {"shim": 1, "source": 99}
    assert figures["by_phase"] == {"STARTING": 1, "STOPPING": 99}


def test_kills_are_told_apart_by_how_busy_the_machine_was() -> None:
    kills = [replace(kill(float(load)), load=float(load)) for load in range(1, 19)]
    bands = by_load([*kills, replace(kill(None), load=25.0)])
    assert [(one["load_most"], one["kills"], one["recovery_p99_s"]) for one in bands] == [
        (8.0, 8, 8.0),
        (12.0, 4, 12.0),
        (16.0, 4, 16.0),
        (20.0, 2, 18.0),
        (None, 1, None),
    ]


def test_jobs_that_never_end_are_lost() -> None:
    fine = Verdict(name="a", faults=(), ran_twice=0, worst_steps_lost=3, handovers=0)
    poor = Verdict(name="b", faults=("ended FAILED",), ran_twice=2, worst_steps_lost=20, handovers=1)
    figures = tally([], [fine, poor], unfinished=1)
    assert (figures["jobs"], figures["jobs_lost"], figures["ran_twice"]) == (3, 2, 2)
    assert figures["worst_steps_lost"] == 20
    assert figures["faults"] == ["b: ended FAILED"]
    assert figures["load"] is None and figures["recovery_p50_s"] is None


def run(seed: int, took_s: float, steps_lost: int) -> dict[str, object]:
    """Return what a run of one kill and one job came to."""
    verdict = Verdict(name="j", faults=(), ran_twice=0, worst_steps_lost=steps_lost, handovers=3)
    return {
        **tally([kill(took_s)], [verdict], unfinished=0),
        "handovers": 3,
        "migrations_committed": 2,
        "migrations_given_up": 1,
        "took_s": 10,
        "checkpoint_interval_steps": 20,
        "cores": 2,
        "version": "v",
        "seed": seed,
        "interrupted": False,
    }


def test_runs_are_added_up() -> None:
    runs, kills = [run(1, 2.0, 5), run(2, 9.0, 0)], [kill(2.0), kill(9.0)]
    found = together(runs, kills)
    assert (found["kills"], found["jobs"], found["jobs_lost"], found["handovers"]) == (2, 2, 0, 6)
    assert (found["recovery_max_s"], found["worst_steps_lost"], found["seeds"]) == (9.0, 5, [1, 2])
    with pytest.raises(ValueError, match="too many values"):
        together([runs[0], {**runs[1], "version": "another"}], kills)
