"""What the daemon does not load before a site needs it: it would cost every site (docs/reliability.md)."""

import subprocess
import sys

RARELY_NEEDED = {
    "agent.core.containers",
    "agent.grid.mqtt",
    "agent.grid.openadr",
    "agent.jobs.transfer_difference",
    "agent.jobs.transfer_server",
    "agent.modbus_server",
    "agent.simulator",
    "agent.store.settlement",
    "agent.tasks.metrics",
    "argparse",
    "blake3",
    "cryptography",
    "grpc_health.v1.health",
    "h11",
    "numpy",
    "zoneinfo",
    "zstandard",
}


def test_what_not_every_site_needs_is_not_loaded() -> None:
    command = [sys.executable, "-c", "import sys, agent.daemon; print(*sys.modules)"]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "agent.modbus" in loaded
    assert not RARELY_NEEDED & set(loaded)
