"""What inverters and batteries are told to do."""

from collections.abc import Callable
from functools import partial

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.build.meters import Lines
from agent.config.setpoints import ChargeSurplusTable, ExportLimitTable, SetpointTable, curtailed
from agent.core.setpoints import ChargeSurplus, ExportLimit, Fixed, Rule, least_export_w
from agent.devices.bus_setpoints import SetPoint
from agent.model.limits import Limit
from agent.tasks.sense import Senses
from agent.tasks.setpoints import Steward, run_steward

SET_PERIOD_S = 1.0
BAND_FRAC = 0.01


def open_setpoints(
    build: Build, lines: Lines, senses: Senses, exports: Callable[[], tuple[Limit, ...]]
) -> None:
    """Have every configured set-point kept, also under what operators say of the site's `exports`."""
    meters = {meter.name: meter for meter in build.config.meters}
    for table in build.config.setpoints:
        name = f"set-point:{table.meter}:{table.set_by}"
        point = SetPoint(
            lines.of(meters[table.meter]),
            clock=build.clock,
            unit=meters[table.meter].unit_id,
            control=table.set_by,
            reversion_s=table.reversion_s,
            allow_lasting=table.allow_lasting,
        )
        steward = Steward(
            name=name,
            device=table.meter,
            rule=rule_of(table),
            point=point,
            senses=senses,
            clock=build.clock,
            lasting=table.allow_lasting,
            exports=exports,
        )
        build.stack.push_async_callback(steward.let_go)
        heart = build.pulse.heart(name, LOOP_DEADLINE_S + 10 * SET_PERIOD_S)
        build.loops[name] = partial(run_steward, steward, period_s=SET_PERIOD_S, heart=heart)


def least_export(build: Build, senses: Senses) -> Callable[[], float | None]:
    """Make what tells the export that the site could come down to, in watts; None: it is not known."""
    plants = curtailed(build.config.setpoints)

    def told() -> float | None:
        grid_w = None if senses.power is None else senses.power.grid_w
        return least_export_w(grid_w, [senses.readings.get(plant) for plant in plants])

    return told


def rule_of(table: SetpointTable) -> Rule:
    """Make the rule of a set-point from its table."""
    if isinstance(table, ExportLimitTable):
        return ExportLimit(
            rated_w=table.rated_w,
            export_limit_w=table.export_limit_w,
            band_w=BAND_FRAC * table.rated_w if table.band_w is None else table.band_w,
            rise_w_per_s=table.rise_w_per_s,
            grace_s=table.grace_s,
        )
    if isinstance(table, ChargeSurplusTable):
        return ChargeSurplus(
            control=table.control,
            max_charge_w=table.max_charge_w,
            min_charge_w=table.min_charge_w,
            band_w=table.band_w,
            rise_w_per_s=table.rise_w_per_s,
            grace_s=table.grace_s,
        )
    return Fixed(values=table.values)
