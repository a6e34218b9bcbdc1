"""The tables. Bodies are whole values as JSON; columns beside them are for people and for queries."""

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA_VERSION = 1

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False))

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("kind", String, nullable=False),
    Column("body", Text, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("key", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("owner_site", String),
    Column("epoch", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

migrations = Table(
    "migrations",
    metadata,
    Column("key", String, primary_key=True),
    Column("job_id", String, nullable=False),
    Column("source_site", String, nullable=False),
    Column("destination_site", String, nullable=False),
    Column("state", String, nullable=False),
    Column("body", Text, nullable=False),
)

sites = Table(
    "sites", metadata, Column("key", String, primary_key=True), Column("body", Text, nullable=False)
)

links = Table(
    "links", metadata, Column("key", String, primary_key=True), Column("body", Text, nullable=False)
)

requests = Table(
    "requests",
    metadata,
    Column("request_id", String, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("content", Text, nullable=False),
    Column("answer", Text, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("decision_id", String, nullable=False, unique=True),
    Column("job_id", String, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("kind", String, nullable=False),
    Column("body", Text, nullable=False),
    Index("decisions_of_job", "job_id", "seq"),
)

telemetry = Table(
    "telemetry",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("site_id", String, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("measured_at", DateTime(timezone=True), nullable=False),
    Column("historical", Boolean, nullable=False),
    Column("quality", String, nullable=False),
    Column("grid_w", Float),
    Column("generation_w", Float),
    Column("available_w", Float),
    Column("battery_w", Float),
    Column("compute_w", Float),
    Column("site_load_w", Float),
    Column("surplus_w", Float),
    Column("gpus", Text, nullable=False),
    # An agent whose store was lost begins its sequence anew; then the instant tells samples apart.
    Index("telemetry_once", "site_id", "sequence", "measured_at", unique=True),
    Index("telemetry_of_site", "site_id", "seq"),
    Index("telemetry_by_time", "site_id", "measured_at"),
)

# What is learnt of each site's surplus, as one value (coordinator.forecast.stored).
memories = Table(
    "memories",
    metadata,
    Column("site_id", String, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("body", LargeBinary, nullable=False),
)

# The chain of signed records (docs/ledger.md): only ever appended to.
records = Table(
    "records",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("day", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("content", Text, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Index("records_of_subject", "subject", "seq"),
    Index("records_of_day", "day", "seq"),
    Index("records_by_time", "at", "seq"),
)

# Where a job may have drawn power, and from when to when: follows the fleet in the same transactions.
stays = Table(
    "stays",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("job_id", String, nullable=False),
    Column("site_id", String, nullable=False),
    Column("power_w", Float, nullable=False),
    Column("start_at", DateTime(timezone=True), nullable=False),
    Column("end_at", DateTime(timezone=True)),
    Index("stays_of_job", "job_id", "end_at"),
    Index("stays_of_site", "site_id", "start_at"),
)

# The energy ledger: one row for each job at each site in each slot; job "": nobody was there.
energy = Table(
    "energy",
    metadata,
    Column("site_id", String, primary_key=True),
    Column("start_at", DateTime(timezone=True), primary_key=True),
    Column("job_id", String, primary_key=True),
    Column("end_at", DateTime(timezone=True), nullable=False),
    Column("samples", Integer, nullable=False),
    Column("renewable_wh", Float, nullable=False),
    Column("nonrenewable_wh", Float, nullable=False),
    Column("unattributed_wh", Float, nullable=False),
    Column("estimated_wh", Float, nullable=False),
    Column("unmetered_s", Float, nullable=False),
    Column("carbon_g", Float, nullable=False),
    Column("carbon_unknown_wh", Float, nullable=False),
    Index("energy_of_job", "job_id", "start_at"),
)

# Slots that are to be booked, again where late telemetry came.
energy_due = Table(
    "energy_due",
    metadata,
    Column("site_id", String, primary_key=True),
    Column("start_at", DateTime(timezone=True), primary_key=True),
)
