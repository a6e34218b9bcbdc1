from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.stored import from_bank, from_capacity, storage, together
from agent.model.readings import MeterReading, MeterRole, Quality, Storage, StorageStatus
from agent.model.sunspec.codec import Value

OK, WARNING, ERROR = StorageStatus
NOW = datetime(2026, 11, 22, tzinfo=UTC)
BANK: Mapping[str, Value] = {"WHRtg": 10_000.0, "SoC": 50.0, "SoH": 90.0, "State": 3, "Evt1": 0}
NOTHING: Mapping[str, Value] = dict.fromkeys(("WHRtg", "WHAvail", "SoC", "SoH", "Sta", "State", "Evt1"))


def reading(
    stored: Storage | None, quality: Quality = Quality.OK, role: MeterRole = MeterRole.BATTERY
) -> MeterReading:
    return MeterReading(
        meter="b",
        role=role,
        measured_at=NOW,
        measured_boottime_s=0.0,
        quality=quality,
        active_power_w=0.0,
        storage=stored,
    )


def test_model_713_is_read_as_it_says() -> None:
    told = from_capacity({"WHRtg": 10_000.0, "WHAvail": 4000.0, "SoC": 50.0, "SoH": 90.0, "Sta": 1})
    assert told == Storage(
        capacity_wh=10_000.0, available_wh=4000.0, soc_frac=0.5, soh_frac=0.9, status=WARNING
    )


def test_model_802_leaves_what_is_available_to_be_computed() -> None:
    assert from_bank(BANK) == Storage(
        capacity_wh=10_000.0, available_wh=4500.0, soc_frac=0.5, soh_frac=0.9, status=OK
    )
    assert from_bank({**BANK, "SoH": None}).available_wh is None, "of a health unknown nothing is assumed"


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"State": 99, "Evt1": 0}, ERROR),
        ({"State": 99, "Evt1": None}, ERROR),
        ({"State": 3, "Evt1": 4}, WARNING),
        ({"State": None, "Evt1": 1}, WARNING),
        ({"State": None, "Evt1": 0}, None),
        ({"State": 3, "Evt1": None}, None),
    ],
)
def test_the_status_of_a_bank(values: Mapping[str, Value], status: StorageStatus | None) -> None:
    assert from_bank({**BANK, **values}).status is status


def test_what_is_not_said_or_cannot_be_is_unknown() -> None:
    assert from_capacity(NOTHING) == from_bank(NOTHING) == storage() == Storage()
    assert from_capacity({**NOTHING, "Sta": 3}).status is None
    assert storage(soc_frac=1.01, soh_frac=-0.1, capacity_wh=-1.0, available_wh=-5.0) == Storage()
    assert storage(soh_frac=1.02).soh_frac == 1.02, "a new battery may be better than rated"


def test_several_banks_are_one() -> None:
    big = storage(capacity_wh=30_000.0, soc_frac=0.8, soh_frac=1.0, status=OK)
    small = storage(capacity_wh=10_000.0, soc_frac=0.4, soh_frac=0.8, status=ERROR)
    meter = reading(None, role=MeterRole.GRID)
    assert together([reading(big), meter, reading(small)]) == Storage(
        capacity_wh=40_000.0,
        available_wh=27_200.0,
        soc_frac=pytest.approx(0.7),
        soh_frac=pytest.approx(0.95),
        status=ERROR,
    )
    assert together([reading(big)]) == big
    part = together([reading(big), reading(Storage(soc_frac=0.5))])
    assert part == Storage(status=OK), "a share of an unknown capacity is none"
    empty = Storage(capacity_wh=0.0, soc_frac=0.5)
    assert together([reading(empty), reading(empty)]) == Storage(capacity_wh=0.0)


@pytest.mark.parametrize("quality", [Quality.STALE, Quality.BAD, Quality.ESTIMATED])
def test_one_that_cannot_be_believed_makes_all_unknown(quality: Quality) -> None:
    full = storage(capacity_wh=1.0, soc_frac=1.0)
    assert together([reading(full), reading(full, quality)]) is None
    assert together([reading(full), reading(None)]) is None
    assert together([]) is None


@given(st.lists(st.tuples(st.floats(1.0, 1e6), st.floats(0.0, 1.0)), min_size=1, max_size=5))
def test_the_whole_lies_between_its_parts(banks: list[tuple[float, float]]) -> None:
    whole = together([reading(storage(capacity_wh=wh, soc_frac=frac)) for wh, frac in banks])
    assert whole is not None and whole.soc_frac is not None
    parts = [frac for _, frac in banks]
    assert min(parts) - 1e-9 <= whole.soc_frac <= max(parts) + 1e-9
