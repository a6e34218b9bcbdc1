"""Orders judged and applied; the laws run a whole site's job on a model of processes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.jobgrants import apply_order, begin, is_held_back
from agent.core.joborders import (
    KEYS_KEPT,
    Accept,
    Done,
    Refuse,
    Room,
    UnderWay,
    judge_order,
    order_key,
    remember,
)
from agent.core.jobtable import LIVE, TABLE, JobEvent, next_phase
from agent.model.jobs import Checkpoint, JobSpec, Manifest
from agent.model.jobs import JobPhase as P
from agent.model.orders import Action, Fetch, Offer, Order, Pause, Prepare, Release, Resume, Slow, Start, Stop
from agent.model.records import JobRecord

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SPEC = JobSpec(name="t", argv=("x",))
ROOM = Room(slots_free=1, free_bytes=1000, checkpoint_ids=frozenset({"c1"}))
PREPARE = Prepare(spec=SPEC, checkpoint_bytes=10, expires_after_s=60.0)
FETCH = Fetch(checkpoint_id="c1", holder_site="a", holder_address=None, ticket="t", max_bps=None)
START = Start(spec=SPEC, checkpoint_id=None, lease_ttl_s=None)
RESUME = Start(spec=SPEC, checkpoint_id="c1", lease_ttl_s=30.0)
STOP = Stop(reason="moves", cancel=False)
CANCEL = Stop(reason="cancelled", cancel=True)
OFFER = Offer(checkpoint_id="c1", receiver_site="b", receiver_address="b:1", ticket="t", max_bps=None)
RELEASE = Release(keep_checkpoints=2)


def order(action: Action, epoch: int = 1, migration: str = "m1") -> Order:
    return Order(order_id="o", migration_id=migration, job_id="j", epoch=epoch, action=action)


def record(phase: P, **fields: object) -> JobRecord:
    base = JobRecord(job_id="j", phase=phase, epoch=1, highest_epoch=1, migration_id="m1", spec=SPEC)
    return replace(base, **fields)  # type: ignore[arg-type]


def held(*steps: int) -> tuple[Checkpoint, ...]:
    """Checkpoints c1, c2, …, of these steps."""
    return tuple(
        Checkpoint(
            checkpoint_id=f"c{number}",
            manifest=Manifest(
                job_id="j", epoch=1, step=step, files=(), chunk_bytes=1, chunk_hashes=(), sealed_at=NOW
            ),
        )
        for number, step in enumerate(steps, 1)
    )


C1 = held(10)


def act(
    job: JobRecord, what: Order, verdict: Accept, run_id: str = "r", here: tuple[Checkpoint, ...] = C1
) -> JobRecord:
    job = apply_order(job, what, verdict, held=here, run_id=run_id, now_s=100.0, now=NOW, boot_id="b")
    return job if verdict.event is None else replace(job, phase=next_phase(job.phase, verdict.event))


@pytest.mark.parametrize(
    ("phase", "action", "epoch", "expected"),
    [
        (P.RELEASED, PREPARE, 1, Accept(event=JobEvent.PREPARE)),
        (P.RESERVED, PREPARE, 1, Accept(event=JobEvent.PREPARE)),
        (P.FETCHING, PREPARE, 1, Done()),
        (P.HELD, PREPARE, 1, Done()),
        (P.SEALED, PREPARE, 1, Accept(event=JobEvent.PREPARE)),
        (P.RUNNING, PREPARE, 1, Refuse(reason="the job is RUNNING here")),
        (P.RESERVED, FETCH, 1, Accept(event=JobEvent.FETCH)),
        (P.HELD, FETCH, 1, Done()),
        (P.HELD, replace(FETCH, checkpoint_id="c2"), 1, Accept(event=JobEvent.FETCH)),
        (P.RELEASED, FETCH, 1, Refuse(reason="the job is RELEASED here; a fetch needs a reservation")),
        (P.RELEASED, START, 2, Accept(event=JobEvent.START)),
        (P.HELD, RESUME, 2, Accept(event=JobEvent.START)),
        (P.SEALED, START, 2, Accept(event=JobEvent.START)),
        (P.FAILED, START, 2, Accept(event=JobEvent.START)),
        (P.COMPLETED, START, 2, Refuse(reason="the job is COMPLETED here")),
        (P.FETCHING, START, 2, Refuse(reason="the job is FETCHING here")),
        (P.HELD, replace(RESUME, checkpoint_id="c9"), 2, Refuse(reason="checkpoint c9 is not here")),
        (P.STARTING, START, 1, UnderWay()),
        (P.RUNNING, START, 1, Done()),
        (P.SEALED, START, 1, Done()),
        (P.RUNNING, START, 2, Accept(event=JobEvent.REGRANT)),
        (P.STOPPING, START, 2, Accept(event=JobEvent.REGRANT)),
        (P.RUNNING, STOP, 1, Accept(event=JobEvent.STOP)),
        (P.STARTING, STOP, 1, Accept(event=JobEvent.STOP)),
        (P.PAUSED, STOP, 1, Accept(event=JobEvent.STOP)),
        (P.STOPPING, STOP, 1, UnderWay()),
        (P.STOPPING, CANCEL, 1, Accept(event=JobEvent.STOP)),
        (P.SEALED, STOP, 1, Done()),
        (P.RELEASED, STOP, 1, Refuse(reason="the job is RELEASED here; nothing runs")),
        (P.RELEASED, CANCEL, 1, Done()),
        (P.RUNNING, OFFER, 1, Accept(event=None)),
        (P.SEALED, replace(OFFER, checkpoint_id="c9"), 1, Refuse(reason="checkpoint c9 is not here")),
        (P.SEALED, RELEASE, 1, Accept(event=JobEvent.RELEASE)),
        (P.FETCHING, RELEASE, 1, Accept(event=JobEvent.RELEASE)),
        (P.RUNNING, RELEASE, 1, Refuse(reason="the job is RUNNING here; it must stop first")),
        (P.RELEASED, RELEASE, 1, Done()),
    ],
)
def test_verdicts(phase: P, action: Action, epoch: int, expected: object) -> None:
    assert judge_order(record(phase), order(action, epoch), ROOM) == expected


@pytest.mark.parametrize("action", [PREPARE, FETCH, START, STOP, OFFER, RELEASE])
@pytest.mark.parametrize("phase", P)
def test_lower_epochs_are_refused_in_every_phase(phase: P, action: Action) -> None:
    verdict = judge_order(record(phase, highest_epoch=5), order(action, 4), ROOM)
    assert verdict == Refuse(reason="stale epoch 4; the highest seen is 5")


def test_room_is_needed() -> None:
    full = replace(ROOM, slots_free=0)
    assert judge_order(record(P.RELEASED), order(PREPARE), full) == Refuse(reason="no free slot")
    assert judge_order(record(P.RELEASED), order(START, 2), full) == Refuse(reason="no free slot")
    assert judge_order(record(P.SEALED), order(START, 2), full) == Accept(event=JobEvent.START)
    big = order(replace(PREPARE, checkpoint_bytes=2000))
    assert judge_order(record(P.RELEASED), big, ROOM) == Refuse(
        reason="no space: 2000 bytes asked, 1000 are free"
    )


def test_fetch_under_way() -> None:
    busy = record(P.FETCHING, fetch=FETCH)
    assert judge_order(busy, order(FETCH), ROOM) == UnderWay()
    other = order(replace(FETCH, checkpoint_id="c2"))
    assert judge_order(busy, other, ROOM) == Refuse(reason="checkpoint c1 is being fetched")


@pytest.mark.parametrize(
    ("known_bps", "new_bps", "changes"),
    [
        (None, None, False),
        (None, 1e6, True),
        (1e6, None, True),
        (1e6, 1.05e6, False),
        (1e6, 0.95e6, False),
        (1e6, 2e6, True),
        (2e6, 1e6, True),
    ],
)
def test_a_fetch_changes_over_to_a_rate_that_is_another(
    known_bps: float | None, new_bps: float | None, changes: bool
) -> None:
    busy = record(P.FETCHING, fetch=replace(FETCH, max_bps=known_bps))
    again = order(replace(FETCH, max_bps=new_bps))
    verdict = judge_order(busy, again, ROOM)
    assert verdict == (Accept(event=None) if changes else UnderWay())
    assert not changes or act(busy, again, verdict).fetch == again.action


def test_a_holder_that_moved_is_fetched_from_where_it_is_now() -> None:
    busy = record(P.FETCHING, fetch=replace(FETCH, holder_address="a:1"))
    again = order(replace(FETCH, holder_address="a:1", ticket="a newer one"))
    assert judge_order(busy, again, ROOM) == UnderWay()
    moved = order(replace(FETCH, holder_address="a:2"))
    verdict = judge_order(busy, moved, ROOM)
    assert verdict == Accept(event=None)
    assert act(busy, moved, verdict).fetch == moved.action


def test_late_orders_of_a_migration_that_was_let_go_of() -> None:
    job = act(record(P.RESERVED), order(RELEASE), Accept(event=JobEvent.RELEASE))
    for action in (PREPARE, FETCH):
        assert judge_order(job, order(action), ROOM) == Refuse(reason="migration m1 was released here")
    again = act(job, order(PREPARE, migration="m2"), Accept(event=JobEvent.PREPARE))
    assert judge_order(again, order(RELEASE), ROOM) == Done()
    assert judge_order(again, order(RELEASE, migration="m0"), ROOM) == Done()
    assert judge_order(again, order(RELEASE, migration="m2"), ROOM) == Accept(event=JobEvent.RELEASE)


def test_duplicates_after_the_effect_change_nothing() -> None:
    job = record(P.RUNNING, applied=tuple(order_key(order(action)) for action in (PREPARE, FETCH, STOP)))
    for action in (PREPARE, FETCH, STOP):
        assert judge_order(job, order(action), ROOM) == Done()


def test_a_stop_takes_a_waiting_grant_back() -> None:
    job = act(record(P.STOPPING, stop_ordered_s=90.0), order(START, 2), Accept(event=JobEvent.REGRANT))
    assert (job.phase, job.epoch, job.highest_epoch) == (P.STOPPING, 1, 2)
    assert job.pending is not None and job.pending.epoch == 2
    assert judge_order(job, order(START, 2), ROOM) == UnderWay()
    verdict = judge_order(job, order(STOP, 2, "m2"), ROOM)
    assert verdict == Accept(event=JobEvent.STOP)
    job = act(job, order(STOP, 2, "m2"), Accept(event=JobEvent.STOP))
    assert (job.pending, job.stop_ordered_s, job.migration_id) == (None, 90.0, "m2")


def test_what_a_grant_resumes_from() -> None:
    accept = Accept(event=JobEvent.START)
    assert act(record(P.RELEASED), order(START, 2), accept).resume_id is None
    assert act(record(P.SEALED), order(START, 2), accept).resume_id == "c1"
    assert act(record(P.RESERVED), order(RESUME, 2), accept, here=()).resume_id == "c1"
    job = act(record(P.HELD, stop_reason="x", restarts=2), order(RESUME, 2), accept)
    assert job.lease is not None and (job.lease.expires_s, job.lease.boot_id) == (130.0, "b")
    assert (job.stop_reason, job.restarts, job.run_id, job.epoch) == ("", 0, "r", 2)


@pytest.mark.parametrize(
    ("phase", "here", "resumed"),
    [
        (P.SEALED, held(10), "c1"),
        (P.SEALED, held(10, 20), "c2"),  # sealed after the grant had been made
        (P.SEALED, held(10, 5), "c1"),
        (P.FAILED, held(10, 20), "c2"),
        (P.HELD, held(10, 20), "c1"),  # what was fetched, not what an abandoned history left
        (P.RELEASED, held(10, 20), "c1"),
    ],
)
def test_a_grant_does_not_go_back_behind_what_is_sealed_here(
    phase: P, here: tuple[Checkpoint, ...], resumed: str
) -> None:
    job = act(record(phase), order(RESUME, 2), Accept(event=JobEvent.START), here=here)
    assert job.resume_id == resumed


def test_a_grant_that_waited_for_a_stop_goes_on_from_what_the_stop_sealed() -> None:
    job = act(record(P.STOPPING), order(RESUME, 2), Accept(event=JobEvent.REGRANT))
    assert job.pending is not None
    stopped = replace(job, phase=next_phase(job.phase, JobEvent.STOPPED))
    assert begin(stopped, job.pending, held=held(10, 20), run_id="r").resume_id == "c2"
    assert begin(stopped, job.pending, held=(), run_id="r").resume_id == "c1"


@pytest.mark.parametrize(
    ("phase", "action"),
    [(P.RELEASED, RELEASE), (P.SEALED, STOP), (P.STOPPING, STOP), (P.FETCHING, PREPARE), (P.HELD, FETCH)],
)
def test_a_higher_epoch_is_remembered_where_nothing_else_is_to_be_done(phase: P, action: Action) -> None:
    job = record(phase, fetch=FETCH)
    what = order(action, 5)
    assert judge_order(job, what, ROOM) == Accept(event=None)
    after = act(job, what, Accept(event=None))
    assert (after.phase, after.highest_epoch, after.fetch) == (phase, 5, FETCH)
    assert isinstance(judge_order(after, order(START, 4), ROOM), Refuse)
    assert isinstance(judge_order(after, what, ROOM), (Done, UnderWay))


def test_a_start_that_comes_after_the_release_of_its_epoch_starts_nothing() -> None:
    done = act(record(P.COMPLETED), order(RELEASE, 4, ""), Accept(event=JobEvent.RELEASE))
    assert isinstance(judge_order(done, order(RESUME, 4), ROOM), Refuse)
    assert judge_order(done, order(RESUME, 5), ROOM) == Accept(event=JobEvent.START)


def test_other_orders_in_the_record() -> None:
    job = act(record(P.RELEASED), order(PREPARE), Accept(event=JobEvent.PREPARE))
    assert (job.reserved_until_s, job.reserved_bytes, job.phase) == (160.0, 10, P.RESERVED)
    job = act(job, order(FETCH), Accept(event=JobEvent.FETCH))
    assert job.fetch == FETCH
    offered = act(record(P.SEALED), order(OFFER, 3, "m9"), Accept(event=None))
    assert (offered.migration_id, offered.highest_epoch, offered.phase) == ("m1", 3, P.SEALED)
    cancelled = act(record(P.RUNNING), order(CANCEL), Accept(event=JobEvent.STOP))
    more = act(cancelled, order(STOP, 1, "m2"), Accept(event=JobEvent.STOP))
    assert more.stop_cancel


def test_only_the_last_orders_are_remembered() -> None:
    job = record(P.RELEASED)
    for epoch in range(1, KEYS_KEPT + 5):
        job = replace(job, applied=remember(job, order(STOP, epoch)))
    job = replace(job, applied=remember(job, order(STOP, 10)))
    assert len(job.applied) == KEYS_KEPT
    assert job.applied[-1] == order_key(order(STOP, 10))


def pause(sequence: int, length_s: float = 60.0) -> Pause:
    return Pause(sequence=sequence, expires_after_s=length_s, reason="too little surplus")


@pytest.mark.parametrize(
    ("job", "action", "epoch", "expected"),
    [
        (record(P.RUNNING), pause(1), 1, Accept(event=JobEvent.PAUSE)),
        (record(P.PAUSED), pause(1), 1, Accept(event=None)),
        (record(P.STARTING), pause(1), 1, Accept(event=None)),
        (record(P.RUNNING, hold_sequence=1), pause(1), 1, Done()),
        (record(P.PAUSED, hold_sequence=3), pause(2), 1, Done()),
        (record(P.PAUSED, hold_sequence=3), pause(4), 1, Accept(event=None)),
        (record(P.PAUSED, hold_sequence=3), Resume(sequence=3), 1, Done()),
        (record(P.PAUSED, hold_sequence=3), Resume(sequence=4), 1, Accept(event=None)),
        (record(P.SEALED), Resume(sequence=1), 1, Accept(event=None)),
        (record(P.STOPPING), pause(1), 1, Refuse(reason="the job is STOPPING here, under epoch 1")),
        (record(P.SEALED), pause(1), 1, Refuse(reason="the job is SEALED here, under epoch 1")),
        (record(P.RUNNING), pause(1), 2, Refuse(reason="the job is RUNNING here, under epoch 1")),
        (
            record(P.RUNNING, highest_epoch=2),
            pause(1),
            1,
            Refuse(reason="stale epoch 1; the highest seen is 2"),
        ),
    ],
)
def test_pauses_of_the_plan(job: JobRecord, action: Action, epoch: int, expected: object) -> None:
    assert judge_order(job, order(action, epoch, ""), ROOM) == expected


def test_a_pause_is_known_by_its_sequence_and_ends_by_itself() -> None:
    job = act(record(P.RUNNING, applied=(order_key(order(RELEASE)),)), order(pause(1), 1, ""),
              Accept(event=JobEvent.PAUSE))  # fmt: skip
    assert (job.phase, job.hold_sequence, job.migration_id) == (P.PAUSED, 1, "m1")
    assert job.hold is not None and job.hold.until_at == NOW + timedelta(seconds=60)
    assert job.applied == (order_key(order(RELEASE)),), "pauses do not crowd out what must be remembered"
    assert is_held_back(job, 159.9, "b")
    assert not is_held_back(job, 160.0, "b")
    assert not is_held_back(job, 159.9, "another boot")
    again = act(job, order(pause(2, 500.0), 1, ""), Accept(event=None))
    assert is_held_back(again, 500.0, "b")
    freed = act(again, order(Resume(sequence=3), 1, ""), Accept(event=None))
    assert (freed.phase, freed.hold, freed.hold_sequence) == (P.PAUSED, None, 3)
    late = order(pause(2), 5, "")
    assert judge_order(freed, late, ROOM) == Accept(event=None), "its epoch is news"
    after = act(freed, late, Accept(event=None))
    assert (after.hold, after.hold_sequence, after.highest_epoch) == (None, 3, 5)


def slow(sequence: int, power_w: float = 300.0) -> Slow:
    return Slow(sequence=sequence, expires_after_s=60.0, power_w=power_w, reason="too little surplus")


@pytest.mark.parametrize(
    ("job", "action", "expected"),
    [
        (record(P.RUNNING), slow(1), Accept(event=None)),
        (record(P.PAUSED), slow(1), Accept(event=None)),
        (record(P.STARTING), slow(1), Accept(event=None)),
        (record(P.RUNNING, hold_sequence=1), slow(1), Done()),
        (record(P.SEALED), slow(1), Refuse(reason="the job is SEALED here, under epoch 1")),
    ],
)
def test_slowing_by_the_plan(job: JobRecord, action: Action, expected: object) -> None:
    assert judge_order(job, order(action, 1, ""), ROOM) == expected


def test_slowing_changes_no_phase_and_gives_way_to_the_next_of_the_plan() -> None:
    job = act(record(P.RUNNING), order(slow(1), 1, ""), Accept(event=None))
    assert job.phase is P.RUNNING and job.hold is not None
    assert (job.hold.power_w, job.hold.until_at) == (300.0, NOW + timedelta(seconds=60))
    assert is_held_back(job, 159.9, "b") and not is_held_back(job, 160.0, "b")
    paused = act(job, order(pause(2), 1, ""), Accept(event=JobEvent.PAUSE))
    assert paused.hold is not None and paused.hold.power_w is None
    again = act(paused, order(slow(3, 250.0), 1, ""), Accept(event=None))
    assert again.hold is not None and again.hold.power_w == 250.0
    freed = act(again, order(Resume(sequence=4), 1, ""), Accept(event=None))
    assert (freed.hold, freed.hold_sequence) == (None, 4)


@pytest.mark.parametrize("action", [STOP, RESUME])
def test_a_stop_and_a_new_run_end_a_pause_of_the_plan(action: Action) -> None:
    job = act(record(P.RUNNING), order(pause(1), 1, ""), Accept(event=JobEvent.PAUSE))
    if action is STOP:
        assert act(job, order(STOP), Accept(event=JobEvent.STOP)).hold is None
        return
    assert act(job, order(RESUME, 2), Accept(event=JobEvent.REGRANT)).hold is not None, "the run goes on"
    stopped = replace(job, phase=P.SEALED)
    assert act(stopped, order(RESUME, 2), Accept(event=JobEvent.START)).hold is None


class Model:
    """A job at one site, with the processes that its record would have."""

    def __init__(self) -> None:
        self.job = JobRecord(job_id="j")
        self.running: set[str] = set()
        self.epochs: list[int] = []
        self.count = 0

    def order(self, action: Action, epoch: int, migration: str) -> None:
        before = self.job
        what = order(action, epoch, migration)
        verdict = judge_order(before, what, ROOM)
        if isinstance(verdict, Accept):
            self.count += 1
            self.job = act(before, what, verdict, run_id=f"r{self.count}")
            again = judge_order(self.job, what, ROOM)
            # A reservation is refreshed, an offer served again; everything else has one effect.
            repeatable = isinstance(action, (Prepare, Offer))
            assert repeatable or isinstance(again, (Done, UnderWay)), (before.phase, what, again)
        self.check(before)

    def event(self, event: JobEvent) -> None:
        """What the minder may report, with what it does to processes."""
        before = self.job
        if (before.phase, event) not in TABLE:
            return
        if event is JobEvent.STARTED:
            assert not self.running - {before.run_id}, "a second process beside a living one"
            self.running.add(before.run_id)
        job = replace(before, phase=next_phase(before.phase, event))
        if event in (JobEvent.STOPPED, JobEvent.COMPLETED, JobEvent.FAILED, JobEvent.RUN_LOST):
            self.running.clear()  # the minder concludes only once nothing of the run is left
            self.count += 1
            if event is JobEvent.RUN_LOST:
                job = replace(job, run_id=f"r{self.count}")
            elif event is JobEvent.STOPPED and job.pending is not None:
                job = begin(job, job.pending, held=C1, run_id=f"r{self.count}")
                job = replace(job, phase=next_phase(job.phase, JobEvent.START))
            job = replace(job, pending=None)
        self.job = job
        self.check(before)

    def check(self, before: JobRecord) -> None:
        assert self.job.highest_epoch >= before.highest_epoch
        assert self.job.epoch >= before.epoch
        assert self.job.highest_epoch >= self.job.epoch
        assert len(self.running) <= 1
        if self.running:
            assert self.job.phase in LIVE
            assert self.running == {self.job.run_id}, "a new run was named beside a living process"


MINDED = [
    JobEvent.FETCHED,
    JobEvent.FETCH_FAILED,
    JobEvent.RESERVATION_EXPIRED,
    JobEvent.STARTED,
    JobEvent.PAUSE,
    JobEvent.RESUME,
    JobEvent.STOPPED,
    JobEvent.RUN_LOST,
    JobEvent.COMPLETED,
    JobEvent.FAILED,
]
orders = st.tuples(
    st.sampled_from([PREPARE, FETCH, START, RESUME, STOP, CANCEL, OFFER, RELEASE]),
    st.integers(1, 5),
    st.sampled_from(["", "m1", "m2"]),
)


@settings(max_examples=150)
@given(st.lists(orders | st.sampled_from(MINDED), max_size=40))
def test_no_sequence_yields_two_runs_or_a_lower_epoch(happenings: list[object]) -> None:
    model = Model()
    for happening in happenings:
        if isinstance(happening, JobEvent):
            model.event(happening)
        else:
            assert isinstance(happening, tuple)
            model.order(*happening)


SICK = Room(slots_free=0, free_bytes=0, checkpoint_ids=frozenset(), fault="the disk is sick")


@pytest.mark.parametrize(
    ("phase", "action", "migration_id", "refused"),
    [
        (P.RELEASED, Prepare(spec=SPEC, checkpoint_bytes=1, expires_after_s=9.0), "m", True),
        (P.RELEASED, Start(spec=SPEC, checkpoint_id=None, lease_ttl_s=None), "", True),
        (P.SEALED, Start(spec=SPEC, checkpoint_id="c1", lease_ttl_s=None), "", True),
        (
            P.RUNNING,
            Offer(checkpoint_id="c1", receiver_site="b", receiver_address="b:1", ticket="", max_bps=None),
            "m",
            True,
        ),
        (P.RUNNING, Stop(reason="", cancel=False), "m", True),
        (P.RUNNING, Stop(reason="", cancel=True), "m", False),
        (P.RUNNING, Stop(reason="", cancel=False), "", False),
        (P.STOPPING, Stop(reason="", cancel=True), "m", False),
        (P.RUNNING, Start(spec=SPEC, checkpoint_id="c1", lease_ttl_s=None), "", False),
        (P.SEALED, Release(keep_checkpoints=2), "m", False),
    ],
)
def test_while_the_store_cannot_be_read(phase: P, action: Action, migration_id: str, refused: bool) -> None:
    record = JobRecord(job_id="j", phase=phase, epoch=1, highest_epoch=1, spec=SPEC)
    order = Order(order_id="o", migration_id=migration_id, job_id="j", epoch=2, action=action)
    verdict = judge_order(record, order, SICK)
    assert (verdict == Refuse(reason="the disk is sick")) is refused
    assert refused or not isinstance(verdict, Refuse)
