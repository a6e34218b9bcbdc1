"""The grid desk: every source of limits reports to it."""

from agent.build.base import Build
from agent.build.sources import MODBUS, MQTT, OPENADR, operators
from agent.config.setpoints import curtails
from agent.core.commands import Rules
from agent.core.failsafe import ExitWithoutLimit, FailsafeSettings
from agent.core.operator import ConfigBounds
from agent.grid.desk import GridDesk
from agent.store import commands as command_store


def make_desk(build: Build, store: command_store.CommandStore) -> GridDesk:
    """Make the grid desk over its store."""
    config, clock = build.config, build.clock
    grid = config.grid
    seal = None
    if grid.mqtt is not None:
        from agent.build.mqtt import make_seal  # sites without a broker do not pay for it

        seal = make_seal(build, grid.mqtt)
    tables = {MQTT: grid.mqtt, OPENADR: grid.openadr, MODBUS: grid.modbus}
    exports_w = {link: None if table is None else table.failsafe_export_w for link, table in tables.items()}
    standing_w = {} if grid.local_limit_w is None else {"local": grid.local_limit_w}
    return GridDesk(
        clock=clock,
        store=store,
        operators=operators(build.config),
        settings=FailsafeSettings(
            failsafe_import_w=grid.failsafe_import_w,
            heartbeat_timeout_s=grid.heartbeat_timeout_s,
            failsafe_min_s=grid.failsafe_min_s,
            exit_without_limit=ExitWithoutLimit(grid.exit_without_limit),
        ),
        rules=Rules(
            site=config.site,
            hard_minimum_w=grid.minimum_limit_w,
            keeps_exports=curtails(config.setpoints),
            max_skew_s=grid.clock_skew_s,
        ),
        bounds=ConfigBounds(),
        standing_limits_w=standing_w,
        tolerance_w=grid.meter_tolerance_w,
        clock_synced=build.clock_trust,
        seals={} if seal is None else {MQTT: seal},
        failsafe_exports_w={link: limit_w for link, limit_w in exports_w.items() if limit_w is not None},
    )
