"""One kill after the other: somebody who has a part in a migration, at a random moment of it."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills.figures import Kill
from tests.kills.herd import Herd
from tests.kills.sight import Move, Sight, last_step_s, look_if_possible
from tests.system.daemons import trainers, until

VICTIMS = {"source": 0.3, "destination": 0.3, "coordinator": 0.3, "shim": 0.1}
"""Who is killed how often. The shim owns a job's process; who else dies lives under supervision."""
PAUSE_S = (0.0, 1.0)
"""Between the recovery from one kill and the next."""
BUSY_WITHIN_S = 30.0
LIMIT_S = 60.0
"""Longest wait for a recovery; what takes longer has failed."""
POLL_S = 0.05


def _boottime_s() -> float:
    """Return the clock that step logs use."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Rounds:
    """Kills, each judged before the next.

    Parameters
    ----------
    herd : Herd
        The jobs.
    rng : random.Random
        Decides moments and victims.
    """

    herd: Herd
    rng: random.Random
    kills: list[Kill] = field(default_factory=list)
    _began_s: float = field(default_factory=_boottime_s)

    @property
    def took_s(self) -> float:
        """Return the seconds since the first."""
        return _boottime_s() - self._began_s

    async def one(self) -> Kill:
        """Wait for a random moment of a migration, kill, restart, and wait until all goes on."""
        await asyncio.sleep(self.rng.uniform(*PAUSE_S))
        move = await self._under_way()
        victim = self.rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        pid = self._shim_of(move.job_id) if victim == "shim" else None
        if victim == "shim" and pid is None:  # the job's process is just not there
            victim = "source"
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            began_s = _boottime_s()
            sight = await self._sight()
            name = ""
        else:
            name = {"source": move.source, "destination": move.destination}.get(victim, "coordinator")
            daemon = self.herd.system[name]
            daemon.kill()
            sight = await self._sight()
            began_s = _boottime_s()
            daemon.start()
        kill = await self._recovered(victim, name, move, sight, began_s)
        self.kills.append(kill)
        return kill

    async def _recovered(self, victim: str, name: str, move: Move, sight: Sight, began_s: float) -> Kill:
        """Wait until each migration and job that the dead one had a part in has gone on since its start."""
        hit = {
            one.job_id: one
            for one in sight.moves.values()
            if _has_part(victim, name, one.source, one.destination)
            or (victim == "shim" and one.job_id == move.job_id)
        }
        resting = {
            job_id
            for job_id, standing in sight.jobs.items()
            if job_id not in sight.moves
            and standing.owner is not None
            and (_has_part(victim, name, standing.owner) or (victim == "shim" and job_id == move.job_id))
        }
        waiting = set(hit) | resting
        recovery_s: float | None = 0.0
        while waiting:
            await asyncio.sleep(POLL_S)
            seen = look_if_possible(self.herd.system)
            took_s = _boottime_s() - began_s
            if took_s > LIMIT_S:
                recovery_s = None
                break
            if seen is None:
                continue
            done = {job_id for job_id in waiting if self._goes_on(job_id, hit.get(job_id), seen, began_s)}
            if done:
                recovery_s, waiting = took_s, waiting - done
        on_record = sight.moves.get(move.job_id)
        same = on_record is not None and on_record.migration_id == move.migration_id
        faults = [f"{job_id} did not go on" for job_id in sorted(waiting)] + self._twice()
        return Kill(
            victim=victim,
            phase=on_record.state if same and on_record is not None else "ENDED",
            hit=len(hit),
            recovery_s=recovery_s,
            load=os.getloadavg()[0],
            fault="; ".join(f"kill {len(self.kills)} of {name or victim}: {fault}" for fault in faults),
        )

    def _goes_on(self, job_id: str, hit: Move | None, seen: Sight, began_s: float) -> bool:
        """Tell whether a migration has got further since the kill, or a job has trained since the restart."""
        if job_id in seen.ended:
            return True
        if hit is not None:
            now = seen.moves.get(job_id)
            return now is None or (now.migration_id, now.state) != (hit.migration_id, hit.state)
        training = self.herd.trainings.get(job_id)
        if training is None or job_id in seen.moves:
            return True  # it has ended and been judged, or is on its way: it has an owner, who was heard
        return last_step_s(self.herd.system.step_log(training)) > began_s

    def _twice(self) -> list[str]:
        """Return the jobs of which two trainers live now."""
        alive = Counter(one.job_id for one in trainers(self.herd.system.folder))
        return [f"{count} trainers of {job_id} live at once" for job_id, count in alive.items() if count > 1]

    async def _under_way(self) -> Move:
        """Return one of the migrations under way; wait for one where there is none."""
        until_s = _boottime_s() + BUSY_WITHIN_S
        while True:
            sight = await self._sight()
            if sight.moves:
                return self.rng.choice(sorted(sight.moves.values(), key=lambda one: one.migration_id))
            if _boottime_s() > until_s:
                raise AssertionError(f"nothing is being moved any more\n{self.herd.system.daemons.tails()}")
            await asyncio.sleep(POLL_S)

    async def _sight(self) -> Sight:
        return await until(
            lambda: look_if_possible(self.herd.system), within_s=BUSY_WITHIN_S, what="the record"
        )

    def _shim_of(self, job_id: str) -> int | None:
        """Return the process that owns a job's trainer; None when there is none."""
        needle = f"/jobs/{job_id}/runs/".encode()
        return next((pid for pid in _shims(self.herd.system.folder) if needle in _command(pid)), None)


def _has_part(victim: str, name: str, *sites: str) -> bool:
    return victim == "coordinator" or (victim != "shim" and name in sites)


def _shims(folder: Path) -> Iterable[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            command = _command(int(entry.name))
            if b"agent/shim" in command and os.fsencode(folder) in command:
                yield int(entry.name)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""
