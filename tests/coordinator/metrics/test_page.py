"""docs/metrics.md says what the coordinator serves, and it serves that."""

import asyncio
import re
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coordinator.metrics.families import FAMILIES
from sterna import VERSION
from sterna.exposition.families import Family
from tests.conftest import Eventually
from tests.coordinator.cli.conftest import WITHIN_S, environment
from tests.ports import free_port

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
DAEMON = Path(sys.executable).parent / "sterna-coordinator"


def test_the_table_has_every_family_as_it_is() -> None:
    section = PAGE[PAGE.index("## The coordinator") :]
    told = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", section, re.M)
    assert told == [
        (family.sample_name, family.kind, ", ".join(f"`{label}`" for label in family.labels), family.about)
        for family in FAMILIES
    ]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_follow_the_conventions(family: Family) -> None:
    assert family.name.startswith(("sterna_", "process_"))
    assert family.about.endswith(".")


@pytest.mark.procs
async def test_a_coordinator_is_scraped(tmp_path: Path, eventually: Eventually) -> None:
    metrics = free_port()
    config = tmp_path / "coordinator.toml"
    config.write_text(
        f'fleet = "f"\nlisten = "127.0.0.1:{free_port()}"\nstate_dir = "state"\ninsecure = true\n'
        f'[metrics]\nlisten = "127.0.0.1:{metrics}"\n[planner]\nsettle_s = 0.2\ntick_s = 0.2\n'
        '[[sites]]\nid = "kiel"\n[[sites]]\nid = "malaga"\n'
    )
    seen: dict[str, float] = {}

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=2) as answer:
            text: str = answer.read().decode()
            return text

    async def planned() -> bool:
        try:
            page = await asyncio.to_thread(read)
        except OSError:
            return False
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                seen[" ".join((sample.name, *sample.labels.values()))] = sample.value
        return "sterna_planner_tick_seconds" in seen

    daemon = await asyncio.create_subprocess_exec(
        DAEMON, "run", "--config", str(config), stderr=asyncio.subprocess.PIPE, env=environment()
    )
    try:
        await eventually(planned, within_s=WITHIN_S, what="a tick on the page")
    finally:
        daemon.terminate()
        async with asyncio.timeout(WITHIN_S):
            _, err = await daemon.communicate()
    assert daemon.returncode == 0, err.decode()
    assert seen[f"sterna_coordinator_info f feasibility-aware {VERSION}"] == 1
    assert seen["sterna_fleet_site_connected kiel"] == seen["sterna_fleet_site_connected malaga"] == 0
    assert "sterna_fleet_site_surplus_watts kiel" not in seen, "nobody measured any"
    assert seen["sterna_fleet_jobs QUEUED"] == seen["sterna_fleet_migrations DONE"] == 0
    assert seen["sterna_loop_beat_age_seconds driver"] < seen["sterna_loop_deadline_seconds driver"]
    assert seen["process_resident_memory_bytes"] > 30e6
