"""Commands of `sterna-agent` beside the daemon itself."""

from pathlib import Path

DEFAULT_CONFIG = Path("/etc/sterna/agent.toml")
