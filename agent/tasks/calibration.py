"""Learns what a watt at the node's sensors is at the site's meter, by `agent.core.calibration`."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.core.calibration import (
    Calibration,
    CalibrationSettings,
    CalibrationState,
    Sample,
    estimate,
    load_with_compute_w,
    observe,
)
from agent.model.readings import MeterRole, SitePower
from agent.store.calibration import CalibrationStore
from sterna.errors import TransientError
from sterna.supervise import Heart

log = logging.getLogger(__name__)

SAVE_PERIOD_S = 5.0
_TELL_FRAC = 0.05


@dataclass(slots=True, kw_only=True)
class Calibrator:
    """Holds the factor, learns it from each balance of the site, and keeps what it learnt.

    Parameters
    ----------
    roles : iterable of MeterRole
        What the site has meters for.
    sensors : str
        What the node is measured with; pairs learnt with other sensors are not used.
    """

    settings: CalibrationSettings
    roles: Iterable[MeterRole]
    sensors: str
    store: CalibrationStore
    calibration: Calibration = field(init=False)
    _state: CalibrationState = field(default_factory=CalibrationState)
    _saved: CalibrationState = field(default_factory=CalibrationState)
    _told: float | None = None

    def __post_init__(self) -> None:
        """Begin with the initial factor."""
        self.roles = frozenset(self.roles)
        self.calibration = estimate((), self.settings)

    def factor(self) -> float:
        """Return watts at the meter per watt at the sensors, as far as is known."""
        return self.calibration.factor

    async def recover(self) -> None:
        """Take up what was learnt before."""
        self._state = self._saved = CalibrationState(pairs=await self.store.load(self.sensors))
        self._judge()

    def take(self, power: SitePower, rail_w: float | None) -> None:
        """Learn from one balance of the site.

        Parameters
        ----------
        rail_w : float or None
            What the node's sensors stated for it, before any factor; None: unknown.
        """
        state = observe(self._state, self._sample(power, rail_w), self.settings)
        learnt, self._state = state.pairs is not self._state.pairs, state
        if learnt:
            newest = state.pairs[-1]
            log.debug(
                "node power seen at the meter",
                extra={
                    "method": newest.method.value,
                    "rail_w": round(newest.rail_w, 1),
                    "metered_w": round(newest.metered_w, 1),
                },
            )
            self._judge()

    async def run(self, heart: Heart) -> None:
        """Save what is new every `SAVE_PERIOD_S`."""
        while True:
            await self.save()
            heart.beat()
            await asyncio.sleep(SAVE_PERIOD_S)

    async def save(self) -> None:
        """Save what is new; a disk that is full now is tried again."""
        state = self._state
        if state.pairs is self._saved.pairs:
            return
        try:
            await self.store.save(self.sensors, state.pairs)
        except TransientError as error:
            log.error("the calibration could not be saved", extra={"fault": str(error)})
            return
        self._saved = state

    def _sample(self, power: SitePower, rail_w: float | None) -> Sample | None:
        load_w = load_with_compute_w(power, self.roles)
        if rail_w is None or load_w is None:
            return None
        return Sample(
            measured_at=power.measured_at,
            rail_w=rail_w,
            load_w=load_w,
            # Only where a meter has the role is this figure measured; else it is the very one that we make.
            meter_w=power.compute_w if MeterRole.COMPUTE in self.roles else None,
        )

    def _judge(self) -> None:
        self.calibration = found = estimate(self._state.pairs, self.settings)
        told = self._told
        if found.method is None or (told is not None and abs(found.factor - told) <= _TELL_FRAC * told):
            return
        self._told = found.factor
        log.info(
            "node power is calibrated against the site's meter",
            extra={
                "factor": round(found.factor, 3),
                "method": found.method.value,
                "pairs": found.pairs,
                "spread": None if found.spread is None else round(found.spread, 3),
            },
        )
