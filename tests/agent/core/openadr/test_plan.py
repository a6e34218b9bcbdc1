import math
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.openadr.book import Book, Outlook, chance
from agent.core.openadr.commands import request
from agent.core.openadr.directions import EXPORTS
from agent.core.openadr.plan import (
    MAX_PLANNED,
    LimitSettings,
    Planned,
    at_worst,
    changed,
    plan,
    subscribed,
)
from agent.model.limits import LimitKind
from agent.model.openadr import Event, Signal, SignalKind, Unreadable
from tests.agent.core.openadr.events import T0, at, interval, make, period

SETTINGS = LimitSettings(fallback_w=1000.0)
LEVELS = LimitSettings(fallback_w=1000.0, level_limits_w={1: 8000.0, 3: 2000.0})
HOUR = period(0, "PT1H")
UNREADABLE = Unreadable(id="e9", fault="intervals[0].id: missing", may_limit=True)


def outlook(*events: Event | Unreadable, until: float = 100) -> Outlook:
    return Book().polled(events, T0).outlook(site="s", from_at=T0, until_at=at(until))


def lines(planned: tuple[Planned, ...]) -> list[tuple[float, float | None, float | None]]:
    """Return (start, end, limit) with times in hours from T0."""
    hour = timedelta(hours=1)
    return [
        (
            round((p.start_at - T0) / hour, 3),
            None if p.end_at is None else round((p.end_at - T0) / hour, 3),
            p.limit_w,
        )
        for p in planned
    ]


def subscription(kw: float, **more: object) -> Event:
    kind = "IMPORT_CAPACITY_SUBSCRIPTION"
    return make(interval(0, kw, kind=kind), when=period(-999, "P9999Y"), **{"id": "sub", **more})


def of_kind(kind: str, *values: object, **more: object) -> Event:
    return make(interval(0, *values, kind=kind), when=HOUR, **more)


TABLE = {
    "nothing is asked": ([], SETTINGS, [(0, None, None)]),
    "a limit, then none": ([of_kind("IMPORT_CAPACITY_LIMIT", 5)], SETTINGS, [(0, 1, 5000), (1, None, None)]),
    "before, between and after limits the subscription": (
        [subscription(12), make(interval(0, 5), interval(1, 3, when=period(4)), when=period(2, "PT1H"))],
        SETTINGS,
        [(0, 2, 12000), (2, 3, 5000), (3, 4, 12000), (4, 5, 3000), (5, None, 12000)],
    ),
    "a limit may lie above the subscription": (
        [subscription(12), of_kind("IMPORT_CAPACITY_LIMIT", 15)],
        SETTINGS,
        [(0, 1, 15000), (1, None, 12000)],
    ),
    "a reservation comes on top": (
        [subscription(12), of_kind("IMPORT_CAPACITY_RESERVATION", 3)],
        SETTINGS,
        [(0, 1, 15000), (1, None, 12000)],
    ),
    "a reservation alone grants nothing": (
        [of_kind("IMPORT_CAPACITY_RESERVATION", 3)],
        SETTINGS,
        [(0, None, None)],
    ),
    "the contract stands in for an announcement": (
        [],
        LimitSettings(fallback_w=0, subscription_w=9000),
        [(0, None, 9000)],
    ),
    "a set-point is a ceiling": (
        [of_kind("DISPATCH_SETPOINT", 0.5)],
        SETTINGS,
        [(0, 1, 500), (1, None, None)],
    ),
    "set-points are not obeyed": (
        [of_kind("DISPATCH_SETPOINT", 0.5)],
        LimitSettings(fallback_w=0, obey_setpoints=False),
        [(0, None, None)],
    ),
    "the strictest of limit and set-point": (
        [of_kind("DISPATCH_SETPOINT", 4), of_kind("IMPORT_CAPACITY_LIMIT", 2, id="e2")],
        SETTINGS,
        [(0, 1, 2000), (1, None, None)],
    ),
    "a relative set-point counts from the reference": (
        [of_kind("DISPATCH_SETPOINT_RELATIVE", -3)],
        LimitSettings(fallback_w=1000, reference_w=10000),
        [(0, 1, 7000), (1, None, None)],
    ),
    "a relative set-point never goes below nothing": (
        [of_kind("DISPATCH_SETPOINT_RELATIVE", -30)],
        LimitSettings(fallback_w=1000, reference_w=10000),
        [(0, 1, 0), (1, None, None)],
    ),
    "a relative set-point without a reference is unknown": (
        [of_kind("DISPATCH_SETPOINT_RELATIVE", -3)],
        SETTINGS,
        [(0, 1, 1000), (1, None, None)],
    ),
    "leave to draw more": ([of_kind("DISPATCH_SETPOINT_RELATIVE", 3)], SETTINGS, [(0, None, None)]),
    "an unreadable relative set-point": (
        [of_kind("DISPATCH_SETPOINT_RELATIVE", "less")],
        SETTINGS,
        [(0, 1, 1000), (1, None, None)],
    ),
    "SIMPLE 0": ([of_kind("SIMPLE", 0)], LEVELS, [(0, None, None)]),
    "SIMPLE 1": ([of_kind("SIMPLE", 1)], LEVELS, [(0, 1, 8000), (1, None, None)]),
    "SIMPLE 2 is not configured, 3 is": ([of_kind("SIMPLE", 2)], LEVELS, [(0, 1, 2000), (1, None, None)]),
    "SIMPLE 7 counts as the highest": ([of_kind("SIMPLE", 7)], LEVELS, [(0, 1, 2000), (1, None, None)]),
    "SIMPLE without configured levels": ([of_kind("SIMPLE", 1)], SETTINGS, [(0, 1, 1000), (1, None, None)]),
    "SIMPLE -1 cannot be read": ([of_kind("SIMPLE", -1)], LEVELS, [(0, 1, 1000), (1, None, None)]),
    "level 0 of the foremost event lifts level 3 of a lesser one": (
        [of_kind("SIMPLE", 0, priority=0), of_kind("SIMPLE", 3, id="e2", priority=1)],
        LEVELS,
        [(0, None, None)],
    ),
    "a negative limit cannot be read": (
        [of_kind("IMPORT_CAPACITY_LIMIT", -5)],
        SETTINGS,
        [(0, 1, 1000), (1, None, None)],
    ),
    "a limit in amperes cannot be read": (
        [
            of_kind(
                "IMPORT_CAPACITY_LIMIT",
                16,
                payloadDescriptors=[{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "AMPS"}],
            )
        ],
        SETTINGS,
        [(0, 1, 1000), (1, None, None)],
    ),
    "a limit without a value cannot be read": (
        [of_kind("IMPORT_CAPACITY_LIMIT")],
        SETTINGS,
        [(0, 1, 1000), (1, None, None)],
    ),
    "several limits for one interval: the least": (
        [of_kind("IMPORT_CAPACITY_LIMIT", 7, 5, 6)],
        SETTINGS,
        [(0, 1, 5000), (1, None, None)],
    ),
    "an event that cannot be read and may limit": ([UNREADABLE], SETTINGS, [(0, None, 1000)]),
    "an event that cannot be read does not lift a stricter limit of a lesser one": (
        [of_kind("IMPORT_CAPACITY_LIMIT", 0.4, priority=1), UNREADABLE],
        SETTINGS,
        [(0, 1, 400), (1, None, 1000)],
    ),
    "an event that cannot be read does not lift a lower subscription": (
        [subscription(0.5), UNREADABLE],
        SETTINGS,
        [(0, None, 500)],
    ),
    "an event that cannot be read and cannot limit": (
        [Unreadable(id="e9", fault="", may_limit=False)],
        SETTINGS,
        [(0, None, None)],
    ),
    "a site that cannot go so low": (
        [of_kind("IMPORT_CAPACITY_LIMIT", 0)],
        LimitSettings(fallback_w=0, minimum_w=700),
        [(0, 1, 700), (1, None, None)],
    ),
    "prices limit nothing": ([of_kind("PRICE", 0.4)], SETTINGS, [(0, None, None)]),
    "export limits are not import limits": (
        [of_kind("EXPORT_CAPACITY_LIMIT", 1)],
        SETTINGS,
        [(0, None, None)],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_holds(name: str) -> None:
    events, settings, expected = TABLE[name]
    assert lines(plan(outlook(*events), settings, T0)) == expected


def test_what_was_asked_stays_visible_where_the_site_cannot_follow() -> None:
    first = plan(
        outlook(of_kind("IMPORT_CAPACITY_LIMIT", 0)), LimitSettings(fallback_w=0, minimum_w=700), T0
    )[0]
    assert (first.limit_w, first.asked_w, first.reason) == (700.0, 0.0, "IMPORT_CAPACITY_LIMIT")


def test_an_endless_loop_ends_in_its_strictest_limit() -> None:
    event = make(interval(0, 9), interval(1, 4), when=period(0, "PT12H"), duration="P9999Y")
    assert lines(plan(outlook(event, until=36), SETTINGS, T0)) == [
        (0, 12, 9000),
        (12, 24, 4000),
        (24, 36, 9000),
        (36, None, 4000),
    ]
    prices = make(interval(0, 9, kind="PRICE"), when=period(0, "PT12H"), duration="P9999Y")
    assert lines(plan(outlook(prices, until=36), SETTINGS, T0)) == [(0, None, None)]


def test_a_long_schedule_is_cut_to_size_by_its_strictest_limit() -> None:
    event = make(*(interval(n, 100 - n) for n in range(60)), when=period(0, "PT1H"))
    planned = lines(plan(outlook(event), SETTINGS, T0))
    assert len(planned) == MAX_PLANNED
    assert planned[-2:] == [(30, 31, 70_000), (31, None, 41_000)]


def test_a_window_that_has_passed_leaves_one_limit() -> None:
    event = make(interval(0, 9), interval(1, 4), when=period(0, "PT12H"))
    seen = Outlook(signals=outlook(event).signals, known_until={LimitKind.IMPORT_CAPACITY_LIMIT: at(1)})
    assert lines(plan(seen, SETTINGS, at(2))) == [(2, None, 4000)]


def test_command_ids_are_stable_while_time_passes() -> None:
    seen = outlook(subscription(12), make(interval(0, 5), interval(1, 4), when=period(-1, "PT2H")))
    early, late = plan(seen, SETTINGS, T0), plan(seen, SETTINGS, at(0.5))
    assert [p.command_id for p in early] == [p.command_id for p in late]
    assert early[0].command_id == f"e1@{int(at(-1).timestamp())}"
    assert plan(Outlook(), SETTINGS, T0)[0].command_id == "default@open"
    assert changed(early, late, at(0.5)) == ()


def test_only_what_has_changed_is_sent_again() -> None:
    before = plan(outlook(make(interval(0, 5), interval(1, 4), when=HOUR)), SETTINGS, T0)
    after = plan(outlook(make(interval(0, 5), interval(1, 3), when=HOUR)), SETTINGS, T0)
    assert lines(changed(before, after, T0)) == [(1, 2, 3000)]
    assert changed((), after, T0) == after


def test_discarding_limits_leaves_the_subscription_or_the_fallback() -> None:
    limited = of_kind("IMPORT_CAPACITY_LIMIT", 50)
    assert lines(subscribed(outlook(limited, subscription(12)), SETTINGS, T0)) == [(0, None, 12000)]
    assert lines(subscribed(outlook(limited), SETTINGS, T0)) == [(0, None, 1000)]
    contract = LimitSettings(fallback_w=1000, subscription_w=6000)
    assert lines(subscribed(Outlook(), contract, T0)) == [(0, None, 6000)]


EXPORT_TABLE = {
    "nothing is said of it": ([of_kind("IMPORT_CAPACITY_LIMIT", 1)], [(0, None, None)]),
    "a limit, then none": ([of_kind("EXPORT_CAPACITY_LIMIT", 5)], [(0, 1, 5000), (1, None, None)]),
    "the least of several": (
        [of_kind("EXPORT_CAPACITY_LIMIT", 5), of_kind("EXPORT_CAPACITY_LIMIT", 3, id="e2")],
        [(0, 1, 3000), (1, None, None)],
    ),
    "the subscription between and after limits, with what is reserved": (
        [
            make(interval(0, 8, kind="EXPORT_CAPACITY_SUBSCRIPTION"), when=period(-999, "P9999Y"), id="sub"),
            of_kind("EXPORT_CAPACITY_LIMIT", 5),
            make(interval(0, 2, kind="EXPORT_CAPACITY_RESERVATION"), when=period(1, "PT1H"), id="more"),
        ],
        [(0, 1, 5000), (1, 2, 10_000), (2, None, 8000)],
    ),
    "what cannot be read is the fall-back": (
        [of_kind("EXPORT_CAPACITY_LIMIT", -5)],
        [(0, 1, 200), (1, None, None)],
    ),
    "an event that cannot be read": (
        [Unreadable(id="e9", fault="", may_limit=False, may_limit_export=True)],
        [(0, None, 200)],
    ),
    "the import's own": ([subscription(12), of_kind("SIMPLE", 3), UNREADABLE], [(0, None, None)]),
}


@pytest.mark.parametrize(("events", "expected"), EXPORT_TABLE.values(), ids=EXPORT_TABLE)
def test_the_export_is_planned_by_the_same_rules(
    events: list[Event | Unreadable], expected: list[tuple[float, float | None, float | None]]
) -> None:
    planned = plan(outlook(*events), LimitSettings(fallback_w=200), T0, EXPORTS)
    assert lines(planned) == expected
    assert {piece.kind for piece in planned} == {LimitKind.EXPORT_CAPACITY_LIMIT}


def test_an_export_that_goes_on_beyond_the_window_cuts_no_plan_of_the_import() -> None:
    loop = make(
        interval(0, 9, kind="EXPORT_CAPACITY_LIMIT"),
        interval(1, 4, kind="EXPORT_CAPACITY_LIMIT"),
        when=period(0, "PT12H"),
        duration="P9999Y",
        id="loop",
    )
    seen = outlook(loop, make(interval(0, 7), when=HOUR), until=36)
    assert lines(plan(seen, SETTINGS, T0)) == [(0, 1, 7000), (1, None, None)]
    assert lines(plan(seen, SETTINGS, T0, EXPORTS)) == [
        (0, 12, 9000),
        (12, 24, 4000),
        (24, 36, 9000),
        (36, None, 4000),
    ]


def test_without_a_calendar_the_strictest_of_a_plan_holds() -> None:
    seen = outlook(subscription(12), make(interval(0, 5), interval(1, 4), when=period(2, "PT1H")))
    assert lines(at_worst(plan(seen, SETTINGS, T0), at(-7))) == [(-7, None, 4000)]


def test_a_planned_limit_becomes_a_command_from_now() -> None:
    seen = outlook(make(interval(0, 5), when=period(-999, "PT1000H")))
    (first, last) = plan(seen, SETTINGS, at(-10))
    sent = request(first, sequence=7, now=T0, ramp_s=5.0)
    assert (sent.sequence, sent.value_w, sent.start_at, sent.duration_s) == (7, 5000.0, T0, 3600.0)
    assert (sent.issued_at, sent.ramp_s, sent.reason) == (T0, 5.0, "OpenADR IMPORT_CAPACITY_LIMIT")
    release = request(last, sequence=8, now=T0)
    assert (release.value_w, release.start_at, release.duration_s) == (None, at(1), None)
    assert sent.digest != release.digest


def test_a_poll_replaces_the_book_and_cancels_what_it_does_not_list() -> None:
    event = of_kind("IMPORT_CAPACITY_LIMIT", 5)
    book = Book().polled([event, UNREADABLE], T0)
    assert book.faults == ("event e9: intervals[0].id: missing",)
    again = book.polled([event], at(0.5))
    assert again.held["e1"].received_at == T0
    assert again.faults == ()
    assert Book().polled([], T0).held == {}


def test_an_update_to_now_and_nothing_cancels() -> None:
    ask = {"reportDescriptors": [{"payloadType": "USAGE"}]}
    book = Book().polled([of_kind("IMPORT_CAPACITY_LIMIT", 5, **ask)], T0)
    gone = make(interval(0, 5), when=period("0001-01-01", "PT0S"), **ask)
    assert book.polled([gone], at(0.2)).held["e1"].cancelled
    assert not Book().polled([gone], T0).held["e1"].cancelled, "it may be a wish for a report at once"
    named = make(interval(0, 5), when=period("0001-01-01", "PT0S"), eventName="x", **ask)
    assert book.polled([gone], at(0.2)).polled([named], at(0.3)).held["e1"].cancelled


def test_chance_is_uniform_and_the_same_after_a_restart() -> None:
    drawn = [chance(f"site-{n}", "e1") for n in range(2000)]
    assert drawn == [chance(f"site-{n}", "e1") for n in range(2000)]
    assert 0.47 < sum(drawn) / 2000 < 0.53
    assert min(drawn) < 0.01
    assert max(drawn) > 0.99


KINDS = [SignalKind.IMPORT_LIMIT, SignalKind.IMPORT_SUBSCRIPTION, SignalKind.SETPOINT, SignalKind.LEVEL]
signals = st.lists(
    st.builds(
        lambda kind, name, start, length, value: Signal(
            kind=kind,
            payload_type="",
            event_id=name,
            priority=None,
            start_at=at(start),
            end_at=None if length is None else at(start + length),
            value=value,
        ),
        st.sampled_from(KINDS),
        st.sampled_from("abc"),
        st.integers(-10, 20),
        st.none() | st.integers(1, 10),
        st.none() | st.sampled_from([0.0, 1.0, 2.0, 3000.0]),
    ),
    max_size=8,
)


@given(signals, st.none() | st.integers(-5, 30))
def test_a_plan_answers_every_instant_once(some: list[Signal], known_until: int | None) -> None:
    until = None if known_until is None else at(known_until)
    known_until = {} if until is None else {LimitKind.IMPORT_CAPACITY_LIMIT: until}
    planned = plan(Outlook(signals=tuple(some), known_until=known_until), LEVELS, T0)
    assert planned[0].start_at == T0
    assert planned[-1].end_at is None
    for one, other in pairwise(planned):
        assert one.end_at == other.start_at
        assert one.end_at > one.start_at


@given(signals, signals)
def test_one_more_limit_never_allows_more(some: list[Signal], more: list[Signal]) -> None:
    added = [s for s in more if s.kind in (SignalKind.SETPOINT, SignalKind.LEVEL)]
    less, greater = (plan(Outlook(signals=tuple(these)), LEVELS, T0) for these in ([*some, *added], some))

    def holds_w(planned: tuple[Planned, ...], hour: float) -> float:
        found = next(p for p in planned if p.end_at is None or p.end_at > at(hour))
        return math.inf if found.limit_w is None else found.limit_w

    for hour in range(31):
        assert holds_w(less, hour + 0.5) <= holds_w(greater, hour + 0.5)


@given(signals, signals, st.integers(0, 10))
def test_sending_only_changes_leads_to_the_same_limits(a: list[Signal], b: list[Signal], hour: int) -> None:
    """Replay what the desk does: the newest command that covers an instant speaks."""
    first = plan(Outlook(signals=tuple(a)), LEVELS, T0)
    second = plan(Outlook(signals=tuple(b)), LEVELS, at(hour))
    sent = [*first, *changed(first, second, at(hour))]
    for half in range(2 * hour + 1, 60, 2):
        instant = at(half / 2)
        speaking = [p for p in sent if p.start_at <= instant and (p.end_at is None or p.end_at > instant)][-1]
        wanted = next(p for p in second if p.end_at is None or p.end_at > instant)
        assert speaking.limit_w == wanted.limit_w
