"""Books the energy of every site, slot by slot, and keeps the chain of records closed by day."""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from coordinator.core import chain
from coordinator.core.chain import Kind
from coordinator.core.energy_ledger import Entry, book, metered_course
from coordinator.store.energy_store import EnergyStore, Slot
from coordinator.store.records import Mark, Recorder
from coordinator.tasks.fleet import Fleet
from sterna.clock import Clock
from sterna.errors import ConfigError, TransientError
from sterna.supervise import Heart

log = logging.getLogger(__name__)

SETTLE_S = 30.0
"""Telemetry of a slot that comes later than this after its end has the slot booked again."""
SLOTS_A_ROUND = 200
DIGITS = 6
"""Of the watt-hours, seconds and grams that are signed: a millionth."""


class Accountant:
    """The loop that books.

    Parameters
    ----------
    fleet : Fleet
        For who draws where when there was no ledger yet.
    energy : EnergyStore
        Where it is booked.
    recorder : Recorder or None
        Signs what is booked; None: nobody does.
    head_file : Path
        Holds how far the chain had got, beside the store, so that a store that comes back older is noticed.
    carbon_g_per_kwh : mapping of site to float or None
        Of the sites; None: unknown.
    grid_renewable_frac : float
        Renewable share of what is imported, 0 to 1.
    hold_s : float
        For how long a sample says something.
    clock : Clock
        For instants.
    period_s : float
        Time between two rounds.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        energy: EnergyStore,
        recorder: Recorder | None,
        head_file: Path,
        carbon_g_per_kwh: Mapping[str, float | None],
        grid_renewable_frac: float,
        hold_s: float,
        clock: Clock,
        period_s: float,
    ) -> None:
        self._fleet = fleet
        self._energy = energy
        self._recorder = recorder
        self._head_file = head_file
        self._carbon_g_per_kwh = carbon_g_per_kwh
        self._grid_renewable_frac = grid_renewable_frac
        self._hold_s = hold_s
        self._clock = clock
        self.period_s = period_s
        self._noted: Mark | None = None

    async def run(self, heart: Heart) -> None:
        """Book for ever."""
        begun = False
        while True:
            heart.beat()
            try:
                if not begun:
                    await self._begin()
                    begun = True
                await self.round(heart)
            except TransientError as error:
                log.error("energy could not be booked", extra={"why": str(error)})
            await asyncio.sleep(self.period_s)

    async def round(self, heart: Heart) -> None:
        """Book what is due; close a day that is over; note how far the chain has got."""
        before = self._clock.now() - timedelta(seconds=SETTLE_S)
        for slot in await self._energy.due(self._carbon_g_per_kwh, before, SLOTS_A_ROUND):
            await self._book(slot)
            heart.beat()
        if self._recorder is not None:
            await self._recorder.add(())
            self._note(self._recorder.mark)

    async def _begin(self) -> None:
        await self._energy.adopt(self._fleet.state)
        if self._recorder is None:
            return
        known = _read(self._head_file)
        if known is not None and not await self._recorder.holds(known):
            log.error(
                "the ledger is older than what was signed", extra={"seq": known.seq, "hash": known.hash}
            )
            body = {"had_hash": known.hash, "had_seq": known.seq}
            await self._recorder.add([(Kind.RESTORED, "", body)])

    async def _book(self, slot: Slot) -> None:
        sources = await self._energy.sources(slot, self._hold_s)
        if sources.booked_samples is not None and len(sources.samples) <= sources.booked_samples:
            # Nothing new; or telemetry was trimmed since, and what is booked knows more than we do.
            await self._energy.drop(slot)
            return
        course = metered_course(
            sources.samples,
            start_at=slot.start_at,
            end_at=slot.end_at,
            hold_s=self._hold_s,
            carbon_g_per_kwh=self._carbon_g_per_kwh.get(slot.site_id),
        )
        entries = book(course, sources.stays, grid_renewable_frac=self._grid_renewable_frac)
        if self._recorder is None:
            await self._energy.book(slot, entries, len(sources.samples))
            return
        subject = f"{slot.site_id}/{chain.stamp(slot.start_at)}"
        await self._recorder.add(
            [(Kind.ENERGY, subject, energy_body(slot, entries, len(sources.samples)))],
            self._energy.booking(slot, entries, len(sources.samples)),
        )

    def _note(self, mark: Mark | None) -> None:
        """Write down how far the chain has got. Not forced to disk: an older note only notices less."""
        if mark is None or mark == self._noted:
            return
        fresh = self._head_file.with_suffix(".new")
        try:
            fresh.write_text(json.dumps({"hash": mark.hash, "seq": mark.seq}) + "\n", encoding="ascii")
            fresh.replace(self._head_file)
        except OSError as error:
            log.error("the end of the ledger could not be noted", extra={"why": str(error)})
            return
        self._noted = mark


def energy_body(slot: Slot, entries: Mapping[str, Entry], samples: int) -> dict[str, Any]:
    """Return what is signed of a slot; job "": what nobody drew for."""
    return {
        "end_at": chain.stamp(slot.end_at),
        "entries": [
            {"job": job_id, **{name: round(value, DIGITS) for name, value in asdict(entry).items()}}
            for job_id, entry in sorted(entries.items())
        ],
        "samples": samples,
        "site": slot.site_id,
        "start_at": chain.stamp(slot.start_at),
    }


def _read(path: Path) -> Mark | None:
    try:
        plain = json.loads(path.read_bytes())
        return Mark(seq=int(plain["seq"]), hash=str(plain["hash"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"state_dir: {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError):
        # A note that is torn notices nothing; the next round writes it anew.
        log.warning("the note of where the ledger ended is not readable", extra={"file": str(path)})
        return None
