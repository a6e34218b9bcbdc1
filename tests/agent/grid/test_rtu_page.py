"""What docs/modbus-server.md says of addresses, types, words and numbers is what is served."""

import re
import tomllib
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.core import exportlimit, loadlimit
from agent.core.rtu_registers import ADDRESSES
from agent.model.sunspec.der_controls import DER_CONTROLS
from agent.model.sunspec.load_limit import LOAD_LIMIT
from sterna.config import parse

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "modbus-server.md").read_text()


def test_addresses_of_the_models() -> None:
    told = {int(model): int(place) for model, place in re.findall(r"^\| (\d+) \| (4\d{4}) \|", PAGE, re.M)}
    assert told == dict(ADDRESSES)


def test_points_of_load_limit() -> None:
    told = re.findall(r"^\| (4\d{4}) \| (\w+) \| (\w+) \| (RW?) \|", PAGE, re.M)
    base = ADDRESSES[64900]
    assert told == [
        (str(base + point.offset), point.name, point.type.value, "RW" if point.writable else "R")
        for point in LOAD_LIMIT.points[2:]
    ]


def row(point: str) -> dict[int, str]:
    """Return the numbers and words of one point's row."""
    [line] = re.findall(rf"^\| \d+ \| {point} .*$", PAGE, re.M)
    return {int(n): word.lower() for n, word in re.findall(r"(\d+) ([A-Za-z-]+)", line.split("|")[5])}


def test_words_of_states_sources_statuses_and_qualities() -> None:
    assert row("State") == {number: state.value.lower() for state, number in loadlimit.STATES.items()}
    sources = {number: name.replace("failsafe", "fail-safe") for name, number in loadlimit.SOURCES.items()}
    assert row("Src") == sources | {loadlimit.NO_SOURCE: "nobody", loadlimit.OTHER_SOURCE: "other"}
    statuses = {number: status.value.lower() for status, number in loadlimit.STATUSES.items()}
    assert row("AckStatus") == statuses | {loadlimit.REJECTED: "rejected"}
    assert row("Qual") == {number: quality.value.lower() for quality, number in loadlimit.QUALITIES.items()}


def test_every_reason_has_its_row() -> None:
    table = PAGE[PAGE.index("| RejectReason | |") : PAGE.index("**Heartbeat.**")]
    told = [int(number) for number in re.findall(r"^\| (\d+) \|", table, re.M)]
    assert told == sorted(loadlimit.REASONS.values())


@pytest.mark.parametrize("page", ["modbus-server.md", "relay.md"])
def test_the_configuration_shown_is_taken(page: str) -> None:
    [shown] = re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(), re.S)
    document = tomllib.loads(shown)
    document["grid"]["operator"] = "none"
    base = {"fleet": "f", "site": "s", "state_dir": "state"}
    config = parse(base | document, AgentConfig, name="agent.toml")
    assert (config.grid.modbus is not None) is (page == "modbus-server.md")
    assert (config.grid.relay is not None) is (page == "relay.md")


def test_addresses_of_the_export_limits() -> None:
    table = PAGE[PAGE.index("## Export limits") :]
    rows = re.findall(r"^\| (4\d{4}) \| ([\w, ]+) \|", table, re.M)
    assert len(rows) == 5
    for address, names in rows:
        place = int(address) - ADDRESSES[704]
        for name in names.split(", "):
            point = DER_CONTROLS.point(name)
            assert point.offset == place
            assert point.writable is (name in exportlimit.POINTS)
            place += point.count
