"""The numbers of docs/feasibility.md, out of the functions that decide; a test keeps the page equal."""

from collections.abc import Iterable, Sequence

from coordinator.core import domain
from coordinator.core.feasibility import Move, Tolerance, assess
from sterna.units import bytes_to_gb, gb_to_bytes, s_to_hours

SIZES_GB = (1.0, 24.0, 40.0, 70.0, 100.0, 140.0)
LINKS_GBPS = (1.0, 10.0, 100.0)
WINDOWS_S = (domain.SHORT_WINDOW_S, domain.LONG_WINDOW_S)
ALPHA = 0.10
_BPS_PER_GBPS = 1e9  # only this page speaks of Gbps
_JOB_POWER_W = 500.0


def transfer_table() -> str:
    """Return seconds of transfer, class and break-even for each checkpoint size, as Markdown."""
    head = ["S, GB", *(f"{g:g} Gbps: s, class" for g in LINKS_GBPS), "break-even of 0.5 kW, s"]
    rows = []
    for size_gb in SIZES_GB:
        cells = [f"{size_gb:g}"]
        for gbps in LINKS_GBPS:
            carried_s = domain.transfer_s(gb_to_bytes(size_gb), gbps * _BPS_PER_GBPS, 1.0)
            cells.append(f"{carried_s:g} {domain.classify(carried_s, ALPHA).value}")
        cells.append(f"{_break_even_s(size_gb):.0f}")
        rows.append(cells)
    return _markdown(head, rows)


def budget_table() -> str:
    """Return budget and largest checkpoint for the shortest and the longest typical window, as Markdown."""
    head = ["window, h", "budget, s", *(f"S_max at {g:g} Gbps, GB" for g in LINKS_GBPS)]
    rows = []
    for window_s in WINDOWS_S:
        budget_s = domain.budget_s(window_s, ALPHA)
        largest = (domain.largest_checkpoint_bytes(budget_s, 0.0, g * _BPS_PER_GBPS, 1.0) for g in LINKS_GBPS)
        rows.append(
            [f"{s_to_hours(window_s):g}", f"{budget_s:g}", *(f"{bytes_to_gb(most):g}" for most in largest)]
        )
    return _markdown(head, rows)


def _break_even_s(size_gb: float) -> float:
    """Return T_BE of a bare transfer at the default energy of the network."""
    move = Move(
        checkpoint_bytes=gb_to_bytes(size_gb),
        link_bps=_BPS_PER_GBPS,
        seal_s=0.0,
        load_s=0.0,
        downtime_s=0.0,
        until_window_end_s=domain.LONG_WINDOW_S,
        job_power_w=_JOB_POWER_W,
        source_power_w=_JOB_POWER_W,
        destination_power_w=_JOB_POWER_W,
    )
    return next(term.value for term in assess(move, Tolerance()).terms if term.name == "break_even")


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
