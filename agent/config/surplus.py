"""What counts as surplus beyond what the meters say."""

from collections.abc import Iterable

import msgspec


class SurplusTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[surplus]``: prices and export limits that make energy count as surplus (docs/openadr.md)."""

    price_below_per_kwh: float | None = None
    """Energy at a lower price than this counts, in the currency of the operator's PRICE; typically 0."""
    price_w: float = 0.0
    """Watts that then count: what the site may draw for jobs."""
    curtailed_w: float | None = None
    """Watts that count while an export limit is in force: what the plants then cannot feed in."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.price_below_per_kwh is not None and not self.price_w > 0:
            yield "price_w", "missing: how many watts count while the price is low"
        if self.price_below_per_kwh is None and self.price_w:
            yield "price_below_per_kwh", "missing: below which price these watts count"
        if self.curtailed_w is not None and not self.curtailed_w > 0:
            yield "curtailed_w", f"expected more than zero, got {self.curtailed_w}"
        if self.price_below_per_kwh is None and self.curtailed_w is None:
            yield "price_below_per_kwh", "missing: give a price, curtailed_w, or leave the table out"
