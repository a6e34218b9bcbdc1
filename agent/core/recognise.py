"""Which register table fits a device that says no name: what its figures speak for and against."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.plausibility import believable, plausible

MAINS_HZ = (45.0, 66.0)
VOLTAGE_V = (80.0, 700.0)
VOLTAGES = ("phase1_voltage_v", "phase2_voltage_v", "phase3_voltage_v")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How far a table is believed: only one with no objection and some evidence fits."""

    evidence: tuple[str, ...]
    objections: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the table is to be proposed."""
        return bool(self.evidence) and not self.objections


def judge_figures(figures: Mapping[str, float | None], *, max_power_w: float) -> Verdict:
    """Judge what a device's registers say when they are read by a table.

    Mains have a frequency and voltages that hardly anything else looks like; a power alone proves nothing,
    for any register reads as some power.

    Parameters
    ----------
    figures : mapping of figure to value
        As decoded; None: not available, or refused.
    max_power_w : float
        Largest power that can be real, > 0.
    """
    evidence: list[str] = []
    objections: list[str] = []
    fault = plausible(figures.get("active_power_w"), max_power_w=max_power_w)
    if fault is not None:
        objections.append(fault)
    hz = figures.get("frequency_hz")
    if hz is not None:
        (evidence if MAINS_HZ[0] <= hz <= MAINS_HZ[1] else objections).append(f"frequency {hz:g} Hz")
    for name in VOLTAGES:
        voltage_v = figures.get(name)
        if voltage_v is not None and VOLTAGE_V[0] <= voltage_v <= VOLTAGE_V[1]:
            evidence.append(f"{name} {voltage_v:g} V")
        elif voltage_v is not None and (voltage_v != 0 or name == VOLTAGES[0]):
            objections.append(f"{name} {voltage_v:g} V")  # a phase that is not connected reads 0
    for name, value in figures.items():
        if value is not None and believable(name, value) is None and name not in (*VOLTAGES, "frequency_hz"):
            objections.append(f"{name} {value:g}")
    return Verdict(evidence=tuple(evidence), objections=tuple(objections))
