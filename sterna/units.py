"""Conversion factors. The only module that knows that an hour has 3600 seconds or a byte 8 bits."""

SECONDS_PER_HOUR = 3600.0
BITS_PER_BYTE = 8
BYTES_PER_GB = 1e9
W_PER_KW = 1000.0


def joules_to_wh(energy_j: float) -> float:
    """Watt-seconds to watt-hours."""
    return energy_j / SECONDS_PER_HOUR


def wh_to_joules(energy_wh: float) -> float:
    """Watt-hours to watt-seconds."""
    return energy_wh * SECONDS_PER_HOUR


def hours_to_s(duration_h: float) -> float:
    """Hours to seconds."""
    return duration_h * SECONDS_PER_HOUR


def s_to_hours(duration_s: float) -> float:
    """Seconds to hours."""
    return duration_s / SECONDS_PER_HOUR


def bytes_to_bits(size_bytes: float) -> float:
    """Bytes to bits."""
    return size_bytes * BITS_PER_BYTE


def bits_to_bytes(size_bits: float) -> float:
    """Bits to bytes."""
    return size_bits / BITS_PER_BYTE


def bytes_to_gb(size_bytes: float) -> float:
    """Bytes to gigabytes (1e9)."""
    return size_bytes / BYTES_PER_GB


def gb_to_bytes(size_gb: float) -> float:
    """Gigabytes (1e9) to bytes."""
    return size_gb * BYTES_PER_GB


def kw_to_w(power_kw: float) -> float:
    """Kilowatts to watts."""
    return power_kw * W_PER_KW


def w_to_kw(power_w: float) -> float:
    """Watts to kilowatts; kW exist only inside OpenADR messages and sentences."""
    return power_w / W_PER_KW


def with_prefix(value: float, unit: str) -> str:
    """Return four digits with the SI prefix that fits, for people: ``73.1 Mbit/s``."""
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}"
