"""The grid operator's MQTT messages as a target: production link, desk and store, a site per situation."""

import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.core.fields import MAX_SEQUENCE
from agent.core.forecast_feed import parse_forecast
from agent.grid import wire
from agent.grid.desk import GridDesk
from agent.grid.mqtt import EXPORTS, SOURCE, MqttLink
from agent.grid.ports import Seal
from agent.grid.wire import SiteSnapshot, Topics, stamp
from agent.model.grid import Reason, Refusal
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import FakeClock
from sterna.errors import TransientError
from tests.agent.grid.operators import Signer, limit, seal
from tests.hostile.mutants import flipped, junk, retyped, torn, wild, without, written

NOW = datetime(2026, 11, 22, 10, 37, 45, tzinfo=UTC)
LONG_AGO = datetime(1998, 3, 9, 4, 12, 21, tzinfo=UTC)
"""No three changed letters make it today."""
TOPICS = Topics(operator="dso", site="site-a")
HARD_MINIMUM_W = 500.0
LEAVES = ("limit", "config", "heartbeat")
DRAIN_EVERY = 64

Message = dict[str, object]


class FullStore(CommandStore):
    """A store whose disk takes nothing more."""

    async def accept(self, *_args: object) -> None:
        """Refuse as a full disk does."""
        raise TransientError("disk full")


class Site:
    """One link with its desk, in one situation; `refusals` gets the reason of each refusal."""

    def __init__(
        self, db: Database, *, store: type[CommandStore], operators: tuple[str, ...], key: Seal | None
    ):
        self.synced = True
        self.clock = FakeClock(NOW)
        self.desk = GridDesk(
            clock=self.clock,
            store=store(db, boot_id="boot"),
            operators=operators,
            settings=FailsafeSettings(failsafe_import_w=4200.0),
            rules=Rules(site="site-a", hard_minimum_w=HARD_MINIMUM_W),
            clock_synced=lambda: self.synced,
            seals={} if key is None else {SOURCE: key},
        )
        self.link = MqttLink(
            host="127.0.0.1",
            port=1883,
            operator="dso",
            site="site-a",
            client_id="hostile",
            desk=self.desk,
            snapshot=SiteSnapshot,
            clock=self.clock,
            on_forecast=_read_forecast,
        )

    def state(self) -> object:
        """Return all that a message may change."""
        envelope, desk = self.desk.envelope(), self.desk
        return (
            desk.machines,
            envelope,
            desk.operators.in_force(SOURCE),
            desk.last_sequence(SOURCE),
            desk.exports(),
            desk.last_sequence(EXPORTS),
            desk.tally,
        )

    async def drain(self) -> None:
        """Write every ack that waits, as the link would."""
        for source in (SOURCE, EXPORTS):
            for _, ack in await self.desk.pending_acks(source):
                wire.encode_ack(ack)


async def _read_forecast(payload: bytes) -> None:
    forecast = parse_forecast(payload, now=NOW)
    if isinstance(forecast, Refusal):
        log.warning("a forecast was refused", extra={"reason": str(forecast)})


log = logging.getLogger("agent.grid.hostile")


class _Refusals(logging.Handler):
    """Keeps the reason of the last refusal that was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.last: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        reason = getattr(record, "reason", None)
        if isinstance(reason, str):
            self.last = reason.partition(":")[0]


class MqttTarget:
    """Hostile payloads on every topic that the site listens to."""

    name = "mqtt"
    reasons = frozenset(reason.value for reason in Reason)

    def __init__(self, sites: Mapping[str, Site], signer: Signer, refusals: _Refusals) -> None:
        self._sites = dict(sites)
        self._signer = signer
        self._refusals = refusals
        self._states = {name: site.state() for name, site in sites.items()}
        self._mutants = _Mutants(signer)
        self._count = 0

    def state(self) -> object:
        """Return the state of every site."""
        return tuple(self._states.items())

    async def offer(self, rng: random.Random) -> str:
        """Publish one bad payload."""
        if rng.random() < 0.5:
            expected, name, leaf, payload = self._mutants.make(rng)
        else:
            expected, leaf, payload = None, rng.choice((*LEAVES, "forecast")), junk(rng)
            # To a site that asks for no signature {} is a good message on `config`: no setting at all.
            name = "sealed" if leaf == "config" else rng.choice(list(self._sites))
        reason = await self._publish(self._sites[name], name, leaf, payload)
        if expected is not None and reason != expected.value:
            raise AssertionError(f"{name}/{leaf}: {reason} instead of {expected.value}: {payload[:300]!r}")
        return reason

    async def _publish(self, site: Site, name: str, leaf: str, payload: bytes) -> str:
        self._refusals.last = None
        topic = TOPICS.forecast if leaf == "forecast" else TOPICS.of(leaf)
        try:
            await site.link.take(topic, payload, retained=False)
        finally:
            self._states[name] = site.state()
        self._count += 1
        if self._count % DRAIN_EVERY == 0:
            await site.drain()
        return self._refusals.last or "HARMLESS"  # empty, or the newest command once more


class _Mutants:
    """Mutants of valid messages: each with the reason that it must be refused for; None: any."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._kinds: list[Callable[[random.Random], tuple[Reason | None, str, str, bytes]]] = [
            self._field,
            self._figure,
            self._time,
            self._address,
            self._again,
            self._unsynced,
            self._unsigned,
            self._missigned,
            self._unstored,
            self._beat,
            self._settings,
            self._broken,
        ]

    def make(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        """Return the reason, the site, the topic's end and the payload."""
        return rng.choice(self._kinds)(rng)

    def _field(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        good = _good(rng)
        name = rng.choice(("id", "seq", "issued", "kind", "active", "valueW"))
        kind = rng.randrange(4)
        if kind == 0:
            return Reason.MALFORMED, "fresh", "limit", written(without(good, name))
        if kind == 1:
            return Reason.MALFORMED, "fresh", "limit", written({**good, name: retyped(good[name], rng)})
        if kind == 2:
            bad = {
                "durationS": (0, -1, "9", 1e9, True),
                "rampS": (-1, 1e9, [], "x"),
                "reason": (1, [], "x" * 300),
            }
            optional = rng.choice(list(bad))
            return Reason.MALFORMED, "fresh", "limit", written({**good, optional: rng.choice(bad[optional])})
        twice = b'{"seq":7,' + written(good)[1:]
        return Reason.MALFORMED, "fresh", "limit", twice

    def _figure(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        reason, value = rng.choice(
            (
                (Reason.NEGATIVE_VALUE, -rng.uniform(1e-9, 1e9)),
                (Reason.NOT_A_NUMBER, rng.choice((float("nan"), float("inf"), float("-inf")))),
                (Reason.OUT_OF_BOUNDS, rng.choice((1.1e10, 2.7e23, 10**30, 1e308))),
                (Reason.BELOW_HARD_MINIMUM, rng.uniform(0.0, HARD_MINIMUM_W - 1e-6)),
            )
        )
        # Of the export a site can always be asked to feed in nothing.
        exports = reason is not Reason.BELOW_HARD_MINIMUM and rng.random() < 0.5
        kind = {"kind": "EXPORT_CAPACITY_LIMIT"} if exports else {}
        return reason, "fresh", "limit", written({**_good(rng), **kind, "valueW": value})

    def _time(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        good, off_s = _good(rng), rng.uniform(1.0, 1e8)
        reason, changes = rng.choice(
            (
                (Reason.FUTURE_ISSUE, {"issued": _at(60 + off_s)}),
                (Reason.TOO_OLD, {"issued": _at(-300 - off_s)}),
                (Reason.EXPIRED, {"issued": _at(-1), "expires": _at(-off_s)}),
                (Reason.EXPIRED, {"start": _at(-200 - off_s % 1e6), "durationS": 100}),
                (Reason.OUT_OF_BOUNDS, {"start": _at(366 * 86_400 + off_s)}),
                (Reason.MALFORMED, {"issued": rng.choice(("2026-11-22T10:37:45", "now", "9999-99-99", ""))}),
            )
        )
        return reason, "fresh", "limit", written({**good, **changes})

    def _address(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        reason, changes = rng.choice(
            (
                (Reason.WRONG_SITE, {"site": rng.choice(("site-b", "SITE-A", "", "site-a "))}),
                (Reason.UNKNOWN_KIND, {"kind": rng.choice(("DISPATCH_SETPOINT", "SIMPLE", "import"))}),
                (Reason.WRONG_VERSION, {"v": rng.choice((0, 2, "1", None, True, 1.5))}),
            )
        )
        return reason, "fresh", "limit", written({**_good(rng), **changes})

    def _again(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        older = rng.randrange(MAX_SEQUENCE)
        told = rng.choice((TOLD, TOLD_EXPORT))
        if rng.random() < 0.5:
            return Reason.STALE_SEQUENCE, "told", "limit", written({**told, "seq": older})
        change = rng.choice(({"valueW": rng.uniform(500, 9e9)}, {"id": f"x{older}"}, {"extra": wild(rng, 1)}))
        return Reason.REPLAY_OTHER_CONTENT, "told", "limit", written({**told, **change})

    def _unsynced(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        more = {"valueW": rng.uniform(4201, 1e9)} if rng.random() < 0.5 else {"active": False}
        return Reason.CLOCK_UNSYNCHRONISED, "unsynced", "limit", written({**_good(rng), **more})

    def _unsigned(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        leaf, message = _any_good(rng)
        return Reason.NOT_SIGNED, "sealed", leaf, written(message)

    def _missigned(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        leaf, message = _any_good(rng)
        kind = rng.randrange(3)
        if kind == 0:
            return (
                Reason.BAD_SIGNATURE,
                "sealed",
                leaf,
                self._signer.sealed(leaf, message, "dr/v1/dso/site-b"),
            )
        if kind == 1:
            return Reason.BAD_SIGNATURE, "sealed", leaf, STRANGER.sealed(leaf, message)
        signed = self._signer.sealed(leaf, message)
        return Reason.BAD_SIGNATURE, "sealed", leaf, signed[:-1] + b',"extra":%d}' % rng.randrange(10**6)

    def _unstored(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        return Reason.STORE_UNAVAILABLE, "full", "limit", written(_good(rng))

    def _beat(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        off_s = rng.uniform(61, 1e8)
        number = rng.randrange(10**6)
        reason, name, beat = rng.choice(
            (
                (Reason.TOO_OLD, "told", {"n": number, "t": _at(-off_s)}),
                (Reason.FUTURE_ISSUE, "told", {"n": number, "t": _at(off_s)}),
                (Reason.STALE_SEQUENCE, "told", HEARD),
                (Reason.UNKNOWN_SOURCE, "foreign", {"n": number, "t": _at(0)}),
                (Reason.MALFORMED, "told", {"n": retyped(1, rng) or "x", "t": _at(0)} | {"n": "x"}),
            )
        )
        return reason, name, "heartbeat", written(beat)

    def _settings(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        reason, name, changes = rng.choice(
            (
                (Reason.OUT_OF_BOUNDS, "fresh", {"failsafeMinS": rng.uniform(0, 7199)}),
                (Reason.OUT_OF_BOUNDS, "fresh", {"heartbeatTimeoutS": rng.uniform(601, 1e9)}),
                (Reason.OUT_OF_BOUNDS, "fresh", {"failsafeImportW": -rng.uniform(1, 1e9)}),
                (Reason.NOT_A_NUMBER, "fresh", {"failsafeImportW": float("nan")}),
                (Reason.MALFORMED, "fresh", {"failsafeImportW": rng.choice(("1", True, [], {}))}),
                (Reason.FUTURE_ISSUE, "fresh", {"issued": _at(61 + rng.uniform(0, 1e6))}),
                (Reason.TOO_OLD, "told", {"issued": _at(-61 - rng.uniform(0, 1e6))}),
            )
        )
        return reason, name, "config", written({"failsafeImportW": 3000, **changes})

    def _broken(self, rng: random.Random) -> tuple[Reason | None, str, str, bytes]:
        """Break bytes or fields at random; what is still well-formed was heard before, or is long over."""
        beat = {"n": 7, "t": stamp(LONG_AGO)}
        leaf, message = rng.choice((("limit", TOLD), ("limit", TOLD_EXPORT), ("heartbeat", beat)))
        payload = written(message)
        kind = rng.randrange(3)
        if kind == 0:
            return None, "told", leaf, flipped(payload, rng)
        if kind == 1:
            return Reason.MALFORMED, "told", leaf, torn(payload, rng)
        field = rng.choice([name for name in message if name != "t"])
        return None, "told", leaf, written({**message, field: wild(rng)})


STRANGER = Signer()
TOLD: Message = limit(MAX_SEQUENCE, 3000.0, now=NOW, durationS=None)
TOLD_EXPORT: Message = {**TOLD, "kind": "EXPORT_CAPACITY_LIMIT"}
HEARD: Message = {"n": 41, "t": stamp(NOW)}


def _good(rng: random.Random) -> Message:
    return limit(rng.randrange(1, 2**62), rng.uniform(HARD_MINIMUM_W, 9e9), now=NOW, durationS=900)


def _any_good(rng: random.Random) -> tuple[str, Message]:
    return rng.choice(
        (
            ("limit", _good(rng)),
            ("config", {"failsafeImportW": 3000, "issued": _at(0)}),
            ("heartbeat", {"n": rng.randrange(100), "t": _at(0)}),
        )
    )


def _at(offset_s: float) -> str:
    return stamp(NOW + timedelta(seconds=offset_s))


@asynccontextmanager
async def mqtt_target(folder: Path) -> AsyncIterator[MqttTarget]:
    """Open the sites that hostile messages are sent to, and hear the desk's refusals."""
    signer, refusals = Signer(), _Refusals()
    situations: dict[str, dict[str, Any]] = {
        "fresh": {},
        "told": {},
        "unsynced": {},
        "sealed": {"key": seal(signer)},
        "full": {"store": FullStore},
        "foreign": {"operators": ()},
    }
    logger = logging.getLogger("agent.grid")
    async with AsyncExitStack() as stack:
        sites = {}
        for name, more in situations.items():
            db = await stack.enter_async_context(Database(folder / f"{name}.db", MIGRATIONS))
            settings = {"store": CommandStore, "operators": (SOURCE,), "key": None, **more}
            sites[name] = Site(db, **settings)
            await sites[name].desk.recover()
        await _tell(sites["told"])
        sites["unsynced"].synced = False
        kept = logger.propagate
        logger.propagate = False
        logger.addHandler(refusals)
        stack.callback(lambda: setattr(logger, "propagate", kept))
        stack.callback(logger.removeHandler, refusals)
        yield MqttTarget(sites, signer, refusals)


async def _tell(site: Site) -> None:
    """Have a site know its operator: a heartbeat, settings, and the last sequence that there is."""
    for leaf, message in (
        ("heartbeat", HEARD),
        ("config", {"failsafeImportW": 3500, "issued": _at(-60)}),
        ("limit", TOLD),
        ("limit", TOLD_EXPORT),
    ):
        await site.link.take(TOPICS.of(leaf), written(message), retained=False)
    assert site.desk.last_sequence(SOURCE) == MAX_SEQUENCE
    await site.drain()
