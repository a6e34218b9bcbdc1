"""Checkpoints that move in part: what must cross while the job is down, and what may travel before that.

A checkpoint is a list of pieces. A piece that never changes (a base model) crosses once to each site, while
training goes on. One that changes is sent ahead, too, where its later versions are smaller as differences;
the difference crosses at the stop. A piece that stays (a cache, a shard that every site has) never crosses.
Owns these sizes; when to send, and whether to stop once it has arrived, is `prestage`'s and the replay's.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One part of a checkpoint.

    Parameters
    ----------
    name : str
        Unique within its checkpoint.
    size_bytes : int
        Its bytes, > 0.
    change_frac : float
        What of it must cross at the stop when an earlier version was sent ahead, 0 to 1: 0, it never
        changes; 1, nothing is saved by sending it ahead.
    stays : bool
        It never crosses: the destination has its own, or makes it again.
    """

    name: str
    size_bytes: int
    change_frac: float = 1.0
    stays: bool = False

    def __post_init__(self) -> None:
        if self.size_bytes <= 0:
            raise ValueError(f"piece {self.name}: size_bytes {self.size_bytes}: expected above 0")
        if not 0.0 <= self.change_frac <= 1.0:
            raise ValueError(f"piece {self.name}: change_frac {self.change_frac}: expected 0 to 1")

    @property
    def travels_ahead(self) -> bool:
        """Tell whether sending it before the stop saves anything at the stop."""
        return not self.stays and self.change_frac < 1.0


def moved_bytes(pieces: Iterable[Piece]) -> int:
    """Return what crosses to a site that has nothing of the checkpoint."""
    return sum(piece.size_bytes for piece in pieces if not piece.stays)


def ahead_bytes(pieces: Iterable[Piece], held: Collection[str]) -> int:
    """Return what is worth sending before the stop to a site that holds the named pieces already."""
    return sum(piece.size_bytes for piece in pieces if piece.travels_ahead and piece.name not in held)


def stop_bytes(pieces: Iterable[Piece], held: Collection[str]) -> int:
    """Return S_effective: what crosses at the stop, differences to what the destination holds."""
    return sum(
        round(piece.change_frac * piece.size_bytes)
        if piece.travels_ahead and piece.name in held
        else piece.size_bytes
        for piece in pieces
        if not piece.stays
    )


def effective_bytes(pieces: Iterable[Piece]) -> int:
    """Return S_effective once everything that is worth it has been sent ahead."""
    every = tuple(pieces)
    return stop_bytes(every, {piece.name for piece in every})


def seal_bytes(pieces: Iterable[Piece]) -> int:
    """Return what is sealed at a stop: what has changed since the last seal and does not stay."""
    return sum(piece.size_bytes for piece in pieces if not piece.stays and piece.change_frac > 0.0)


def lasting(pieces: Iterable[Piece]) -> frozenset[str]:
    """Return the names of what a site that got it once need never get again."""
    return frozenset(piece.name for piece in pieces if piece.travels_ahead and piece.change_frac == 0.0)
