"""A memory that was kept goes on exactly as if it had never been away."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest

from coordinator.forecast.kinds import Kind
from coordinator.forecast.learnt import Learner, Part
from coordinator.forecast.series import Series
from coordinator.forecast.stored import from_bytes, to_bytes
from sterna.errors import CorruptError, PermanentError

END = datetime(2022, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize("days", [2, 60])
def test_a_kept_memory_goes_on_as_if_it_had_never_been_away(days: int) -> None:
    values = np.random.default_rng(3).random(days * 24) * 900.0
    values[7] = np.nan
    parts = [
        Part(series=Series(kind=kind, slot_s=3600.0, end_at=END, values=values), sign=sign)
        for kind, sign in ((Kind.WIND, 1.0), (Kind.OTHER, -1.0))
    ]
    learner = Learner(leads=24, paths=20)
    memory = learner.observe(learner.begin(parts), [400.0, 100.0])
    again = from_bytes(to_bytes(memory))
    assert again.end_at == memory.end_at
    assert [part.series.kind for part in again.parts] == [Kind.WIND, Kind.OTHER]
    here, there = (learner.observe(one, [500.0, None]) for one in (memory, again))
    assert (here.paths is None) == (there.paths is None) == (days < 3)
    if here.paths is not None and there.paths is not None:
        assert np.array_equal(here.paths, there.paths)
    assert np.array_equal(here.calibration.stated, there.calibration.stated, equal_nan=True)


def test_anything_else_is_refused() -> None:
    other = io.BytesIO()
    np.savez_compressed(other, head=np.array('{"format": "sterna.forecast/99"}'))
    alien = io.BytesIO()
    np.savez_compressed(alien, x=np.zeros(3))
    whole = other.getvalue()
    for kept in (b"", b"nonsense", whole, whole[: len(whole) // 2], alien.getvalue()):
        with pytest.raises(CorruptError):
            from_bytes(kept)


def test_further_than_a_week_is_refused() -> None:
    part = Part(series=Series(kind=Kind.OTHER, slot_s=3600.0, end_at=END, values=np.ones(60 * 24)))
    with pytest.raises(PermanentError, match="week"):
        Learner(leads=7 * 24 + 1).begin([part])
    assert Learner(leads=7 * 24, paths=5).begin([part]).paths is not None
