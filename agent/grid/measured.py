"""Somebody who can say what the site drew: reports ask it, whoever they are for."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from agent.model.figures import Figure, Quantity


class Measurements(Protocol):
    """What the site can tell of itself."""

    async def figure(
        self, quantity: Quantity, start_at: datetime, end_at: datetime, *, forecast: bool
    ) -> Figure | None:
        """Return a quantity over an interval, in the house's units; None: it cannot be told.

        `forecast` tells that the interval lies ahead and an expectation is wanted.
        """
        ...


class FakeMeasurements:
    """Tells the same figures whenever it is asked.

    Parameters
    ----------
    figures : mapping of Quantity to Figure
        What is known; the rest is not.
    """

    def __init__(self, figures: Mapping[Quantity, Figure]) -> None:
        self._figures = dict(figures)

    async def figure(
        self, quantity: Quantity, start_at: datetime, end_at: datetime, *, forecast: bool
    ) -> Figure | None:
        """Return the fixed figure."""
        return self._figures.get(quantity)
