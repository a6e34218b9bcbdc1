"""Registers of a plain Modbus meter to figures, by its table. Pure; it does not judge plausibility."""

import math
import struct
from collections.abc import Callable, Sequence

from agent.model.registers.points import Kind, Register, Space, Table, WordOrder

Words = Callable[[Space, int, int], Sequence[int] | None]
"""Space, address and count to the registers, or None where they were not read."""


def decode(table: Table, words: Words) -> dict[str, float | None]:
    """Read the figures of a table.

    Parameters
    ----------
    table : Table
        The meter's family.
    words : callable
        Gives the registers that were read.

    Returns
    -------
    dict
        Every figure by name in its unit. None: not available on the device, not a number, or not read. A sum
        is None when one of its parts is.
    """
    values = {
        register.name: value_of(table, register, words(table.space, register.address, register.kind.count))
        for register in table.registers
    }
    return values | {name: _sum([values[part] for part in parts]) for name, parts in table.sums.items()}


def value_of(table: Table, register: Register, words: Sequence[int] | None) -> float | None:
    """Read one value; None as for `decode`."""
    kind = register.kind
    if words is None or len(words) != kind.count:
        return None
    raw = 0
    for word in words if table.word_order is WordOrder.BIG else reversed(words):
        raw = raw << 16 | word
    if raw in table.sentinels.get(kind, frozenset()):
        return None
    number = _number(kind, raw)
    if not math.isfinite(number):
        return None
    # A scale of 0.1 is not a binary number: dividing by 10 gives the decimal that the device shows.
    return number / round(1 / register.scale) if _is_inverse(register.scale) else number * register.scale


def encode_value(table: Table, register: Register, value: float | None) -> list[int]:
    """Write one value as the device would; for simulated devices.

    Parameters
    ----------
    table, register
        Where it belongs.
    value : float or None
        In the figure's unit; None: the table's sentinel, or NaN.

    Raises
    ------
    ValueError
        It does not fit, or the table knows no way to say "not available".
    """
    kind = register.kind
    raw = _unavailable(table, kind) if value is None else _raw(kind, value / register.scale, register.name)
    big = [raw >> 16 * place & 0xFFFF for place in reversed(range(kind.count))]
    return big if table.word_order is WordOrder.BIG else big[::-1]


def _number(kind: Kind, raw: int) -> float:
    if kind is Kind.FLOAT32:
        return float(struct.unpack(">f", raw.to_bytes(4, "big"))[0])
    if kind is Kind.FLOAT64:
        return float(struct.unpack(">d", raw.to_bytes(8, "big"))[0])
    if kind.signed and raw >> kind.bits - 1:
        raw -= 1 << kind.bits
    return float(raw)


def _is_inverse(scale: float) -> bool:
    return 0 < scale < 1 and 1 / round(1 / scale) == scale


def _raw(kind: Kind, number: float, name: str) -> int:
    if kind.floating:
        code = ">f" if kind is Kind.FLOAT32 else ">d"
        return int.from_bytes(struct.pack(code, number), "big")
    whole = round(number)
    low, high = (
        (-(1 << kind.bits - 1), (1 << kind.bits - 1) - 1) if kind.signed else (0, (1 << kind.bits) - 1)
    )
    if not low <= whole <= high:
        raise ValueError(f"{name}: {whole} is not within {low}..{high}")
    return whole & ((1 << kind.bits) - 1)


def _unavailable(table: Table, kind: Kind) -> int:
    if kind.floating:
        return _raw(kind, math.nan, "")
    sentinels = table.sentinels.get(kind)
    if not sentinels:
        raise ValueError(f"{table.name}: a {kind.value} cannot say that it is not available")
    return min(sentinels)


def _sum(parts: Sequence[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
