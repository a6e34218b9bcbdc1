"""Tables as files: the shipped ones hold together, and a site's own is told everything that is wrong."""

import tomllib
from pathlib import Path

import pytest

from agent.core.blocks import compile_sets, wanted
from agent.devices.meters_tables import FOLDER, load_table, shipped_names, shipped_table
from agent.model.registers import FIGURES, Kind, Space, WordOrder
from sterna.errors import ConfigError

GOOD = """
name = "mine"
title = "My meter"
source = "its manual, page 3"
space = "holding"
address_base = 1
word_order = "little"
holes = [[20, 24]]

[registers]
active_power_w = { address = 11, type = "int32", scale = 0.1 }
energy_import_wh = { address = 31, type = "uint32", slow = true }

[sentinels]
int32 = [0x7FFFFFFF]
"""


def fault_lines(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as failure:
        load_table(path)
    return str(failure.value).splitlines()


def test_a_sites_own_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    table = load_table(path)
    assert (table.space, table.word_order, table.holes) == (Space.HOLDING, WordOrder.LITTLE, (range(19, 24),))
    power, energy = table.registers
    assert (power.address, power.kind, power.scale, power.slow) == (10, Kind.INT32, 0.1, False)
    assert (energy.address, energy.end, energy.slow) == (30, 32, True)
    assert table.sentinels == {Kind.INT32: {0x7FFFFFFF}}
    assert not table.verified_on_hardware


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_tables(name: str) -> None:
    table = shipped_table(name)
    assert table.name == name
    assert "active_power_w" in table.figures <= set(FIGURES)
    fast = wanted((r for r in table.registers if not r.slow), table.space)
    slow = wanted((r for r in table.registers if r.slow), table.space)
    blocks = compile_sets(fast, slow, max_read=table.max_read, max_gap=table.max_gap, holes=table.holes)
    assert all(block.count <= table.max_read for block in (*blocks[0], *blocks[1]))
    assert all(r.slow == r.name.startswith(("energy", "soc")) for r in table.registers)


def test_what_is_claimed_of_hardware_is_what_was_seen() -> None:
    verified = {name for name in shipped_names() if shipped_table(name).verified_on_hardware}
    assert verified == {"eastron-sdm630"}
    leads = {name for name in shipped_names() if any(r.lead for r in shipped_table(name).registers)}
    assert leads == {"shelly-pro-3em"}


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("eastron-sdm630", 0x34),
        ("eastron-sdm120", 0x0C),
        ("eastron-sdm72", 0x34),
        ("carlo-gavazzi-em24", 0x28),
        ("carlo-gavazzi-em340", 0x28),
        ("schneider-iem3000", 3059),
        ("janitza-b23", 0x4A52),
        ("shelly-pro-3em", 1013),
        ("victron-gx-battery", 842),
    ],
)
def test_power_is_where_the_sources_say(name: str, wire: int) -> None:
    table = shipped_table(name)
    assert next(r.address for r in table.registers if r.name == "active_power_w") == wire


def test_victron_power_is_the_sum_of_its_phases() -> None:
    table = shipped_table("victron-gx")
    assert [r.address for r in table.needed(("active_power_w",))] == [820, 821, 822]


def test_an_unknown_table_is_explained() -> None:
    with pytest.raises(ConfigError, match="did you mean eastron-sdm630"):
        shipped_table("eastron-sdm63")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (('"mine"', '"My Meter"'), 'name: expected small letters, digits and "-", got "My Meter"'),
        (('"its manual, page 3"', '" "'), "source: must say something"),
        (("address_base = 1", ""), "address_base: missing"),
        (('"little"', '"middle"'), "word_order: "),
        (
            ("active_power_w", "active_power"),
            "registers.active_power: unknown figure; did you mean active_power_w?",
        ),
        (("active_power_w", "active_power"), "registers.active_power_w: missing"),
        (('"int32"', '"int24"'), "registers.active_power_w.type: "),
        (("scale = 0.1", "scale = 0"), "registers.active_power_w.scale: must not be zero"),
        (("scale = 0.1", "scale = inf"), "registers.active_power_w.scale: must be a finite number"),
        (("scale = 0.1", "factor = 0.1"), "registers.active_power_w.factor: unknown key"),
        (("address = 11", "address = 0"), "registers.active_power_w.address: 0 is -1 on the wire"),
        (("address = 11", "address = 65536"), "registers.active_power_w.address: 65536 is 65535 on the wire"),
        (("address = 11", "address = 32"), "registers.energy_import_wh.address: 31 overlaps active_power_w"),
        (("address = 11", "address = 19"), "registers.active_power_w.address: 19 lies in a hole"),
        (("[[20, 24]]", "[[24, 20]]"), "holes[0]: ends at 20, before it begins at 24"),
        (("holes = [[20, 24]]", "max_read = 1"), "registers.active_power_w.type: int32 takes 2 registers"),
        (("holes = [[20, 24]]", "max_read = 126"), "max_read: expected 1 to 125, got 126"),
        (("holes = [[20, 24]]", "max_gap = -1"), "max_gap: expected zero or more"),
        (("holes = [[20, 24]]", "verified_on_hardware = true"), "verification: missing"),
        (("int32 = [0x7FFFFFFF]", "int33 = [1]"), "sentinels.int33: unknown type; did you mean int32?"),
        (("int32 = [0x7FFFFFFF]", "int16 = [0x10000]"), "sentinels.int16: 0x10000 is not a bit pattern"),
        (("[sentinels]", "[sums]\nx = []\n[sentinels]"), "sums.x: unknown figure"),
        (("[sentinels]", "[sums]\nx = []\n[sentinels]"), "sums.x: a sum of nothing"),
        (
            ("[sentinels]", '[sums]\nactive_power_w = ["phase1_power_w"]\n[sentinels]'),
            "sums.active_power_w: is a register of the table already",
        ),
        (
            ("[sentinels]", '[sums]\nenergy_total_wh = ["energy_import"]\n[sentinels]'),
            'sums.energy_total_wh: no register "energy_import"; did you mean energy_import_wh?',
        ),
    ],
)
def test_every_fault_is_explained(tmp_path: Path, change: tuple[str, str], fault: str) -> None:
    lines = fault_lines(tmp_path, GOOD.replace(*change))
    assert any(line.startswith(f"mine.toml: {fault}") for line in lines), lines


def test_all_faults_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("scale = 0.1", "scale = 0").replace('"mine"', '"?"').replace("[[20, 24]]", "[[9, 1]]")
    assert len(fault_lines(tmp_path, text)) == 3


def test_shipped_files_are_plain_toml() -> None:
    for path in FOLDER.glob("*.toml"):
        assert tomllib.loads(path.read_text())["name"] == path.stem
