"""The Modbus server for the operator's RTU."""

from ipaddress import ip_network

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.build.files import both_show
from agent.build.sources import MODBUS
from agent.config.rtu import RtuTable
from agent.config.setpoints import curtails
from agent.core.rtu_registers import Nameplate
from agent.grid.desk import GridDesk
from agent.grid.rtu import OperatorRegisters
from agent.grid.rtu_server import Access, RtuServer
from agent.tasks.liaison import News
from sterna import VERSION
from sterna.errors import ConfigError


def open_rtu(build: Build, desk: GridDesk, news: News, table: RtuTable) -> None:
    """Bind the server and have it run.

    Raises
    ------
    ConfigError
        The address cannot be bound, or a certificate file cannot be used.
    """
    registers = OperatorRegisters(
        desk=desk,
        source=MODBUS,
        nameplate=Nameplate(
            name=build.config.site,
            version=VERSION,
            import_w=table.rated_import_w,
            export_w=table.rated_export_w,
            phases=table.phases,
            curtailable=curtails(build.config.setpoints),
        ),
        snapshot=news.snapshot,
        readings=news.senses.readings.values,
        clock=build.clock,
    )
    host, port = table.address
    server = RtuServer(
        host=host,
        port=port,
        unit=table.unit_id,
        registers=registers,
        access=Access(
            clients=[ip_network(network) for network in table.clients],
            writers=[ip_network(network) for network in table.writers],
            roles=frozenset(table.writer_roles),
        ),
        clock=build.clock,
        tls=None
        if table.tls is None
        else both_show(table.tls, build.base_dir, "grid.modbus.tls", server=True),
        idle_s=table.idle_s,
        on_beat=build.pulse.heart("modbus-server", LOOP_DEADLINE_S).beat,
    )
    try:
        server.bind()
    except ConfigError as error:
        raise ConfigError(f"agent.toml: grid.modbus.listen: {error}") from error
    build.stack.callback(server.close)
    build.loops["modbus-server"] = server.run
