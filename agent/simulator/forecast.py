"""The plant's own surplus forecast, with an error that is declared, seeded and grows with lead time.

True generation, seen from a forecast `f` at lead `l`, is log-normal around it: ``f * exp(sigma(l) * z)``. So
the published quantiles are ``f * exp(+-1.2816 * sigma)``, and they are right: over many forecasts, 80 % of
what happens falls between p10 and p90. Surplus rises with generation, so its quantiles are those of the
generation, carried through.
"""

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.simulator.plant import Plant, SimTime
from sterna.units import s_to_hours

Z10 = 1.2815515655446004
"""Standard normal deviate that 10 % exceed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorModel:
    """How wrong the forecasts are.

    Parameters
    ----------
    seed : int
        Same seed, same errors.
    sigma_start, sigma_per_sqrt_hour, sigma_max : float
        Spread of the log of generation: ``min(max, start + per_sqrt_hour * sqrt(lead in trace hours))``. All
        0: perfect forecasts.
    memory : float
        Correlation of the error between neighbouring slots, 0 to 1.
    """

    seed: int = 0
    sigma_start: float = 0.02
    sigma_per_sqrt_hour: float = 0.03
    sigma_max: float = 0.25
    memory: float = 0.9

    def sigma(self, lead_h: float) -> float:
        """Spread at a lead, trace hours >= 0."""
        return min(self.sigma_max, self.sigma_start + self.sigma_per_sqrt_hour * math.sqrt(max(0.0, lead_h)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Surplus quantiles over one slot of real time."""

    start_at: datetime
    duration_s: float
    p10_w: float
    p50_w: float
    p90_w: float


def forecast(
    plant: Plant,
    time: SimTime,
    *,
    now: datetime,
    horizon: timedelta,
    slot: timedelta,
    errors: ErrorModel,
) -> list[Slot]:
    """Forecast the surplus from the slot that holds `now` on.

    Parameters
    ----------
    plant, time
        Truth and its clock.
    now : datetime
        Real instant of issue.
    horizon, slot : timedelta
        In trace time.
    errors : ErrorModel
        What separates forecast from truth.

    Returns
    -------
    list of Slot
        Contiguous, ascending, in real time; `surplus` is what generation leaves beyond the base load.
    """
    trace_now = time.trace_at(now)
    index = (trace_now - time.trace_start_at) // slot
    first = time.trace_start_at + index * slot
    noise = _noise(errors, plant.trace.place, index)
    deviate = noise.gauss(0, 1)
    slots = []
    for step in range(max(1, math.ceil(horizon / slot))):
        start, end = first + step * slot, first + (step + 1) * slot
        middle = start + slot / 2
        sigma = errors.sigma(s_to_hours((middle - trace_now).total_seconds()))
        truth_w = plant.generation_w(plant.trace.at(middle))
        p50_w = truth_w * math.exp(-sigma * deviate)
        quantiles = (p50_w * math.exp(-Z10 * sigma), p50_w, p50_w * math.exp(Z10 * sigma))
        low, mid, high = (plant.surplus_w(min(w, plant.nameplate_w)) for w in quantiles)
        slots.append(_slot(time, start, end, (low, mid, high)))
        deviate = errors.memory * deviate + math.sqrt(1 - errors.memory**2) * noise.gauss(0, 1)
    return slots


def message(slots: Sequence[Slot], *, issued_at: datetime) -> Mapping[str, object]:
    """Put a forecast into the words of ``plant/v1/<site>/forecast``."""
    return {
        "v": 1,
        "issued": _rfc3339(issued_at),
        "source": "plant",
        "slots": [
            {
                "start": _rfc3339(slot.start_at),
                "durationS": slot.duration_s,
                "surplusW": {
                    "p10": round(slot.p10_w, 1),
                    "p50": round(slot.p50_w, 1),
                    "p90": round(slot.p90_w, 1),
                },
            }
            for slot in slots
        ],
    }


def _slot(time: SimTime, start: datetime, end: datetime, quantiles: tuple[float, float, float]) -> Slot:
    # Both ends are rounded to microseconds alike, so that neighbours meet exactly.
    start_at, end_at = time.real_at(start), time.real_at(end)
    return Slot(
        start_at=start_at,
        duration_s=(end_at - start_at).total_seconds(),
        p10_w=quantiles[0],
        p50_w=quantiles[1],
        p90_w=quantiles[2],
    )


def _noise(errors: ErrorModel, place: str, index: int) -> random.Random:
    # Python's own hash of a string differs between processes; all daemons must see the same errors.
    digest = hashlib.blake2b(f"{errors.seed}/{place}/{index}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


def _rfc3339(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
