"""The doctor's looks at container engines: do they answer this user, and are the folders there."""

import subprocess
from collections.abc import Iterator

from agent.cli.findings import Finding, fail, good
from agent.config.containers import ContainersTable

COMMAND_TIMEOUT_S = 10.0


def check_containers(table: ContainersTable) -> Iterator[Finding]:
    """Ask each engine for its containers, as the agent does before it starts a job."""
    part = "containers"
    for name, words in table.engines().items():
        trouble = _trouble([*words, "ps", "--quiet"])
        mend = "install it, start its daemon, or let this user use it (docs/containers.md)"
        yield fail(part, f"{name}: {trouble}", mend) if trouble else good(part, f"{name}: answers")
    for name, folder in table.mounts.items():
        if not folder.path.is_dir():
            yield fail(part, f"mounts.{name}: no folder {folder.path}", "make it, or take it out")


def _trouble(command: list[str]) -> str:
    """Say why a command does not succeed; empty when it does."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"exit code {done.returncode}")
