"""May this checkpoint cross this link into this window? One implementation, for one pair and for millions.

`evaluate` is the test, over arrays that broadcast (jobs × sites). `assess` is the same test on arrays
of one element, with the answer put into a value that says why. Owns the energy side and the reasons;
the time side is `coordinator.core.domain`. Which term is the paper's: docs/feasibility.md.
"""

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from coordinator.core import domain
from coordinator.core.reasons import MoveReasons, Reason
from coordinator.model.decision import Term
from sterna.units import BYTES_PER_GB, SECONDS_PER_HOUR

Array = NDArray[np.float64]
Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What a move is held against.

    Parameters
    ----------
    alpha : float
        Fraction of the window that a move may take, above 0.
    eta : float
        WAN goodput efficiency, 0 < eta <= 1.
    network_wh_per_gb : float
        e_net, Wh for each 1e9 bytes carried, >= 0.
    avoided_nonrenewable_frac : float
        Share of the job's energy that is not renewable where it is and is where it goes, 0 to 1.
    """

    alpha: float = 0.10
    eta: float = 1.0
    network_wh_per_gb: float = 1.9
    avoided_nonrenewable_frac: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One job to one destination. None is unknown, and unknown never passes.

    `until_window_end_s` runs from now to the end of the destination's window, at the quantile that the
    caller wants to rely on; zero or less: there is no window. Powers in W, times in s, all >= 0.
    `checkpoint_bytes` is what crosses while the job is down (S, or S_effective after pre-staging),
    `ahead_bytes` what crosses before that: it costs energy and no time.
    """

    checkpoint_bytes: float | None
    link_bps: float | None
    seal_s: float
    load_s: float
    downtime_s: float
    until_window_end_s: float | None
    job_power_w: float
    source_power_w: float
    destination_power_w: float
    ahead_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveArrays:
    """`Move` for many pairs: arrays that broadcast against each other; unknown is NaN, here only."""

    checkpoint_bytes: Array
    link_bps: Array
    seal_s: Array
    load_s: Array
    downtime_s: Array
    until_window_end_s: Array
    job_power_w: Array
    source_power_w: Array
    destination_power_w: Array
    ahead_bytes: Array | float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TermArrays:
    """Every term of the test, and its two answers. NaN where an input is unknown or not usable."""

    transfer_s: Array
    migration_s: Array
    window_s: Array
    budget_s: Array
    energy_wh: Array
    break_even_s: Array
    in_time: NDArray[np.bool_]
    pays: NDArray[np.bool_]

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Return where both tests pass."""
        return self.in_time & self.pays


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasible:
    """The move passes; `terms` are its figures."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """The move fails, for every one of `reasons`; `terms` are the figures that are known."""

    reasons: tuple[Reason, ...]
    terms: tuple[Term, ...]


def evaluate(moves: MoveArrays, tolerance: Tolerance) -> TermArrays:
    """Test many moves at once (DESIGN 4).

    T_mig < alpha * window_s with window_s = until_window_end_s - T_mig, and T_BE < window_s with
    E_mig = e_net S + P_src T_seal + P_dst (T_load + T_downtime) and T_BE = E_mig / (P_job * avoided).

    Parameters
    ----------
    moves : MoveArrays
        The pairs; an input that is negative or not finite, or a link of 0, makes a pair fail.
    tolerance : Tolerance
        What they are held against.

    Returns
    -------
    TermArrays
        Of the broadcast shape.
    """
    size, seal = _known(moves.checkpoint_bytes), _known(moves.seal_s)
    load, downtime = _known(moves.load_s), _known(moves.downtime_s)
    link, until = _known(moves.link_bps), moves.until_window_end_s
    link = np.where(link > 0.0, link, np.nan)
    until = np.where(np.isfinite(until), until, np.nan)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        carried = domain.transfer_s(size, link, tolerance.eta)
        total = domain.migration_s(seal, carried, load, downtime)
        window = until - total
        budget = domain.budget_s(window, tolerance.alpha)
        source_j = _known(moves.source_power_w) * seal
        destination_j = _known(moves.destination_power_w) * (load + downtime)
        carrying_wh = tolerance.network_wh_per_gb * ((size + _known(moves.ahead_bytes)) / BYTES_PER_GB)
        energy = carrying_wh + (source_j + destination_j) / SECONDS_PER_HOUR
        avoided_w = _known(moves.job_power_w) * tolerance.avoided_nonrenewable_frac
        break_even = energy * SECONDS_PER_HOUR / avoided_w
        pays = break_even < window
        return TermArrays(
            transfer_s=_shaped(carried, pays.shape),
            migration_s=_shaped(total, pays.shape),
            window_s=_shaped(window, pays.shape),
            budget_s=_shaped(budget, pays.shape),
            energy_wh=_shaped(energy, pays.shape),  # knows neither link nor window
            break_even_s=_shaped(break_even, pays.shape),
            in_time=_shaped(total < budget, pays.shape),
            pays=pays,
        )


def assess(move: Move, tolerance: Tolerance) -> Feasible | Infeasible:
    """Test one move and say why; the same arithmetic as `evaluate`."""
    columns = {f.name: np.array([_or_nan(getattr(move, f.name))]) for f in fields(Move)}
    return explain(move, row(evaluate(MoveArrays(**columns), tolerance), (0,)), tolerance)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveTerms:
    """One pair's row of `TermArrays` as plain numbers; None where an input is not known."""

    transfer_s: float | None
    migration_s: float | None
    window_s: float | None
    budget_s: float | None
    energy_wh: float | None
    break_even_s: float | None
    in_time: bool
    pays: bool


def row(terms: TermArrays, index: tuple[int, ...]) -> MoveTerms:
    """Take one pair out of the arrays."""

    def figure(column: Array) -> float | None:
        value = float(column[index])
        return None if np.isnan(value) else value

    return MoveTerms(
        transfer_s=figure(terms.transfer_s),
        migration_s=figure(terms.migration_s),
        window_s=figure(terms.window_s),
        budget_s=figure(terms.budget_s),
        energy_wh=figure(terms.energy_wh),
        break_even_s=figure(terms.break_even_s),
        in_time=bool(terms.in_time[index]),
        pays=bool(terms.pays[index]),
    )


def explain(move: Move, terms: MoveTerms, tolerance: Tolerance) -> Feasible | Infeasible:
    """Put one pair's figures into an answer with every reason that fails.

    Parameters
    ----------
    move : Move
        The pair.
    terms : MoveTerms
        What `evaluate` found for it.
    tolerance : Tolerance
        What it was held against.
    """
    judge = MoveReasons(
        checkpoint_bytes=move.checkpoint_bytes,
        link_bps=move.link_bps,
        overhead_s=move.seal_s + move.load_s + move.downtime_s,
        until_window_end_s=move.until_window_end_s,
        alpha=tolerance.alpha,
        eta=tolerance.eta,
    )
    reasons = list(judge.unusable({f.name: getattr(move, f.name) for f in fields(Move)}))
    # Without any window the other two tests fail for that reason alone, and say nothing more.
    is_open = move.until_window_end_s is not None and move.until_window_end_s > 0.0
    if is_open and not terms.in_time and terms.migration_s is not None and terms.budget_s is not None:
        reasons.append(judge.too_slow(terms.migration_s, terms.budget_s))
    priced = terms.energy_wh is not None and move.job_power_w >= 0.0
    if not terms.pays and priced and terms.window_s is not None and terms.window_s > 0.0:
        reasons.append(judge.never_pays(terms.break_even_s, terms.window_s))
    known = _terms(move, terms, {reason.name: reason.remedy for reason in reasons})
    if terms.in_time and terms.pays:
        return Feasible(terms=known)
    return Infeasible(reasons=tuple(reasons), terms=known)


def _terms(move: Move, terms: MoveTerms, remedies: dict[str, str]) -> tuple[Term, ...]:
    # Where no window is left on arrival nothing of it can be used, and nothing is held against it.
    is_left = terms.window_s is not None and terms.window_s > 0.0
    window_s = terms.window_s if is_left or terms.window_s is None else 0.0
    rows: tuple[tuple[str, float | None, float | None, str, bool], ...] = (
        ("seal", move.seal_s, None, "s", True),
        ("transfer", terms.transfer_s, None, "s", True),
        ("load", move.load_s, None, "s", True),
        ("downtime", move.downtime_s, None, "s", True),
        ("window", window_s, 0.0, "s", is_left),
        ("time", terms.migration_s, terms.budget_s if is_left else None, "s", terms.in_time),
        ("energy", terms.energy_wh, None, "Wh", True),
        ("break_even", terms.break_even_s, window_s if is_left else None, "s", terms.pays),
    )
    return tuple(
        Term(
            name=name,
            value=value,
            limit=limit,
            unit=unit,
            satisfied=ok,
            remedy="" if ok else remedies.get(name) or remedies.get("window", ""),
        )
        for name, value, limit, unit, ok in rows
        # A term that is unknown or beyond all bounds has no figure to show; its reason says so.
        if value is not None and np.isfinite(value)
    )


def _known(column: Array | float) -> Array:
    return np.where(np.isfinite(column) & (column >= 0.0), column, np.nan)


def _shaped(column: NDArray[Kind], shape: tuple[int, ...]) -> NDArray[Kind]:
    return column if column.shape == shape else np.broadcast_to(column, shape)


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else float(value)
