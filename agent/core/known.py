"""Sums of figures of which any may be unknown: then so is the sum."""

from collections.abc import Iterable


def total(terms: Iterable[float | None]) -> float | None:
    """Add figures up; None where one of them is unknown, or where there is none."""
    listed = list(terms)
    known = [term for term in listed if term is not None]
    return sum(known) if known and len(known) == len(listed) else None
