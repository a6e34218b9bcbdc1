"""Plain register values there and back, and the recorded SDM630."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices.meters_tables import shipped_table
from agent.model.registers import Kind, Register, Space, Table, WordOrder, decode, encode_value, value_of

FIXTURE = (
    Path(__file__).resolve().parents[5]
    / "shared"
    / "data"
    / "fixtures"
    / "modbus_meters"
    / "eastron_sdm630.yaml"
)
WHOLE = [kind for kind in Kind if not kind.floating]


def table(order: WordOrder = WordOrder.BIG, **more: object) -> Table:
    fields = {"name": "t", "title": "t", "source": "t", "space": Space.INPUT, "registers": ()} | more
    return Table(word_order=order, **fields)  # type: ignore[arg-type]


def register(kind: Kind, scale: float = 1.0) -> Register:
    return Register(name="active_power_w", address=0, kind=kind, scale=scale)


@given(st.sampled_from(WHOLE), st.sampled_from(WordOrder), st.data())
def test_whole_numbers_come_back(kind: Kind, order: WordOrder, data: st.DataObject) -> None:
    low, high = (-(2 ** (kind.bits - 1)), 2 ** (kind.bits - 1) - 1) if kind.signed else (0, 2**kind.bits - 1)
    number = data.draw(st.integers(max(low, -(2**53)), min(high, 2**53)))
    words = encode_value(table(order), register(kind), number)
    assert len(words) == kind.count and all(0 <= word <= 0xFFFF for word in words)
    assert value_of(table(order), register(kind), words) == number


@given(st.sampled_from(WordOrder), st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_floats_come_back(order: WordOrder, number: float) -> None:
    for kind in (Kind.FLOAT32, Kind.FLOAT64):
        words = encode_value(table(order), register(kind), number)
        assert value_of(table(order), register(kind), words) == number


@given(st.integers(-(2**31), 2**31 - 1), st.sampled_from([0.1, 0.01, 0.001, 1.0, 100.0]))
def test_a_decimal_scale_gives_the_decimal_that_the_device_shows(raw: int, scale: float) -> None:
    words = encode_value(table(), register(Kind.INT32), raw)
    got = value_of(table(), register(Kind.INT32, scale), words)
    assert got == (raw / round(1 / scale) if scale < 1 else raw * scale)


@pytest.mark.parametrize(
    ("kind", "order", "words", "expected"),
    [
        (Kind.INT16, WordOrder.BIG, [0xFFFF], -1.0),
        (Kind.UINT16, WordOrder.BIG, [0xFFFF], 65535.0),
        (Kind.INT32, WordOrder.BIG, [0xFFFF, 0xFFFE], -2.0),
        (Kind.INT32, WordOrder.LITTLE, [0xFFFE, 0xFFFF], -2.0),
        (Kind.UINT64, WordOrder.BIG, [0, 0, 1, 0], 65536.0),
        (Kind.UINT64, WordOrder.LITTLE, [0, 1, 0, 0], 65536.0),
        (Kind.FLOAT32, WordOrder.BIG, [0x436A, 0xA2CB], pytest.approx(234.636, abs=5e-4)),
        (Kind.FLOAT32, WordOrder.LITTLE, [0xA2CB, 0x436A], pytest.approx(234.636, abs=5e-4)),
        (Kind.FLOAT32, WordOrder.BIG, [0x7FC0, 0], None),
        (Kind.FLOAT32, WordOrder.BIG, [0x7F80, 0], None),
        (Kind.FLOAT32, WordOrder.BIG, [0x436A], None),
        (Kind.FLOAT32, WordOrder.BIG, None, None),
    ],
)
def test_values(kind: Kind, order: WordOrder, words: list[int] | None, expected: float | None) -> None:
    assert value_of(table(order), register(kind), words) == expected


def test_sentinels_are_not_numbers() -> None:
    meter = table(sentinels={Kind.INT32: frozenset({0x7FFFFFFF})})
    words = encode_value(meter, register(Kind.INT32), None)
    assert words == [0x7FFF, 0xFFFF]
    assert value_of(meter, register(Kind.INT32), words) is None
    assert value_of(meter, register(Kind.UINT32), words) == float(0x7FFFFFFF)
    assert value_of(meter, register(Kind.FLOAT32), encode_value(meter, register(Kind.FLOAT32), None)) is None
    with pytest.raises(ValueError, match="cannot say"):
        encode_value(meter, register(Kind.INT16), None)
    with pytest.raises(ValueError, match="not within"):
        encode_value(meter, register(Kind.INT16), 40000)


def test_a_sum_with_an_unknown_part_is_unknown() -> None:
    parts = tuple(Register(name=f"phase{n}_power_w", address=n, kind=Kind.INT16) for n in (1, 2, 3))
    meter = table(registers=parts, sums={"active_power_w": tuple(part.name for part in parts)})
    assert decode(meter, lambda space, address, count: [10])["active_power_w"] == 30
    part = decode(meter, lambda space, address, count: None if address == 3 else [10])
    assert (part["phase1_power_w"], part["active_power_w"]) == (10, None)
    assert [r.name for r in meter.needed(("active_power_w",))] == [part.name for part in parts]
    assert meter.figures == {"active_power_w", "phase1_power_w", "phase2_power_w", "phase3_power_w"}


def recorded() -> tuple[dict[str, tuple[int, float]], list[int]]:
    """Address and expected value of each field of the recording, and its registers."""
    text = FIXTURE.read_text()
    field = re.compile(r"- id: '([^']+)'\s+description: [^\n]*\s+expression: 'ieee754_32\(ir:(\d+) # 2\)'")
    addresses = {name: int(address) for name, address in field.findall(text)}
    expected = {name: float(value) for name, value in re.findall(r"'([^']+)':\s+\[\s+([-\d.]+) \]", text)}
    assert set(addresses) == set(expected) and len(expected) == 85
    words = text[text.index("rawValues:") : text.rindex("    blocks:")]
    registers = [int(word, 16) for word in re.findall(r"\b[0-9A-F]{4}\b", words)]
    return {name: (addresses[name], expected[name]) for name in addresses}, registers


@pytest.mark.skipif(not FIXTURE.exists(), reason="the recorded meter is not beside this repository")
def test_every_field_of_the_recorded_sdm630() -> None:
    fields, registers = recorded()
    meter = table()
    for name, (address, expected) in fields.items():
        value = value_of(meter, register(Kind.FLOAT32), registers[address : address + 2])
        assert value == pytest.approx(expected, abs=5.1e-4), name


@pytest.mark.skipif(not FIXTURE.exists(), reason="the recorded meter is not beside this repository")
def test_the_shipped_table_reads_the_recorded_sdm630() -> None:
    fields, registers = recorded()
    figures = decode(
        shipped_table("eastron-sdm630"), lambda space, address, count: registers[address : address + count]
    )
    same = {
        "active_power_w": ("Total System Power", 1),
        "apparent_power_va": ("Total System Volt Amps", 1),
        "reactive_power_var": ("Total System VAr", 1),
        "power_factor": ("Total System Power Factor", 1),
        "frequency_hz": ("Frequency Of Supply Voltages", 1),
        "energy_import_wh": ("Total Import KWh", 1000),
        "energy_export_wh": ("Total Export KWh", 1000),
        "energy_total_wh": ("Total KWh", 1000),
    }
    for n in (1, 2, 3):
        same |= {
            f"phase{n}_voltage_v": (f"Phase {n} Line To Neutral Volts", 1),
            f"phase{n}_current_a": (f"Phase {n} Current", 1),
            f"phase{n}_power_w": (f"Phase {n} Power", 1),
            f"phase{n}_reactive_power_var": (f"Phase {n} Reactive Power", 1),
        }
    assert set(figures) == set(same)
    for name, (field, factor) in same.items():
        assert figures[name] == pytest.approx(fields[field][1] * factor, abs=5.1e-4 * factor), name
    assert sum(figures[f"phase{n}_power_w"] or 0 for n in (1, 2, 3)) == pytest.approx(1820.892, abs=0.1)
