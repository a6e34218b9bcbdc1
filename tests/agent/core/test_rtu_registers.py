"""The register map, read back with the official definitions and with our own."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sunspec2.device as oracle
from hypothesis import given
from hypothesis import strategies as st

from agent.core.exportlimit import W_MAX, Standing, registers
from agent.core.exportlimit import values as values_704
from agent.core.rtu_registers import ADDRESSES, BASE, COUNT, MODELS, Nameplate, RegisterMap, SiteState
from agent.model.readings import MeterReading, MeterRole, Quality, SitePower, Storage, StorageStatus
from agent.model.sunspec.codec import Value, decode
from agent.model.sunspec.load_limit import LOAD_LIMIT

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
PLATE = Nameplate(name="site-a", version="1.2.3", import_w=50_000.0, export_w=30_000.0, phases=3)
DEFINITION = Path(__file__).parents[3] / "examples" / "model_64900.json"


def balance(grid_w: float | None, quality: Quality = Quality.OK) -> SitePower:
    return SitePower(
        measured_at=NOW,
        quality=quality,
        grid_w=grid_w,
        generation_w=None,
        available_w=None,
        battery_w=None,
        compute_w=None,
        site_load_w=None,
        surplus_w=None,
    )


def reading(role: MeterRole = MeterRole.GRID, **more: object) -> MeterReading:
    return MeterReading(
        meter="m",
        role=role,
        measured_at=NOW,
        measured_boottime_s=0.0,
        quality=Quality.OK,
        active_power_w=None,
        **more,  # type: ignore[arg-type]
    )


def models(state: SiteState, plate: Nameplate = PLATE, **limit: Value) -> dict[int, dict[str, Value]]:
    image = RegisterMap(plate).image(state, limit)
    assert len(image) == COUNT
    found, place = {}, 2
    while image[place] != 0xFFFF:
        model = next(model for model in MODELS if model.ids[0] == image[place])
        assert ADDRESSES[image[place]] == BASE + place
        assert image[place + 1] == model.length
        found[image[place]] = decode(model, image[place : place + model.length + 2])
        place += model.length + 2
    assert place == COUNT - 2
    return found


def test_nothing_known_is_nothing_told() -> None:
    told = models(SiteState(power=None), Nameplate(name="s", version="1"))
    assert set(told) == {1, 701, 702, 713, 704, 715, 64900}
    assert (told[701]["W"], told[701]["Hz"], told[701]["TotWhAbs"], told[701]["ACType"]) == (None,) * 4
    for model in (713, 704):
        values = told[model] | {"ID": None, "L": None}
        assert set(values.values()) == {None}
    assert told[702]["WMaxRtg"] is None
    block = told[64900]
    assert [block[name] for name in ("W", "AchvMinW", "AchvMaxW", "ImpLimW", "State")] == [None] * 5
    assert block["Qual"] == 3


def test_what_is_known_is_told_in_both_signs() -> None:
    state = SiteState(
        power=balance(-12_345.0, Quality.STALE),
        readings=(
            reading(frequency_hz=49.98, energy_import_wh=1e9 + 7, energy_export_wh=0.0),
            reading(energy_import_wh=3.0, energy_export_wh=None),
            reading(MeterRole.GENERATION, frequency_hz=1.0, energy_import_wh=9e9),
        ),
        achievable_min_w=-500.0,
        achievable_max_w=9200.4,
        beat=77,
        controller_beat=5,
    )
    told = models(state, State=2, Src=1, ImpLimW=4200)
    der, block = told[701], told[64900]
    assert (der["W"], der["W_SF"]) == (12_340.0, 1)
    assert (der["Hz"], der["TotWhAbs"], der["TotWhInj"], der["ACType"]) == (49.98, 1e9 + 10, None, 2)
    assert (told[702]["WMaxRtg"], told[702]["WChaRteMax"]) == (30_000.0, 50_000.0)
    assert (told[715]["DERHb"], told[715]["ControllerHb"], told[715]["LocRemCtl"]) == (77, 5, 0)
    assert [block[name] for name in ("W", "AchvMinW", "AchvMaxW", "Qual", "AgentHb")] == [
        -12_345,
        0,
        9200,
        2,
        77,
    ]
    assert (block["State"], block["Src"], block["ImpLimW"]) == (2, 1, 4200)
    assert (told[1]["Mn"], told[1]["Vr"], told[1]["SN"]) == ("Sterna", "1.2.3", "site-a")


@pytest.mark.parametrize(
    ("import_w", "export_w", "scale"),
    [(None, None, 1), (11_000.0, None, 0), (16_384.0, None, 1), (None, 1e6, 2), (5e8, 1.0, 5)],
)
def test_the_scale_factor_is_constant_and_fits_twice_the_rating(
    import_w: float | None, export_w: float | None, scale: int
) -> None:
    assert Nameplate(name="s", version="1", import_w=import_w, export_w=export_w).w_scale == scale


@pytest.mark.parametrize(
    ("stored", "quality", "told"),
    [
        (
            Storage(
                capacity_wh=13_500.0,
                available_wh=6000.0,
                soc_frac=0.456,
                soh_frac=1.02,
                status=StorageStatus.OK,
            ),
            Quality.OK,
            (13_500, 6000, 45.6, 102.0, 0),
        ),
        (
            Storage(capacity_wh=1.2e6, available_wh=0.0, soc_frac=0.0, status=StorageStatus.ERROR),
            Quality.OK,
            (1_200_000.0, 0, 0.0, None, 2),
        ),
        (Storage(soc_frac=1.0), Quality.OK, (None, None, 100.0, None, None)),
        (Storage(available_wh=5.0), Quality.OK, (None,) * 5),
        (Storage(capacity_wh=13_500.0, soc_frac=0.5), Quality.STALE, (None,) * 5),
        (Storage(capacity_wh=13_500.0, soc_frac=0.5), Quality.BAD, (None,) * 5),
        (None, Quality.OK, (None,) * 5),
    ],
)
def test_a_battery_tells_its_charge_while_it_can_be_believed(
    stored: Storage | None, quality: Quality, told: tuple[Value, ...]
) -> None:
    battery = replace(reading(MeterRole.BATTERY, storage=stored), quality=quality)
    values = models(SiteState(power=None, readings=(reading(), battery)))[713]
    assert tuple(values[name] for name in ("WHRtg", "WHAvail", "SoC", "SoH", "Sta")) == told
    assert (values["WH_SF"] is None) == (told[0] is None)
    assert (values["Pct_SF"] is None) == (told[2] is None)


def test_what_does_not_fit_is_unknown_not_clipped() -> None:
    told = models(SiteState(power=balance(400_000.0)))
    assert told[701]["W"] is None
    assert told[64900]["W"] == 400_000
    assert models(SiteState(power=balance(1e12)))[64900]["W"] is None


@given(st.floats(-60_000.0, 60_000.0), st.none() | st.floats(0.0, 1e12), st.none() | st.floats(40.0, 70.0))
def test_every_reading_comes_back_within_half_a_step(
    grid_w: float, energy_wh: float | None, frequency_hz: float | None
) -> None:
    state = SiteState(
        power=balance(grid_w), readings=(reading(energy_import_wh=energy_wh, frequency_hz=frequency_hz),)
    )
    der = models(state)[701]
    assert der["W"] == pytest.approx(-grid_w, abs=5.0)
    assert der["TotWhAbs"] == (None if energy_wh is None else round(energy_wh))
    assert der["Hz"] == (None if frequency_hz is None else pytest.approx(frequency_hz, abs=0.0051))


@given(st.integers(0, COUNT - 1), st.integers(1, 125))
def test_a_part_of_the_map_is_cut_from_the_whole(first: int, count: int) -> None:
    state, limit = SiteState(power=balance(77.0), beat=3), {"State": 1, "CtlHb": 9}
    count = min(count, COUNT - first)
    plate = RegisterMap(PLATE)
    assert plate.image(state, limit, first, count) == plate.image(state, limit)[first : first + count]


BLOCK, AUTHORITY = ADDRESSES[64900], ADDRESSES[715]


@pytest.mark.parametrize(
    ("address", "values", "points"),
    [
        (
            BLOCK + 8,
            [0, 4200, 0, 900, 20, 1, 7],
            {"ImpLimW": 4200, "ImpLimRvrtTms": 900, "ImpLimRmpTms": 20, "ImpLimEna": 1, "CmdSeq": 7},
        ),
        (BLOCK + 14, [7], {"CmdSeq": 7}),
        (BLOCK + 8, [1, 0], {"ImpLimW": 65536}),
        (BLOCK + 4, [0xFFFF, 0xFFFE], {"CtlHb": 0xFFFFFFFE}),
        (BLOCK + 20, [0, 1, 0, 2], {"FsImpLimW": 1, "FsDurMin": 2}),
        (AUTHORITY + 5, [0, 3], {"ControllerHb": 3}),
        (BLOCK + 8, [0], None),
        (BLOCK + 9, [4200], None),
        (BLOCK + 9, [4200, 0, 900], None),
        (BLOCK + 2, [1], None),
        (BLOCK + 4, [0, 1, 0, 2], None),
        (BLOCK + 14, [1, 1], None),
        (BLOCK + 22, [0, 7200, 0, 1], None),
        (AUTHORITY + 7, [1], None),
        (AUTHORITY + 8, [0], None),
        (ADDRESSES[704] + 14, [1, 50], None),
        (0, [1], None),
        (65535, [1], None),
    ],
)
def test_what_may_be_written(address: int, values: list[int], points: dict[str, int] | None) -> None:
    assert RegisterMap(PLATE).written(address, values) == points


def test_the_published_definition_is_the_table() -> None:
    points = json.loads(DEFINITION.read_text())["group"]["points"]
    offset = 0
    for point, defined in zip(LOAD_LIMIT.points, points, strict=True):
        assert (point.name, point.type.value, point.count) == (
            defined["name"],
            defined["type"],
            defined["size"],
        )
        assert (point.unit, point.writable) == (defined.get("units", ""), defined.get("access") == "RW")
        assert point.offset == offset
        offset += point.count
    assert offset == LOAD_LIMIT.length + 2


def test_the_official_definitions_read_the_same() -> None:
    battery = reading(MeterRole.BATTERY, storage=Storage(capacity_wh=99_990.0, soc_frac=0.5))
    grid = reading(frequency_hz=50.02, energy_import_wh=5.0)
    state = SiteState(power=balance(4321.0), readings=(grid, battery), beat=9)
    off = {**registers(W_MAX, Standing(limit=None), now_boot_s=0.0, rated_w=30_000.0)}
    image = RegisterMap(PLATE).image(state, {}, export=values_704(off))
    data = b"".join(word.to_bytes(2, "big") for word in image)
    for model in MODELS[:-1]:
        number = model.ids[0]
        start = ADDRESSES[number] - BASE
        theirs = oracle.Model(number, data=data[2 * start : 2 * (start + model.length + 2)])
        ours = decode(model, image[start : start + model.length + 2])
        for point in model.points:
            if "." in point.name or point.type.value == "pad":
                continue
            value = theirs.points[point.name].cvalue
            if point.type.value == "string":
                value = value or None
            expected = ours[point.name]
            assert value == (pytest.approx(expected) if isinstance(expected, float) else expected), point.name
