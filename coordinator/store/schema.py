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
)

# What is learnt of each site's surplus, as one value (coordinator.forecast.stored).
memories = Table(
    "memories",
    metadata,
    Column("site_id", String, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("body", LargeBinary, nullable=False),
)
