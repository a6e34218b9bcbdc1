"""Every metric of the agent by name, with its kind, labels and meaning; docs/metrics.md has the table."""

from sterna.exposition.families import Family, counter, gauge
from sterna.exposition.process import PROCESS

AGENT = Family(
    name="sterna_agent", kind="info", about="The agent, always 1.", labels=("fleet", "site", "version")
)

SITE_GRID = gauge("sterna_site_grid_watts", "Power from the grid into the site; export is negative.")
SITE_GENERATION = gauge("sterna_site_generation_watts", "What the plants produce.")
SITE_AVAILABLE = gauge("sterna_site_available_watts", "What the plants could produce, curtailed or not.")
SITE_BATTERY = gauge("sterna_site_battery_watts", "Power into the batteries; discharge is negative.")
SITE_COMPUTE = gauge("sterna_site_compute_watts", "What the training nodes draw.")
SITE_LOAD = gauge("sterna_site_load_watts", "What the rest of the site draws.")
SITE_SURPLUS = gauge("sterna_site_surplus_watts", "Generation beyond the site's other load.")
SITE_QUALITY = gauge("sterna_site_quality", "1 for the quality of the balance, else 0.", "quality")
SITE_AGE = gauge("sterna_site_age_seconds", "Age of the balance.")

METER_POWER = gauge(
    "sterna_meter_power_watts", "Active power, into the site; generation is positive.", "meter", "role"
)
METER_AGE = gauge("sterna_meter_age_seconds", "Age of the reading.", "meter")
METER_QUALITY = gauge("sterna_meter_quality", "1 for the quality of the reading, else 0.", "meter", "quality")
METER_POLLS = counter("sterna_meter_polls", "Polls of the meter.", "meter")
METER_ERRORS = counter("sterna_meter_errors", "Polls that were not answered or not understood.", "meter")
METER_IMPORT = counter("sterna_meter_import_joules", "The meter's own count of energy taken in.", "meter")
METER_EXPORT = counter("sterna_meter_export_joules", "The meter's own count of energy given out.", "meter")

METER_CHARGE = gauge("sterna_meter_charge_ratio", "A battery's state of charge, 0 to 1.", "meter")

LIMIT = gauge("sterna_limit_watts", "The import limit that binds, and whose it is; absent: none.", "source")
LIMIT_REMAINING = gauge(
    "sterna_limit_remaining_seconds", "For how long it still binds; absent: until replaced.", "source"
)
SOURCE_LIMIT = gauge("sterna_source_limit_watts", "Each source's lowest limit in force.", "source")
EXPORT_LIMIT = gauge(
    "sterna_export_limit_watts", "The export limit that binds, and whose it is; absent: none.", "source"
)
EXPORT_LIMIT_REMAINING = gauge(
    "sterna_export_limit_remaining_seconds", "For how long it still binds; absent: until replaced.", "source"
)
GRID_STATE = gauge("sterna_grid_state", "1 for the state of the fail-safe, else 0.", "state")
GRID_LINK_STATE = gauge(
    "sterna_grid_link_state", "1 for the state of an operator's link, else 0.", "source", "state"
)
BREACHES = counter("sterna_limit_breaches", "Episodes of import above the limit that were ours.")
BREACH_SAMPLES = counter("sterna_limit_breach_samples", "Samples of import above the limit that were ours.")
EXPORT_BREACHES = counter("sterna_export_limit_breaches", "Episodes of export above an operator's limit.")
EXPORT_BREACH_SAMPLES = counter(
    "sterna_export_limit_breach_samples", "Samples of export above an operator's limit."
)
UNACHIEVABLE = gauge("sterna_limit_unachievable", "1 while the site's other load alone exceeds the limit.")
ACHIEVABLE_MIN = gauge("sterna_achievable_min_watts", "Import with all capped or paused that can be.")
ACHIEVABLE_MAX = gauge("sterna_achievable_max_watts", "Import with every job at full power.")
BUDGET = gauge("sterna_compute_budget_watts", "What the nodes may draw; absent: nothing bounds it.")
CAP = gauge("sterna_compute_cap_watts", "The cap that was decided; absent: none.")
BOUND = gauge("sterna_compute_bound", "1 for what bounds the nodes' draw, else 0.", "by")

GPU_POWER = gauge("sterna_gpu_power_watts", "Draw, at the site's meter where calibrated.", "gpu")
GPU_CAP = gauge("sterna_gpu_power_cap_watts", "The cap that the device states.", "gpu")
GPU_UTILIZATION = gauge("sterna_gpu_utilization_ratio", "Share of time that it computes, 0 to 1.", "gpu")
GPU_TEMPERATURE = gauge("sterna_gpu_temperature_celsius", "Temperature.", "gpu")
GPU_CLOCK = gauge("sterna_gpu_clock_hertz", "Clock.", "gpu")
GPU_CALIBRATION = gauge(
    "sterna_gpu_calibration_ratio", "Watts at the site's meter per watt at the device's sensors.", "gpu"
)

JOBS = gauge("sterna_jobs", "Jobs at the site by phase.", "phase")
JOB_SLOTS = gauge("sterna_job_slots", "Jobs that may be here at once.")
JOB_SLOTS_HELD = gauge("sterna_job_slots_held", "Slots that jobs and reservations take.")
CHECKPOINTS = gauge("sterna_checkpoints", "Sealed checkpoints of the jobs here.")
CHECKPOINT_BYTES = gauge("sterna_checkpoint_bytes", "What they take.")
CHECKPOINT_FREE = gauge("sterna_checkpoint_free_bytes", "What the checkpoint store still takes.")
RECEIVED = counter("sterna_transfer_received_bytes", "Checkpoint data that completed fetches brought.")
SENT = counter("sterna_transfer_sent_bytes", "Checkpoint data sent to sites that we dialled.")

LINK = gauge("sterna_link_connected", "1 while the link is up, else 0.", "link")
STORE = gauge("sterna_store_bytes", "Size of the agent's database.")
TELEMETRY_WAITING = gauge("sterna_telemetry_waiting", "Samples that the coordinator has not acknowledged.")
TELEMETRY_DROPPED = counter("sterna_telemetry_dropped", "Samples lost because the disk took no more.")
LOOP_AGE = gauge("sterna_loop_beat_age_seconds", "Time since the loop came round.", "loop")
LOOP_DEADLINE = gauge("sterna_loop_deadline_seconds", "Age at which the watchdog is no longer fed.", "loop")

FAMILIES: tuple[Family, ...] = (
    *(thing for thing in tuple(globals().values()) if isinstance(thing, Family)),
    *PROCESS,
)
"""All of them, in the order in which they are told."""
