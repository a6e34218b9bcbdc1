"""Which register tables fit: mains look like mains, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.recognise import judge_figures

GOOD = {"active_power_w": 100.0, "frequency_hz": 50.0, "phase1_voltage_v": 230.0}


@pytest.mark.parametrize(
    ("figures", "fits", "evidence"),
    [
        (GOOD, True, 2),
        (GOOD | {"phase2_voltage_v": 0.0, "phase3_voltage_v": 0.0}, True, 2),
        (GOOD | {"phase2_voltage_v": 231.0, "phase3_voltage_v": 229.0}, True, 4),
        (GOOD | {"frequency_hz": None}, True, 1),
        ({"active_power_w": 100.0}, False, 0),
        (GOOD | {"active_power_w": None}, False, 2),
        (GOOD | {"active_power_w": 1e9}, False, 2),
        (GOOD | {"frequency_hz": 0.0}, False, 1),
        (GOOD | {"phase1_voltage_v": 0.0}, False, 1),
        (GOOD | {"phase2_voltage_v": 1e-30}, False, 2),
        (GOOD | {"power_factor": 7.0}, False, 2),
        (GOOD | {"phase1_current_a": 4.0, "power_factor": 0.98}, True, 2),
    ],
)
def test_what_speaks_for_and_against(figures: dict[str, float | None], fits: bool, evidence: int) -> None:
    verdict = judge_figures(figures, max_power_w=1e6)
    assert (verdict.fits, len(verdict.evidence)) == (fits, evidence)
    assert fits is not bool(verdict.objections) or not evidence


@given(st.dictionaries(st.sampled_from([*GOOD, "power_factor"]), st.none() | st.floats(allow_nan=False)))
def test_what_is_no_mains_never_fits(figures: dict[str, float | None]) -> None:
    verdict = judge_figures(figures, max_power_w=1e6)
    hz, voltage_v = figures.get("frequency_hz"), figures.get("phase1_voltage_v")
    if verdict.fits:
        assert hz is None or 45 <= hz <= 66
        assert voltage_v is None or 80 <= voltage_v <= 700
        assert hz is not None or voltage_v is not None
