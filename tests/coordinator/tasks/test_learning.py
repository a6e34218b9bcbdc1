"""Learning in the daemon: from a file, the store, live samples, over a restart, within its budget."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from coordinator.build import build
from coordinator.config import CoordinatorConfig
from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Learner
from coordinator.model.site import Quality, SiteSample
from coordinator.store.database import Database, file_url
from coordinator.store.history import TelemetryStore
from coordinator.store.memories import MemoryStore
from coordinator.tasks.learning import Learning, Schooling
from sterna.clock import FakeClock, SystemClock
from sterna.config import parse
from sterna.errors import ConfigError
from sterna.supervise import Pulse
from tests.coordinator.core.histories import NOW
from tests.coordinator.forecast.pasts import write_past
from tests.coordinator.tasks.fakesite import until
from tests.coordinator.tasks.house import CONFIG, house

SLOT_S, DAY_S = 10.0, 240.0
LEARNER = Learner(leads=24, paths=20)


def sky(slot: int) -> float:
    return 3000.0 * max(0.0, float(np.sin((slot % 24 - 6) / 12 * np.pi)))


def write_days(path: Path, days: int, end_at: datetime, slot_s: float = SLOT_S) -> Path:
    slots = days * 24
    write_past(path, [(end_at - timedelta(seconds=slot_s * (slots - s)), sky(s)) for s in range(slots)])
    return path


def samples(first_at: datetime, slots: int, surplus_w: float = 700.0) -> list[SiteSample]:
    return [
        SiteSample(
            measured_at=first_at + timedelta(seconds=SLOT_S * (number + 0.5) / 4),
            sequence=number + 1,
            quality=Quality.OK,
            surplus_w=surplus_w,
        )
        for number in range(4 * slots)
    ]


class School:
    """A learning loop on a clock that is told to move."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(file_url(folder / "c.db"))
        self.telemetry = TelemetryStore(self.database)
        self.memories = MemoryStore(self.database)
        self.clock = FakeClock(NOW)

    def learning(self, past: Path | None = None, **changes: object) -> Learning:
        given: dict[str, object] = {"learner": LEARNER, "slot_s": SLOT_S, "day_s": DAY_S, **changes}
        return Learning(
            sites=[Schooling(site_id="a", kind=Kind.SUN, past=past), Schooling(site_id="b", kind=Kind.WIND)],
            memories=self.memories,
            telemetry=self.telemetry,
            clock=self.clock,
            **given,  # type: ignore[arg-type]
        )

    async def recalled(self, learning: Learning) -> Learning:
        """Let it take up what is known."""
        await learning.recall(Pulse(self.clock).heart("learning", 30.0))
        return learning


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[School]:
    made = School(tmp_path)
    yield made
    made.database.close()


async def test_a_file_then_samples_then_a_restart(school: School, tmp_path: Path) -> None:
    path = write_days(tmp_path / "a.csv", 30, NOW)
    learning = await school.recalled(school.learning(path))
    await learning.round()
    first = learning.forecast("a")
    assert first is not None and first.issued_at == NOW
    assert learning.forecast("b") is None

    learning.take("a", samples(NOW, 2))
    school.clock.advance(2 * SLOT_S + 3.0)
    await learning.round()
    second = learning.forecast("a")
    assert second is not None and second.issued_at == NOW + timedelta(seconds=2 * SLOT_S)

    # The next process has no file, what the last one learnt, and what came to the store in between.
    path.unlink()
    await school.telemetry.add({"a": samples(NOW + timedelta(seconds=2 * SLOT_S), 1)})
    school.clock.advance(SLOT_S)
    again = await school.recalled(school.learning())
    await again.round()
    third = again.forecast("a")
    assert third is not None and third.issued_at == NOW + timedelta(seconds=3 * SLOT_S)
    values = again._pupils["a"].memory.parts[0].series.values
    assert values[-3:].tolist() == [700.0, 700.0, 700.0]
    assert len(values) == 30 * 24 + 3


async def test_a_store_full_of_telemetry_is_a_past(school: School) -> None:
    """A coordinator that ran before it could learn does not begin anew."""
    await school.telemetry.add({"b": samples(NOW - timedelta(seconds=4 * DAY_S), 4 * 24)})
    school.clock.advance(3.0)
    learning = await school.recalled(school.learning())
    await learning.round()
    forecast = learning.forecast("b")
    assert forecast is not None
    assert forecast.issued_at == NOW
    assert {slot.p50_w for slot in forecast.slots} == {700.0}


async def test_what_is_doubtful_or_unknown_is_not_learnt(school: School) -> None:
    learning = await school.recalled(school.learning())
    bad = [SiteSample(measured_at=NOW, sequence=1, quality=Quality.STALE, surplus_w=5.0)]
    none = [SiteSample(measured_at=NOW, sequence=2, quality=Quality.OK, surplus_w=None)]
    learning.take("a", bad + none)
    learning.take("stranger", samples(NOW, 1))
    school.clock.advance(10 * SLOT_S)
    await learning.round()
    assert not learning._pupils


async def test_samples_that_come_before_the_past_is_known_are_kept(school: School) -> None:
    learning = school.learning()
    learning.take("b", samples(NOW, 1))
    await school.recalled(learning)
    school.clock.advance(2 * SLOT_S)
    await learning.round()
    assert learning._pupils["b"].memory.parts[0].series.values[0] == 700.0


async def test_other_settings_begin_anew_and_junk_is_put_aside(
    school: School, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_days(tmp_path / "a.csv", 30, NOW)
    await (await school.recalled(school.learning(path))).round()
    other = await school.recalled(school.learning(learner=Learner(leads=12, paths=20)))
    assert other.forecast("a") is None
    await school.memories.put({"a": b"junk"}, NOW)
    assert (await school.recalled(school.learning())).forecast("a") is None
    reasons = [record.why for record in caplog.records if record.message == "what was learnt is not used"]
    assert reasons[0] == "it was learnt under other settings"
    assert reasons[1].startswith("not a forecast memory")


async def test_a_round_keeps_to_its_budget(school: School, tmp_path: Path) -> None:
    """With no budget to speak of one lesson is learnt in a round, and the rest in those that follow."""
    path = write_days(tmp_path / "a.csv", 30, NOW)
    learning = await school.recalled(school.learning(path, budget_s=0.0))
    behind = len(learning._pupils["a"]._pending)
    await learning.round()
    await learning.round()
    assert len(learning._pupils["a"]._pending) == behind - 2
    assert await school.memories.get("a") is None, "what is only half rehearsed is not kept"


async def test_a_past_that_cannot_be_read_is_told_and_the_site_learns_on(
    school: School, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,watts\n")
    learning = await school.recalled(school.learning(path))
    assert [str(path) in record.why for record in caplog.records if hasattr(record, "why")] == [True]
    learning.take("a", samples(NOW, 1))
    school.clock.advance(2 * SLOT_S)
    await learning.round()
    assert len(learning._pupils["a"].memory.parts[0].series.values) == 1


async def test_the_daemon_plans_on_what_it_learnt(tmp_path: Path) -> None:
    now = SystemClock().now()
    write_days(tmp_path / "past.csv", 30, now, slot_s=1.0)
    sites = [{"id": "miami", "plant": "sun", "history": "past.csv"}, {"id": "nome"}]
    forecast = {"sources": ["learnt", "persistence"], "slot_s": 1.0, "day_s": 24.0, "ahead_slots": 24}
    async with house(tmp_path, sites=sites, forecast=forecast) as home:

        def sources() -> dict[str, str]:
            return {site: one.source for site, one in home.coordinator.desk.picture().forecasts.items()}

        await until(
            lambda: sources() == {"miami": "learnt", "nome": "persistence"}, "nothing is learnt", 30.0
        )
        await home.kill()
        await home.start()
        await until(lambda: sources().get("miami") == "learnt", "what was learnt is gone", 30.0)


def test_the_configuration_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(
            {**CONFIG, "forecast": {"sources": ["feed", "feed"], "slot_s": 7000.0, "budget_s": 0.0}},
            CoordinatorConfig,
            name="c.toml",
        )
    told = str(refused.value)
    assert "forecast.sources: one is given twice" in told
    assert "forecast.slot_s: slots of 7000 s do not make a day of 86400 s" in told
    assert "forecast.budget_s: expected more than zero" in told
    with pytest.raises(ConfigError, match="ahead_slots: expected a week at most, got 200 slots"):
        parse({**CONFIG, "forecast": {"ahead_slots": 200}}, CoordinatorConfig, name="c.toml")
    document = {**CONFIG, "sites": [{"id": "miami", "history": "none.csv"}, {"id": "nome"}]}
    config = parse(document, CoordinatorConfig, name="c.toml")
    with pytest.raises(ConfigError, match=r"sites: miami: history: .*none\.csv: no such file"):
        build(config, tmp_path, SystemClock())
