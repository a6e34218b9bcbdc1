"""docs/feasibility.md says what the code computes."""

from pathlib import Path

import pytest

from coordinator.core.tables import budget_table, transfer_table

PAGE = Path(__file__).parents[2] / "docs" / "feasibility.md"


@pytest.mark.parametrize("table", [transfer_table(), budget_table()], ids=["transfer", "budget"])
def test_the_page_holds_the_table(table: str) -> None:
    assert table in PAGE.read_text(encoding="utf-8"), f"put this into {PAGE.name}:\n{table}"


def test_every_claim_of_the_page_is_marked() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for mark in ("exact", "second-hand", "ours"):
        assert f"**{mark}**" in text
    assert "47 %" not in text  # a figure whose baseline nobody states is never repeated
