"""The site's settlement: records, baselines, and what reports tell from them."""

import logging
from dataclasses import replace
from functools import partial

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.config.settlement import DAY_NAMES, SettlementTable, time_zone
from agent.core.baselines import RULES, Calendar, Rule
from agent.grid.desk import GridDesk
from agent.grid.measured import Measurements
from agent.model.readings import MeterRole
from agent.store import settlement as settlement_store
from agent.store.db import Database
from agent.tasks.control import Control
from agent.tasks.counterfactual import JobsAtFullPower
from agent.tasks.settlement import Settlement
from agent.tasks.settlement_figures import SettledFigures

log = logging.getLogger(__name__)

SECONDS_PER_MINUTE = 60
LEAST_GAP_S = 10.0
"""A meter that is polled each second may miss so many before its energy is a gap's."""
GAP_POLLS = 3


async def open_settlement(
    build: Build, database: Database, desk: GridDesk, control: Control, boot_id: str
) -> None:
    """Make the settlement and have it run, where the site has a meter to settle by."""
    table, senses = build.config.settlement, control.senses
    if MeterRole.GRID not in senses.meters.values():
        log.info("nothing is settled: no meter has the role grid")
        return
    meters = build.config.meters
    settlement = Settlement(
        store=settlement_store.SettlementStore(database),
        clock=build.clock,
        boot_id=boot_id,
        length_s=float(table.interval_minutes * SECONDS_PER_MINUTE),
        roles=dict(senses.meters),
        readings=senses.readings.values,
        envelope=desk.envelope,
        tally=lambda: desk.tally,
        counterfactual_w=JobsAtFullPower(desk=desk, control=control, keeper=control.keeper),
        max_power_w=max(meter.max_power_w for meter in meters),
        max_gap_s=max(LEAST_GAP_S, *(GAP_POLLS * meter.poll_interval_s for meter in meters)),
        rules=[_rule(RULES[name], table) for name in table.methods],
        calendar=Calendar(
            zone=time_zone(table.timezone),
            holidays=frozenset(table.holidays),
            weekend=frozenset(DAY_NAMES.index(name) for name in table.weekend),
        ),
    )
    await settlement.open()
    build.stack.push_async_callback(settlement.flush)
    build.listeners.append(settlement.take)
    heart = build.pulse.heart("settlement", 2 * LOOP_DEADLINE_S)
    build.loops["settlement"] = partial(settlement.run, heart)
    build.measurements.append(partial(_with_past, settlement, _rule(RULES[table.report_method], table)))


def _with_past(settlement: Settlement, rule: Rule, inner: Measurements) -> Measurements:
    return SettledFigures(inner=inner, settlement=settlement, rule=rule)


def _rule(rule: Rule, table: SettlementTable) -> Rule:
    """Bring a rule to what the operator has agreed with the site."""
    adjustment = rule.adjustment
    if adjustment is not None:
        up, down = table.adjust_up_frac, table.adjust_down_frac
        adjustment = replace(
            adjustment,
            cap_up_frac=adjustment.cap_up_frac if up is None else up,
            cap_down_frac=adjustment.cap_down_frac if down is None else down,
        )
    return replace(rule, look_back_days=table.look_back_days, adjustment=adjustment)
