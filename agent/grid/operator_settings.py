"""What operators have set of the site's fail-safe: judged, bounded, and stored before it holds."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from agent.core.failsafe import FailsafeSettings
from agent.core.operator import ConfigBounds, bounded, configured, outdated, parse_config
from agent.grid.ports import Seal
from agent.model.grid import OperatorConfig, Refusal
from agent.store.commands import CommandStore
from sterna.clock import Clock

log = logging.getLogger(__name__)


class OperatorSettings:
    """The newest settings of every operator.

    Parameters
    ----------
    site : FailsafeSettings
        The site's own; an operator may change its part.
    bounds : ConfigBounds
        Within what.
    store : CommandStore
        Where they are kept.
    clock : Clock
        To judge when they were issued.
    max_skew_s : float
        How far an operator's clock may be off.
    clock_synced : callable
        Whether ours can be trusted now.
    seals : mapping of source to Seal
        Sources whose JSON must be signed.
    """

    def __init__(
        self,
        *,
        site: FailsafeSettings,
        bounds: ConfigBounds,
        store: CommandStore,
        clock: Clock,
        max_skew_s: float,
        clock_synced: Callable[[], bool],
        seals: Mapping[str, Seal],
    ) -> None:
        self._site = site
        self._bounds = bounds
        self._store = store
        self._clock = clock
        self._max_skew_s = max_skew_s
        self._clock_synced = clock_synced
        self._seals = seals
        self._known: dict[str, OperatorConfig] = {}
        self._lock = asyncio.Lock()

    def recover(self, known: Mapping[str, OperatorConfig]) -> None:
        """Take what the store had."""
        self._known = dict(known)

    def of(self, source: str) -> OperatorConfig:
        """Return what an operator has set."""
        return self._known.get(source, OperatorConfig())

    def in_force(self, source: str) -> FailsafeSettings:
        """Return the fail-safe settings in force for one operator's link."""
        return configured(self._site, self._known.get(source))

    async def take(self, source: str, payload: bytes) -> Refusal | None:
        """Take settings in JSON; None once they are stored and hold.

        Raises
        ------
        TransientError
            They could not be stored; nothing changed.
        """
        config = parse_config(payload, self._bounds)
        refusal = config if isinstance(config, Refusal) else self._unwelcome(source, config, payload)
        if refusal is not None or isinstance(config, Refusal):
            log.warning("operator settings were refused", extra={"source": source, "reason": str(refusal)})
            return refusal
        await self._keep(source, config)
        return None

    async def set(self, source: str, config: OperatorConfig) -> Refusal | None:
        """Take settings as values; see `take`."""
        checked = bounded(config, self._bounds)
        if isinstance(checked, Refusal):
            log.warning("operator settings were refused", extra={"source": source, "reason": str(checked)})
            return checked
        await self._keep(source, config)
        return None

    async def _keep(self, source: str, config: OperatorConfig) -> None:
        async with self._lock:
            if config != self._known.get(source):
                await self._store.keep_config(source, config)
                self._known[source] = config
                log.info("operator settings hold", extra={"source": source})

    def _unwelcome(self, source: str, config: OperatorConfig, payload: bytes) -> Refusal | None:
        seal = self._seals.get(source)
        forged = None if seal is None else seal.check("config", payload)
        return forged or outdated(
            config,
            self._known.get(source),
            now=self._clock.now(),
            max_skew_s=self._max_skew_s,
            clock_synced=self._clock_synced(),
            must_state=seal is not None,
        )
