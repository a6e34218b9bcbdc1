"""Register tables against the official definitions as pysunspec2 reads them, and against recorded devices."""

import json
import math
import struct
from pathlib import Path

import pytest
import sunspec2.device as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model.sunspec import (
    COMMON,
    DER_CONTROLS,
    DER_DC,
    INVERTER,
    METER,
    METER_FLOAT,
    MODELS,
    TABLES,
    Model,
    Point,
    Type,
    decode,
    decode_groups,
    encode,
    raw_value,
)

FIXTURES = Path(__file__).resolve().parents[5] / "shared" / "data" / "fixtures" / "sunspec"
OFFICIAL = {103: INVERTER.name, 203: METER.name, 213: METER_FLOAT.name}
MODEL_IDS = {table.name: table.ids[-1] for table in TABLES} | {name: n for n, name in OFFICIAL.items()}
WIDE = {Type.ACC32, Type.ACC64, Type.BITFIELD32, Type.FLOAT32, Type.UINT32, Type.UINT64, Type.INT32}


def oracle_model(model_id: int, registers: list[int]) -> oracle.Model:
    model = oracle.Model(
        model_id, model_len=len(registers) - 2, data=struct.pack(f">{len(registers)}H", *registers)
    )
    assert not model.error_info
    model.set_mb(data=struct.pack(f">{len(registers)}H", *registers))
    return model


def group_values(group: oracle.Group, prefix: str = "") -> dict[str, object]:
    own = {prefix + name: (point.cvalue if point.is_impl() else None) for name, point in group.points.items()}
    for name, inner in group.groups.items():
        if not isinstance(inner, list):
            own |= group_values(inner, f"{name}.")
    return own


def assert_agree(model: Model, model_id: int, registers: list[int]) -> None:
    ours, official = decode(model, registers), oracle_model(model_id, registers)
    theirs = group_values(official)
    names = list(theirs)
    if model_id == model.ids[-1] or model_id in OFFICIAL:
        assert set(names) == {point.name for point in model.points}
    for point, name in zip(model.points, names, strict=True):
        assert_same(model, point, ours[point.name], theirs[name], ours)
    if model.group is not None:
        parts = official.groups.get(model.group.name, [])
        decoded = decode_groups(model, registers)
        assert len(decoded) == len(parts)
        for mine, other in zip(decoded, parts, strict=True):
            values = group_values(other)
            for point in model.group.points:
                assert_same(model, point, mine[point.name], values[point.name], ours)


def assert_same(model: Model, point: Point, mine: object, other: object, ours: dict[str, object]) -> None:
    if point.type is Type.PAD:
        return
    if point.sf and ours[point.sf] is None and model.point(point.sf).mandatory:
        assert mine is None  # stricter than the oracle: without its mandatory scale a figure says nothing
    elif isinstance(other, float) and (math.isnan(other) or abs(other) > 3.4e38):
        assert mine is None or mine == other
    elif isinstance(other, int | float):
        assert mine == pytest.approx(other, rel=1e-6), point.name
    else:
        assert (mine or None) == (other or None), point.name


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.name)
def test_table_is_the_official_one(model: Model) -> None:
    def flat(group: dict[str, object], prefix: str = "") -> list[tuple[str, dict[str, object]]]:
        points = [(prefix + p["name"], p) for p in group["points"]]
        for inner in group.get("groups", []):
            if inner.get("count", 1) == 1:
                points += flat(inner, f"{inner['name']}.")
        return points

    def check(ours: tuple[Point, ...], theirs: list[tuple[str, dict[str, object]]]) -> int:
        offset = 0
        for point, (name, official) in zip(ours, theirs, strict=True):
            assert (point.offset, point.count, point.name) == (offset, official["size"], name)
            assert point.type.value == official["type"]
            assert point.sf == official.get("sf", "").strip()
            assert point.mandatory == (official.get("mandatory") == "M"), point.name
            assert point.writable == (official.get("access") == "RW"), point.name
            offset += official["size"]
        return offset

    official = oracle.get_model_def(MODEL_IDS[model.name])["group"]
    assert check(model.points, flat(official)) == model.length + 2
    repeating = [inner for inner in official.get("groups", []) if inner.get("count", 1) != 1]
    assert [inner["name"] for inner in repeating] == ([model.group.name] if model.group else [])
    if model.group is not None:
        (inner,) = repeating
        assert (model.group.count, model.group.length) == (
            inner["count"],
            check(model.group.points, flat(inner)),
        )


def test_every_model_that_was_asked_for() -> None:
    ids = {1, *range(101, 104), *range(111, 114), *range(120, 125), *range(201, 205), *range(211, 215)}
    assert set(MODELS) == ids | {701, 702, 703, 704, 713, 714, 715, 802}
    lengths = {
        1: 66,
        103: 50,
        113: 60,
        203: 105,
        213: 124,
        701: 153,
        702: 50,
        703: 17,
        704: 65,
        713: 7,
        714: 18,
    }
    assert {n: MODELS[n].length for n in lengths} == lengths
    assert (MODELS[715].length, MODELS[802].length, MODELS[123].length, MODELS[124].length) == (7, 62, 24, 24)
    assert DER_CONTROLS.point("WMaxLimPct").offset == 15 and DER_CONTROLS.point("WSet").offset == 24


def test_families_share_a_table() -> None:
    assert [MODELS[n].name for n in (101, 103, 203, 204, 213)] == [
        "inverter_three_phase",
        "inverter_three_phase",
        "ac_meter_abcn",
        "ac_meter_abcn",
        "ac_meter_abcn_float",
    ]


@st.composite
def blocks(draw: st.DrawFn, model: Model) -> list[int]:
    length = model.length + 2
    registers = draw(st.lists(st.integers(0, 0xFFFF), min_size=length, max_size=length))
    for point in model.points:
        if point.type is Type.SUNSSF:
            registers[point.offset] = draw(st.integers(-10, 10)) & 0xFFFF
        if point.type is Type.STRING:
            printable = st.characters(min_codepoint=33, max_codepoint=126)
            text = draw(st.text(printable, max_size=2 * point.count))
            data = text.encode().ljust(2 * point.count, b"\0")
            registers[point.offset : point.end] = struct.unpack(f">{point.count}H", data)
        if point.type in WIDE and draw(st.booleans()):
            registers[point.offset : point.end] = [0xFFFF] * point.count
    if model.group is not None:
        ports = draw(st.integers(0, 3))
        registers[model.point(model.group.count).offset] = ports
        for _ in range(ports):
            part = draw(
                st.lists(st.integers(0, 0xFFFF), min_size=model.group.length, max_size=model.group.length)
            )
            for point in model.group.points:
                if point.type is Type.STRING:
                    part[point.offset : point.end] = [0x4142] * point.count
            registers += part
    registers[0], registers[1] = MODEL_IDS[model.name], len(registers) - 2
    return registers


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.name)
def test_agrees_with_the_oracle(model: Model) -> None:
    @settings(max_examples=50)
    @given(blocks(model))
    def law(registers: list[int]) -> None:
        assert_agree(model, MODEL_IDS[model.name], registers)

    law()


@given(
    power_w=st.floats(-3e4, 3e4),
    hz=st.floats(45, 65),
    energy_wh=st.floats(1, 4e9),
    scale=st.integers(0, 4),
)
def test_what_is_encoded_comes_back(power_w: float, hz: float, energy_wh: float, scale: int) -> None:
    values = {"W": power_w, "W_SF": scale, "Hz": hz, "Hz_SF": -2, "TotWhImp": energy_wh, "TotWhExp": None}
    registers = encode(METER, values, model_id=203)
    back = decode(METER, registers)
    assert (back["ID"], back["L"]) == (203, 105)
    assert back["W"] == pytest.approx(power_w, abs=0.5 * 10**scale)
    assert back["Hz"] == pytest.approx(hz, abs=0.005)
    assert back["TotWhImp"] == pytest.approx(energy_wh, abs=0.5)
    assert back["TotWhExp"] is None and back["VA"] is None and back["WphA"] is None
    assert encode(METER, back, model_id=203) == registers


@pytest.mark.parametrize(
    ("model", "raw", "expected"),
    [
        (METER, {"W": 0x8000, "W_SF": 0}, None),
        (METER, {"W": 0xFFFF, "W_SF": 0}, -1.0),
        (METER, {"W": 0xFB2E, "W_SF": 0xFFFF}, -123.4),
        (METER, {"W": 100, "W_SF": 0x8000}, None),
        (METER, {"W": 100, "W_SF": 11}, None),
        (METER, {"W": 100, "W_SF": 0xFFF5}, None),
        (METER, {"W": 0x7FFF, "W_SF": 2}, 3276700.0),
    ],
)
def test_sentinels_and_scales(model: Model, raw: dict[str, int], expected: float | None) -> None:
    registers = encode(model, {})
    for name, value in raw.items():
        registers[model.point(name).offset] = value
    assert decode(model, registers)["W"] == expected


def test_optional_scale_that_is_absent_means_one() -> None:
    registers = encode(METER, {"Hz": 50})
    registers[METER.point("Hz_SF").offset] = 0x8000
    assert decode(METER, registers)["Hz"] == 50


def test_floats() -> None:
    assert decode(METER_FLOAT, encode(METER_FLOAT, {"W": None}))["W"] is None
    assert decode(METER_FLOAT, encode(METER_FLOAT, {"W": 2.7e23}))["W"] == pytest.approx(2.7e23)
    assert decode(METER_FLOAT, encode(METER_FLOAT, {"W": float("inf")}))["W"] == float("inf")


def test_short_block_says_none_beyond_its_end() -> None:
    registers = encode(METER, {"W": 5, "TotWhImp": 7})
    part = decode(METER, registers[: METER.span(("W",))])
    assert part["W"] == 5
    assert part["TotWhImp"] is None


def test_span_reaches_the_scale_factor() -> None:
    assert METER.span(("W",)) == 23
    assert METER.span(("W", "Hz", "TotWhExp", "TotWhImp")) == 55
    assert METER_FLOAT.span(("W", "TotWhImp")) == 70


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"W": 40000.0}, "W: 40000"),
        ({"TotWhImp": -1.0}, "TotWhImp"),
        ({"W": 1.0, "W_SF": 11}, "W_SF"),
        ({"W": "much"}, "much"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        encode(METER, values)


def test_groups_that_are_not_there_are_not_made_up() -> None:
    registers = encode(DER_DC, {"NPrt": 3, "DCW_SF": 1})
    assert decode_groups(DER_DC, registers) == []
    port = [0] * DER_DC.group.length if DER_DC.group else []
    port[12] = 0xFFFE
    parts = decode_groups(DER_DC, [*registers, *port, *port[:-1]])
    assert [part["DCW"] for part in parts] == [-20.0]
    registers[DER_DC.point("NPrt").offset] = 0xFFFF
    assert decode_groups(DER_DC, [*registers, *port]) == []
    assert decode_groups(METER, encode(METER, {})) == []


@pytest.mark.parametrize(
    ("name", "value", "scale", "expected"),
    [
        ("WMaxLimPct", 55.5, -1, [555]),
        ("WSet", -70000.0, 0, [0xFFFE, 0xEE90]),
        ("WSetRvrtTms", 60, None, [0, 60]),
        ("WMaxLimPctEna", 1, None, [1]),
    ],
)
def test_one_point_for_writing(name: str, value: float, scale: int | None, expected: list[int]) -> None:
    assert raw_value(DER_CONTROLS, name, value, scale) == expected


def test_string_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="Mn"):
        encode(COMMON, {"Mn": "x" * 33})


@pytest.mark.parametrize(
    "name", ["sma_sunnyboy_3.6_2023-08-10.json", "sma_sunnyboy_3.6_2025-05-18.json", "emulated_der_7xx.json"]
)
def test_recorded_devices(name: str) -> None:
    path = FIXTURES / name
    if not path.exists():
        pytest.skip("the recorded devices are not beside this repository")
    dump = json.loads(path.read_text())
    seen = 0
    for block in dump["models"]:
        if block["id"] not in MODELS:
            continue
        start = block["addr"] - dump["base_address"]
        registers = dump["registers"][start : start + block["length"] + 2]
        assert_agree(MODELS[block["id"]], block["id"], registers)
        seen += 1
    assert seen >= 7


def test_recorded_inverter_says_what_it_is() -> None:
    path = FIXTURES / "sma_sunnyboy_3.6_2023-08-10.json"
    if not path.exists():
        pytest.skip("the recorded devices are not beside this repository")
    dump = json.loads(path.read_text())
    common = decode(COMMON, dump["registers"][2:70])
    assert common["Mn"] == "SMA"
    assert common["Md"] == "SB3.6-1AV-41"
    start = next(b["addr"] for b in dump["models"] if b["id"] == 101) - dump["base_address"]
    inverter = decode(INVERTER, dump["registers"][start : start + 52])
    hz, power_w = inverter["Hz"], inverter["W"]
    assert isinstance(hz, float) and 49 < hz < 51
    assert power_w is None or 0 <= float(power_w) <= 3680
