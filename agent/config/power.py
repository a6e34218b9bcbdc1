"""``[power]``: how the site obeys its limits, and whether it follows its own surplus."""

from collections.abc import Iterable
from typing import Literal

import msgspec


class PowerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[power]``: the budget that keeps a limit (docs/obeying.md)."""

    control_period_s: float = 0.5
    """Between two looks at the power budget."""
    margin_w: float = 0.0
    """Watts kept free below a limit."""
    ramp_up_w_per_s: float = 50.0
    """How fast our draw may rise while anything bounds it, and after a limit."""
    ramp_down_w_per_s: float | None = None
    """How fast it falls to a limit that has time; absent: at once. A limit is met in time in any case."""
    release_spread_s: float = 0.0
    """Sites wait up to so long, each its own time, before they rise after a limit has eased."""
    meter_lag_s: float = 5.0
    """A meter may show our old draw for so long after it has changed, polling included."""
    meter_grace_s: float = 10.0
    """A meter may be silent for so long before the worst is assumed."""
    blind_load_w: float | None = None
    """Import that is not ours, assumed while no meter speaks; absent: the highest that was seen."""
    resume_margin_w: float = 50.0
    """Room below the limit before one more job resumes."""
    resume_hold_s: float = 30.0
    """Shortest time between two jobs that resume."""
    move_after_s: float = 300.0
    """A job paused for so long is offered to other sites."""
    follow: Literal["off", "surplus"] = "off"
    """surplus: the cap follows what the site generates beyond its own load, never above a limit."""
    follow_import_w: float = 0.0
    """surplus: draw that is allowed beyond it."""
    follow_smooth_s: float = 20.0
    """surplus: time constant over which it is smoothed."""
    follow_pause_below_w: float | None = None
    """surplus: jobs pause below it; absent: they go on at the lowest cap."""
    follow_hold_s: float = 60.0
    """surplus: how long it must stay below or above before jobs pause or go on."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        for key in ("control_period_s", "ramp_up_w_per_s", "ramp_down_w_per_s"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                yield key, f"expected more than zero, got {value}"
        for key in (
            "margin_w",
            "release_spread_s",
            "meter_lag_s",
            "meter_grace_s",
            "resume_margin_w",
            "resume_hold_s",
            "move_after_s",
            "follow_import_w",
            "follow_smooth_s",
            "follow_pause_below_w",
            "follow_hold_s",
        ):
            value = getattr(self, key)
            if value is not None and value < 0:
                yield key, f"expected zero or more, got {value}"
        if self.follow == "off" and self.follow_pause_below_w is not None:
            yield "follow_pause_below_w", 'has no meaning without follow = "surplus"'
