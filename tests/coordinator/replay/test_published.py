"""docs/evaluation.md says what its file of figures has, which is as good as asked; a replay repeats it."""

from pathlib import Path

import pytest

from coordinator.replay import choices
from coordinator.replay.foresight import Perfect
from coordinator.replay.rows import read_rows
from coordinator.replay.scenariofile import read_scenario
from coordinator.replay.study import (
    CLAIRVOYANT,
    LEARNT,
    PERFECT,
    PLAIN,
    STATIC,
    Case,
    Row,
    at_a_glance,
    behind,
    every_figure,
    rows_of,
    summed,
)
from tests.coordinator.replay.worlds import needs_data, recorded_world

DOCS = Path(__file__).parents[3] / "docs"
ROWS = read_rows(DOCS / "evaluation.csv", Row)
CHOSEN = read_rows(DOCS / "evaluation-choices.csv", Row)
STERNA = Case(policy="sterna", forecasts=LEARNT)


def test_the_file_has_every_offset_of_every_period_and_case() -> None:
    wanted = set()
    for name in ("us5", "us5-thin", "us5-defer", "us5-thin-defer"):
        scenario = read_scenario(name)
        cases = PLAIN if scenario.deferral is None else (*PLAIN, *CLAIRVOYANT)
        wanted |= {(name, p, o, case) for p in scenario.periods for o in scenario.offsets for case in cases}
    assert len(ROWS) == len(wanted)
    assert {(row.scenario, row.period, row.offset, row.case) for row in ROWS} == wanted


def test_the_pages_have_its_tables_and_picture() -> None:
    page = (DOCS / "evaluation.md").read_text()
    assert at_a_glance(ROWS) in page
    assert choices.table(CHOSEN) in page
    assert every_figure(ROWS) in (DOCS / "evaluation-details.md").read_text()
    drawn = choices.drawn(CHOSEN, read_scenario("us5-thin"))
    assert (DOCS / "evaluation-choices-us5-thin.svg").read_text() == drawn


@pytest.mark.parametrize(
    ("scenario", "case", "share", "overruns", "completion"),
    [
        ("us5", STERNA, 0.90, 0.05, 1.0),
        ("us5-thin", STERNA, 0.80, 0.15, 1.03),
        ("us5-defer", CLAIRVOYANT[0], 0.75, 1.0, None),
        ("us5-thin-defer", CLAIRVOYANT[0], 0.85, 1.0, None),
    ],
)
def test_what_was_asked_of_sterna_is_met(
    scenario: str, case: Case, share: float, overruns: float, completion: float | None
) -> None:
    found = summed([row for row in ROWS if row.scenario == scenario and row.case == case])
    assert found.share >= share and found.overrun_frac <= overruns
    assert completion is None or found.completion <= completion


def test_no_job_is_late_and_sterna_is_never_behind_in_all_three() -> None:
    assert not any(row.late for row in ROWS if row.policy == "sterna")
    for row in ROWS:
        if row.case == STERNA:
            world = (row.scenario, row.period, row.offset)
            rivals = [one for one in ROWS if (one.scenario, one.period, one.offset) == world]
            told = [one for one in rivals if one.forecasts != PERFECT and one.policy != "sterna"]
            assert len(told) == 3 and not any(behind(row, one) for one in told)


@needs_data
def test_a_replay_gives_the_figures_of_the_file() -> None:
    cases = (STATIC, Case(policy="feasibility-aware", forecasts=PERFECT))
    at = {"scenario": "us5-thin", "period": "apr", "offset": 0}
    found = rows_of(recorded_world("us5-thin", "apr"), Perfect, **at, wanted=cases)
    stated = [row for row in ROWS if (row.scenario, row.period, row.offset) == tuple(at.values())]
    for row in found:
        (one,) = [other for other in stated if other.case == row.case]
        assert (row.nonrenewable_kwh, row.bound_kwh, row.overrun_frac, row.completion) == pytest.approx(
            (one.nonrenewable_kwh, one.bound_kwh, one.overrun_frac, one.completion), rel=1e-6
        )
