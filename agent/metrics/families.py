"""Every metric of the agent by name, with its kind, labels and meaning (docs/metrics.md has the same table).

Base units and names as Prometheus wants them: watts, joules, seconds, bytes; a counter ends ``_total``. A
figure that is not known has no sample: missing is never zero.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter", "info"]
UNITS = frozenset({"watts", "joules", "seconds", "bytes", "ratio", "celsius", "hertz"})


class Sample(NamedTuple):
    """One figure; the labels' values in the order of the family's names."""

    family: "Family"
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric; `name` is that of its samples, without any ``_total`` or ``_info``."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()

    @property
    def sample_name(self) -> str:
        """Return the name that a query uses."""
        return self.name + {"gauge": "", "counter": "_total", "info": "_info"}[self.kind]

    @property
    def unit(self) -> str | None:
        """Return the base unit that ends the name; None: a count, or a state."""
        ending = self.name.rpartition("_")[2]
        return ending if ending in UNITS else None

    def of(self, value: float | None, *labels: str) -> tuple[Sample, ...]:
        """Return the one sample of a figure; none where it is not known."""
        return () if value is None else (Sample(self, labels, float(value)),)


def _gauge(name: str, about: str, *labels: str) -> Family:
    return Family(name=name, kind="gauge", about=about, labels=labels)


def _counter(name: str, about: str, *labels: str) -> Family:
    return Family(name=name, kind="counter", about=about, labels=labels)


AGENT = Family(
    name="sterna_agent", kind="info", about="The agent, always 1.", labels=("fleet", "site", "version")
)

SITE_GRID = _gauge("sterna_site_grid_watts", "Power from the grid into the site; export is negative.")
SITE_GENERATION = _gauge("sterna_site_generation_watts", "What the plants produce.")
SITE_AVAILABLE = _gauge("sterna_site_available_watts", "What the plants could produce, curtailed or not.")
SITE_BATTERY = _gauge("sterna_site_battery_watts", "Power into the batteries; discharge is negative.")
SITE_COMPUTE = _gauge("sterna_site_compute_watts", "What the training nodes draw.")
SITE_LOAD = _gauge("sterna_site_load_watts", "What the rest of the site draws.")
SITE_SURPLUS = _gauge("sterna_site_surplus_watts", "Generation beyond the site's other load.")
SITE_QUALITY = _gauge("sterna_site_quality", "1 for the quality of the balance, else 0.", "quality")
SITE_AGE = _gauge("sterna_site_age_seconds", "Age of the balance.")

METER_POWER = _gauge(
    "sterna_meter_power_watts", "Active power, into the site; generation is positive.", "meter", "role"
)
METER_AGE = _gauge("sterna_meter_age_seconds", "Age of the reading.", "meter")
METER_QUALITY = _gauge(
    "sterna_meter_quality", "1 for the quality of the reading, else 0.", "meter", "quality"
)
METER_POLLS = _counter("sterna_meter_polls", "Polls of the meter.", "meter")
METER_ERRORS = _counter("sterna_meter_errors", "Polls that were not answered or not understood.", "meter")
METER_IMPORT = _counter("sterna_meter_import_joules", "The meter's own count of energy taken in.", "meter")
METER_EXPORT = _counter("sterna_meter_export_joules", "The meter's own count of energy given out.", "meter")

LIMIT = _gauge("sterna_limit_watts", "The import limit that binds, and whose it is; absent: none.", "source")
LIMIT_REMAINING = _gauge(
    "sterna_limit_remaining_seconds", "For how long it still binds; absent: until replaced.", "source"
)
SOURCE_LIMIT = _gauge("sterna_source_limit_watts", "Each source's lowest limit in force.", "source")
GRID_STATE = _gauge("sterna_grid_state", "1 for the state of the fail-safe, else 0.", "state")
GRID_LINK_STATE = _gauge(
    "sterna_grid_link_state", "1 for the state of an operator's link, else 0.", "source", "state"
)
BREACHES = _counter("sterna_limit_breaches", "Episodes of import above the limit that were ours.")
BREACH_SAMPLES = _counter("sterna_limit_breach_samples", "Samples of import above the limit that were ours.")
UNACHIEVABLE = _gauge("sterna_limit_unachievable", "1 while the site's other load alone exceeds the limit.")
ACHIEVABLE_MIN = _gauge("sterna_achievable_min_watts", "Import with all capped or paused that can be.")
ACHIEVABLE_MAX = _gauge("sterna_achievable_max_watts", "Import with every job at full power.")
BUDGET = _gauge("sterna_compute_budget_watts", "What the nodes may draw; absent: nothing bounds it.")
CAP = _gauge("sterna_compute_cap_watts", "The cap that was decided; absent: none.")
BOUND = _gauge("sterna_compute_bound", "1 for what bounds the nodes' draw, else 0.", "by")

GPU_POWER = _gauge("sterna_gpu_power_watts", "Draw, at the site's meter where calibrated.", "gpu")
GPU_CAP = _gauge("sterna_gpu_power_cap_watts", "The cap that the device states.", "gpu")
GPU_UTILIZATION = _gauge("sterna_gpu_utilization_ratio", "Share of time that it computes, 0 to 1.", "gpu")
GPU_TEMPERATURE = _gauge("sterna_gpu_temperature_celsius", "Temperature.", "gpu")
GPU_CLOCK = _gauge("sterna_gpu_clock_hertz", "Clock.", "gpu")
GPU_CALIBRATION = _gauge(
    "sterna_gpu_calibration_ratio", "Watts at the site's meter per watt at the device's sensors.", "gpu"
)

JOBS = _gauge("sterna_jobs", "Jobs at the site by phase.", "phase")
JOB_SLOTS = _gauge("sterna_job_slots", "Jobs that may be here at once.")
JOB_SLOTS_HELD = _gauge("sterna_job_slots_held", "Slots that jobs and reservations take.")
CHECKPOINTS = _gauge("sterna_checkpoints", "Sealed checkpoints of the jobs here.")
CHECKPOINT_BYTES = _gauge("sterna_checkpoint_bytes", "What they take.")
CHECKPOINT_FREE = _gauge("sterna_checkpoint_free_bytes", "What the checkpoint store still takes.")
RECEIVED = _counter("sterna_transfer_received_bytes", "Checkpoint data that completed fetches brought.")
SENT = _counter("sterna_transfer_sent_bytes", "Checkpoint data sent to sites that we dialled.")

LINK = _gauge("sterna_link_connected", "1 while the link is up, else 0.", "link")
STORE = _gauge("sterna_store_bytes", "Size of the agent's database.")
TELEMETRY_WAITING = _gauge("sterna_telemetry_waiting", "Samples that the coordinator has not acknowledged.")
TELEMETRY_DROPPED = _counter("sterna_telemetry_dropped", "Samples lost because the disk took no more.")
LOOP_AGE = _gauge("sterna_loop_beat_age_seconds", "Time since the loop came round.", "loop")
LOOP_DEADLINE = _gauge("sterna_loop_deadline_seconds", "Age at which the watchdog is no longer fed.", "loop")

PROCESS_CPU = _counter("process_cpu_seconds", "User and system time of the agent.")
PROCESS_MEMORY = _gauge("process_resident_memory_bytes", "Resident memory of the agent.")
PROCESS_FILES = _gauge("process_open_fds", "Open file descriptors of the agent.")
PROCESS_START = _gauge("process_start_time_seconds", "When the agent was started, as Unix time.")

FAMILIES: tuple[Family, ...] = tuple(
    thing for thing in tuple(globals().values()) if isinstance(thing, Family)
)
"""All of them, in the order in which they are told."""
