"""``agent.toml``: everything that a site operator sets, with units, meanings and defaults.

Only `main`, `build` and the command line see these structs; everybody else is handed plain values. Paths are
taken relative to the file's folder.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from agent.config.buses import BusTable, line_faults
from agent.config.containers import ContainersTable
from agent.config.coordinator import CoordinatorTable, TransferTable
from agent.config.grid import GridTable
from agent.config.home_assistant import HomeAssistantTable
from agent.config.meters import MeterTable
from agent.config.metrics import MetricsTable
from agent.config.node import GpuTable, JobsTable
from agent.config.power import PowerTable
from agent.config.setpoints import SetpointTable, curtails, setpoint_faults
from agent.config.settlement import SettlementTable
from agent.config.surplus import SurplusTable
from agent.config.tls import TlsFiles
from sterna.identity import fleet_fault, name_fault


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    fleet: str
    """Name of the fleet, as in its certificates."""
    site: str
    """Name of this site, as in its certificate."""
    state_dir: Path
    """Where stores, checkpoints and jobs are kept; outlives restarts."""
    tls: TlsFiles | None = None
    """Our certificate; needed unless `insecure`."""
    insecure: bool = False
    """Plaintext gRPC; loopback only."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_style: Literal["auto", "json", "text", "journal"] = "auto"
    """auto: journal fields where standard error is the journal, else text."""
    coordinator: CoordinatorTable | None = None
    grid: GridTable
    buses: tuple[BusTable, ...] = ()
    meters: tuple[MeterTable, ...] = ()
    setpoints: tuple[SetpointTable, ...] = ()
    gpu: GpuTable = GpuTable()
    jobs: JobsTable = JobsTable()
    containers: ContainersTable = ContainersTable()
    transfer: TransferTable | None = None
    power: PowerTable = PowerTable()
    surplus: SurplusTable | None = None
    settlement: SettlementTable = SettlementTable()
    metrics: MetricsTable | None = None
    home_assistant: HomeAssistantTable | None = None

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if fault := fleet_fault(self.fleet):
            yield "fleet", fault
        if fault := name_fault(self.site):
            yield "site", fault
        if self.coordinator is not None and (fault := name_fault(self.coordinator.id)):
            yield "coordinator.id", fault
        if self.tls is None and not self.insecure and (self.coordinator or self.transfer):
            yield "tls", "missing; give [tls] ca, cert and key, or insecure = true on loopback"
        names = [meter.name for meter in self.meters]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "meters", f'two meters are named "{name}"'
        yield from line_faults(self.buses, self.meters)
        yield from setpoint_faults(self.setpoints, self.meters)
        yield from self._export_faults()

    def _export_faults(self) -> Iterable[tuple[str, str]]:
        grid, kept = self.grid, curtails(self.setpoints)
        for name, table in (("mqtt", grid.mqtt), ("openadr", grid.openadr), ("modbus", grid.modbus)):
            if table is not None and table.failsafe_export_w is not None and not kept:
                yield (
                    f"grid.{name}.failsafe_export_w",
                    'nothing obeys it: it needs [[setpoints]] rule = "export-limit"',
                )
        if self.surplus is None or grid.openadr is not None:
            return
        if self.surplus.price_below_per_kwh is not None:
            yield "surplus.price_below_per_kwh", "nobody tells prices: it needs [grid.openadr]"
        elif not kept or (grid.operator == "none" and (grid.modbus is None or not grid.modbus.writers)):
            yield (
                "surplus.curtailed_w",
                "nobody limits the export: it needs [grid.openadr], or [grid.mqtt] with an operator or "
                '[grid.modbus] with writers, and [[setpoints]] rule = "export-limit"',
            )
