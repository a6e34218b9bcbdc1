"""Who we are to others, and the session with the coordinator."""

from datetime import datetime
from functools import partial
from pathlib import Path

from agent.build.base import Build
from agent.config import AgentConfig
from agent.store import telemetry as telemetry_store
from agent.tasks.liaison import Liaison
from agent.uplink.link import BEAT_WITHIN_S, Uplink
from agent.uplink.peers import Peers
from sterna import VERSION
from sterna.identity import Identity, Role, load_credentials


def make_peers(build: Build) -> Peers:
    """Say who we are; raises as `load_peers`."""
    now = build.clock.now() if build.clock_trust() else None
    return load_peers(build.config, build.base_dir, now)


def load_peers(config: AgentConfig, base_dir: Path, now: datetime | None) -> Peers:
    """Load our certificate, which must be valid `now`, and say who we are; None: the calendar is not known.

    Raises
    ------
    ConfigError
        A certificate file cannot be used; it is named.
    """
    credentials = None
    if config.tls is not None:
        credentials = load_credentials(
            ca_file=base_dir / config.tls.ca,
            cert_file=base_dir / config.tls.cert,
            key_file=base_dir / config.tls.key,
            now=now,
            expected=Identity(fleet=config.fleet, role=Role.SITE, name=config.site),
        )
    return Peers(fleet=config.fleet, site=config.site, credentials=credentials, insecure=config.insecure)


def open_uplink(
    build: Build, peers: Peers, liaison: Liaison, telemetry: telemetry_store.TelemetryStore, boot_id: str
) -> Uplink | None:
    """Make the session with the coordinator, and have it run; None: the site runs alone."""
    table = build.config.coordinator
    if table is None:
        return None
    link = Uplink(
        open_channel=lambda: peers.open(table.address, Role.COORDINATOR, table.id),
        site_id=build.config.site,
        agent_version=VERSION,
        boot_id=boot_id,
        handler=liaison,
        telemetry=telemetry,
        clock=build.clock,
        backoff_max_s=table.backoff_max_s,
    )
    build.links["coordinator"] = lambda: link.connected
    build.loops["uplink"] = partial(link.run, build.pulse.heart("uplink", BEAT_WITHIN_S))
    return link
