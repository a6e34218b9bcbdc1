import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.commands import Accepted, LastSeen, LimitRequest, Repeated, Rules, judge, parse_limit
from agent.model.grid import Reason, Refusal
from agent.model.limits import LimitKind

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
RULES = Rules(site="site-a", hard_minimum_w=500.0)
GOOD = {
    "v": 1,
    "id": "c1",
    "seq": 1287,
    "issued": "2026-11-22T10:00:00.000Z",
    "kind": "IMPORT_CAPACITY_LIMIT",
    "active": True,
    "valueW": 4200,
    "start": None,
    "durationS": 900,
    "rampS": 20,
    "priority": 0,
    "reason": "ALERT_GRID_EMERGENCY",
    "source": "dso-x",
    "sig": None,
}


def payload(**changes: object) -> bytes:
    return json.dumps(
        {key: value for key, value in {**GOOD, **changes}.items() if value != "absent"}
    ).encode()


def told(bytes_: bytes, **more: object) -> Accepted | Repeated | Refusal:
    request = parse_limit(bytes_)
    if isinstance(request, Refusal):
        return request
    arguments: dict = {"source": "mqtt", "rules": RULES, "last": None, "now": NOW} | more
    return judge(request, **arguments)


def at(offset_s: float) -> str:
    return (NOW + timedelta(seconds=offset_s)).isoformat()


def test_a_good_command_is_accepted_as_written() -> None:
    verdict = told(payload())
    assert isinstance(verdict, Accepted)
    command = verdict.command
    assert (command.value_w, command.ramp_s, command.sequence) == (4200.0, 20.0, 1287)
    assert command.start_at == NOW
    assert command.end_at == NOW + timedelta(seconds=900)
    assert told(payload(durationS=None)).command.end_at is None
    assert told(payload(durationS="absent")).command.end_at is None
    assert told(payload(active=False, valueW=None)).command.is_release
    assert told(payload(active=False)).command.value_w is None
    assert told(payload(start=at(60))).command.end_at == NOW + timedelta(seconds=960)
    assert told(payload(site="site-a")).command.command_id == "c1"
    assert told(payload(issued=at(-200), expires=at(10))).command.end_at == NOW + timedelta(seconds=700)
    assert told(payload(issued=at(-7200), durationS=None, expires=at(10))).command.end_at is None


REFUSED = [
    (b"", Reason.MALFORMED, "message"),
    (b"\xff", Reason.MALFORMED, "message"),
    (b"[]", Reason.MALFORMED, "message"),
    (b"[" * 5000, Reason.MALFORMED, "message"),
    (b"1" * 5000, Reason.MALFORMED, "message"),
    (b" " * 9000, Reason.MALFORMED, "message"),
    (b'{"id":"a","id":"b"}', Reason.MALFORMED, "message"),
    (payload(v=2), Reason.WRONG_VERSION, "v"),
    (payload(v=True), Reason.WRONG_VERSION, "v"),
    (payload(v="absent"), Reason.WRONG_VERSION, "v"),
    (payload(kind="DISPATCH_SETPOINT"), Reason.UNKNOWN_KIND, "kind"),
    (payload(kind=7), Reason.MALFORMED, "kind"),
    (payload(active="yes"), Reason.MALFORMED, "active"),
    (payload(id=""), Reason.MALFORMED, "id"),
    (payload(id="\ud800"), Reason.MALFORMED, "id"),
    (payload(id=None), Reason.MALFORMED, "id"),
    (payload(seq=-1), Reason.MALFORMED, "seq"),
    (payload(seq=True), Reason.MALFORMED, "seq"),
    (payload(seq=1.0), Reason.MALFORMED, "seq"),
    (payload(seq=2**63), Reason.MALFORMED, "seq"),
    (payload(issued="yesterday"), Reason.MALFORMED, "issued"),
    (payload(issued="2026-11-22T10:00:00"), Reason.MALFORMED, "issued"),
    (payload(issued="0001-01-01T00:00:00+14:00"), Reason.MALFORMED, "issued"),
    (payload(valueW="absent"), Reason.MALFORMED, "valueW"),
    (payload(valueW="4200"), Reason.MALFORMED, "valueW"),
    (payload(valueW=-1), Reason.NEGATIVE_VALUE, "valueW"),
    (payload(valueW=float("nan")), Reason.NOT_A_NUMBER, "valueW"),
    (payload(valueW=float("inf")), Reason.NOT_A_NUMBER, "valueW"),
    (payload(valueW=2.7e23), Reason.OUT_OF_BOUNDS, "valueW"),
    (payload(valueW=10**400), Reason.OUT_OF_BOUNDS, "valueW"),
    (payload(valueW=499), Reason.BELOW_HARD_MINIMUM, "valueW"),
    (payload(durationS=0), Reason.MALFORMED, "durationS"),
    (payload(durationS=-5), Reason.MALFORMED, "durationS"),
    (payload(durationS=1e12), Reason.MALFORMED, "durationS"),
    (payload(rampS=-1), Reason.MALFORMED, "rampS"),
    (payload(reason=5), Reason.MALFORMED, "reason"),
    (payload(site="site-b"), Reason.WRONG_SITE, "site"),
    (payload(issued=at(61)), Reason.FUTURE_ISSUE, "issued"),
    (payload(issued=at(-301)), Reason.TOO_OLD, "issued"),
    (payload(issued=at(-100), expires=at(-1)), Reason.EXPIRED, "expires"),
    (payload(issued=at(-100), durationS=100), Reason.EXPIRED, "durationS"),
    (payload(start=at(-1000), durationS=900), Reason.EXPIRED, "durationS"),
    (payload(start="9999-12-31T23:59:59Z", durationS=900), Reason.OUT_OF_BOUNDS, "start"),
]


@pytest.mark.parametrize(("bytes_", "reason", "field"), REFUSED)
def test_refusals_name_reason_and_field(bytes_: bytes, reason: Reason, field: str) -> None:
    verdict = told(bytes_)
    assert isinstance(verdict, Refusal)
    assert (verdict.reason, verdict.field) == (reason, field)
    assert str(verdict).startswith(reason.value)


def test_negative_limit_accepted_25545() -> None:
    verdict = told(payload(valueW=-4200))
    assert isinstance(verdict, Refusal)
    assert (verdict.reason, verdict.command_id, verdict.sequence) == (Reason.NEGATIVE_VALUE, "c1", 1287)


def test_duration_absent_treated_as_zero_32492() -> None:
    assert told(payload(durationS="absent")).command.end_at is None
    assert told(payload(durationS=0)).reason is Reason.MALFORMED


def seen(bytes_: bytes) -> LastSeen:
    request = parse_limit(bytes_)
    assert isinstance(request, LimitRequest)
    return LastSeen(sequence=request.sequence, command_id=request.command_id, digest=request.digest)


@pytest.mark.parametrize("depth", [*range(15, 20), *range(940, 1000)])
def test_nesting_that_the_parser_takes_and_the_digest_did_not_is_refused(depth: int) -> None:
    nested = payload()[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
    verdict = told(nested)
    assert isinstance(verdict, Accepted) if depth < 16 else verdict.reason is Reason.MALFORMED


def test_a_limit_of_the_export_needs_somebody_to_keep_it_and_knows_no_least_import() -> None:
    exporting = {"kind": "EXPORT_CAPACITY_LIMIT", "valueW": 0}
    verdict = told(payload(**exporting))
    assert isinstance(verdict, Accepted)
    assert (verdict.command.kind, verdict.command.value_w) == (LimitKind.EXPORT_CAPACITY_LIMIT, 0.0)
    rules = replace(RULES, keeps_exports=False)
    refused = told(payload(**exporting), rules=rules)
    assert (refused.reason, refused.field) == (Reason.UNKNOWN_KIND, "kind")
    assert isinstance(told(payload(**exporting, active=False), rules=rules), Accepted), "a release does not"
    assert isinstance(told(payload(), rules=rules), Accepted), "nor does an import"


def test_what_is_not_signed_is_refused_after_the_site_and_before_the_sequence() -> None:
    forged = Refusal(reason=Reason.NOT_SIGNED, field="sig")
    refusal = told(payload(), forged=forged, last=seen(payload(seq=2000)))
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.command_id, refusal.sequence) == (Reason.NOT_SIGNED, "c1", 1287)
    assert told(payload(site="site-b"), forged=forged).reason is Reason.WRONG_SITE


def test_applied_at_most_once() -> None:
    last = seen(payload())
    shuffled = json.dumps(dict(reversed(GOOD.items())), indent=2).encode()
    hours_later = NOW + timedelta(hours=5)
    for again in (payload(), shuffled):
        assert told(again, last=last, now=hours_later) == Repeated(command_id="c1", sequence=1287)
    for other in (payload(valueW=9000), payload(id="c2"), payload(issued=at(1))):
        assert told(other, last=last).reason is Reason.REPLAY_OTHER_CONTENT
    assert told(payload(seq=1286), last=last).reason is Reason.STALE_SEQUENCE
    assert isinstance(told(payload(seq=1288), last=last), Accepted)


def test_an_untrusted_clock_lets_only_less_power_in() -> None:
    year_1970 = datetime(1970, 1, 1, tzinfo=UTC)
    unsynced = {"clock_synced": False, "now": year_1970}
    verdict = told(payload(valueW=4200), binding_w=4200.0, **unsynced)
    assert isinstance(verdict, Accepted)
    assert verdict.command.start_at == year_1970
    assert verdict.command.end_at == year_1970 + timedelta(seconds=900)
    assert isinstance(told(payload(), binding_w=None, **unsynced), Accepted)
    for risky in (payload(valueW=4201), payload(active=False)):
        assert told(risky, binding_w=4200.0, **unsynced).reason is Reason.CLOCK_UNSYNCHRONISED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode())))
def test_law_no_bytes_escape_as_an_exception(bytes_: bytes) -> None:
    assert isinstance(told(bytes_), Refusal)


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_law_one_wild_field_is_a_verdict_and_never_more_than_stated(field: str, value: object) -> None:
    verdict = told(payload(**{field: value}))
    if isinstance(verdict, Accepted) and not verdict.command.is_release:
        assert RULES.hard_minimum_w <= verdict.command.value_w <= 1e10


def test_a_clock_change_of_the_operators_wall_clock_moves_nothing() -> None:
    """Summer time ends at 01:00 UTC; the second 02:05 of that night is ten minutes after 02:55."""
    now = datetime(2026, 10, 25, 0, 55, tzinfo=UTC)
    night = {"issued": "2026-10-25T02:55:00+02:00", "expires": "2026-10-25T02:05:00+01:00", "durationS": 3600}
    for late_s, accepted in ((0, True), (599, True), (600, False)):
        verdict = told(payload(**night), now=now + timedelta(seconds=late_s))
        assert isinstance(verdict, Accepted) is accepted
        if isinstance(verdict, Accepted):
            assert verdict.command.end_at == now + timedelta(hours=1)
