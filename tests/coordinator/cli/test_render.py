from datetime import UTC, datetime

import pytest
from rich.console import Console

from coordinator.cli import render, screen
from sterna.v1 import fleet_pb2, site_pb2
from sterna.v1 import operator_service_pb2 as api

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("quality", "surplus", "warning"),
    [
        (site_pb2.QUALITY_OK, "6.01 kW ", []),
        (site_pb2.QUALITY_ESTIMATED, "6.01 kW ", []),
        (
            site_pb2.QUALITY_STALE,
            "6.01 kW (stale)",
            ["site miami: its power is stale; `sterna-agent doctor` there says why"],
        ),
        (
            site_pb2.QUALITY_BAD,
            "6.01 kW (bad)",
            ["site miami: its power is bad; `sterna-agent doctor` there says why"],
        ),
    ],
)
def test_figures_that_say_nothing_of_now_are_marked(
    quality: site_pb2.Quality.ValueType, surplus: str, warning: list[str]
) -> None:
    telemetry = site_pb2.SiteTelemetry(surplus_w=6010.0, quality=quality)
    site = fleet_pb2.Site(site_id="miami", connected=True, telemetry=telemetry)
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(render.sites_table([site], NOW))
    assert surplus in captured.get()
    assert render.warnings(api.WatchFleetResponse(sites=[site])) == warning


@pytest.mark.parametrize(
    ("end_at", "said"),
    [
        (NOW.replace(hour=18), "400 W (dso) until 18:00:00 "),
        (NOW.replace(day=2, hour=6), "400 W (dso) until 06-02 06:00 "),
        (None, "400 W (dso)  –"),
    ],
)
def test_a_limit_that_ends_on_another_day_names_the_day(end_at: datetime | None, said: str) -> None:
    limit = site_pb2.ActiveLimit(source="dso", limit_w=400.0, end_at=end_at)
    status = site_pb2.GridStatus(limit_w=400.0, limits=[limit])
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(render.sites_table([fleet_pb2.Site(site_id="miami", grid_status=status)], NOW))
    assert said in captured.get()


@pytest.mark.parametrize(
    ("waiting_since", "waiting", "warned"),
    [
        (NOW, "waiting for 2 sites since 12:00:00", ["nome", "oslo"]),
        (None, "", ["miami", "nome", "oslo", "malaga"]),
    ],
)
def test_sites_that_a_new_coordinator_waits_for_need_no_attention_yet(
    waiting_since: datetime | None, waiting: str, warned: list[str]
) -> None:
    unheard = [fleet_pb2.Site(site_id=name) for name in ("miami", "malaga")]
    others = [
        fleet_pb2.Site(site_id="kiel", connected=True, last_seen_at=NOW),
        fleet_pb2.Site(site_id="nome", last_seen_at=NOW),
        fleet_pb2.Site(site_id="oslo", fenced=True),
    ]
    sites = [unheard[0], *others, unheard[1]]
    fleet = api.WatchFleetResponse(at=NOW, sites=sites, waiting_since=waiting_since)
    assert render.waiting(fleet) == waiting
    assert [line.split()[1].rstrip(":") for line in render.warnings(fleet)] == warned
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(screen.fleet_screen(fleet, title="fleet"))
    assert ("waiting for" in captured.get()) == bool(waiting)


@pytest.mark.parametrize(
    ("battery", "power_w", "said"),
    [
        (
            site_pb2.SiteBattery(soc_frac=0.64, capacity_wh=13_500.0),
            -1200.0,
            "64% of 13.5 kWh, gives 1.20 kW",
        ),
        (site_pb2.SiteBattery(soc_frac=0.0), 300.0, "0%, takes 300 W"),
        (site_pb2.SiteBattery(capacity_wh=13_500.0), None, "– of 13.5 kWh"),
    ],
)
def test_a_battery_says_how_full_it_is(
    battery: site_pb2.SiteBattery, power_w: float | None, said: str
) -> None:
    telemetry = site_pb2.SiteTelemetry(battery_w=power_w, battery=battery)
    sites = [fleet_pb2.Site(site_id="miami", telemetry=telemetry), fleet_pb2.Site(site_id="kiel")]
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(render.sites_table(sites, NOW))
    assert "battery" in captured.get() and said in captured.get()
    with console.capture() as captured:
        console.print(render.sites_table(sites[1:], NOW))
    assert "battery" not in captured.get(), "no column where nobody has one"


def test_breaches_of_either_direction_are_named() -> None:
    status = site_pb2.GridStatus(breaches=2, export_breaches=1)
    site = fleet_pb2.Site(site_id="miami", connected=True, grid_status=status)
    assert render.warnings(api.WatchFleetResponse(sites=[site])) == [
        "site miami: 2 grid limit breaches",
        "site miami: 1 export limit breaches",
    ]


def test_where_no_window_is_left_it_says_so_and_lost_time_is_scaled() -> None:
    told = fleet_pb2.Alternative(
        site_id="miami",
        terms=[
            fleet_pb2.FeasibilityTerm(name="window", value=0.0, limit=0.0, unit="s"),
            fleet_pb2.FeasibilityTerm(name="time", value=22.5, unit="s"),
            fleet_pb2.FeasibilityTerm(name="gain", value=-7200.0, limit=60.0, unit="s"),
        ],
    )
    console = Console(width=120)
    with console.capture() as printed:
        console.print(render.terms_table(told))
    lines = [line.split() for line in printed.get().splitlines()[2:]]
    assert lines == [
        ["window", "no", "window", "0.0", "s", "no"],
        ["time", "22.5", "s", "–", "no"],
        ["gain", "-2.0", "h", "60.0", "s", "no"],
    ]


def test_a_site_that_cannot_read_its_checkpoints_is_named() -> None:
    fault = "the checkpoint folder /x cannot be read: [Errno 5] Input/output error"
    site = fleet_pb2.Site(
        site_id="miami", connected=True, capabilities=site_pb2.SiteCapabilities(storage_fault=fault)
    )
    assert render.warnings(api.WatchFleetResponse(sites=[site])) == [f"site miami takes no job: {fault}"]
