"""``[gpu]`` and ``[gpu.calibration]``: what is refused names its key; the documented example is accepted."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.config.calibration import CalibrationTable
from agent.config.node import GpuTable
from agent.devices.gpu import KINDS

ROOT = Path(__file__).parents[3]


def faults(table: dict[str, Any]) -> list[str]:
    gpu = msgspec.convert(table, GpuTable)
    return [key for key, _ in gpu.faults()] + [key for key, _ in gpu.calibration.faults()]


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ({}, []),
        ({"calibration": {"factor": 0.9}}, ["factor"]),
        ({"calibration": {"factor": 3.1}}, ["factor"]),
        ({"calibration": {"min_step_w": 0.0}}, ["min_step_w"]),
        ({"fake_rail_frac": 0.0}, ["fake_rail_frac"]),
        ({"kind": "auto", "calibration": {"mode": "fixed", "factor": 1.8}}, []),
    ],
)
def test_faults_name_their_key(table: dict[str, Any], keys: list[str]) -> None:
    assert faults(table) == keys


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_every_kind_can_be_configured(kind: str) -> None:
    assert msgspec.convert({"kind": kind}, GpuTable).kind == kind


@pytest.mark.parametrize("table", [{"kind": "cuda"}, {"calibration": {"mode": "guess"}}])
def test_unknown_words_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, GpuTable)


def test_the_documented_example() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/gpus.md").read_text(), re.DOTALL)
    table = tomllib.loads(example)["gpu"]
    assert faults(table) == []
    assert msgspec.convert(table, GpuTable).calibration == CalibrationTable(factor=1.5)
