"""When sites are told of what they may offer: at first, on news, before it expires, in a new session."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from coordinator.core.offers import OfferSettings
from coordinator.model.events import JobGranted, JobPhaseChanged, JobSubmitted, SiteSeen
from coordinator.model.fleet import JobState
from coordinator.model.job import JobSpec
from coordinator.model.offers import OfferSet
from coordinator.model.site import Capabilities, GridState, GridStatus, Quality, SiteSample
from coordinator.store.database import Database, file_url
from coordinator.store.fleet_store import FleetStore
from coordinator.tasks.bell import Bell
from coordinator.tasks.fleet import Fleet
from coordinator.tasks.live import LiveBook
from coordinator.tasks.offers import OfferBook
from tests.coordinator.core import fleets
from tests.coordinator.core.fleets import NOW


class Sessions:
    """Sites that take what they are sent, while they keep up."""

    def __init__(self) -> None:
        self.sent: list[OfferSet] = []
        self.keeps_up = True

    def offers(self, offers: OfferSet) -> bool:
        if self.keeps_up:
            self.sent.append(offers)
        return self.keeps_up


async def test_a_site_is_told_when_it_must_know(tmp_path: Path) -> None:
    bell = Bell()
    store = FleetStore(Database(file_url(tmp_path / "coordinator.db")))
    spec = JobSpec(name="a", argv=("train",), power_w=500.0)
    events = (
        SiteSeen(at=NOW, site_id="kiel", capabilities=Capabilities(slots=1, idle_power_w=60.0)),
        JobSubmitted(at=NOW, job_id="a", spec=spec),
        JobGranted(at=NOW, job_id="a", site_id="kiel", epoch=1, checkpoint_id=None, lease_ttl_s=None),
        JobPhaseChanged(at=NOW, job_id="a", state=JobState.RUNNING),
    )
    fleet = Fleet(store, bell)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(fleet.run())
        await fleet.change(lambda _: events)
        running.cancel()
    live, sessions = LiveBook(bell), Sessions()
    settings = OfferSettings(durations_s=(900.0,), valid_s=100.0)
    book = OfferBook(fleet=fleet, live=live, sender=sessions, settings=settings)

    def tick(after_s: float, compute_w: float = 560.0) -> int:
        """Let the planner tick; how many messages went out."""
        before, now = len(sessions.sent), NOW + timedelta(seconds=after_s)
        sample = SiteSample(
            measured_at=now, sequence=int(after_s), quality=Quality.OK, grid_w=3000.0, compute_w=compute_w
        )
        live.sample("kiel", sample, now)
        view = replace(fleets.fleet([fleets.site("kiel")], [fleets.job("a", "kiel")]), now=now)
        book.on_tick(view, ())
        return len(sessions.sent) - before

    live.connect("kiel", 1, NOW)
    live.grid_status("kiel", GridStatus(state=GridState.UNLIMITED, limit_w=None))
    assert [tick(0), tick(1), tick(2)] == [1, 0, 0]
    assert [one.power_w for one in book.current()["kiel"].offers] == [500.0]
    assert tick(3, compute_w=300.0) == 1, "it draws much less"
    assert [tick(52, compute_w=300.0), tick(53, compute_w=300.0)] == [0, 1], "half its time is over"
    live.connect("kiel", 2, NOW)
    assert tick(54, compute_w=300.0) == 1, "a new session knows nothing"
    sessions.keeps_up = False
    assert [tick(55), tick(56)] == [0, 0]
    assert [one.power_w for one in book.current()["kiel"].offers] == [240.0], "what it was told holds"
    sessions.keeps_up = True
    assert [tick(57), tick(58)] == [1, 0]
    live.grid_status("kiel", GridStatus(state=GridState.FAILSAFE, limit_w=0.0))
    assert tick(59) == 1
    assert sessions.sent[-1].offers == ()
    live.disconnect("kiel", 2)
    assert tick(60) == 0
    assert book.current() == {}
