"""Contacts: debounce, pairs, the most restrictive, and nothing let go while one is unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import relay
from agent.core.relay import Asked, Contact, Watch

OPEN, CLOSED, UNKNOWN = Watch(closed=False), Watch(closed=True), Watch(closed=None)
W1 = Contact(name="w1", limit_w=4200.0)
W2 = Contact(name="w2", limit_w=0.0)
SAFE = Contact(name="safe", limit_w=1000.0, limits_when_closed=False)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(W1, OPEN)], Asked(limit_w=None, known=True)),
        ([(W1, CLOSED)], Asked(limit_w=4200.0, known=True, by=("w1",))),
        ([(SAFE, OPEN)], Asked(limit_w=1000.0, known=True, by=("safe",))),
        ([(SAFE, CLOSED)], Asked(limit_w=None, known=True)),
        ([(W1, UNKNOWN)], Asked(limit_w=None, known=False)),
        ([(SAFE, UNKNOWN)], Asked(limit_w=None, known=False)),
        ([(W1, CLOSED), (W2, CLOSED)], Asked(limit_w=0.0, known=True, by=("w1", "w2"))),
        ([(W1, CLOSED), (W2, UNKNOWN)], Asked(limit_w=4200.0, known=False, by=("w1",))),
    ],
)
def test_the_most_restrictive_wins(pairs: list[tuple[Contact, Watch]], expected: Asked) -> None:
    assert relay.asked(pairs) == expected


@pytest.mark.parametrize(
    ("closed", "complement", "read"),
    [(True, False, True), (False, True, False), (True, True, None), (False, False, None)],
)
def test_two_halves_that_contradict_are_a_broken_wire(
    closed: bool, complement: bool, read: bool | None
) -> None:
    assert relay.paired(closed, complement) is read


def test_a_reading_counts_once_it_has_lasted() -> None:
    watch = Watch()
    told = []
    for now_s, closed in [
        (0.0, True),
        (0.3, True),
        (0.5, True),
        (0.7, False),
        (0.9, True),
        (1.4, False),
        (1.9, False),
    ]:
        watch = relay.observe(watch, closed, now_s, debounce_s=0.5)
        told.append(watch.closed)
    assert told == [None, None, True, True, True, True, False]


def test_without_debounce_every_reading_counts() -> None:
    assert relay.observe(Watch(), True, 5.0, debounce_s=0.0).closed is True


LIMIT, LESS, FREE = (
    Asked(limit_w=4200.0, known=True),
    Asked(limit_w=100.0, known=True),
    Asked(limit_w=None, known=True),
)
BLIND, BLIND_LIMIT = Asked(limit_w=None, known=False), Asked(limit_w=4200.0, known=False)


@pytest.mark.parametrize(
    ("now", "sent", "protected", "must"),
    [
        (FREE, None, False, True),
        (FREE, FREE, False, False),
        (FREE, FREE, True, True),
        (FREE, LIMIT, False, True),
        (LIMIT, FREE, False, True),
        (LIMIT, LIMIT, False, False),
        (BLIND, LIMIT, False, False),
        (BLIND, None, True, False),
        (BLIND_LIMIT, None, True, True),
        (BLIND_LIMIT, FREE, False, True),
        (BLIND_LIMIT, LESS, False, False),
        (BLIND_LIMIT, LIMIT, True, False),
    ],
)
def test_what_the_desk_is_told(now: Asked, sent: Asked | None, protected: bool, must: bool) -> None:
    assert relay.must_send(now, sent, protected=protected) is must


limits = st.none() | st.floats(0.0, 1e5)


@given(limits, limits, st.booleans())
def test_while_a_contact_is_unknown_nothing_is_let_go(
    now_w: float | None, sent_w: float | None, protected: bool
) -> None:
    now, sent = Asked(limit_w=now_w, known=False), Asked(limit_w=sent_w, known=True)
    if relay.must_send(now, sent, protected=protected):
        assert now_w is not None
        assert sent_w is None or now_w < sent_w
