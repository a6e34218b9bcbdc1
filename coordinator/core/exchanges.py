"""What exchanges between the replicas of a distributed job take: time, work that is not done, and energy.

The bytes of an exchange go round the ring of sites in the order of their ids, all at once: it takes what the
thinnest link of the ring needs. Nobody trains meanwhile, a cautious reading; both may overlap.
"""

from collections.abc import Iterable, Sequence
from math import inf

from coordinator.model.replication import Replication
from sterna.units import BITS_PER_BYTE, SECONDS_PER_HOUR, bytes_to_gb


def ring(sites: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the links over which an exchange between sites goes, in the order of their ids."""
    order = sorted(sites)
    return tuple(zip(order, order[1:] + order[:1], strict=True)) if len(order) > 1 else ()


def link_share_bytes(replication: Replication, replicas: int) -> float:
    """Return what crosses each link of the ring in one exchange: all shares reduced, then spread."""
    return 2.0 * (replicas - 1) / replicas * replication.sync_bytes if replicas > 0 else 0.0


def exchange_s(replication: Replication, link_bps: Sequence[float], eta: float) -> float:
    """Return how long an exchange takes, in seconds, over the ring's links; infinity: one carries nothing."""
    each_bytes = link_share_bytes(replication, len(link_bps))
    if each_bytes == 0.0:
        return 0.0
    least_bps = min(link_bps)
    return each_bytes * BITS_PER_BYTE / (eta * least_bps) if least_bps > 0.0 else inf


def training_rate(replication: Replication, replicas: int) -> float:
    """Return the work done by so many replicas in a second of training, in seconds of a lone one."""
    if replicas < 1:
        return 0.0
    return replicas * replication.efficiency[min(replicas, replication.most) - 1]


def work_rate(replication: Replication, link_bps: Sequence[float], eta: float, *, replicas: int) -> float:
    """Return the same, less the time of exchanges."""
    pause_s = exchange_s(replication, link_bps, eta) if replicas > 1 else 0.0
    return training_rate(replication, replicas) * replication.round_s / (replication.round_s + pause_s)


def sync_power_w(
    replication: Replication, link_bps: Sequence[float], eta: float, network_wh_per_gb: float
) -> float:
    """Return what the exchanges cost on average, in watts."""
    pause_s = exchange_s(replication, link_bps, eta)
    if pause_s == inf:
        return 0.0
    carried = len(link_bps) * link_share_bytes(replication, len(link_bps))
    round_s = replication.round_s + pause_s
    return network_wh_per_gb * bytes_to_gb(carried) * SECONDS_PER_HOUR / round_s
