"""``sterna-agent doctor``: tests each part of a site and says in one line each how to mend what fails.

It only reads and knocks: no limit, no cap, no set-point changes.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from agent.cli import DEFAULT_CONFIG, checks_node, checks_peers, checks_site
from agent.cli.check_config import checked
from agent.cli.checks_containers import check_containers
from agent.cli.findings import Finding, Health, as_json, as_text, fail, good
from agent.config import AgentConfig
from sterna.clock import SystemClock
from sterna.config import load
from sterna.errors import ConfigError

LOG_LEVEL = "CRITICAL"
EXIT_OK, EXIT_FAILS, EXIT_USAGE = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    parser.add_argument("--timeout-s", type=float, default=5.0, help="longest wait for one part; default: 5")


def run(args: argparse.Namespace) -> int:
    """Look at everything; returns 0 when nothing fails, 1 when something does, 2 without a configuration."""
    return asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> int:
    findings: list[Finding] = []
    config: AgentConfig | None = None
    try:
        config = load(args.config, AgentConfig)
        checked(args.config)
        findings.append(good("config", str(args.config)))
    except ConfigError as error:
        lines = str(error).splitlines()
        mend = (
            f"edit {args.config}"
            if args.config.exists()
            else "write one after docs/site-operator.md, or name it with --config"
        )
        findings += [fail("config", line, mend) for line in lines]
    _tell(findings, args)
    if config is not None:
        async for finding in _looks(config, args.config.parent, args.timeout_s):
            findings.append(finding)
            _tell([finding], args)
    if args.json:
        sys.stdout.write(as_json(findings) + "\n")
    if config is None:
        return EXIT_USAGE
    return EXIT_FAILS if any(finding.health is Health.FAIL for finding in findings) else EXIT_OK


async def _looks(config: AgentConfig, base_dir: Path, timeout_s: float) -> AsyncIterator[Finding]:
    clock = SystemClock()
    yield checks_node.check_clock(config.grid, base_dir)
    for finding in checks_node.check_certificates(config, base_dir, clock.now()):
        yield finding
    for finding in checks_node.check_state_dir(base_dir / config.state_dir):
        yield finding
    async for finding in checks_peers.check_meters(config, base_dir, clock, timeout_s=timeout_s):
        yield finding
    for finding in checks_site.check_balance(config):
        yield finding
    async for finding in checks_site.check_setpoints(config, base_dir, clock, timeout_s=timeout_s):
        yield finding
    for finding in (*checks_site.check_contacts(config, base_dir), *checks_site.check_ports(config)):
        yield finding
    yield await checks_peers.check_broker(config, base_dir, timeout_s=timeout_s)
    yield await checks_peers.check_vtn(config, base_dir, clock, timeout_s=timeout_s)
    yield await checks_peers.check_coordinator(config, base_dir, clock, timeout_s=timeout_s)
    for finding in await asyncio.to_thread(lambda: list(checks_node.check_gpu(config, base_dir, clock))):
        yield finding
    yield await asyncio.to_thread(checks_node.check_power_helper, config, base_dir)
    for finding in await asyncio.to_thread(lambda: list(check_containers(config.containers))):
        yield finding
    yield await asyncio.to_thread(checks_node.check_service)


def _tell(findings: list[Finding], args: argparse.Namespace) -> None:
    if not args.json:
        for finding in findings:
            sys.stdout.write(as_text(finding) + "\n")
        sys.stdout.flush()
