from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.stored import RATING_POINTS, completed, from_bank, from_capacity, rated, storage, together
from agent.model.readings import DeclaredBattery, MeterReading, MeterRole, Quality, Storage, StorageStatus
from agent.model.sunspec.codec import Value

OK, WARNING, ERROR = StorageStatus
NOW = datetime(2026, 11, 22, tzinfo=UTC)
POWERS: Mapping[str, Value] = {"WChaRteMax": 4000.0, "WDisChaRteMax": 5000.0}
BANK: Mapping[str, Value] = {
    "WHRtg": 10_000.0,
    "SoC": 50.0,
    "SoH": 90.0,
    "State": 3,
    "Evt1": 0,
    **POWERS,
}
NOTHING: Mapping[str, Value] = dict.fromkeys(
    ("WHRtg", "WHAvail", "SoC", "SoH", "Sta", "State", "Evt1", "WChaRteMax", "WDisChaRteMax")
)


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
        capacity_wh=10_000.0,
        available_wh=4500.0,
        soc_frac=0.5,
        soh_frac=0.9,
        status=OK,
        max_charge_w=4000.0,
        max_discharge_w=5000.0,
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


@pytest.mark.parametrize(
    ("values", "powers_w"),
    [
        (POWERS, (4000.0, 5000.0)),
        ({"WChaRteMaxRtg": 6000.0, "WDisChaRteMaxRtg": 7000.0}, (6000.0, 7000.0)),
        ({**POWERS, "WChaRteMaxRtg": 6000.0}, (4000.0, 5000.0)),  # as set, before as rated
        ({}, (None, None)),
    ],
)
def test_the_greatest_powers_of_an_inverter(
    values: Mapping[str, Value], powers_w: tuple[float | None, float | None]
) -> None:
    told = rated(storage(soc_frac=0.5), dict.fromkeys(RATING_POINTS) | dict(values))
    assert (told.max_charge_w, told.max_discharge_w) == powers_w
    assert told.soc_frac == 0.5


def test_what_the_operator_says_of_a_battery_counts_before_what_it_says_itself() -> None:
    stated = storage(capacity_wh=10_000.0, soc_frac=0.5, soh_frac=0.9, max_charge_w=4000.0)
    declared = DeclaredBattery(
        capacity_wh=8000.0, max_discharge_w=3000.0, reserve_frac=0.25, serves_site=True
    )
    told = completed(reading(stated), declared).storage
    assert told == Storage(
        capacity_wh=8000.0,
        available_wh=4000.0,
        soc_frac=0.5,
        soh_frac=0.9,
        max_charge_w=4000.0,
        max_discharge_w=3000.0,
        reserve_wh=2000.0,
        serves_site=True,
    )
    silent = completed(reading(None), DeclaredBattery(capacity_wh=8000.0)).storage
    assert silent == Storage(capacity_wh=8000.0, reserve_wh=0.0), "a charge that nobody tells stays unknown"
    said = completed(reading(stated), DeclaredBattery(reserve_frac=0.1)).storage
    assert said is not None and (said.available_wh, said.reserve_wh) == (4500.0, 1000.0)


def test_of_several_batteries_all_must_serve_the_site() -> None:
    one, other = (
        completed(reading(storage(soc_frac=0.5)), DeclaredBattery(capacity_wh=1000.0, max_discharge_w=100.0))
        for _ in range(2)
    )
    serving = completed(one, DeclaredBattery(capacity_wh=1000.0, reserve_frac=0.5, serves_site=True))
    both = together([serving, other])
    assert both is not None
    assert (both.serves_site, both.reserve_wh, both.max_discharge_w) == (False, 500.0, 200.0)
    alone = together([serving])
    assert alone is not None and alone.serves_site


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
