"""The settings of the power budget."""

import hashlib

from agent.build.base import Build
from agent.core.power_budget_values import BudgetSettings, FollowSettings


def budget_settings(build: Build) -> BudgetSettings:
    """Make the settings of the power budget."""
    config, power = build.config, build.config.power
    follow = None
    if power.follow == "surplus":
        follow = FollowSettings(
            import_w=power.follow_import_w,
            smooth_s=power.follow_smooth_s,
            pause_below_w=power.follow_pause_below_w,
            hold_s=power.follow_hold_s,
        )
    return BudgetSettings(
        margin_w=power.margin_w,
        idle_w=config.gpu.idle_w,
        ramp_up_w_per_s=power.ramp_up_w_per_s,
        ramp_down_w_per_s=power.ramp_down_w_per_s,
        release_delay_s=power.release_spread_s * turn_frac(config.site),
        resume_margin_w=power.resume_margin_w,
        resume_hold_s=power.resume_hold_s,
        move_after_s=power.move_after_s,
        meter_grace_s=power.meter_grace_s,
        meter_lag_s=power.meter_lag_s,
        assumed_others_w=power.blind_load_w,
        follow=follow,
    )


def turn_frac(site: str) -> float:
    """Return a site's own share, 0 to 1, of any spread: the same on each start, another for each site."""
    digest = hashlib.sha256(site.encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32
