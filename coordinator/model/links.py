"""The links of a large fleet as arrays: a thousand sites have a million of them.

A mapping like any other to those who ask for one link; those who ask for all links of a site get a row.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from coordinator.model.view import LinkView

Array = NDArray[np.float64]
Pair = tuple[str, str]


class LinkTable(Mapping[Pair, LinkView]):
    """Links between S sites.

    Parameters
    ----------
    names : sequence of str
        Their ids, in the order of rows (sources) and columns (destinations).
    free_bps, whole_bps : array
        Shape (S, S), in bit/s; see `LinkView`. NaN in `free_bps`: no link. Not written to afterwards.
    """

    def __init__(self, names: Sequence[str], free_bps: Array, whole_bps: Array) -> None:
        self._names = list(names)
        self._places = {name: place for place, name in enumerate(self._names)}
        self._free_bps, self._whole_bps = free_bps, whole_bps

    def __getitem__(self, pair: Pair) -> LinkView:
        source, destination = pair
        places = (self._places[source], self._places[destination])
        free_bps, whole_bps = float(self._free_bps[places]), float(self._whole_bps[places])
        if np.isnan(free_bps):
            raise KeyError(pair)
        return LinkView(
            source=source,
            destination=destination,
            free_bps=free_bps,
            whole_bps=None if np.isnan(whole_bps) else whole_bps,
        )

    def __iter__(self) -> Iterator[Pair]:
        for source, destination in np.argwhere(~np.isnan(self._free_bps)).tolist():
            yield self._names[source], self._names[destination]

    def __len__(self) -> int:
        return int((~np.isnan(self._free_bps)).sum())

    def free_from(self, source: str, names: Sequence[str]) -> Array:
        """Return what is free from one site to each of `names`, in bit/s, as a new array; NaN: no link."""
        place = self._places.get(source)
        if place is None:
            return np.full(len(names), np.nan)
        if names == self._names:
            return np.array(self._free_bps[place])
        places = [self._places.get(name, -1) for name in names]
        return np.where(np.array(places) < 0, np.nan, self._free_bps[place, places])
