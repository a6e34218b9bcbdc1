"""Every metric of the coordinator by name, with kind, labels and meaning; docs/metrics.md has the table."""

from sterna.exposition.families import Family, gauge
from sterna.exposition.process import PROCESS

COORDINATOR = Family(
    name="sterna_coordinator",
    kind="info",
    about="The coordinator, always 1.",
    labels=("fleet", "policy", "version"),
)

SITE_CONNECTED = gauge("sterna_fleet_site_connected", "1 while the site has a session, else 0.", "site")
SITE_DRAINING = gauge("sterna_fleet_site_draining", "1 while nothing is sent there, else 0.", "site")
SITE_FENCED = gauge("sterna_fleet_site_fenced", "1 while the site is declared off, else 0.", "site")
SITE_SILENCE = gauge("sterna_fleet_site_silence_seconds", "Since the site said anything.", "site")
SITE_SAMPLE_AGE = gauge("sterna_fleet_site_sample_age_seconds", "Age of the newest sample.", "site")
SITE_SURPLUS = gauge("sterna_fleet_site_surplus_watts", "Generation beyond the site's other load.", "site")
SITE_CHARGE = gauge(
    "sterna_fleet_site_charge_ratio", "State of charge of the site's batteries, 0 to 1.", "site"
)
SITE_STORED = gauge("sterna_fleet_site_stored_joules", "What can be drawn of the site's batteries.", "site")
SITE_COMPUTE = gauge("sterna_fleet_site_compute_watts", "What the training nodes draw.", "site")
SITE_LIMIT = gauge("sterna_fleet_site_limit_watts", "The import limit in force; absent: none.", "site")
SITE_SLOTS = gauge("sterna_fleet_site_slots", "Jobs that may be there at once.", "site")
SITE_GRANTS = gauge("sterna_fleet_site_grants", "Jobs that the site has the right to run.", "site")

JOBS = gauge("sterna_fleet_jobs", "Jobs by state.", "state")
JOBS_PINNED = gauge("sterna_fleet_jobs_contact_lost", "Jobs whose owner has no session.")
MIGRATIONS = gauge("sterna_fleet_migrations", "Migrations by state, those that ended among them.", "state")
LINK_GOODPUT = gauge(
    "sterna_fleet_link_goodput_bits_per_second", "As transfers measured it.", "source", "destination"
)

TICK = gauge("sterna_planner_tick_seconds", "What the newest tick of the planner took.")
LOOP_AGE = gauge("sterna_loop_beat_age_seconds", "Time since the loop came round.", "loop")
LOOP_DEADLINE = gauge("sterna_loop_deadline_seconds", "Age at which the watchdog is no longer fed.", "loop")

FAMILIES: tuple[Family, ...] = (
    *(thing for thing in tuple(globals().values()) if isinstance(thing, Family)),
    *PROCESS,
)
"""All of them, in the order in which they are told."""
