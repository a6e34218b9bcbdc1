"""The plant as arithmetic: trace time to watts. Pure; serving and publishing are done elsewhere."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.simulator.traces import Sample, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class SimTime:
    """How real time maps to trace time; every daemon that simulates one fleet gets the same three figures.

    Parameters
    ----------
    start_at : datetime
        Real instant at which the trace starts to run.
    trace_start_at : datetime
        Instant of the trace at that moment.
    speedup : float
        Trace seconds in a real second, > 0. Nothing but the trace runs faster.
    """

    start_at: datetime
    trace_start_at: datetime
    speedup: float

    def trace_at(self, now: datetime) -> datetime:
        """Instant of the trace; before `start_at` the trace stands at its start."""
        return self.trace_start_at + max(timedelta(0), now - self.start_at) * self.speedup

    def real_at(self, trace_at: datetime) -> datetime:
        """Real instant at which the trace gets there."""
        return self.start_at + (trace_at - self.trace_start_at) / self.speedup


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantState:
    """Watts at one instant: generation >= 0, grid exchange positive into the site."""

    generation_w: float
    available_w: float
    base_load_w: float
    compute_w: float
    grid_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Sun and wind at a place, with the load that is not Sterna's.

    Parameters
    ----------
    trace : Trace
        The weather.
    pv_w, wind_w : float
        Nameplates, >= 0.
    base_load_w : float
        Constant, >= 0.
    """

    trace: Trace
    pv_w: float
    wind_w: float
    base_load_w: float

    @property
    def nameplate_w(self) -> float:
        """All that it can ever give."""
        return self.pv_w + self.wind_w

    def generation_w(self, sample: Sample) -> float:
        """Compute the generation under a weather, >= 0."""
        return self.pv_w * sample.pv_cf + self.wind_w * sample.wind_cf

    def surplus_w(self, generation_w: float) -> float:
        """Compute what a generation leaves beyond the base load, our own draw not counted."""
        return max(0.0, generation_w - self.base_load_w)

    def state(
        self, trace_at: datetime, *, compute_w: float, limit_generation_w: float | None = None
    ) -> PlantState:
        """Balance the site at an instant of the trace.

        Parameters
        ----------
        trace_at : datetime
            In trace time.
        compute_w : float
            Draw of the simulated nodes, >= 0.
        limit_generation_w : float or None
            Curtailment; None: none.
        """
        available_w = self.generation_w(self.trace.at(trace_at))
        generation_w = available_w if limit_generation_w is None else min(available_w, limit_generation_w)
        return PlantState(
            generation_w=generation_w,
            available_w=available_w,
            base_load_w=self.base_load_w,
            compute_w=compute_w,
            grid_w=self.base_load_w + compute_w - generation_w,
        )
