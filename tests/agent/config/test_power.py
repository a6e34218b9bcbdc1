"""``[power]``: what is refused names its key, and what is set arrives in the budget."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.build.base import Build
from agent.build.power import budget_settings, turn_frac
from agent.config import AgentConfig
from agent.config.power import PowerTable
from agent.core.power_budget_values import BudgetSettings, FollowSettings
from sterna.clock import FakeClock
from sterna.config import parse
from sterna.supervise import Pulse


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ({}, []),
        ({"ramp_up_w_per_s": 0.0}, ["ramp_up_w_per_s"]),
        ({"ramp_down_w_per_s": -1.0}, ["ramp_down_w_per_s"]),
        ({"margin_w": -1.0, "resume_hold_s": -1.0}, ["margin_w", "resume_hold_s"]),
        ({"follow_pause_below_w": 100.0}, ["follow_pause_below_w"]),
        ({"follow": "surplus", "follow_pause_below_w": 100.0}, []),
        ({"follow": "surplus", "follow_smooth_s": -1.0}, ["follow_smooth_s"]),
    ],
)
def test_faults_name_their_key(table: dict[str, Any], keys: list[str]) -> None:
    assert [key for key, _ in msgspec.convert(table, PowerTable).faults()] == keys


def settings_of(power: dict[str, Any], tmp_path: Path) -> BudgetSettings:
    document = {
        "fleet": "f",
        "site": "west",
        "state_dir": "state",
        "grid": {"operator": "none"},
        "gpu": {"kind": "fake", "idle_w": 40.0},
        "power": power,
    }
    clock = FakeClock(datetime(2026, 11, 3, 12, tzinfo=UTC))
    config = parse(document, AgentConfig, name="agent.toml")
    stack = AsyncExitStack()
    return budget_settings(
        Build(config=config, base_dir=tmp_path, clock=clock, stack=stack, pulse=Pulse(clock))
    )


def test_the_defaults_are_the_budgets_own(tmp_path: Path) -> None:
    assert settings_of({}, tmp_path) == BudgetSettings(idle_w=40.0)


def test_what_is_set_arrives(tmp_path: Path) -> None:
    settings = settings_of(
        {
            "release_spread_s": 60.0,
            "blind_load_w": 900.0,
            "ramp_down_w_per_s": 20.0,
            "follow": "surplus",
            "follow_import_w": 5.0,
            "follow_pause_below_w": 50.0,
        },
        tmp_path,
    )
    assert settings.follow == FollowSettings(import_w=5.0, pause_below_w=50.0)
    assert (settings.assumed_others_w, settings.ramp_down_w_per_s) == (900.0, 20.0)
    assert settings.release_delay_s == 60.0 * turn_frac("west")


def test_each_site_has_its_turn_and_keeps_it() -> None:
    turns = [turn_frac(f"site-{number}") for number in range(200)]
    assert turns == [turn_frac(f"site-{number}") for number in range(200)]
    assert len(set(turns)) == 200
    quarters = [sum(quarter / 4 <= turn < (quarter + 1) / 4 for turn in turns) for quarter in range(4)]
    assert all(30 <= count <= 70 for count in quarters), "spread over the whole of it"
