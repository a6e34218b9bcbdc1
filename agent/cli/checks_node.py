"""The doctor's looks at the machine itself: clock, certificates, disk, GPU, helper, service."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from agent.cli.config_files import walk
from agent.cli.findings import Finding, fail, good, skipped, warn
from agent.config import AgentConfig
from agent.config.grid import GridTable
from agent.devices.gpu import open_provider
from agent.devices.power_client import DEFAULT_SOCKET, PowerClient
from agent.jobs.checkpoint_leftovers import FOLDERS
from sterna.clock import Clock
from sterna.errors import SternaError
from sterna.timesync import ask_kernel, ask_systemd

RENEW_BEFORE = timedelta(days=30)
LEAST_FREE_BYTES, SCARCE_FREE_BYTES = 1 << 30, 10 << 30
COMMAND_TIMEOUT_S = 5.0


def check_clock(grid: GridTable, base_dir: Path) -> Finding:
    """Say whether somebody keeps the clock, as the agent would find out."""
    part, mend = (
        "clock",
        "start systemd-timesyncd or chrony; until then only commands for less power are taken",
    )
    if grid.trust_clock == "file":
        path = base_dir / grid.trust_clock_file
        return good(part, f"{path} is there") if path.exists() else fail(part, f"{path} is not there", mend)
    kernel = ask_kernel()
    synced = ask_systemd() if kernel is None else kernel.synced
    if synced:
        within = "" if kernel is None else f", error at most {kernel.max_error_s:.3g} s"
        return good(part, f"synchronised{within}")
    says = "nobody says whether it is kept" if synced is None else "not synchronised"
    if grid.trust_clock == "always":
        return warn(
            part, f"{says}, and believed all the same", 'keep the clock and drop trust_clock = "always"'
        )
    return fail(part, says, mend)


def check_certificates(config: AgentConfig, base_dir: Path, now: datetime) -> Iterator[Finding]:
    """Tell when each certificate ends; whether it fits its key is the configuration's check."""
    for place, table in walk(config):
        cert = getattr(table, "cert", None)
        if isinstance(cert, Path):
            yield _ends(f"certificate {place}", base_dir / cert, now)


def _ends(part: str, path: Path, now: datetime) -> Finding:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return fail(part, f"{path}: cannot be read as a certificate", "copy it here again, or issue it again")
    end_at = certificate.not_valid_after_utc
    if now > end_at:
        return fail(
            part, f"{path}: expired at {end_at:%Y-%m-%d %H:%MZ}", "issue it again, then restart the agent"
        )
    days = (end_at - now) / timedelta(days=1)
    if end_at - now < RENEW_BEFORE:
        return warn(part, f"{path}: ends in {days:.0f} days", "issue it again, then restart the agent")
    return good(part, f"{path}: valid for {days:.0f} days more")


def check_state_dir(path: Path) -> Iterator[Finding]:
    """Write a file where the agent keeps what must survive, and look how much room there is."""
    part = "state_dir"
    if path.exists() and not path.is_dir():
        yield fail(part, f"{path}: is no folder", "name another one")
        there = path.parent
    elif not path.is_dir():
        there = next((parent for parent in path.parents if parent.is_dir()), path)
        if os.access(there, os.W_OK):
            yield good(part, f"{path}: will be made at the first start")
        else:
            yield fail(part, f"{path}: is not there and cannot be made", f"make it and give it to {_me()}")
    else:
        try:
            with tempfile.TemporaryFile(dir=path) as file:
                file.write(b"sterna")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            yield fail(
                part, f"{path}: cannot be written: {error.strerror}", f"give it to {_me()}, or make room"
            )
        else:
            yield good(part, f"{path}: can be written as {_me()}")
        there = path
        yield from _check_store(path / "checkpoints")
    yield _room(there)


def _check_store(path: Path) -> Iterator[Finding]:
    """List what the checkpoint store holds; silent where that works, or nothing is there yet."""
    try:
        for folder in (path, *(path / name for name in FOLDERS)):
            if os.path.lexists(folder):
                list(folder.iterdir())
        for job in (path / "sealed").glob("*"):
            list(job.iterdir())
    except OSError as error:
        yield fail(
            "checkpoints",
            f"{error.filename or path}: cannot be read: {error.strerror}",
            "mend the disk, or mount it: no job is taken until then",
        )


def _room(path: Path) -> Finding:
    usage = shutil.disk_usage(path)
    says = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB"
    if usage.free < LEAST_FREE_BYTES:
        return fail("disk", says, "make room: checkpoints cannot be sealed")
    if usage.free < SCARCE_FREE_BYTES:
        return warn("disk", says, "make room: two checkpoints of each job are kept")
    return good("disk", says)


def check_gpu(config: AgentConfig, base_dir: Path, clock: Clock) -> Iterator[Finding]:
    """Open the GPU as the agent would, read it, and say whether it can be capped."""
    table = config.gpu
    if table.kind == "none":
        yield skipped("gpu", 'kind = "none"')
        return
    try:
        gpu = open_provider(
            table.kind,
            clock=clock,
            idle_w=table.idle_w,
            max_w=table.max_w,
            root=base_dir / table.root,
            power_socket=None if table.power_socket is None else base_dir / table.power_socket,
        )
    except SternaError as error:
        yield fail("gpu", f"{table.kind}: {error}", "is the driver loaded, and may this user use it?")
        return
    try:
        watts = [reading.power_w for reading in gpu.read()]
        can = gpu.capabilities()
    except SternaError as error:
        yield fail(
            "gpu", f"{table.kind}: cannot be read: {error}", "look into dmesg for the driver's messages"
        )
        return
    finally:
        gpu.close()
    known = [power_w for power_w in watts if power_w is not None]
    if len(known) < len(watts) or not watts:
        yield warn(
            "gpu",
            f"{table.kind}: {len(watts)} devices, not all state their power",
            "give the site a compute meter",
        )
    else:
        yield good("gpu", f"{table.kind}: {len(watts)} devices, {sum(known):.1f} W")
    if can.can_cap:
        yield good("gpu cap", f"{can.cap_min_w or 0:.0f} to {can.cap_max_w or 0:.0f} W")
    else:
        mend = "enable sterna-power.socket; until then a limit is kept by pausing jobs"
        yield warn("gpu cap", "cannot be capped from here", mend)


def check_power_helper(config: AgentConfig, base_dir: Path) -> Finding:
    """Ask root's helper for its status."""
    part, table = "sterna-power", config.gpu
    path = DEFAULT_SOCKET if table.power_socket is None else base_dir / table.power_socket
    if table.kind in ("none", "fake") or (table.power_socket is None and not path.exists()):
        return skipped(part, f"no socket at {path}")
    client = PowerClient(path)
    try:
        client.ask("status")
    except SternaError as error:
        return fail(
            part, str(error), "systemctl enable --now sterna-power.socket; is this user in its group?"
        )
    return good(part, f"{path}: answers")


def check_service() -> Finding:
    """Ask systemd about the agent's unit."""
    part, unit = "service", "sterna-agent"
    command = ["systemctl", "show", unit, "--property=LoadState,ActiveState,WatchdogUSec,NRestarts"]
    try:
        shown = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return skipped(part, "systemd does not run here")
    facts = dict(line.partition("=")[::2] for line in shown.splitlines())
    if facts.get("LoadState") != "loaded":
        return skipped(part, f"no unit {unit}")
    if facts.get("ActiveState") != "active":
        mend = f"systemctl enable --now {unit}, then journalctl -u {unit}"
        return fail(part, f"{unit} is {facts.get('ActiveState')}", mend)
    if facts.get("WatchdogUSec") in (None, "", "0", "infinity"):
        return warn(part, f"{unit} runs without a watchdog", "take the unit that ships: WatchdogSec=30")
    says = f"{unit} runs, watchdog {facts['WatchdogUSec']}, {facts.get('NRestarts', '0')} restarts"
    return good(part, says)


def _me() -> str:
    return f"user {os.getuid()}"
