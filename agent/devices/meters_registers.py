"""A meter that does not speak SunSpec: read by its table, in as few requests as it allows."""

import logging
from collections.abc import Sequence

from agent.core.blocks import Span, compile_sets, wanted, words
from agent.core.plausibility import believable, plausible
from agent.core.stored import storage
from agent.devices.bus import Bus
from agent.model.readings import MeterReading, MeterRole, Quality, Storage
from agent.model.registers import Space, Table, decode
from sterna.clock import Clock
from sterna.errors import PeerProtocolError, TransientError

log = logging.getLogger(__name__)

FAST = ("active_power_w", "available_power_w", "frequency_hz")
SLOW = ("energy_import_wh", "energy_export_wh")
STORED = ("soc_frac", "soh_frac", "capacity_wh")
# A slow figure may miss two of its rounds before it is unknown.
SLOW_ROUNDS = 3.0
# A device that refuses its slow set is asked again: firmware is updated, plugs are changed.
REFUSED_RETRY_S = 600.0

Answers = tuple[tuple[Span, Sequence[int]], ...]


class RegisterMeter:
    """A meter of a register table over Modbus.

    Parameters
    ----------
    name, role
        As configured.
    bus : Bus
        Shared by the units behind one address.
    clock : Clock
        Stamps the readings and times the slow set.
    table : Table
        Its family.
    unit : int
        Modbus unit id.
    invert : bool
        The meter counts power out of the site (or, for a plant, production) as negative of the house's sign.
    max_power_w : float
        Largest magnitude that can be real, > 0; anything beyond is BAD.
    slow_period_s : float
        Between two reads of the energies, > 0.
    """

    def __init__(
        self,
        name: str,
        role: MeterRole,
        bus: Bus,
        *,
        clock: Clock,
        table: Table,
        unit: int = 1,
        invert: bool = False,
        max_power_w: float = 1e6,
        slow_period_s: float = 30.0,
    ) -> None:
        self.name = name
        self.role = role
        self._bus, self._unit, self._table = bus, unit, table
        self._clock = clock
        self._sign = -1.0 if invert else 1.0
        self._max_power_w = max_power_w
        self._slow_period_s = slow_period_s
        self._fast, self._slow = compile_sets(
            wanted(table.needed(FAST), table.space),
            wanted(table.needed(SLOW + STORED if role is MeterRole.BATTERY else SLOW), table.space),
            max_read=table.max_read,
            max_gap=table.max_gap,
            holes=table.holes,
        )
        self._slow_answers: Answers = ()
        self._slow_at_s = float("-inf")
        self._slow_due_s = float("-inf")
        if leads := [register.name for register in table.registers if register.lead]:
            log.warning(
                "meter table has unconfirmed addresses",
                extra={"meter": name, "table": table.name, "figures": leads},
            )

    async def poll(self) -> MeterReading:
        """Read it once; see `agent.devices.meters.Meter`."""
        answers = await self._read(self._fast)
        measured_at, measured_s = self._clock.now(), self._clock.boottime_s()
        await self._refresh_slow()
        figures = decode(
            self._table,
            lambda space, address, count: words((*answers, *self._slow_answers), space, address, count),
        )
        power_w = figures.get("active_power_w")
        fault = plausible(power_w, max_power_w=self._max_power_w)
        good = fault is None and power_w is not None
        return MeterReading(
            meter=self.name,
            role=self.role,
            measured_at=measured_at,
            measured_boottime_s=measured_s,
            quality=Quality.OK if good else Quality.BAD,
            active_power_w=self._power(power_w) if good else None,
            storage=self._stored(figures) if good else None,
            fault=fault,
            **(self._side_figures(figures) if good else {}),
        )

    def _power(self, power_w: float | None) -> float | None:
        if power_w is None:
            return None
        signed_w = self._sign * power_w
        # A plant that sleeps draws some watts: that is load, not negative production.
        return max(0.0, signed_w) if self.role is MeterRole.GENERATION else signed_w

    def _side_figures(self, figures: dict[str, float | None]) -> dict[str, float | None]:
        sane = {name: believable(name, value) for name, value in figures.items()}
        energies = (sane.get("energy_import_wh"), sane.get("energy_export_wh"))
        imported_wh, exported_wh = energies if self._sign > 0 else energies[::-1]
        if self.role is MeterRole.GENERATION:
            # The meter of a plant counts production as import; in the house's sign it leaves the device.
            imported_wh, exported_wh = exported_wh, imported_wh
        return {
            "available_power_w": sane.get("available_power_w"),
            "energy_import_wh": imported_wh,
            "energy_export_wh": exported_wh,
            "frequency_hz": sane.get("frequency_hz"),
        }

    def _stored(self, figures: dict[str, float | None]) -> Storage | None:
        if self.role is not MeterRole.BATTERY or self._table.figures.isdisjoint(STORED):
            return None
        return storage(
            soc_frac=figures.get("soc_frac"),
            soh_frac=figures.get("soh_frac"),
            capacity_wh=figures.get("capacity_wh"),
        )

    async def _refresh_slow(self) -> None:
        now_s = self._clock.boottime_s()
        if not self._slow or now_s < self._slow_due_s:
            return
        self._slow_due_s = now_s + self._slow_period_s
        try:
            self._slow_answers = await self._read(self._slow)
            self._slow_at_s = now_s
        except PeerProtocolError as error:
            # Power is what we are here for: a device without counters is a meter all the same.
            self._slow_due_s = now_s + max(REFUSED_RETRY_S, self._slow_period_s)
            self._slow_answers = ()
            log.warning("meter refuses its energies", extra={"meter": self.name, "fault": str(error)})
        except TransientError:
            if now_s - self._slow_at_s > SLOW_ROUNDS * self._slow_period_s:
                self._slow_answers = ()

    async def _read(self, blocks: Sequence[Span]) -> Answers:
        read = self._bus.read_holding if self._table.space is Space.HOLDING else self._bus.read_input
        return tuple([(block, await read(self._unit, block.address, block.count)) for block in blocks])
