"""``agent.toml``: everything that a site operator sets, with units, meanings and defaults.

Only `main` and the command line see these structs; everybody else is handed plain values. Paths are taken
relative to the file's folder.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PEM files, as ``sterna pki issue site NAME`` writes them."""

    ca: Path
    cert: Path
    key: Path


class CoordinatorTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[coordinator]``: whom we report to. Without the table the site runs alone."""

    address: str
    """host:port of its gRPC service."""
    id: str = "main"
    """Name in its certificate."""
    backoff_max_s: float = 30.0
    """Longest pause between two attempts to reach it."""


class MeterTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[meters]]``: one power meter or inverter."""

    name: str
    role: Literal["grid", "generation", "load", "battery", "compute"]
    kind: Literal["sunspec", "registers", "fake"] = "sunspec"
    """registers: a plain Modbus meter, described by `table` or `table_file` (docs/meters.md)."""
    host: str = ""
    port: int = 502
    unit_id: int = 1
    rtu_over_tcp: bool = False
    """Behind a gateway that passes RTU frames through."""
    table: str = ""
    """registers: name of a table that ships with Sterna, e.g. "eastron-sdm630"."""
    table_file: Path | None = None
    """registers: a table of the site's own."""
    poll_interval_s: float = 1.0
    timeout_s: float = 1.0
    """Longest wait for one answer."""
    max_power_w: float = 1e6
    """Plausibility bound: anything beyond it, either way, is BAD and never used."""
    invert: bool = False
    """The device counts the other way round."""
    fake_power_w: float = 0.0
    """What a fake meter reads."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.kind != "fake" and not self.host:
            yield "host", f"missing for a {self.kind} meter"
        if self.kind == "registers" and bool(self.table) == (self.table_file is not None):
            yield "table", "a registers meter needs one of table and table_file"
        if not 1 <= self.port <= 65535:
            yield "port", f"expected 1 to 65535, got {self.port}"
        if not 0 <= self.unit_id <= 247:
            yield "unit_id", f"expected 0 to 247, got {self.unit_id}"
        for key in ("poll_interval_s", "timeout_s", "max_power_w"):
            if getattr(self, key) <= 0:
                yield key, f"expected more than zero, got {getattr(self, key)}"


class MqttTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[grid.mqtt]``: the broker of the grid operator."""

    host: str
    port: int = 8883
    client_id: str = ""
    """Default: ``sterna-<site>``. Two clients with one id throw each other out."""
    username: str = ""
    password_file: Path | None = None
    tls: TlsFiles | None = None
    insecure: bool = False
    """Plaintext; loopback only."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.tls is None and not self.insecure:
            yield "tls", "missing; give [grid.mqtt.tls] ca, cert and key, or insecure = true on loopback"
        if self.insecure and self.host not in {"127.0.0.1", "::1", "localhost"}:
            yield "insecure", f"plaintext is for loopback only, not for {self.host}"


class OpenAdrTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[grid.openadr]``: the site as a VEN of an OpenADR 3.1 VTN (docs/openadr.md)."""

    url: str
    """Base URL of the VTN; https, or loopback."""
    client_id: str = ""
    client_secret_file: Path | None = None
    ven_name: str = ""
    """Default: ``sterna-<site>``."""
    resource_name: str = ""
    """Default: the site."""
    programs: tuple[str, ...] = ()
    """Names or ids of the programs to follow; empty: all that the VTN shows us."""
    poll_period_s: float = 30.0
    notifier: bool = True
    """Listen to the VTN's MQTT notifications where it has them; polling goes on."""
    subscription_w: float | None = None
    """Import that holds when the VTN's schedule has run out."""
    level_limits_w: dict[str, float] = {}
    """Import limit per SIMPLE level, e.g. {"1" = 8000.0, "2" = 6000.0, "3" = 4200.0}."""
    reference_w: float | None = None
    """What relative set-points count from."""
    ca: Path | None = None
    """CA of the VTN's certificate; default: the system's."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if bool(self.client_id) != (self.client_secret_file is not None):
            yield "client_secret_file", "client_id and client_secret_file go together"
        for level in self.level_limits_w:
            if level not in {"1", "2", "3"}:
                yield "level_limits_w", f'levels are "1" to "3", got "{level}"'
        if not 1 <= self.poll_period_s <= 60:
            yield "poll_period_s", f"polls are heartbeats: expected 1 to 60, got {self.poll_period_s}"


class GridTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[grid]``: who may limit the site, and what holds when nobody speaks."""

    operator: str
    """Id of the grid operator in the topics, or "none" for a site without one."""
    failsafe_import_w: float = 0.0
    """Grid import that holds in INIT and FAILSAFE."""
    failsafe_min_s: float = 7200.0
    """Shortest stay in FAILSAFE (EEBus LPC: 2 h to 24 h)."""
    heartbeat_timeout_s: float = 120.0
    """Silence after which the operator counts as lost."""
    exit_without_limit: Literal["stay", "after_120_s"] = "stay"
    """What happens when the heartbeat is back but no limit or release follows."""
    minimum_limit_w: float = 0.0
    """Limits below this are refused: the site cannot go lower without harm."""
    clock_skew_s: float = 30.0
    """Commands whose issue time is further off are refused."""
    local_limit_w: float | None = None
    """The site operator's own limit on grid import."""
    meter_tolerance_w: float = 50.0
    """Meter error that is not counted as a breach."""
    telemetry_period_s: float = 1.0
    mqtt: MqttTable | None = None
    openadr: OpenAdrTable | None = None

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.operator != "none" and self.mqtt is None:
            yield "mqtt", f'missing for operator "{self.operator}"'
        for key in ("failsafe_import_w", "minimum_limit_w", "meter_tolerance_w", "clock_skew_s"):
            if getattr(self, key) < 0:
                yield key, f"expected zero or more, got {getattr(self, key)}"
        if self.heartbeat_timeout_s <= 0:
            yield "heartbeat_timeout_s", f"expected more than zero, got {self.heartbeat_timeout_s}"


class GpuTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[gpu]``: how the node's GPU is read and capped."""

    kind: Literal["fake", "jetson", "nvml", "jtop", "none"] = "none"
    idle_w: float = 0.0
    """The node's draw with no job; for kinds that cannot measure it."""
    max_w: float = 1000.0
    """The node's draw at most."""
    min_cap_w: float = 0.0
    """Lowest cap that may be set."""
    power_path: Path | None = None
    """fake: file that receives the present draw in watts."""


class JobsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[jobs]``: what may run here."""

    slots: int = 1
    checkpoint_interval_s: float = 600.0
    """Shortest time between two sealed checkpoints of a running job."""
    keep_checkpoints: int = 2

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.slots < 0:
            yield "slots", f"expected zero or more, got {self.slots}"
        if self.keep_checkpoints < 2:
            yield "keep_checkpoints", f"at least the last two are kept, got {self.keep_checkpoints}"


class TransferTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[transfer]``: where other sites fetch checkpoints. Without the table the site only dials."""

    listen: str
    """host:port to listen on; port 0 takes a free one."""
    advertise: str = ""
    """host:port that others dial; default: where we listen."""


class PowerTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[power]``: the ladder that keeps a limit."""

    control_period_s: float = 0.5
    meter_grace_s: float = 10.0
    """A meter may be silent for so long before the worst is assumed."""
    move_after_s: float = 300.0
    """A job paused for so long is offered to other sites."""
    resume_margin_w: float = 50.0
    """Room below the limit before one more job resumes."""
    resume_hold_s: float = 30.0
    """Shortest time between two jobs that resume."""
    cap_rise_w_per_s: float = 50.0
    """How fast a cap is lifted; it comes down at once."""
    margin_w: float = 0.0
    """Watts kept free below a limit."""


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    fleet: str
    site: str
    state_dir: Path
    tls: TlsFiles | None = None
    """Our certificate; needed unless `insecure`."""
    insecure: bool = False
    """Plaintext gRPC; loopback only."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_style: Literal["auto", "json", "text", "journal"] = "auto"
    coordinator: CoordinatorTable | None = None
    grid: GridTable
    meters: tuple[MeterTable, ...] = ()
    gpu: GpuTable = GpuTable()
    jobs: JobsTable = JobsTable()
    transfer: TransferTable | None = None
    power: PowerTable = PowerTable()

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.tls is None and not self.insecure and (self.coordinator or self.transfer):
            yield "tls", "missing; give [tls] ca, cert and key, or insecure = true on loopback"
        names = [meter.name for meter in self.meters]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "meters", f'two meters are named "{name}"'
