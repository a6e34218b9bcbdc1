"""Signatures: what the site takes from its operator, and what from nobody."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.core.signed import signed_bytes
from agent.grid.desk import GridDesk
from agent.grid.signing import OperatorSeal
from agent.grid.wire import stamp
from agent.model.grid import Reason, Refusal
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import FakeClock
from sterna.errors import ConfigError
from tests.agent.grid.operators import BASE, Signer, limit, seal

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def reason(refusal: Refusal | None) -> Reason | None:
    return None if refusal is None else refusal.reason


def test_only_what_the_operator_signed_for_this_topic_passes() -> None:
    operator, other = Signer(), Signer()
    message = limit(1, 4200.0, now=NOW)
    sealed = operator.sealed("limit", message)
    it = seal(operator)
    assert it.check("limit", sealed) is None
    assert reason(it.check("config", sealed)) is Reason.BAD_SIGNATURE
    assert reason(it.check("limit", json.dumps(message).encode())) is Reason.NOT_SIGNED
    assert reason(it.check("limit", other.sealed("limit", message))) is Reason.BAD_SIGNATURE
    for_b = operator.sealed("limit", message, base="dr/v1/dso/site-b")
    assert reason(it.check("limit", for_b)) is Reason.BAD_SIGNATURE
    changed = json.dumps({**json.loads(sealed), "valueW": 9000}).encode()
    assert reason(it.check("limit", changed)) is Reason.BAD_SIGNATURE
    assert reason(it.check("limit", b"{")) is Reason.MALFORMED
    spaced = json.dumps(json.loads(sealed), indent=4, sort_keys=True).encode()
    assert it.check("limit", spaced) is None, "spacing and order are not signed"


def test_while_a_key_is_replaced_both_hold() -> None:
    old, new = Signer(), Signer()
    both = seal(old, new)
    for signer in (old, new):
        assert both.check("limit", signer.sealed("limit", limit(1, None, now=NOW))) is None
    assert reason(seal(new).check("limit", old.sealed("limit", limit(1, None, now=NOW)))) is not None
    with pytest.raises(ConfigError):
        OperatorSeal(keys=[], base_topic=BASE)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to sign with")
def test_a_message_that_openssl_has_signed_passes(tmp_path: Path) -> None:
    signer = Signer()
    private = signer.write_private(tmp_path / "dso.key")
    message = limit(1, 4200.0, now=NOW)
    (tmp_path / "signed").write_bytes(signed_bytes(f"{BASE}/limit", message))
    done = subprocess.run(
        ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", tmp_path / "signed"],
        capture_output=True,
        check=True,
    )
    assert done.stdout == signer.key.sign(signed_bytes(f"{BASE}/limit", message))


class Site:
    """A site whose operator signs."""

    def __init__(self, desk: GridDesk, clock: FakeClock, operator: Signer) -> None:
        self.desk, self.clock, self.operator = desk, clock, operator

    async def limit(self, payload: bytes) -> str:
        await self.desk.limit("mqtt", payload)
        batch = await self.desk.pending_acks("mqtt")
        await self.desk.delivered(number for number, _ in batch if number is not None)
        return f"{batch[-1][1].status.value} {batch[-1][1].reason}".strip()

    async def config(self, **body: object) -> Reason | None:
        return reason(await self.desk.operators.take("mqtt", self.operator.sealed("config", body)))

    def at(self, offset_s: float) -> str:
        return stamp(self.clock.now() + timedelta(seconds=offset_s))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock, operator = FakeClock(NOW), Signer()
    async with Database(tmp_path / "agent.db", MIGRATIONS) as db:
        desk = GridDesk(
            clock=clock,
            store=CommandStore(db, boot_id="boot"),
            operators=("mqtt",),
            settings=FailsafeSettings(failsafe_import_w=4200.0),
            rules=Rules(site="site-a"),
            seals={"mqtt": seal(operator)},
        )
        await desk.recover()
        yield Site(desk, clock, operator)


async def test_the_desk_takes_signed_commands_once_and_says_why_not_others(site: Site) -> None:
    sealed = site.operator.sealed
    good = sealed("limit", limit(5, 3000.0, now=NOW))
    assert (await site.limit(json.dumps(limit(5, 3000.0, now=NOW)).encode())) == "REJECTED NOT_SIGNED: sig"
    assert (await site.limit(Signer().sealed("limit", limit(5, 3000.0, now=NOW)))) == (
        "REJECTED BAD_SIGNATURE: sig"
    )
    assert site.desk.last_sequence("mqtt") is None, "what is not signed uses up no sequence"
    for_b = sealed("limit", limit(5, 3000.0, now=NOW, site="site-b"))
    assert (await site.limit(for_b)).startswith("REJECTED WRONG_SITE: site")
    old = sealed("limit", limit(5, 3000.0, now=NOW - timedelta(hours=1)))
    assert (await site.limit(old)).startswith("REJECTED TOO_OLD")
    assert await site.limit(good) == "ACCEPTED"
    assert await site.limit(good) == "ACCEPTED repeated"
    before = sealed("limit", limit(4, 9000.0, now=NOW))
    assert (await site.limit(before)).startswith("REJECTED STALE_SEQUENCE")


async def test_a_heartbeat_that_is_not_signed_is_no_sign_of_life(site: Site) -> None:
    body = {"n": 1, "t": site.at(0)}
    assert reason(site.desk.heartbeat("mqtt", json.dumps(body).encode())) is Reason.NOT_SIGNED
    assert not site.desk.machines["mqtt"].heard
    assert site.desk.heartbeat("mqtt", site.operator.sealed("heartbeat", body)) is None
    assert site.desk.machines["mqtt"].heard


async def test_old_settings_cannot_be_played_back(site: Site) -> None:
    loose = {"failsafeImportW": 9000, "issued": site.at(-3600)}
    tight = {"failsafeImportW": 1000, "issued": site.at(-60)}
    assert await site.config(failsafeImportW=9000) is Reason.MALFORMED, "no issue time"
    assert await site.config(failsafeImportW=9000, issued=site.at(61)) is Reason.FUTURE_ISSUE
    assert await site.config(**loose) is None
    assert await site.config(**tight) is None
    assert await site.config(**tight) is None, "retained, it comes again at each connect"
    assert await site.config(**loose) is Reason.TOO_OLD
    assert site.desk.operators.in_force("mqtt").failsafe_import_w == 1000.0
    await site.desk.recover()
    assert await site.config(**loose) is Reason.TOO_OLD, "a restart forgets nothing"
