"""How moves share a link: by plan, and so that none of it lies idle while one of them could use it. Pure.

The planner reserves a rate for each move, and the rates of a link sum to no more than the link. A move needs
its rate only while its checkpoint crosses; until then, and until it is committed, the rate is lent to those
whose checkpoints cross now, in proportion to their own.
"""

from collections.abc import Mapping
from math import ceil

from coordinator.core.migration import BEFORE_COMMIT
from coordinator.model.fleet import FleetState, MigrationState

CROSSING = frozenset({MigrationState.PRESTAGING, MigrationState.TRANSFERRING})
LANES_MAX = 4
"""More moves at once over one link keep jobs down for longer, and hardly empty a site sooner."""

Pair = tuple[str, str]


def allotted_bps(state: FleetState) -> Mapping[str, float]:
    """Return the rate that the transfer of each move may take now, by migration id, in bit/s.

    Moves without a reserved rate are not named: nothing limits them.
    """
    reserved: dict[Pair, float] = {}
    crossing: dict[Pair, float] = {}
    for one in state.migrations.values():
        if one.state in BEFORE_COMMIT and one.reserved_bps is not None:
            pair = (one.source_site, one.destination_site)
            reserved[pair] = reserved.get(pair, 0.0) + one.reserved_bps
            if one.state in CROSSING:
                crossing[pair] = crossing.get(pair, 0.0) + one.reserved_bps
    rates: dict[str, float] = {}
    for one in state.migrations.values():
        if one.state in BEFORE_COMMIT and one.reserved_bps is not None:
            pair = (one.source_site, one.destination_site)
            lent = one.state in CROSSING and crossing[pair] > 0.0
            rates[one.migration_id] = one.reserved_bps * (reserved[pair] / crossing[pair] if lent else 1.0)
    return rates


def lanes(transfer_s: float, overhead_s: float) -> int:
    """Return how many moves over one link keep it busy: while one seals or loads, others cross.

    Parameters
    ----------
    transfer_s : float
        One of them over the whole link, in seconds.
    overhead_s : float
        What it takes besides, in seconds.
    """
    if not transfer_s > 0.0:
        return 1
    return min(LANES_MAX, 1 + ceil(overhead_s / transfer_s))


def share_bps(whole_bps: float, free_bps: float, *, lanes_in_all: int, taken: int, waiting: int) -> float:
    """Return the rate for the next move over a link that several are to share; 0: it waits for one to end.

    Parameters
    ----------
    whole_bps, free_bps : float
        The link's rate, and what is not reserved of it.
    lanes_in_all : int
        Most moves at once, at least 1.
    taken : int
        Moves of the group that are on the link.
    waiting : int
        Moves of the group that are still to come, this one included, at least 1.
    """
    if taken >= lanes_in_all:
        return 0.0
    share = whole_bps / min(lanes_in_all, taken + waiting)
    # Less than half of a share is what another group, or a sum of fractions, has left: not worth a stop.
    return min(share, free_bps) if free_bps >= share / 2 else 0.0


def saved_w(power_w: float, gain_s: float, transfer_s: float) -> float:
    """Return what a move saves for the time that it takes of the link: watts that become renewable.

    Whoever saves most for each second of the link goes first: that way the least is drawn elsewhere while
    jobs wait for their turn (Smith's rule for weighted completion times on one machine).
    """
    if not transfer_s > 0.0 or not gain_s > 0.0:
        return 0.0
    return power_w * gain_s / transfer_s
