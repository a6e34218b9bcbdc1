"""The agent's durable state: one SQLite file."""
