"""A sum is known where all of its terms are."""

import pytest

from agent.core.known import total


@pytest.mark.parametrize(
    ("terms", "expected"), [([], None), ([1.0, None], None), ([0.0], 0.0), ([1.0, 2.0], 3.0)]
)
def test_total(terms: list[float | None], expected: float | None) -> None:
    assert total(terms) == expected
