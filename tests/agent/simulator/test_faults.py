"""The two files that steer a simulated site."""

from pathlib import Path

import pytest

from agent.simulator.faults import ComputeFile, Fault, FaultFile, Faults, parse_faults

DEVICES = frozenset({"inverter", "grid"})


def test_parse() -> None:
    faults = parse_faults(
        '{"grid": "nan", "inverter": null, "slow_s": 3, "limit_generation_w": 2000}', devices=DEVICES
    )
    assert faults == Faults(devices={"grid": Fault.NAN}, slow_s=3.0, limit_generation_w=2000.0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[]", "object"),
        ("{", "property name"),
        ('{"boiler": "dead"}', "boiler"),
        ('{"grid": "sad"}', "sad"),
        ('{"slow_s": -1}', "slow_s"),
        ('{"limit_generation_w": "much"}', "limit_generation_w"),
    ],
)
def test_what_is_not_usable(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_faults(text, devices=DEVICES)


def test_file_comes_changes_breaks_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    file = FaultFile(path, devices=DEVICES)
    assert file.refresh() == Faults()
    path.write_text('{"grid": "dead"}')
    assert file.refresh().devices == {"grid": Fault.DEAD}
    path.write_text('{"grid": ')
    assert file.refresh().devices == {"grid": Fault.DEAD}
    path.write_text("{}")
    assert file.refresh() == Faults()
    path.write_text('{"grid": "stuck"}')
    file.refresh()
    path.unlink()
    assert file.refresh() == Faults()
    assert FaultFile(None, devices=DEVICES).refresh() == Faults()


def test_compute_file(tmp_path: Path) -> None:
    path = tmp_path / "watts"
    file = ComputeFile(path)
    assert file.refresh() == 0.0
    for text, power_w in [
        ("350.5\n", 350.5),
        ("", 350.5),
        ("-3", 350.5),
        ("inf", 350.5),
        ("nan", 350.5),
        ("0", 0.0),
    ]:
        path.write_text(text)
        assert file.refresh() == power_w, text
    path.write_text("9")
    assert file.refresh() == 9.0
    path.unlink()
    assert file.refresh() == 0.0
