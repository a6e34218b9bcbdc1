"""What both daemons share: units, errors, clock, config, log, notify, supervise, identity."""

VERSION = "0.1.0"
"""As in pyproject.toml (a test compares); asking the installed package costs the agent a megabyte."""
