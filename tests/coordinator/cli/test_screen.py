from rich.console import Console

from coordinator.cli.screen import fleet_screen
from sterna.v1 import fleet_pb2, site_pb2
from sterna.v1 import operator_service_pb2 as api


def test_on_80_columns_the_figures_are_whole_and_a_site_takes_one_line() -> None:
    site = fleet_pb2.Site(
        site_id="greensboro",
        telemetry=site_pb2.SiteTelemetry(surplus_w=4200.0, compute_w=1240.0, grid_w=-2960.0),
        grid_status=site_pb2.GridStatus(limit_w=1200.0),
        job_ids=["0123456789abcdef", "123456789abcdef0"],
    )
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(fleet_screen(api.WatchFleetResponse(sites=[site]), title="Sterna"))
    [line, below] = captured.get().splitlines()[2:4]
    for figure in ("greensboro", "4.20 kW", "1.24 kW", "-2.96 kW", "1.20 kW", "█", "▮"):
        assert figure in line
    assert below.startswith("╰")
