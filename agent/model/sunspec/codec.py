"""Registers to values and back, by a table. Pure: it neither reads a device nor judges plausibility."""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence

from agent.model.sunspec.points import Model, Point, Type

Value = int | float | str | None

# What a device writes where it has nothing to say. An accumulator's is 0: a counter that never counted.
NOT_IMPLEMENTED: Mapping[Type, int] = {
    Type.INT16: 0x8000,
    Type.UINT16: 0xFFFF,
    Type.INT32: 0x80000000,
    Type.UINT32: 0xFFFFFFFF,
    Type.UINT64: 0xFFFFFFFFFFFFFFFF,
    Type.ENUM16: 0xFFFF,
    Type.SUNSSF: 0x8000,
    Type.ACC32: 0,
    Type.ACC64: 0,
    Type.BITFIELD16: 0xFFFF,
    Type.BITFIELD32: 0xFFFFFFFF,
    Type.FLOAT32: 0x7FC00000,
    Type.PAD: 0x8000,
}
SIGNED = frozenset({Type.INT16, Type.INT32, Type.SUNSSF})
MAX_SCALE = 10
HEADER = 2


def decode(model: Model, registers: Sequence[int], names: Iterable[str] | None = None) -> dict[str, Value]:
    """Read a model.

    Parameters
    ----------
    model : Model
        The table.
    registers : sequence of int
        From the model's ID register on; may be shorter than the model.
    names : iterable of str or None
        The points that are wanted; None: all.

    Returns
    -------
    dict
        These points by name, scaled to its unit. None: not implemented, beyond the registers given, or with a
        scale factor that is not usable.
    """
    points = model.points if names is None else [model.point(name) for name in names]
    return {point.name: _scaled(model, point, _raw(point, registers), registers) for point in points}


def decode_groups(model: Model, registers: Sequence[int]) -> list[dict[str, Value]]:
    """Read the repeating groups of a model, as `decode` does its fixed points.

    Those that the registers do not hold whole are left out, whatever the device's count says.
    """
    if model.group is None:
        return []
    stated = _raw(model.point(model.group.count), registers)
    groups: list[dict[str, Value]] = []
    for index in range(stated if isinstance(stated, int) else 0):
        start = HEADER + model.length + index * model.group.length
        part = registers[start : start + model.group.length]
        if len(part) < model.group.length:
            break
        groups.append(
            {point.name: _scaled(model, point, _raw(point, part), registers) for point in model.group.points}
        )
    return groups


def raw_value(model: Model, name: str, value: float, scale: Value = None) -> list[int]:
    """Write one point as the registers that a device takes, at the scale factor that it states.

    Raises
    ------
    ValueError
        It does not fit its registers.
    """
    point = model.point(name)
    return _registers(point, _descale(point, value, scale) if point.sf else value)


def encode(model: Model, values: Mapping[str, Value], *, model_id: int | None = None) -> list[int]:
    """Write a model, ID and L included.

    Parameters
    ----------
    model : Model
        The table.
    values : mapping of str to value
        In the point's unit; scale factors by their own names, 0 where absent. Absent or None: not
        implemented.
    model_id : int or None
        Which of the numbers that share the layout; None: the last.

    Returns
    -------
    list of int
        ``model.length + 2`` registers.

    Raises
    ------
    ValueError
        A value does not fit its registers at its scale factor.
    """
    registers = [0] * (model.length + HEADER)
    used = {point.sf for point in model.points if point.sf and values.get(point.name) is not None}
    for point in model.points:
        value = values.get(point.name)
        if point.name in used and value is None:
            value = 0
        if point.sf and isinstance(value, int | float):
            value = _descale(point, value, values.get(point.sf))
        registers[point.offset : point.end] = _registers(point, value)
    registers[0] = model.ids[-1] if model_id is None else model_id
    registers[1] = model.length
    return registers


def _raw(point: Point, registers: Sequence[int]) -> Value:
    if point.end > len(registers):
        return None
    words = registers[point.offset : point.end]
    if point.type is Type.STRING:
        data = struct.pack(f">{point.count}H", *words).split(b"\0", 1)[0]
        return data.decode("utf-8", errors="replace").rstrip() or None
    number = 0
    for word in words:
        number = number << 16 | word
    if point.type is Type.FLOAT32:
        value: float = struct.unpack(">f", struct.pack(">I", number))[0]
        return None if math.isnan(value) else value
    if number == NOT_IMPLEMENTED[point.type]:
        return None
    negative = point.type in SIGNED and number >> 16 * point.count - 1
    return number - (1 << 16 * point.count) if negative else number


def _scaled(model: Model, point: Point, value: Value, registers: Sequence[int]) -> Value:
    if not point.sf or not isinstance(value, int | float):
        return value
    factor = model.point(point.sf)
    scale = _raw(factor, registers)
    if scale is None and not factor.mandatory:
        return value
    if not isinstance(scale, int) or abs(scale) > MAX_SCALE:
        return None
    # Division by a power of ten rounds once; multiplication by 0.1 would round twice.
    return value * 10.0**scale if scale >= 0 else value / 10.0**-scale


def _descale(point: Point, value: float, scale: Value) -> int:
    exponent = scale if isinstance(scale, int) else 0
    if abs(exponent) > MAX_SCALE:
        raise ValueError(f"{point.sf}: scale factor {exponent} is not within -10..10")
    return round(value * 10.0**-exponent if exponent <= 0 else value / 10.0**exponent)


def _registers(point: Point, value: Value) -> list[int]:
    if point.type is Type.STRING:
        data = str(value or "").encode()
        if len(data) > 2 * point.count:
            raise ValueError(f"{point.name}: longer than {2 * point.count} bytes")
        return list(struct.unpack(f">{point.count}H", data.ljust(2 * point.count, b"\0")))
    if value is None:
        return _words(NOT_IMPLEMENTED[point.type], point.count)
    if isinstance(value, str):
        raise ValueError(f"{point.name}: expected a number, got {value!r}")
    if point.type is Type.FLOAT32:
        return list(struct.unpack(">2H", struct.pack(">f", value)))
    top = 1 << 16 * point.count
    low, high = (-top // 2, top // 2 - 1) if point.type in SIGNED else (0, top - 1)
    number = round(value)
    if not low <= number <= high:
        raise ValueError(f"{point.name}: {number} is not within {low}..{high}")
    return _words(number & top - 1, point.count)


def _words(number: int, count: int) -> list[int]:
    return [number >> 16 * place & 0xFFFF for place in reversed(range(count))]
