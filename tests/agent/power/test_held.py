import json
from pathlib import Path

import pytest

from agent.power.held import Held
from tests.agent.power.machine import BOOT, held_in


def test_the_first_value_counts(tmp_path: Path) -> None:
    held = held_in(tmp_path)
    held.keep("a", 5)
    held.keep("a", 3)
    assert held.original("a") == 5
    held.raise_to("a", 4)
    assert held.original("a") == 5
    held.raise_to("a", 9)
    held.raise_to("b", 9)
    assert (held_in(tmp_path).original("a"), held_in(tmp_path).original("b")) == (9, None)
    held.forget("a")
    held.forget("a")
    assert held_in(tmp_path).original("a") is None


def test_another_boot_says_nothing(tmp_path: Path) -> None:
    held_in(tmp_path).keep("a", 5)
    assert Held(tmp_path / "held.json", "another").original("a") is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "\x00",
        json.dumps({"boot_id": BOOT}),
        json.dumps({"boot_id": BOOT, "originals": [1]}),
        json.dumps({"boot_id": BOOT, "originals": {"a": "x"}}),
    ],
)
def test_a_damaged_file_says_nothing_and_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "held.json").write_text(content)
    held = held_in(tmp_path)
    assert held.original("a") is None
    held.keep("a", 1)
    assert held_in(tmp_path).original("a") == 1
