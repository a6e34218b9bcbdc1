from rich.console import Console

from coordinator.cli.screen import fleet_screen
from sterna.v1 import fleet_pb2, site_pb2
from sterna.v1 import operator_service_pb2 as api


def shown(*sites: fleet_pb2.Site) -> list[str]:
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(fleet_screen(api.WatchFleetResponse(sites=sites), title="Sterna", most_warnings=4))
    return captured.get().splitlines()


def test_on_80_columns_the_figures_are_whole_and_a_site_takes_one_line() -> None:
    site = fleet_pb2.Site(
        site_id="greensboro",
        connected=True,
        telemetry=site_pb2.SiteTelemetry(surplus_w=4200.0, compute_w=1240.0, grid_w=-2960.0),
        grid_status=site_pb2.GridStatus(limit_w=1200.0),
        job_ids=["0123456789abcdef", "123456789abcdef0"],
    )
    [line, below] = shown(site)[2:4]
    for figure in ("greensboro", "4.20 kW", "1.24 kW", "-2.96 kW", "1.20 kW", "█", "▮"):
        assert figure in line
    assert below.startswith("╰")


def test_what_needs_somebody_stands_first_and_leaves_room_for_the_rest() -> None:
    lines = shown(*(fleet_pb2.Site(site_id=f"s{number}", fenced=True) for number in range(6)))
    assert [line.rstrip() for line in lines[:4]] == [
        f"! site s{number} is fenced; `sterna site resume s{number}` ends it" for number in range(4)
    ]
    assert lines[4].rstrip() == "! and 2 more; see `sterna status`"
    assert "Sterna" in lines[5]
