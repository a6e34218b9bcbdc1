"""Transfers that share links: who gets how much of the WAN, and when each is through.

The pair, the source's uplink and the destination's downlink are each divided equally among the transfers
that use them; a transfer gets the smallest of its three shares. Between two changes every rate is constant.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from coordinator.replay.world import Wan
from sterna.units import BITS_PER_BYTE

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many transfers use each pair, uplink and downlink."""

    pairs: Counter[Pair] = field(default_factory=Counter)
    up: Counter[str] = field(default_factory=Counter)
    down: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> "Load":
        """Count transfers by their pairs."""
        every = list(pairs)
        return cls(
            pairs=Counter(every),
            up=Counter(source for source, _ in every),
            down=Counter(destination for _, destination in every),
        )


def share_bps(wan: Wan, load: Load, pair: Pair) -> float:
    """Return what each transfer over a pair gets, in bit/s, when `load` is under way, itself included."""
    source, destination = pair
    return min(
        wan.pair_bps[pair] / load.pairs[pair],
        wan.uplink_bps[source] / load.up[source],
        wan.downlink_bps[destination] / load.down[destination],
    )


@dataclass(slots=True)
class _Transfer:
    pair: Pair
    left_bytes: float
    bytes_per_s: float = 0.0
    ends_s: float = inf


class Carriage:
    """The transfers under way.

    Parameters
    ----------
    wan : Wan
        The links.
    eta : float
        Goodput efficiency, 0 < eta <= 1.
    """

    def __init__(self, wan: Wan, eta: float) -> None:
        self._wan = wan
        self._eta = eta
        self._transfers: dict[str, _Transfer] = {}
        self._settled_s = 0.0
        self.next_s = inf
        """When the next transfer is through; infinity: there is none."""

    def begin(self, now_s: float, key: str, pair: Pair, size_bytes: float) -> None:
        """Begin a transfer, of a job's checkpoint or of a part of one."""
        self._settle(now_s)
        self._transfers[key] = _Transfer(pair=pair, left_bytes=size_bytes)
        self._divide(now_s)

    def arrived(self, now_s: float) -> tuple[str, ...]:
        """Take out the transfers that are through by now, in order of their keys."""
        through = sorted(key for key, transfer in self._transfers.items() if transfer.ends_s <= now_s)
        if through:
            self._settle(now_s)
            for key in through:
                del self._transfers[key]
            self._divide(now_s)
        return tuple(through)

    def cancel(self, now_s: float, key: str) -> float:
        """End a transfer that nobody waits for any more; return the bytes that it did not carry."""
        self._settle(now_s)
        left_bytes = self._transfers.pop(key).left_bytes
        self._divide(now_s)
        return left_bytes

    def _settle(self, now_s: float) -> None:
        for transfer in self._transfers.values():
            carried = transfer.bytes_per_s * (now_s - self._settled_s)
            transfer.left_bytes = max(0.0, transfer.left_bytes - carried)
        self._settled_s = now_s

    def _divide(self, now_s: float) -> None:
        load = Load.of(transfer.pair for transfer in self._transfers.values())
        for transfer in self._transfers.values():
            rate = self._eta * share_bps(self._wan, load, transfer.pair) / BITS_PER_BYTE
            transfer.bytes_per_s = rate
            transfer.ends_s = now_s + transfer.left_bytes / rate
        self.next_s = min((transfer.ends_s for transfer in self._transfers.values()), default=inf)
