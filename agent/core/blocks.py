"""Which registers to ask for together: values to as few requests as a device's limits allow.

A value is never split over two requests, and what belongs together (a value and its scale factor, which
some devices change with power) is read in one. It knows nothing of what the registers mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.model.registers import Register, Space

MAX_READ = 125


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Registers in a row.

    Parameters
    ----------
    space : str
        ``holding`` or ``input``.
    address : int
        The first, as on the wire.
    count : int
        How many, >= 1.
    """

    space: str
    address: int
    count: int

    @property
    def end(self) -> int:
        """Address of the first register after it."""
        return self.address + self.count

    def holds(self, other: "Span") -> bool:
        """Whether it contains another one whole."""
        return self.space == other.space and self.address <= other.address and other.end <= self.end


def together(spans: Sequence[Span]) -> Span:
    """Return the shortest span that holds all of these, which must be read in one request."""
    first = min(span.address for span in spans)
    return Span(spans[0].space, first, max(span.end for span in spans) - first)


def wanted(registers: Iterable[Register], space: Space) -> tuple[Span, ...]:
    """Return where the values of a table's registers lie."""
    return tuple(Span(space.value, register.address, register.kind.count) for register in registers)


def compile_blocks(
    spans: Iterable[Span],
    *,
    max_read: int = MAX_READ,
    max_gap: int = 8,
    holes: Sequence[range] = (),
) -> tuple[Span, ...]:
    """Find the requests that read all of these values.

    Parameters
    ----------
    spans : iterable of Span
        The values, each with what must be read in the same request (see `together`).
    max_read : int
        Most registers in one request.
    max_gap : int
        Most registers in a row that are read only to join two values.
    holes : sequence of range
        Addresses that no request may touch.

    Returns
    -------
    tuple of Span
        Ascending; each begins and ends with a wanted register.

    Raises
    ------
    ValueError
        A value is longer than `max_read` or touches a hole: no request could read it.
    """
    blocks: list[Span] = []
    for span in sorted(set(spans)):
        if span.count > max_read:
            raise ValueError(f"{span.count} registers from {span.address} do not fit a request of {max_read}")
        if _touches(span, holes):
            raise ValueError(f"{span.count} registers from {span.address} touch a hole")
        last = blocks[-1] if blocks else None
        if last is not None and last.space == span.space and span.address - last.end <= max_gap:
            joined = together((last, span))
            if joined.count <= max_read and not _touches(joined, holes):
                blocks[-1] = joined
                continue
        blocks.append(span)
    return tuple(blocks)


def compile_sets(
    fast: Iterable[Span],
    slow: Iterable[Span],
    *,
    max_read: int = MAX_READ,
    max_gap: int = 8,
    holes: Sequence[range] = (),
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Find the requests of the fast and the slow set; what the fast ones read anyway is not asked again."""
    quick = compile_blocks(fast, max_read=max_read, max_gap=max_gap, holes=holes)
    rest = [span for span in slow if not any(block.holds(span) for block in quick)]
    return quick, compile_blocks(rest, max_read=max_read, max_gap=max_gap, holes=holes)


def words(
    answers: Iterable[tuple[Span, Sequence[int]]], space: Space, address: int, count: int
) -> Sequence[int] | None:
    """Find the registers of one value among the answers; None when no request read them all."""
    span = Span(space.value, address, count)
    for block, registers in answers:
        if block.holds(span):
            start = address - block.address
            return registers[start : start + count]
    return None


def _touches(span: Span, holes: Sequence[range]) -> bool:
    return any(hole.start < span.end and span.address < hole.stop for hole in holes)
