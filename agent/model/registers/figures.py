"""The figures that a meter's table may name: one vocabulary, so that every table means the same."""

from collections.abc import Mapping

_PER_PHASE = {"power_w": "W", "voltage_v": "V", "current_a": "A", "reactive_power_var": "var"}

FIGURES: Mapping[str, str] = {
    "active_power_w": "W",
    "available_power_w": "W",
    "reactive_power_var": "var",
    "apparent_power_va": "VA",
    "power_factor": "",
    "frequency_hz": "Hz",
    "energy_import_wh": "Wh",
    "energy_export_wh": "Wh",
    "energy_total_wh": "Wh",
    "soc_frac": "",
    "soh_frac": "",
    "capacity_wh": "Wh",
    **{f"phase{n}_{name}": unit for n in (1, 2, 3) for name, unit in _PER_PHASE.items()},
    **{f"pv{n}_power_w": "W" for n in range(1, 8)},
    "battery_power_w": "W",
    "generator_power_w": "W",
}
"""Unit of each figure, by name; power is as the device counts it, the sign is the meter's business."""
