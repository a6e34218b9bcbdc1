"""A coordinator that stays away must not cost memory (grpcio leaks where streams meet a dead peer)."""

import gc
import logging
import os
import socket
from pathlib import Path

import grpc.aio
import pytest

from agent.store.db import Database
from agent.store.telemetry import MIGRATIONS, TelemetryStore
from agent.uplink.link import Uplink
from sterna.clock import SystemClock
from sterna.rpc import open_channel
from sterna.supervise import Pulse
from tests.agent.uplink.standin import Handler, running
from tests.waiting import until

ATTEMPTS = 2000


def private_kib() -> int:
    gc.collect()
    lines = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


@pytest.mark.long
async def test_refused_reconnects_do_not_grow_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest would keep every record
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: refused
        attempts = 0

        def dial() -> grpc.aio.Channel:
            nonlocal attempts
            attempts += 1
            return open_channel(
                f"127.0.0.1:{reserved.getsockname()[1]}", credentials=None, expected=None, insecure=True
            )

        async with Database(tmp_path / "agent.db", MIGRATIONS) as database:
            store = TelemetryStore(database=database, clock=SystemClock())
            await store.open()
            uplink = Uplink(
                open_channel=dial,
                site_id="north",
                agent_version="0.1.0",
                boot_id="boot-1",
                handler=Handler(),
                telemetry=store,
                clock=SystemClock(),
                backoff_min_s=0.001,
                backoff_max_s=0.001,
            )
            async with running(uplink.run(Pulse(SystemClock()).heart("uplink", 60))):
                await until(lambda: attempts >= 1000, 60)
                before_kib = private_kib()
                await until(lambda: attempts >= 1000 + ATTEMPTS, 110)
                grown_kib = private_kib() - before_kib
    print(f"{grown_kib} KiB over {ATTEMPTS} refused attempts")
    assert uplink.sessions == 0
    assert grown_kib < 1024
