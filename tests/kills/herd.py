"""Jobs that are never left alone: submitted, moved from site to site, judged when they end, replaced."""

import asyncio
import random
import sqlite3
import sys
from dataclasses import dataclass, field

import grpc.aio

from agent.simulator.evidence import digest
from sterna.v1 import job_pb2
from tests.kills.figures import Verdict, judged
from tests.kills.sight import Sight, look_if_possible
from tests.system.harness import Admin, System, Training, reference_digest

LOOK_S = 0.2
STEPS = 240
STEP_S = 0.1
SAVE_S = LOAD_S = 0.3
"""As long as a checkpoint of some hundred megabytes takes: long enough to be killed in."""
DWELL_S = (0.2, 2.0)
"""How long a job runs between two moves."""
SEEDS = 4
"""Different trainings; each is run once undisturbed, to be compared with."""
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


@dataclass(slots=True)
class Herd:
    """So many jobs at any time.

    Parameters
    ----------
    system : System
        The fleet.
    size : int
        Jobs at any time.
    rng : random.Random
        Decides homes, destinations and times.
    """

    system: System
    size: int
    rng: random.Random
    trainings: dict[str, Training] = field(default_factory=dict)
    """By job id, those that have not been judged."""
    verdicts: list[Verdict] = field(default_factory=list)
    refused: int = 0
    _count: int = 0
    _pending: Training | None = None
    _move_at_s: dict[str, float] = field(default_factory=dict)
    _ending: bool = False

    async def run(self) -> None:
        """Keep the jobs going until every one has ended, after `end`, or cancelled."""
        while not self._done:
            async with self.system.admin() as admin:
                while not self._done:
                    if not await self._answered(admin):
                        break
                    await asyncio.sleep(LOOK_S)
            await asyncio.sleep(LOOK_S)  # the coordinator was killed; what was asked is asked again

    async def _answered(self, admin: Admin) -> bool:
        """Do what is due; return False when the coordinator has gone away meanwhile."""
        try:
            await self._round(admin)
        except grpc.aio.AioRpcError as error:
            if error.code() not in AWAY:
                raise
            return False
        return True

    def end(self) -> None:
        """Submit no more and move no more; `run` ends with the last job."""
        self._ending = True

    @property
    def _done(self) -> bool:
        return self._ending and not self.trainings and self._pending is None

    async def _round(self, admin: Admin) -> None:
        sight = look_if_possible(self.system)
        if sight is None:
            return
        for job_id in [job_id for job_id in self.trainings if job_id in sight.ended]:
            training = self.trainings.pop(job_id)
            self._move_at_s.pop(job_id, None)
            state = sight.ended[job_id]
            self.verdicts.append(await asyncio.to_thread(self._judge, training, state))
        if self._pending is not None or (len(self.trainings) < self.size and not self._ending):
            await self._submit(admin)
        if not self._ending:
            await self._move_some(admin, sight)

    async def _submit(self, admin: Admin) -> None:
        """Submit one; a submission of which no answer came is repeated word for word."""
        if self._pending is None:
            self._count += 1
            stays = self._count % 3 > 0
            self._pending = Training(
                name=f"job-{self._count:04d}",
                home=self.rng.choice(self.system.sites),
                steps=STEPS,
                seed=self._count % SEEDS,
                step_s=STEP_S,
                save_s=SAVE_S,
                load_s=LOAD_S,
                on_partition=job_pb2.ON_PARTITION_KEEP_RUNNING if stays else job_pb2.ON_PARTITION_STOP,
            )
        job_id = await admin.submit(self._pending, request_id=self._pending.name)
        self.trainings[job_id] = self._pending
        self._pending = None

    async def _move_some(self, admin: Admin, sight: Sight) -> None:
        """Order the moves that are due of the jobs that have run for their while."""
        now_s = asyncio.get_running_loop().time()
        for job_id in list(self.trainings):
            standing = sight.jobs.get(job_id)
            if standing is None or standing.state != "RUNNING" or job_id in sight.moves:
                self._move_at_s.pop(job_id, None)
                continue
            if now_s < self._move_at_s.setdefault(job_id, now_s + self.rng.uniform(*DWELL_S)):
                continue
            to = self.rng.choice([site for site in self.system.sites if site != standing.owner])
            try:
                await admin.move(job_id, to)
            except grpc.aio.AioRpcError as error:
                if error.code() in AWAY:
                    raise
                self.refused += 1  # a site that has just been killed takes nothing
            self._move_at_s.pop(job_id, None)

    def _judge(self, training: Training, state: str) -> Verdict:
        verdict = judged(
            training.name,
            self.system.entries(training),
            total=training.steps,
            state=state,
            digest=digest(self.system.final(training)),
            reference=reference_digest(training, self.system.folder),
        )
        if verdict.faults or verdict.ran_twice:
            print(f"{training.name}: {verdict}", file=sys.stderr, flush=True)
        return verdict

    def migrations(self) -> dict[str, int]:
        """Return how many migrations have come to which end, by the coordinator's record."""
        try:
            rows = self.system.query("SELECT state, count(*) FROM migrations GROUP BY state")
        except sqlite3.Error:
            return {}
        return {str(state): int(count) for state, count in rows}
