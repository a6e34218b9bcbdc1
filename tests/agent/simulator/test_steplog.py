import json

import pytest

from agent.simulator import steplog
from agent.simulator.steplog import StepEntry


def steps(site: str, pid: int, epoch: int, span: tuple[int, int], began_s: float) -> list[StepEntry]:
    first, last = span
    return [
        StepEntry(step=step, epoch=epoch, pid=pid, site=site, boottime_s=began_s + step - first)
        for step in range(first, last + 1)
    ]


CLEAN = [*steps("a", 1, 1, (1, 5), 100.0), *steps("b", 2, 2, (6, 9), 110.0)]


def test_a_clean_hand_over() -> None:
    assert steplog.steps_lost(CLEAN, 9) == 0
    assert steplog.double_runs(CLEAN) == 0
    assert steplog.downtimes_s(CLEAN) == [6.0]


@pytest.mark.parametrize(
    ("entries", "lost", "doubles"),
    [
        ([*steps("a", 1, 1, (1, 5), 100.0), *steps("b", 2, 2, (4, 9), 110.0)], 2, 0),
        ([*steps("a", 1, 1, (1, 5), 100.0), *steps("b", 2, 2, (7, 9), 110.0)], 1, 0),
        ([*steps("a", 1, 1, (1, 9), 100.0), *steps("b", 2, 2, (6, 9), 104.0)], 4, 1),
        ([], 9, 0),
    ],
)
def test_what_is_counted(entries: list[StepEntry], lost: int, doubles: int) -> None:
    assert steplog.steps_lost(entries, 9) == lost
    assert steplog.double_runs(entries) == doubles


def test_a_restart_at_the_same_site_is_no_hand_over() -> None:
    assert steplog.downtimes_s([*steps("a", 1, 1, (1, 5), 100.0), *steps("a", 2, 1, (6, 9), 110.0)]) == []


def test_parse() -> None:
    line = json.dumps({"step": 1, "epoch": 2, "pid": 3, "site": "a", "boottime_s": 4.5})
    entry = StepEntry(step=1, epoch=2, pid=3, site="a", boottime_s=4.5)
    assert steplog.parse([line, "", line, '{"step": 2, "ep']) == [entry, entry]
    with pytest.raises(ValueError, match="line 1"):
        steplog.parse(['{"step"', line])
