"""The daemon as Prometheus sees it: over HTTPS, with a plant, a broker, and a meter that dies."""

import asyncio
import json
import ssl
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agent.metrics.families import FAMILIES
from sterna import VERSION
from tests.brokers import Broker
from tests.ports import free_port
from tests.system.daemons import until
from tests.system.dso import dso, metered, plant_argv
from tests.system.harness import FLEET, System, tls

pytestmark = [pytest.mark.procs, pytest.mark.broker]

LIMIT_W = 2500.0
Figures = dict[str, float]


class Scraper:
    """Reads the page as Prometheus does, with the site's own certificate."""

    def __init__(self, folder: Path, port: int) -> None:
        files = {name: str(folder / path) for name, path in tls("site", "north").items()}
        self._context = ssl.create_default_context(cafile=files["ca"])
        self._context.check_hostname = False
        self._context.load_cert_chain(files["cert"], files["key"])
        accepted = {"Accept": "application/openmetrics-text;version=1.0.0"}
        self._request = urllib.request.Request(f"https://127.0.0.1:{port}/metrics", headers=accepted)

    def read(self) -> Figures:
        """Return every figure under its name and labels' values."""
        with urllib.request.urlopen(self._request, timeout=10, context=self._context) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return {
                " ".join((sample.name, *sample.labels.values())): sample.value
                for family in families
                for sample in family.samples
            }

    async def __call__(self) -> Figures:
        """Read without blocking; empty while the daemon does not serve."""
        try:
            return await asyncio.to_thread(self.read)
        except OSError:
            return {}


@pytest.fixture
async def site(tmp_path: Path, broker: Broker) -> AsyncIterator[tuple[System, Scraper]]:
    plant, port = free_port(), free_port()
    tables = metered(tmp_path, "north", plant, broker)
    tables["metrics"] = {"listen": f"127.0.0.1:{port}", "tls": tls("site", "north")}
    tables["home_assistant"] = {"host": broker.host, "port": broker.port, "insecure": True}
    system = System(folder=tmp_path, sites=("north",), agents={"north": tables})
    system.daemons.add("plant", *plant_argv(tmp_path, "north", plant))
    try:
        system["plant"].start()
        system["north"].start()
        yield system, Scraper(tmp_path, port)
    finally:
        system.daemons.end_all()


async def test_a_site_in_figures(site: tuple[System, Scraper], broker: Broker) -> None:
    system, scraper = site
    seen: Figures = {}

    async def shows(**wanted: float) -> bool:
        seen.clear()
        seen.update(await scraper())
        return all(seen.get(name) == value for name, value in wanted.items())

    async with dso(broker, "north") as operator:
        await until(lambda: shows(**{"sterna_link_connected mqtt": 1}), within_s=30, what="the broker's link")
        await operator.send(operator.command(LIMIT_W, durationS=600))
        await until(lambda: shows(**{"sterna_limit_watts mqtt": LIMIT_W}), within_s=20, what="the limit")
        everything = {
            "sterna_link_connected home_assistant": 1,
            "sterna_site_quality OK": 1,
            "sterna_meter_quality inverter OK": 1,
            "sterna_meter_quality load OK": 1,
        }
        await until(lambda: shows(**everything), within_s=20, what="a balance that is OK")
        assert 0 < seen["sterna_limit_remaining_seconds mqtt"] <= 600
        assert seen["sterna_grid_state LIMITED"] == seen["sterna_grid_link_state mqtt LIMITED"] == 1
        assert seen[f"sterna_agent_info {FLEET} north {VERSION}"] == 1
        assert seen["sterna_link_connected coordinator"] == 0
        assert seen["sterna_meter_errors_total grid"] <= seen["sterna_meter_polls_total grid"] - 2
        assert seen["sterna_site_load_watts"] == pytest.approx(1000, rel=0.2)
        assert seen["sterna_gpu_power_watts gpu0"] >= 60
        assert seen["sterna_jobs RUNNING"] == 0
        assert seen["sterna_job_slots"] > seen["sterna_job_slots_held"] == 0
        assert seen["sterna_loop_beat_age_seconds control"] < seen["sterna_loop_deadline_seconds control"]
        assert 30e6 < seen["process_resident_memory_bytes"] < 100e6
        assert seen["sterna_store_bytes"] > 0
        known = {family.sample_name for family in FAMILIES}
        assert {name.split(" ")[0] for name in seen} <= known
        (system.folder / "north-faults.json").write_text(json.dumps({"grid": "dead"}))
        await until(
            lambda: shows(**{"sterna_meter_quality grid OK": 0}), within_s=30, what="the meter's death"
        )
        assert seen["sterna_meter_errors_total grid"] > 0
        assert seen["sterna_meter_quality load OK"] == 1
