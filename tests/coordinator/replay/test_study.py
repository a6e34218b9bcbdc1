"""The tables of docs/evaluation.md: what each replay gives, and that the page says what the file has."""

from pathlib import Path

import pytest

from coordinator.replay.foresight import Perfect
from coordinator.replay.rows import read_rows, write_rows
from coordinator.replay.study import CLAIRVOYANT, PLAIN, Row, at_a_glance, cases, every_figure, rows_of
from coordinator.replay.world import World
from tests.coordinator.replay.worlds import HOUR, task, world

SUNNY = [500.0, 500.0, 0.0, 0.0, 0.0, 0.0]


def made(hold_back_s: float | None = None) -> World:
    return world({"a": SUNNY, "b": [0.0, *[1000.0] * 9]}, task(work_s=4 * HOUR), hold_back_s=hold_back_s)


def rows(place: World, offset: int = 0) -> list[Row]:
    at = {"scenario": "made", "period": "x"}
    return list(rows_of(place, Perfect, **at, offset=offset, wanted=cases(place)))


@pytest.mark.parametrize(("hold_back_s", "expected"), [(None, PLAIN), (24 * HOUR, (*PLAIN, *CLAIRVOYANT))])
def test_every_case_of_a_world_is_replayed_against_static_and_the_bound(
    hold_back_s: float | None, expected: tuple[object, ...]
) -> None:
    found = rows(made(hold_back_s))
    assert [row.case for row in found] == list(expected)
    assert (found[0].less_frac, found[0].completion) == (0.0, 1.0)
    assert all(row.less_frac <= row.bound_frac + 1e-9 for row in found)
    assert {row.late for row in found} == ({None} if hold_back_s is None else {0})
    # The sun at a sets after two hours, at b it shines on.
    assert found[-1].less_frac > 0.9 and found[0].nonrenewable_kwh == pytest.approx(1.0)


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = rows(made(24 * HOUR))
    write_rows(tmp_path / "rows.csv", Row, written)
    again = read_rows(tmp_path / "rows.csv", Row)
    assert [(row.case, row.offset, row.late) for row in again] == [
        (row.case, row.offset, row.late) for row in written
    ]
    assert [row.nonrenewable_kwh for row in again] == pytest.approx([row.nonrenewable_kwh for row in written])


def test_tables_have_a_line_for_each_case_and_the_bound_once_a_period() -> None:
    found = [*rows(made(), 0), *rows(made(), 1)]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in every_figure(found).splitlines()
    ]
    assert [line[2] for line in lines[2:]] == [*(case.policy for case in PLAIN), "bound"]
    assert len({len(line) for line in lines}) == 1
    assert lines[2][4] == "1 ± 0"
    short = at_a_glance(found).splitlines()
    assert len(short) == 2 + len(PLAIN) - 1
    assert "(X)" in short[0]
