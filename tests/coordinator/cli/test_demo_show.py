"""What the demo shows: each change once, and the picture of the moment at which most was going on."""

import io
from pathlib import Path

from rich.console import Console

from coordinator.cli.demo.show import _View
from sterna.v1 import fleet_pb2
from sterna.v1 import operator_service_pb2 as api


def snapshot(*jobs: str, done: int = 0) -> api.WatchFleetResponse:
    """Return a fleet with these jobs running, and so many moves made."""
    return api.WatchFleetResponse(
        policy="sterna",
        jobs=[
            fleet_pb2.Job(job_id=name, spec={"name": name}, state=fleet_pb2.JOB_STATE_RUNNING, owner_site="a")
            for name in jobs
        ],
        migrations=[
            fleet_pb2.Migration(
                migration_id=str(number),
                job_id="one",
                state=fleet_pb2.MIGRATION_STATE_DONE,
                reason="more sun",
            )
            for number in range(done)
        ],
    )


def test_a_change_is_told_once_and_the_busiest_moment_is_drawn(tmp_path: Path) -> None:
    said = io.StringIO()
    view = _View(Console(file=said, markup=False), None)
    for seen in (snapshot("one"), snapshot("one", "[/two]", done=1), snapshot("one", "[/two]", done=1)):
        view.show(seen)
    view.show(snapshot())  # all is over
    assert said.getvalue().splitlines() == [
        "00:00:00 one: running a",
        "00:00:00 one:  →  done (more sun)",
        "00:00:00 [/two]: running a",
    ]
    view.draw(tmp_path / "busy.svg")
    assert "[/two]" in (tmp_path / "busy.svg").read_text().replace("&#91;", "[").replace("&#47;", "/")
