"""The energy ledger: what each job drew at a site, and where it came from. Pure, live and replayed alike.

What is drawn at a site is shared by the jobs that are there, by their weights, and everybody's share is as
renewable as the whole (`ledger.renewable_w`). What nobody metered is no zero: it has columns of its own.
Within arrays unknown is NaN, and nowhere else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from coordinator.core.ledger import PowerSample, renewable_w
from sterna.units import joules_to_wh

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What was drawn by one job at one site, or by nobody there."""

    renewable_wh: float = 0.0
    nonrenewable_wh: float = 0.0
    unattributed_wh: float = 0.0
    """Drawn while nobody knew the surplus: neither of the two above."""
    estimated_wh: float = 0.0
    """Part of the three above that rests on estimates instead of meters."""
    unmetered_s: float = 0.0
    """Time for which nobody knows what was drawn."""
    carbon_g: float = 0.0
    """CO2 of what was imported, as far as the grid's carbon intensity is known."""
    carbon_unknown_wh: float = 0.0
    """Imported, or unattributed, without a known carbon intensity."""

    @property
    def drawn_wh(self) -> float:
        """Return all that was metered, in Wh."""
        return self.renewable_wh + self.nonrenewable_wh + self.unattributed_wh

    @property
    def known_carbon_g(self) -> float | None:
        """Return the grams of CO2; None where part of it is unknown."""
        return self.carbon_g if self.carbon_unknown_wh == 0.0 else None

    def __add__(self, other: "Entry") -> "Entry":
        return Entry(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What one job drew at one site; `job_id` "": what was drawn while no job was there."""

    site_id: str
    job_id: str
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """Power at one site in K constant stretches, in seconds and watts; NaN is unknown.

    `edges_s`: shape (K + 1), rising. `carbon_g_per_kwh`: of what the site imports. `estimated`: the
    stretch rests on estimates.
    """

    edges_s: Array
    surplus_w: Array
    compute_w: Array
    carbon_g_per_kwh: Array
    estimated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One job at the site, from `start_s` to before `end_s`. `weight_w`: its claim on what is drawn, > 0."""

    job_id: str
    start_s: float
    end_s: float
    weight_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSample:
    """A power sample, and whether it is an estimate."""

    power: PowerSample
    estimated: bool = False


def metered_course(
    samples: Sequence[MeterSample],
    *,
    start_at: datetime,
    end_at: datetime,
    hold_s: float,
    carbon_g_per_kwh: float | None,
) -> Course:
    """Return what samples say of an interval, in seconds from its start.

    Parameters
    ----------
    samples : sequence of MeterSample
        In order of time; of two at one instant the later holds. One before the interval reaches into it.
    start_at, end_at : datetime
        The interval.
    hold_s : float
        For how long a sample says something, > 0; it holds until the next at most.
    carbon_g_per_kwh : float or None
        Carbon intensity of the grid there; None: unknown.
    """
    span_s = (end_at - start_at).total_seconds()
    at_s = np.array([(one.power.at - start_at).total_seconds() for one in samples], dtype=np.float64)
    until_s = np.minimum(np.append(at_s[1:], np.inf), at_s + hold_s)
    # Known stretches and the gaps after them take turns; what is empty or outside is cut off.
    edges = np.clip(np.concatenate(([0.0], np.column_stack((at_s, until_s)).ravel(), [span_s])), 0.0, span_s)
    kept = np.diff(edges) > 0.0
    return Course(
        edges_s=np.append(edges[:-1][kept], span_s),
        surplus_w=_with_gaps([one.power.surplus_w for one in samples])[kept],
        compute_w=_with_gaps([one.power.compute_w for one in samples])[kept],
        carbon_g_per_kwh=np.full(int(kept.sum()), np.nan if carbon_g_per_kwh is None else carbon_g_per_kwh),
        estimated=_with_gaps([float(one.estimated) for one in samples])[kept] > 0.0,
    )


def book(course: Course, stays: Iterable[Stay], *, grid_renewable_frac: float = 0.0) -> dict[str, Entry]:
    """Return what each job drew; under ``""`` what was drawn while no job was there.

    Parameters
    ----------
    course : Course
        The site.
    stays : iterable of Stay
        Who was there when; what lies outside the course does not count.
    grid_renewable_frac : float
        Renewable share of what is imported, 0 to 1.

    Returns
    -------
    dict
        Together the entries hold all of the course's energy. Unmetered time counts for each job alike.
    """
    first_s, last_s = float(course.edges_s[0]), float(course.edges_s[-1])
    inside = [one for one in stays if min(one.end_s, last_s) > max(one.start_s, first_s)]
    marks = np.array([mark for one in inside for mark in (one.start_s, one.end_s)], dtype=np.float64)
    edges = np.unique(np.concatenate((course.edges_s, np.clip(marks, first_s, last_s))))
    place = np.searchsorted(course.edges_s, edges[:-1], side="right") - 1
    lengths_s = np.diff(edges)
    rates = _rates(course, grid_renewable_frac)[:, place] * lengths_s
    spans = [
        np.searchsorted(edges, np.clip((one.start_s, one.end_s), first_s, last_s)).tolist() for one in inside
    ]
    weight = _weight(spans, [one.weight_w for one in inside], len(lengths_s))
    alone = weight <= 0.0
    # Per watt of weight and added up, so that a stay costs two look-ups however long it was.
    each = np.where(alone, 0.0, rates / np.where(alone, 1.0, weight))
    # Time passes for every job, whatever its weight.
    each[_FIGURES.index("unmetered_s")] = np.where(alone, 0.0, rates[_FIGURES.index("unmetered_s")])
    upto = np.concatenate((np.zeros((len(_FIGURES), 1)), np.cumsum(each, axis=1)), axis=1)
    entries: dict[str, Entry] = {}
    for one, (start, end) in zip(inside, spans, strict=True):
        figures = upto[:, end] - upto[:, start]
        entry = _entry(figures * np.where(_SHARED, one.weight_w, 1.0))
        entries[one.job_id] = entries.get(one.job_id, Entry()) + entry
    idle = _entry(rates[:, alone].sum(axis=1))
    return entries if idle == Entry() else {**entries, "": idle}


def added(accounts: Iterable[Mapping[str, Entry]]) -> dict[str, Entry]:
    """Return the sum of accounts, by key."""
    total: dict[str, Entry] = {}
    for account in accounts:
        for key, entry in account.items():
            total[key] = total.get(key, Entry()) + entry
    return total


def weights(power_w: Mapping[str, float]) -> dict[str, float]:
    """Return the claim of each job on what its site draws: its declared watts.

    One that declares none (0) counts as the mean of those that do; where nobody does, all count alike.
    """
    declared = [watts for watts in power_w.values() if watts > 0.0]
    usual_w = sum(declared) / len(declared) if declared else 1.0
    return {job_id: watts if watts > 0.0 else usual_w for job_id, watts in power_w.items()}


_FIGURES = tuple(one.name for one in fields(Entry))
_SHARED = np.array([name != "unmetered_s" for name in _FIGURES])


def _rates(course: Course, grid_renewable_frac: float) -> Array:
    """Return what of each figure runs up in a second of each stretch, shape (figures, K)."""
    drawn_w = np.maximum(0.0, course.compute_w)
    metered = np.isfinite(drawn_w)
    drawn_w = np.where(metered, drawn_w, 0.0)
    sourced = np.isfinite(course.surplus_w)
    surplus_w = np.where(sourced, course.surplus_w, 0.0)
    from_sources_w = renewable_w(drawn_w, surplus_w, grid_renewable_frac)
    imported_w = np.where(sourced, drawn_w - renewable_w(drawn_w, surplus_w, 0.0), drawn_w)
    clean = sourced & np.isfinite(course.carbon_g_per_kwh)
    by_name = {
        "renewable_wh": joules_to_wh(1.0) * np.where(sourced, from_sources_w, 0.0),
        "nonrenewable_wh": joules_to_wh(1.0) * np.where(sourced, drawn_w - from_sources_w, 0.0),
        "unattributed_wh": joules_to_wh(1.0) * np.where(sourced, 0.0, drawn_w),
        "estimated_wh": joules_to_wh(1.0) * np.where(course.estimated, drawn_w, 0.0),
        "unmetered_s": np.where(metered, 0.0, 1.0),
        "carbon_g": joules_to_wh(1.0) / 1e3 * imported_w * np.where(clean, course.carbon_g_per_kwh, 0.0),
        "carbon_unknown_wh": joules_to_wh(1.0) * np.where(clean, 0.0, imported_w),
    }
    return np.stack([by_name[name] for name in _FIGURES])


def _weight(spans: Sequence[Sequence[int]], weight_w: Sequence[float], stretches: int) -> Array:
    change = np.zeros(stretches + 1)
    count = np.zeros(stretches + 1, dtype=np.int64)
    for (start, end), watts in zip(spans, weight_w, strict=True):
        change[start] += watts
        change[end] -= watts
        count[start] += 1
        count[end] -= 1
    # Where nobody is left, what remains of a sum of watts is rounding.
    return np.where(np.cumsum(count)[:-1] > 0, np.cumsum(change)[:-1], 0.0)


def _entry(figures: Array) -> Entry:
    return Entry(**dict(zip(_FIGURES, figures.tolist(), strict=True)))


def _with_gaps(values: Sequence[float | None]) -> Array:
    """Return the values between unknown stretches: a gap before the first and one after each."""
    column = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.append(np.nan, np.column_stack((column, np.full(len(column), np.nan))).ravel())
