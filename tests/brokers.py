"""A real MQTT 5 broker on loopback: Mosquitto where it is installed, else the embedded one."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.ports import free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

IOTCORE_CONFIG = """
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""


class Broker:
    """One broker process with its own folder; it can be killed and started again on the same port.

    `options` are further lines of Mosquitto's configuration; the embedded broker knows none of them.
    """

    def __init__(self, folder: Path, options: str = "") -> None:
        assert not options or MOSQUITTO is not None
        self.host = "127.0.0.1"
        self.port = free_port()
        self._folder = folder
        self._options = options or "allow_anonymous true\n"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and return once it accepts connections."""
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        async with asyncio.timeout(15):
            while True:
                assert self._process.poll() is None, "the broker ended by itself"
                try:
                    _, writer = await asyncio.open_connection(self.host, self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                return

    @property
    def pid(self) -> int:
        """Of the broker that runs."""
        assert self._process is not None, "the broker does not run"
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL it with all of its own processes, and wait until it is gone."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _command(self) -> list[str]:
        if MOSQUITTO is not None:
            config = self._folder / "broker.conf"
            config.write_text(f"listener {self.port} 127.0.0.1\npersistence false\n{self._options}")
            return [MOSQUITTO, "-c", str(config)]
        config = self._folder / "broker.toml"
        config.write_text(IOTCORE_CONFIG.format(port=self.port))
        return [sys.executable, "-m", "iotcore", "--config", str(config)]
