"""Tables equal the fold of the events, after every append and after a restart."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from coordinator.core.fleet import fold
from coordinator.model import events as ev
from coordinator.model.decision import Alternative, Decision, DecisionKind, Term
from coordinator.model.fleet import FleetState
from coordinator.model.job import JobSpec
from coordinator.model.site import GpuSample, Quality, SiteSample
from coordinator.store.database import Database, file_url
from coordinator.store.documents import event_kind, read_event, write
from coordinator.store.fleet_store import FleetStore, StoredRequest
from coordinator.store.history import DecisionStore, TelemetryStore
from sterna.errors import CorruptError, TransientError
from tests.coordinator.core.simulation import Simulation

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(file_url(tmp_path / "coordinator.db"))
    yield database
    database.close()


@pytest.mark.parametrize("seed", range(4))
async def test_tables_are_the_fold_of_the_events(database: Database, tmp_path: Path, seed: int) -> None:
    simulation = Simulation(seed)
    for _ in range(300):
        simulation.step()
    store = FleetStore(database)
    state = FleetState()
    for event in simulation.history:
        after = fold([event], state)
        await store.append([event], state, after)
        state = after
    assert store.load() == state == store.refold() == simulation.state
    again = Database(file_url(tmp_path / "coordinator.db"))
    assert FleetStore(again).load() == state
    again.close()


def test_every_event_survives_json() -> None:
    kinds = set()
    for seed in range(30):
        simulation = Simulation(seed)
        for _ in range(800):
            simulation.step()
        for event in simulation.history:
            assert read_event(event_kind(event), write(event)) == event
            kinds.add(event_kind(event))
    assert {"MigrationSealed", "MigrationFailed", "JobRequeued", "SiteFenced", "JobWithdrawn"} <= kinds


def test_a_deadline_survives_json() -> None:
    for deadline in ({"deadline_at": NOW}, {"deadline_after_s": 90.5}):
        spec = JobSpec(name="n", argv=("a",), declared_work_s=1.0, **deadline)  # type: ignore[arg-type]
        event = ev.JobSubmitted(at=NOW, job_id="j", spec=spec)
        assert read_event("JobSubmitted", write(event)) == event


def test_what_is_not_an_event_is_corrupt() -> None:
    with pytest.raises(CorruptError, match="unknown kind"):
        read_event("JobVanished", "{}")
    with pytest.raises(CorruptError, match="JobEnded"):
        read_event("JobEnded", '{"at": 3}')


async def test_an_append_is_all_or_nothing(database: Database) -> None:
    store = FleetStore(database)
    event = ev.SiteDrained(at=NOW, site_id="miami")
    after = fold([event])
    request = StoredRequest(request_id="r1", at=NOW, content="drain miami", answer="{}")
    await store.append([event], FleetState(), after, request)
    twice = fold([ev.SiteFenced(at=NOW, site_id="miami")], after)
    with pytest.raises(TransientError):
        await store.append([ev.SiteFenced(at=NOW, site_id="miami")], after, twice, request)
    assert store.load() == after == store.refold()
    known = await store.request("r1")
    assert known is not None and known.content == "drain miami"
    assert await store.request("r2") is None


def test_it_is_durable(database: Database) -> None:
    assert database.run_now(lambda c: c.execute(text("PRAGMA journal_mode")).scalar()) == "wal"
    assert database.run_now(lambda c: c.execute(text("PRAGMA synchronous")).scalar()) == 2


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.db"
    path.write_text("this is not a database, it is a poem of some length\n" * 100)
    with pytest.raises(CorruptError, match="not usable"):
        Database(file_url(path))


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.db"
    first = Database(file_url(path))
    first.run_now(lambda c: c.execute(text("UPDATE meta SET value = '99'")))
    first.close()
    with pytest.raises(CorruptError, match="version 99"):
        Database(file_url(path))


def decision(job_id: str, score: float) -> Decision:
    term = Term(name="time", value=3.5, limit=float("inf"), unit="s", satisfied=True)
    alternative = Alternative(site_id="b", feasible=True, score=score, terms=(term,), rejections=())
    return Decision(
        job_id=job_id,
        decided_at=NOW,
        policy="static",
        kind=DecisionKind.START,
        source_site=None,
        target_site="b",
        reason="home",
        alternatives=(alternative,),
    )


async def test_decisions_are_kept_whole_infinities_included(database: Database) -> None:
    store = DecisionStore(database)
    assert await store.last("j") is None
    await store.add({"d1": decision("j", 1.0), "d2": decision("k", 2.0)})
    await store.add({"d3": decision("j", float("-inf"))})
    assert await store.last("j") == ("d3", decision("j", float("-inf")))
    await store.add({f"x{n}": decision("j", n) for n in range(10)})
    assert await store.trim(3) == 9
    assert await store.last("j") == ("x9", decision("j", 9))
    assert await store.last("k") == ("d2", decision("k", 2.0))


def sample(sequence: int, **changes: object) -> SiteSample:
    base = SiteSample(
        measured_at=NOW + timedelta(seconds=sequence),
        sequence=sequence,
        quality=Quality.OK,
        surplus_w=12.5,
        gpus=(GpuSample(name="gpu0", power_w=30.0),),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


async def test_telemetry_is_stored_once_and_bounded(database: Database) -> None:
    store = TelemetryStore(database)
    await store.add({"a": [sample(1), sample(2)], "b": [sample(1)]})
    await store.add({"a": [sample(2), sample(3, historical=True, surplus_w=None)]})
    kept = await store.since("a", NOW)
    assert kept == (sample(1), sample(2), sample(3, historical=True, surplus_w=None))
    assert await store.since("a", NOW + timedelta(seconds=3)) == kept[2:]
    assert await store.trim(2) == 1
    assert await store.since("a", NOW) == kept[1:]
    assert await store.since("b", NOW) == (sample(1),)


async def test_an_agent_that_lost_its_store_is_not_ignored(database: Database) -> None:
    store = TelemetryStore(database)
    await store.add({"a": [sample(1)]})
    anew = sample(1, measured_at=NOW + timedelta(hours=1))
    await store.add({"a": [anew]})
    assert await store.since("a", NOW) == (sample(1), anew)
