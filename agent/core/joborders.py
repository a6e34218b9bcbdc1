"""What to answer to an order: accept it, say that it is done, or refuse it with a reason. Pure.

Orders are idempotent by (migration, kind, epoch), and one that acts under an epoch lower than the highest
seen is refused as stale (DESIGN 7, invariants 2 and 6).
"""

from collections.abc import Callable
from dataclasses import dataclass

from agent.core.jobtable import LIVE, SLOT_HOLDING, TABLE, JobEvent
from agent.model.jobs import JobPhase as P
from agent.model.orders import Fetch, Offer, Order, Pause, Prepare, Release, Resume, Slow, Start, Stop
from agent.model.records import JobRecord, OrderKey

KEYS_KEPT = 32
"""Applied orders that a record remembers; a job has at most six per migration."""

PACE_CHANGE_FRAC = 0.1
"""A fetch goes on as it is where its rate changes by less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the site can give now: free slots, and the checkpoints of the job that are here, verified."""

    slots_free: int
    free_bytes: int
    checkpoint_ids: frozenset[str]
    fault: str = ""
    """Why the checkpoint store cannot be read, so that nobody knows what is here; empty when it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """Record the order and do it. `event` None: it changes no phase."""

    event: JobEvent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """It was accepted before and will take effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """It has already taken effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Nothing changes. `reason` is a sentence for people."""

    reason: str


Verdict = Accept | UnderWay | Done | Refuse


def order_key(order: Order) -> OrderKey:
    """Return what makes this order the same as another."""
    kind = type(order.action).__name__.lower()
    if isinstance(order.action, (Fetch, Offer)):  # one move may bring two: one sent ahead, one at the stop
        kind += f" {order.action.checkpoint_id}"
    return OrderKey(migration_id=order.migration_id, kind=kind, epoch=order.epoch)


def remember(record: JobRecord, order: Order) -> tuple[OrderKey, ...]:
    """Return the record's applied orders with this one, the oldest dropped."""
    key = order_key(order)
    return (*(known for known in record.applied if known != key), key)[-KEYS_KEPT:]


def judge_order(record: JobRecord, order: Order, room: Room) -> Verdict:
    """Judge one order; nothing is changed here.

    Parameters
    ----------
    record : JobRecord
        What is known of the job; for an unknown one, a fresh record (RELEASED, epochs 0).
    order : Order
        As received.
    room : Room
        What the site can give.

    Returns
    -------
    Accept, UnderWay, Done or Refuse
    """
    if order.epoch < record.highest_epoch:
        return Refuse(reason=f"stale epoch {order.epoch}; the highest seen is {record.highest_epoch}")
    if isinstance(order.action, (Prepare, Fetch)) and _was_released(record, order):
        return Refuse(reason=f"migration {order.migration_id} was released here")
    if isinstance(order.action, Start) and _grant_was_released(record, order):
        return Refuse(reason=f"the job was released here under epoch {order.epoch} or a later one")
    judge = _JUDGES[type(order.action)]
    verdict = judge(record, order, room)
    if room.fault and not isinstance(verdict, (UnderWay, Done)) and _needs_store(record, order):
        return Refuse(reason=room.fault)
    if order.epoch > record.highest_epoch and isinstance(verdict, (UnderWay, Done)):
        return Accept(event=None)  # nothing is to be done, but the epoch was seen, and is to be remembered
    return verdict


def _prepare(record: JobRecord, order: Order, room: Room) -> Verdict:
    assert isinstance(order.action, Prepare)
    if record.phase in (P.FETCHING, P.HELD) and order.migration_id == record.migration_id:
        return Done()
    if order_key(order) in record.applied and record.phase not in (P.RELEASED, P.RESERVED):
        return Done()
    if (record.phase, JobEvent.PREPARE) not in TABLE:
        return Refuse(reason=f"the job is {record.phase.name} here")
    if record.phase not in SLOT_HOLDING and room.slots_free < 1:
        return Refuse(reason="no free slot")
    if order.action.checkpoint_bytes > room.free_bytes:
        return Refuse(
            reason=f"no space: {order.action.checkpoint_bytes} bytes asked, {room.free_bytes} are free"
        )
    return Accept(event=JobEvent.PREPARE)


def _needs_store(record: JobRecord, order: Order) -> bool:
    """Tell whether an order is worth nothing while the checkpoint store cannot be read.

    A move's stop is: nothing could be sealed for the move to carry, and the job had better train on. Every
    other stop, and a new grant for what runs, is obeyed all the same.
    """
    match order.action:
        case Prepare() | Fetch() | Offer():
            return True
        case Start():
            return record.phase not in LIVE
        case Stop():
            return bool(order.migration_id) and not order.action.cancel and record.phase is not P.STOPPING
        case _:
            return False


def _was_released(record: JobRecord, order: Order) -> bool:
    """Tell whether this order comes late: its migration has already let go of the job here."""
    mine = order.migration_id
    return bool(mine) and any(key.kind == "release" and key.migration_id == mine for key in record.applied)


def _grant_was_released(record: JobRecord, order: Order) -> bool:
    """Tell whether this start comes late: every grant has an epoch above that of any release before it."""
    return any(key.kind == "release" and key.epoch >= order.epoch for key in record.applied)


def _fetch(record: JobRecord, order: Order, room: Room) -> Verdict:
    assert isinstance(order.action, Fetch)
    wanted = order.action.checkpoint_id
    if record.phase is P.FETCHING and record.fetch is not None:
        if record.fetch.checkpoint_id == wanted:
            # A holder that was started again may be found elsewhere; what has come from it stays.
            moved = _way(record.fetch) != _way(order.action) or _paced_anew(record.fetch, order.action)
            return Accept(event=None) if moved else UnderWay()
        return Refuse(reason=f"checkpoint {record.fetch.checkpoint_id} is being fetched")
    if record.phase is P.HELD and wanted in room.checkpoint_ids:
        return Done()
    if order_key(order) in record.applied and record.phase is not P.RESERVED:
        return Done()
    if (record.phase, JobEvent.FETCH) not in TABLE:
        return Refuse(reason=f"the job is {record.phase.name} here; a fetch needs a reservation")
    return Accept(event=JobEvent.FETCH)


def _way(fetch: Fetch) -> tuple[str, str | None]:
    """Return from where; tickets are new each time that an order is sent, and change nothing."""
    return fetch.holder_site, fetch.holder_address


def _paced_anew(known: Fetch, order: Fetch) -> bool:
    """Tell whether the plan allots another rate; to change over costs a look at what is here already."""
    if known.max_bps is None or order.max_bps is None:
        return known.max_bps is not order.max_bps
    return abs(order.max_bps - known.max_bps) > PACE_CHANGE_FRAC * known.max_bps


def _start(record: JobRecord, order: Order, room: Room) -> Verdict:
    assert isinstance(order.action, Start)
    granted = record.pending.epoch if record.pending is not None else record.epoch
    if order.epoch == granted:  # every grant has an epoch of its own: this one was given before
        starting = record.phase is P.STARTING or record.pending is not None
        return UnderWay() if starting else Done()
    if record.phase in LIVE:
        return Accept(event=JobEvent.REGRANT)
    return _start_anew(record, order.action, room)


def _start_anew(record: JobRecord, action: Start, room: Room) -> Verdict:
    """Judge a grant where nothing runs."""
    if (record.phase, JobEvent.START) not in TABLE:
        return Refuse(reason=f"the job is {record.phase.name} here")
    wanted = action.checkpoint_id
    if wanted is not None and wanted not in room.checkpoint_ids:
        return Refuse(reason=f"checkpoint {wanted} is not here")
    # The source of an aborted migration gets its job back even where its slot was given away meanwhile.
    needs_slot = record.phase not in SLOT_HOLDING and record.phase is not P.SEALED
    if needs_slot and room.slots_free < 1:
        return Refuse(reason="no free slot")
    return Accept(event=JobEvent.START)


def _stop(record: JobRecord, order: Order, room: Room) -> Verdict:
    assert isinstance(order.action, Stop)
    if record.phase is P.STOPPING:
        more = order.action.cancel and not record.stop_cancel
        # A grant that waits for the end of this stop is taken back by a stop under its epoch.
        more = more or (record.pending is not None and order.epoch >= record.pending.epoch)
        return Accept(event=JobEvent.STOP) if more else UnderWay()
    if order_key(order) in record.applied:
        return Done()
    if record.phase in LIVE:
        return Accept(event=JobEvent.STOP)
    if record.phase in (P.SEALED, P.COMPLETED, P.FAILED) or order.action.cancel:
        return Done()
    return Refuse(reason=f"the job is {record.phase.name} here; nothing runs")


HOLDABLE = frozenset({P.STARTING, P.RUNNING, P.PAUSED})
"""Phases in which the plan may hold a job back; one that starts is paused as soon as it runs."""


def _pause(record: JobRecord, order: Order, room: Room) -> Verdict:
    assert isinstance(order.action, (Pause, Slow))
    if order.action.sequence <= record.hold_sequence:
        return Done()
    if record.phase not in HOLDABLE or order.epoch != record.epoch:
        return Refuse(reason=f"the job is {record.phase.name} here, under epoch {record.epoch}")
    stops = isinstance(order.action, Pause) and record.phase is P.RUNNING
    return Accept(event=JobEvent.PAUSE if stops else None)


def _resume(record: JobRecord, order: Order, room: Room) -> Verdict:
    assert isinstance(order.action, Resume)
    # It changes no phase: whether the job goes on is for the site's own limits to say.
    return Done() if order.action.sequence <= record.hold_sequence else Accept(event=None)


def _offer(record: JobRecord, order: Order, room: Room) -> Verdict:
    assert isinstance(order.action, Offer)
    if order.action.checkpoint_id not in room.checkpoint_ids:
        return Refuse(reason=f"checkpoint {order.action.checkpoint_id} is not here")
    return Accept(event=None)


def _release(record: JobRecord, order: Order, room: Room) -> Verdict:
    assert isinstance(order.action, Release)
    coming = record.phase in (P.RESERVED, P.FETCHING, P.HELD)
    # Under no name it may be asked for again: each failed carry of a waiting job leaves a slot of its own.
    repeated = order_key(order) in record.applied and (bool(order.migration_id) or not coming)
    if record.phase is P.RELEASED or repeated:
        return Done()
    if coming and record.migration_id != order.migration_id and order.migration_id:
        return Done()  # late: what it should have let go of has given way to the next migration
    if (record.phase, JobEvent.RELEASE) not in TABLE:
        return Refuse(reason=f"the job is {record.phase.name} here; it must stop first")
    return Accept(event=JobEvent.RELEASE)


_JUDGES: dict[type, Callable[[JobRecord, Order, Room], Verdict]] = {
    Prepare: _prepare,
    Fetch: _fetch,
    Start: _start,
    Stop: _stop,
    Offer: _offer,
    Release: _release,
    Pause: _pause,
    Slow: _pause,
    Resume: _resume,
}
