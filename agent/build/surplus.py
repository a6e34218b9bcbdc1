"""What a plant cannot feed in counts as surplus while an operator limits the export."""

import math
from datetime import datetime

from agent.build.base import Build
from agent.build.sources import OPENADR
from agent.core.declaring import SurplusRules, declare_curtailed
from agent.core.limits import link_of
from agent.grid.desk import GridDesk
from agent.model.telemetry import DeclaredSurplus
from agent.tasks.liaison import News


def declare_curtailment(build: Build, desk: GridDesk, news: News, curtailed_w: float) -> None:
    """Have `curtailed_w` watts count as surplus under a limit of MQTT or the RTU."""
    rules, others, rtu = SurplusRules(curtailed_w=curtailed_w), news.declare, build.config.grid.modbus
    rated_w = math.inf if rtu is None or rtu.rated_export_w is None else rtu.rated_export_w

    def declare(now: datetime) -> tuple[DeclaredSurplus, ...]:
        limits = desk.exports() if build.clock_trust() else ()
        # A VTN's schedule has been told already, for the days ahead too.
        here = (limit for limit in limits if link_of(limit.source) != OPENADR)
        return (*others(now), *declare_curtailed(here, rules, now, rated_w=rated_w))

    news.declare = declare
