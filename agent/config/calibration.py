"""``[gpu.calibration]``: what a watt at the node's sensors is at the site's meter."""

from collections.abc import Iterable
from typing import Literal

import msgspec


class CalibrationTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the node's own power figures are brought to those of the meter (docs/gpus.md)."""

    mode: Literal["auto", "learn", "fixed", "off"] = "auto"
    """learn: from the meters; fixed: `factor` holds; off: none; auto: learn, but off for a modelled GPU."""
    factor: float = 1.0
    """Watts at the meter per watt at the sensors; learn: until it is learnt."""
    min_step_w: float = 5.0
    """learn: smallest step at the sensors that counts; more where the rest of the site is restless."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if not 1.0 <= self.factor <= 3.0:
            yield "factor", f"expected 1.0 to 3.0, got {self.factor}"
        if self.min_step_w <= 0:
            yield "min_step_w", f"expected more than zero, got {self.min_step_w}"
