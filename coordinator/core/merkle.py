"""Merkle trees of the shape of RFC 6962, section 2.1: roots, inclusion proofs, and their check. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

_LEAF, _NODE = b"\x00", b"\x01"
EMPTY_ROOT = sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree that only grows: its perfect subtrees from left to right, each (leaves, hash)."""

    parts: tuple[tuple[int, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Return the number of leaves."""
        return sum(leaves for leaves, _ in self.parts)

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        if not self.parts:
            return EMPTY_ROOT
        *left, (_, reached) = self.parts
        for _, beside in reversed(left):
            reached = _node(beside, reached)
        return reached

    def add(self, leaf: bytes) -> "Frontier":
        """Return the tree with one more leaf hash."""
        parts = [*self.parts, (1, leaf)]
        while len(parts) > 1 and parts[-2][0] == parts[-1][0]:
            size, right = parts.pop()
            _, left = parts.pop()
            parts.append((2 * size, _node(left, right)))
        return Frontier(tuple(parts))


def leaf_hash(content: bytes) -> bytes:
    """Return the hash of a leaf: SHA-256 of 0x00 and its content."""
    return sha256(_LEAF + content).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes; of none, the SHA-256 of nothing."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        level = _raised(level)
    return level[0]


def audit_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the hashes that lead from a leaf to the root, the lowest first (RFC 6962, 2.1.1).

    Parameters
    ----------
    leaves : sequence of bytes
        Leaf hashes.
    index : int
        Of the leaf, from 0.

    Raises
    ------
    IndexError
        There is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    path = []
    level, place = list(leaves), index
    while len(level) > 1:
        beside = place ^ 1
        # The last of an odd level has nobody beside it and is raised as it is.
        if beside < len(level):
            path.append(level[beside])
        level, place = _raised(level), place // 2
    return tuple(path)


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a path leads to (RFC 9162, 2.1.3.2); None where path and place do not fit.

    Parameters
    ----------
    leaf : bytes
        Leaf hash.
    index, size : int
        Place of the leaf, from 0, and number of leaves.
    path : sequence of bytes
        As `audit_path` gives it.
    """
    if not 0 <= index < size:
        return None
    place, last, reached = index, size - 1, leaf
    for beside in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            reached = _node(beside, reached)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            reached = _node(reached, beside)
        place, last = place >> 1, last >> 1
    return reached if last == 0 else None


def _raised(level: Sequence[bytes]) -> list[bytes]:
    pairs = [_node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()
