"""Why a move is not feasible, with the figure, its limit and what would mend it, for people."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite

from coordinator.core import domain
from sterna.units import with_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that speaks against a move.

    `measured` None: the figure is not known, or not a number that can be used. `limit` None: there is
    nothing to compare with.
    """

    name: str
    measured: float | None
    limit: float | None
    unit: str
    text: str
    remedy: str

    @property
    def sentence(self) -> str:
        """Return the reason and its remedy in one line."""
        return f"{self.name}: {self.text}" + (f"; mended by {self.remedy}" if self.remedy else "")


_UNITS = {
    "checkpoint_bytes": ("checkpoint", "B", "a declared checkpoint size or a first sealed checkpoint"),
    "ahead_bytes": ("sent_ahead", "B", "a size of zero or more"),
    "link_bps": ("link", "bit/s", "a configured or measured link rate above zero"),
    "seal_s": ("seal", "s", "a time of zero or more"),
    "load_s": ("load", "s", "a time of zero or more"),
    "downtime_s": ("downtime", "s", "a time of zero or more"),
    "until_window_end_s": ("window", "s", "a surplus there that is measured and forecast to last"),
    "job_power_w": ("power", "W", "a power of zero or more"),
    "source_power_w": ("power", "W", "a power of zero or more"),
    "destination_power_w": ("power", "W", "a power of zero or more"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReasons:
    """What is needed to say why one move fails and what would mend it."""

    checkpoint_bytes: float | None
    link_bps: float | None
    overhead_s: float
    until_window_end_s: float | None
    alpha: float
    eta: float

    def unusable(self, figures: Mapping[str, float | None]) -> Iterator[Reason]:
        """Yield a reason for each input that is unknown or out of its range.

        Parameters
        ----------
        figures : mapping
            Every input by its name in `coordinator.core.feasibility.Move`.
        """
        for field, value in figures.items():
            name, unit, remedy = _UNITS[field]
            if value is None or not isfinite(value):
                yield Reason(name=name, measured=None, limit=None, unit=unit, text="not known", remedy=remedy)
            elif field == "until_window_end_s":
                if value <= 0.0:
                    yield Reason(
                        name=name,
                        measured=value,
                        limit=0.0,
                        unit=unit,
                        text="no window is open",
                        remedy=remedy,
                    )
            elif value < 0.0 or (field == "link_bps" and value == 0.0):
                text = f"{value:.6g} {unit} cannot be used"
                yield Reason(name=name, measured=value, limit=0.0, unit=unit, text=text, remedy=remedy)

    def too_slow(self, total_s: float, budget_s: float) -> Reason:
        """Return the reason for T_mig >= alpha * window_s."""
        left = f"{self.alpha:g} of the window left on arrival is {budget_s:.3f} s"
        if not budget_s > 0.0:
            left = f"the window is over in {self.until_window_end_s:.3f} s"
        return Reason(
            name="time",
            measured=total_s,
            limit=max(0.0, budget_s),
            unit="s",
            text=f"{total_s:.3f} s, but {left}",
            remedy=self._faster(total_s),
        )

    def never_pays(self, break_even_s: float | None, window_s: float) -> Reason:
        """Return the reason for T_BE >= window_s; `break_even_s` None or infinite: it avoids nothing."""
        if break_even_s is None or break_even_s == float("inf"):
            return Reason(
                name="break_even",
                measured=None,
                limit=window_s,
                unit="s",
                text="the move would avoid no non-renewable energy",
                remedy="a job that draws power, or a source that is less renewable",
            )
        return Reason(
            name="break_even",
            measured=break_even_s,
            limit=window_s,
            unit="s",
            text=f"paid back after {break_even_s:.3f} s, but {window_s:.3f} s are left on arrival",
            remedy="a smaller checkpoint or a longer window",
        )

    def _faster(self, total_s: float) -> str:
        until_s = total_s * (1.0 + 1.0 / self.alpha)
        mends = [f"a window of more than {until_s:.0f} s from now"]
        if self.until_window_end_s is not None and self.checkpoint_bytes and self.link_bps:
            budget = domain.fixed_end_budget_s(self.until_window_end_s, self.alpha)
            least_bps = domain.smallest_link_bps(budget, self.overhead_s, self.checkpoint_bytes, self.eta)
            if least_bps is not None:
                most = domain.largest_checkpoint_bytes(budget, self.overhead_s, self.link_bps, self.eta)
                mends.append(f"a checkpoint below {with_prefix(most, 'B')}")
                mends.append(f"a link above {with_prefix(least_bps, 'bit/s')}")
            elif budget > 0.0:
                mends.append(f"less than {budget:.1f} s of seal, load and downtime together")
        return " or ".join(mends)
