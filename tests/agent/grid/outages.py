"""Random schedules of what may happen to a site and its operator, in virtual time, on the production desk.

`Rule` is what EEBus LPC asks for, told a second time and in the plainest way; the desk is held against it at
every sample. The operator's clock is the true one; the site's calendar may be off.
"""

import json
import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.core.limits import export_source
from agent.grid.desk import GridDesk
from agent.grid.wire import stamp
from agent.model.limits import GridState, LimitKind
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import FakeClock
from tests.agent.grid.operators import limit

FAILSAFE_W = 4200.0
FAILSAFE_EXPORT_W = 700.0
TIMEOUT_S = 120.0
TICK_S = 1.0
SKEW_S, MAX_AGE_S = 60.0, 300.0
SHORTEST_LOSS_S, LONGEST_LOSS_S = 5.0, 14 * 86_400.0
START = datetime(2026, 11, 22, 10, tzinfo=UTC)
SOURCE = "mqtt"
EXPORTS = export_source(SOURCE)
HELD = frozenset({GridState.INIT, GridState.FAILSAFE})


@dataclass(slots=True)
class Rule:
    """The fail-safe rule of one link and direction, of one process; times are boot seconds."""

    protected: bool = True
    heard_s: float | None = None

    def at(self, now_s: float) -> bool:
        """Return whether the fail-safe limit must hold now."""
        if self.heard_s is not None and now_s >= self.heard_s + TIMEOUT_S:
            self.protected, self.heard_s = True, None
        return self.protected

    def heartbeat(self, now_s: float) -> None:
        """Take a heartbeat that was accepted."""
        self.at(now_s)
        self.heard_s = now_s

    def command(self, now_s: float) -> None:
        """Take a new limit or release that was accepted."""
        self.at(now_s)
        if self.heard_s is not None:
            self.protected = False


@dataclass(slots=True)
class Findings:
    """What many schedules have shown."""

    schedules: int = 0
    samples: int = 0
    protected_samples: int = 0
    protected_export_samples: int = 0
    losses: int = 0
    restarts: int = 0
    cold_boots: int = 0
    clock_steps: int = 0
    releases: int = 0
    export_releases: int = 0
    virtual_days: float = 0.0
    worst_lag_s: float = 0.0
    violations: list[str] = field(default_factory=list)


class Schedule:
    """One site's life, from `seed`."""

    def __init__(self, path: Path, seed: int, findings: Findings, *, timeout_s: float = TIMEOUT_S) -> None:
        self.rng = random.Random(seed)
        self.name = f"schedule {seed}"
        self.findings = findings
        self.settings = FailsafeSettings(failsafe_import_w=FAILSAFE_W, heartbeat_timeout_s=timeout_s)
        self.path = path
        self.true_now = START
        self.clock = FakeClock(START)
        self.boot = 1
        self.synced = True
        self.sequence = self.beats = 0
        self.rule = Rule()
        self.last_limit_w: float | None = None
        self.export_rng = random.Random(f"{seed} export")
        self.export_rule = Rule()
        self.export_sequence = 0
        self.last_export_w: float | None = None
        self.old_beat = b""

    async def run(self) -> None:
        """Live through a dozen events."""
        await self._start()
        try:
            for _ in range(self.rng.randint(8, 14)):
                await self.rng.choice(
                    (self._connected, self._connected, self._loss, self._loss, self._restart, self._step)
                )()
        finally:
            await self.db.close()
        self.findings.schedules += 1
        self.findings.virtual_days += (self.true_now - START).total_seconds() / 86_400

    async def _start(self) -> None:
        self.db = Database(self.path, MIGRATIONS)
        await self.db.open()
        self.desk = GridDesk(
            clock=self.clock,
            store=CommandStore(self.db, boot_id=f"boot-{self.boot}"),
            operators=(SOURCE,),
            settings=self.settings,
            rules=Rules(site="site-a", max_skew_s=SKEW_S, max_age_s=MAX_AGE_S),
            clock_synced=lambda: self.synced,
            failsafe_exports_w={SOURCE: FAILSAFE_EXPORT_W},
        )
        await self.desk.recover()
        self.rule, self.export_rule = Rule(), Rule()
        await self._sample()

    async def _pass(self, duration_s: float) -> None:
        """Let time pass: second by second while the timeout runs out, as the daemon ticks; else in leaps."""
        left_s = duration_s
        while left_s > 0:
            leap_s = self.rng.uniform(1, max(10.0, duration_s / 20))
            if self.rule.heard_s is not None:
                silent_s = self.clock.boottime_s() - self.rule.heard_s
                dense = TIMEOUT_S - 3 <= silent_s <= TIMEOUT_S + 5
                leap_s = TICK_S if dense else min(leap_s, max(TICK_S, TIMEOUT_S - 3 - silent_s))
            leap_s = min(left_s, leap_s)
            left_s -= leap_s
            self.clock.advance(leap_s)
            self.true_now += timedelta(seconds=leap_s)
            await self.desk.tick()
            await self._sample()

    async def _sample(self) -> None:
        """Hold the desk against the rule."""
        boot_s, found = self.clock.boottime_s(), self.findings
        heard_s, before = self.rule.heard_s, self.rule.protected
        must_hold = self.rule.at(boot_s)
        envelope = self.desk.envelope()
        limit_w = math.inf if envelope.binding is None else envelope.binding.limit_w
        found.samples += 1
        if must_hold:
            found.protected_samples += 1
            if limit_w > FAILSAFE_W or envelope.state not in HELD:
                found.violations.append(f"{self.name}: {envelope.state.value} at {limit_w} W, must hold")
            elif not before and heard_s is not None:
                found.worst_lag_s = max(found.worst_lag_s, boot_s - heard_s)
        else:
            wanted_w = math.inf if self.last_limit_w is None else self.last_limit_w
            if envelope.state in HELD or limit_w != wanted_w:
                found.violations.append(f"{self.name}: {envelope.state.value} at {limit_w} W, was released")
        self._sample_export(boot_s)

    def _sample_export(self, boot_s: float) -> None:
        must_hold = self.export_rule.at(boot_s)
        limit_w = min((limit.limit_w for limit in self.desk.exports()), default=math.inf)
        commanded_w = math.inf if self.last_export_w is None else self.last_export_w
        wanted_w = min(commanded_w, FAILSAFE_EXPORT_W) if must_hold else commanded_w
        self.findings.protected_export_samples += must_hold
        if limit_w != wanted_w:
            self.findings.violations.append(f"{self.name}: exports {limit_w} W instead of {wanted_w} W")

    async def _beat(self) -> None:
        self.beats += 1
        payload = json.dumps({"n": self.beats, "t": stamp(self.true_now)}).encode()
        refusal = self.desk.heartbeat(SOURCE, payload)
        self.old_beat = payload
        if (refusal is None) != (not self.synced or abs(self._off_s()) <= SKEW_S):
            self.findings.violations.append(f"{self.name}: heartbeat {refusal} with {self._off_s()} s off")
        if refusal is None:
            self._hear()
        await self._sample()
        if self.export_rng.random() < 0.2:
            await self._command_export()

    def _hear(self) -> None:
        for rule in (self.rule, self.export_rule):
            rule.heartbeat(self.clock.boottime_s())

    async def _command_export(self) -> None:
        value_w = self.export_rng.choice((None, None, 9000.0, 300.0))
        self.export_sequence += 1
        kind = LimitKind.EXPORT_CAPACITY_LIMIT.value
        message = limit(self.export_sequence, value_w, now=self.true_now, kind=kind)
        await self.desk.limit(SOURCE, json.dumps(message).encode())
        if self.desk.last_sequence(EXPORTS) == self.export_sequence:
            before = self.export_rule.protected
            self.export_rule.command(self.clock.boottime_s())
            self.last_export_w = value_w
            self.findings.export_releases += before and not self.export_rule.protected
        await self._sample()

    async def _command(self) -> None:
        value_w = self.rng.choice((None, None, 9000.0, 5000.0, 2000.0))
        self.sequence += 1
        message = limit(self.sequence, value_w, now=self.true_now)
        await self.desk.limit(SOURCE, json.dumps(message).encode())
        accepted = self.desk.last_sequence(SOURCE) == self.sequence
        if self.synced and accepted != (-SKEW_S <= self._off_s() <= MAX_AGE_S):
            self.findings.violations.append(f"{self.name}: accepted {accepted} with {self._off_s()} s off")
        if accepted:
            before = self.rule.protected
            self.rule.command(self.clock.boottime_s())
            self.last_limit_w = value_w
            self.findings.releases += before and not self.rule.protected
        await self._sample()
        if self.export_rng.random() < 0.3:
            await self._command_export()

    def _off_s(self) -> float:
        """Seconds that the site's calendar is ahead of the truth."""
        return (self.clock.now() - self.true_now).total_seconds()

    async def _connected(self) -> None:
        """Hear an operator for a while; it may forget to state its limit, or state it before it beats."""
        period_s = self.rng.uniform(10, 60)
        speaks_at = self.rng.choice((0, 1, 2, 100))
        if self.rng.random() < 0.2:
            await self._command()
        for number in range(self.rng.randint(1, 12)):
            await self._beat()
            if number == speaks_at or self.rng.random() < 0.1:
                await self._command()
            await self._pass(period_s)

    async def _loss(self) -> None:
        """Hear no heartbeat for 5 s to 14 d; commands may still come, and old heartbeats once more."""
        self.findings.losses += 1
        loss_s = math.exp(self.rng.uniform(math.log(SHORTEST_LOSS_S), math.log(LONGEST_LOSS_S)))
        while loss_s > 0:
            part_s = min(loss_s, self.rng.uniform(0.3, 1.5) * loss_s + 1)
            await self._pass(part_s)
            loss_s -= part_s
            if self.rng.random() < 0.3:
                await self._command()
            if self.rng.random() < 0.3 and self.old_beat:
                self._play_back()

    def _play_back(self) -> None:
        if self.desk.heartbeat(SOURCE, self.old_beat) is None:
            # A process that has just started has no memory of heartbeats; one that is fresh it may take.
            if self.synced and abs(self._age_s()) > SKEW_S:
                self.findings.violations.append(f"{self.name}: an old heartbeat counted")
            self._hear()

    def _age_s(self) -> float:
        sent_at = datetime.fromisoformat(json.loads(self.old_beat)["t"])
        return (self.clock.now() - sent_at).total_seconds()

    async def _restart(self) -> None:
        """Restart the agent, or the whole machine with a boot clock that starts anew, perhaps in 1970."""
        await self.db.close()
        gone_s = self.rng.choice((0.0, 1.0, self.rng.uniform(0, 600), self.rng.uniform(0, 86_400)))
        self.true_now += timedelta(seconds=gone_s)
        if self.rng.random() < 0.5:
            self.findings.restarts += 1
            self.clock.advance(gone_s)
        else:
            self.findings.cold_boots += 1
            self.boot += 1
            self.synced = self.rng.random() < 0.7
            calendar = self.true_now if self.synced else datetime(1970, 1, 1, tzinfo=UTC)
            self.clock = FakeClock(calendar, boottime_s=self.rng.uniform(1, 30))
        await self._start()

    async def _step(self) -> None:
        """Step the calendar: out of true, or back to it as time synchronisation does."""
        self.findings.clock_steps += 1
        if self.rng.random() < 0.5 or abs(self._off_s()) > 0:
            self.clock.step_calendar(-self._off_s())
            self.synced = True
        else:
            far_s = math.exp(self.rng.uniform(0, math.log(10 * 365 * 86_400)))
            self.clock.step_calendar(self.rng.choice((-far_s, far_s)))
        await self._sample()


async def live_through(folder: Path, seeds: range, *, timeout_s: float = TIMEOUT_S) -> Findings:
    """Run one schedule per seed, until one of them has found a fault."""
    findings = Findings()
    for seed in seeds:
        path = folder / f"{seed}.db"
        await Schedule(path, seed, findings, timeout_s=timeout_s).run()
        for file in folder.glob(f"{seed}.db*"):
            file.unlink()
        if findings.violations:
            break
    return findings
