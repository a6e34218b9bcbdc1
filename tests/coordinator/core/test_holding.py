"""Who is to stand still by a tick's decisions, and which orders say so until a report shows it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from coordinator.core.fleet import fold
from coordinator.core.holding import Holds, Wish, hold_orders, holds_of
from coordinator.core.orders import OrderSettings, orders_for
from coordinator.model.decision import Decision, DecisionKind
from coordinator.model.job import JobPhase as P
from coordinator.model.job import JobReport
from coordinator.model.live import LiveSite
from coordinator.model.orders import Pause, Resume, Slow
from coordinator.model.view import FleetView, JobView, Phase
from tests.coordinator.core import fleets
from tests.coordinator.core.fleets import NOW
from tests.coordinator.core.histories import M, at_work, here, moving, report

HOLD_S = 900.0
UNTIL = NOW + timedelta(seconds=HOLD_S)


def decided(kind: DecisionKind) -> Decision:
    return Decision(
        job_id="j",
        decided_at=NOW,
        policy="sterna",
        kind=kind,
        source_site="a",
        target_site="a",
        reason="held back for surplus",
        alternatives=(),
    )


def seen(job: JobView, after_s: float = 0.0) -> FleetView:
    return replace(fleets.fleet([fleets.site("a")], [job]), now=NOW + timedelta(seconds=after_s))


def running(**more: object) -> JobView:
    return fleets.job("j", "a", slack_s=50_000.0, may_pause=True, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("job", "kind", "length_s"),
    [
        (running(), DecisionKind.PAUSE, HOLD_S),
        (running(), DecisionKind.STAY, None),
        (running(), DecisionKind.MIGRATE, None),
        (running(phase=Phase.PAUSED), DecisionKind.STAY, HOLD_S),
        (running(phase=Phase.PAUSED), DecisionKind.RESUME, None),
        (running(phase=Phase.PAUSED), DecisionKind.MIGRATE, None),
        (running(phase=Phase.HELD), DecisionKind.STAY, None),
        (replace(running(), slack_s=100.0), DecisionKind.PAUSE, 100.0),
        (replace(running(), slack_s=0.0), DecisionKind.PAUSE, 1.0),
        # A policy that holds nobody back leaves a paused job where it is: it is to go on.
        (replace(running(phase=Phase.PAUSED), slack_s=None), DecisionKind.STAY, None),
    ],
)
def test_who_is_to_stand_still(job: JobView, kind: DecisionKind, length_s: float | None) -> None:
    wishes = holds_of(seen(job), (decided(kind),), HOLD_S, before=None, live={}).wishes
    assert {job_id: wish.length_s for job_id, wish in wishes.items()} == (
        {} if length_s is None else {"j": length_s}
    )


def test_a_wish_is_renewed_at_half_its_length_and_from_what_the_site_has_accepted() -> None:
    def live(sequence: int) -> dict[str, LiveSite]:
        return {
            "a": LiveSite(
                reports={"j": JobReport(job_id="j", epoch=1, phase=P.PAUSED, hold_sequence=sequence)}
            )
        }

    pause = (decided(DecisionKind.PAUSE),)
    first = holds_of(seen(running()), pause, HOLD_S, before=None, live=live(4))
    assert (first.wishes["j"].above, first.wishes["j"].renewed_at) == (4, NOW)
    same = holds_of(seen(running(), 449.0), pause, HOLD_S, before=first, live=live(5))
    assert same == first
    later = holds_of(seen(running(), 450.0), pause, HOLD_S, before=same, live=live(5))
    assert later.wishes["j"].above == 5
    nobody = holds_of(seen(running(), 460.0), (decided(DecisionKind.STAY),), HOLD_S, before=later, live={})
    assert nobody.wishes == {}


WISH = Holds(wishes={"j": Wish(length_s=HOLD_S, reason="dark", renewed_at=NOW, above=2)})
NOBODY = Holds()
STATE = fold(at_work())


@pytest.mark.parametrize(
    ("said", "holds", "expected"),
    [
        (
            report(P.RUNNING, hold_sequence=2),
            WISH,
            [Pause(sequence=3, expires_after_s=HOLD_S, reason="dark")],
        ),
        (report(P.PAUSED, hold_sequence=3, held_until=UNTIL), WISH, []),
        (report(P.RUNNING, hold_sequence=3, held_until=UNTIL), WISH, []),
        (
            report(P.PAUSED, hold_sequence=2, held_until=UNTIL),
            WISH,
            [Pause(sequence=3, expires_after_s=HOLD_S, reason="dark")],
        ),
        (
            report(P.RUNNING, hold_sequence=7),
            WISH,
            [Pause(sequence=8, expires_after_s=HOLD_S, reason="dark")],
        ),
        (report(P.PAUSED, hold_sequence=2), WISH, []),
        (report(P.STARTING), WISH, []),
        (report(P.STOPPING), WISH, []),
        (report(P.RUNNING), NOBODY, []),
        (report(P.PAUSED), NOBODY, []),
        (report(P.PAUSED, hold_sequence=3, held_until=UNTIL), NOBODY, [Resume(sequence=4)]),
        (replace(report(P.PAUSED, hold_sequence=3, held_until=UNTIL), epoch=0), NOBODY, []),
        (None, WISH, []),
    ],
)
def test_orders_stand_until_a_report_shows_their_effect(
    said: JobReport | None, holds: Holds, expected: list[Pause | Resume]
) -> None:
    assert list(hold_orders(STATE.jobs["j"], said, holds)) == expected


def test_nothing_is_said_before_anybody_has_decided_nor_about_a_job_that_moves() -> None:
    held = report(P.PAUSED, hold_sequence=3, held_until=UNTIL)
    assert orders_for(STATE, STATE.jobs["j"], here(a=held), OrderSettings()) == ()
    (order,) = orders_for(STATE, STATE.jobs["j"], here(a=held), OrderSettings(holds=NOBODY))
    assert (order.site_id, order.migration_id, order.epoch, order.action) == ("a", "", 1, Resume(sequence=4))
    state = moving(M.PREPARED)
    assert orders_for(state, state.jobs["j"], here(a=held), OrderSettings(holds=NOBODY)) == ()


def test_each_sequence_is_an_order_of_its_own() -> None:
    runs = orders_for(STATE, STATE.jobs["j"], here(a=report(P.RUNNING)), OrderSettings(holds=WISH))
    more = orders_for(
        STATE, STATE.jobs["j"], here(a=report(P.RUNNING, hold_sequence=4)), OrderSettings(holds=WISH)
    )
    assert runs[0].key != more[0].key


def slowed_to(power_w: float, kind: DecisionKind = DecisionKind.SLOW) -> Decision:
    return replace(decided(kind), power_w=power_w, reason="slowed")


def wish_of(
    job: JobView, decision: Decision, before: Holds | None = None, after_s: float = 0.0
) -> Wish | None:
    return holds_of(seen(job, after_s), (decision,), HOLD_S, before=before, live={}).wishes.get("j")


@pytest.mark.parametrize(
    ("job", "decision", "length_s"),
    [
        (fleets.job("j", "a"), slowed_to(300.0), HOLD_S),
        (fleets.job("j", "a"), slowed_to(300.0, DecisionKind.STAY), HOLD_S),
        (fleets.job("j", "a", slack_s=100.0), slowed_to(300.0), 100.0),
        (fleets.job("j", phase=Phase.QUEUED), slowed_to(300.0, DecisionKind.START), None),
        (fleets.job("j", "a", phase=Phase.PAUSED), slowed_to(300.0, DecisionKind.RESUME), None),
        (fleets.job("j", "a", slowed_to_w=300.0), decided(DecisionKind.RESUME), None),
        (fleets.job("j", "a", slowed_to_w=300.0), decided(DecisionKind.MIGRATE), None),
    ],
)
def test_who_is_to_be_slow(job: JobView, decision: Decision, length_s: float | None) -> None:
    wish = wish_of(job, decision)
    assert (wish and (wish.power_w, wish.length_s)) == (None if length_s is None else (300.0, length_s))


def test_another_power_is_another_wish_and_the_same_one_is_renewed_at_half_its_length() -> None:
    job = fleets.job("j", "a", slowed_to_w=300.0)
    first = wish_of(job, slowed_to(300.0))
    assert first is not None
    holds = Holds(wishes={"j": first})
    assert wish_of(job, slowed_to(300.0, DecisionKind.STAY), holds, after_s=400.0) is first
    renewed = wish_of(job, slowed_to(300.0, DecisionKind.STAY), holds, after_s=450.0)
    assert renewed is not None and renewed.renewed_at > first.renewed_at
    other = wish_of(job, slowed_to(350.0), holds, after_s=10.0)
    assert other is not None and other.power_w == 350.0


SLOW = Slow(sequence=3, expires_after_s=HOLD_S, power_w=300.0, reason="slowed")
SLOWED = {"held_until": UNTIL, "slowed_to_w": 300.0}


@pytest.mark.parametrize(
    ("phase", "told", "above", "orders"),
    [
        (P.RUNNING, {}, 2, [SLOW]),
        (P.RUNNING, SLOWED, 2, [SLOW]),  # to be renewed, or to another power
        (P.RUNNING, SLOWED, 1, []),
        (P.PAUSED, {"held_until": UNTIL}, 2, [SLOW]),  # the plan's own pause gives way
        (P.PAUSED, {}, 2, []),  # the site has paused it
        (P.STARTING, {}, 2, []),
    ],
)
def test_orders_say_so_until_a_report_shows_it(
    phase: P, told: dict[str, object], above: int, orders: list[Slow]
) -> None:
    state = fold([*at_work()])
    wish = Wish(length_s=HOLD_S, reason="slowed", renewed_at=NOW, above=above, power_w=300.0)
    said = replace(report(phase), hold_sequence=2, **told)  # type: ignore[arg-type]
    assert list(hold_orders(state.jobs["j"], said, Holds(wishes={"j": wish}))) == orders


def test_a_slowed_job_that_nobody_slows_any_more_is_let_go() -> None:
    state = fold([*at_work()])
    said = replace(report(P.RUNNING), hold_sequence=2, **SLOWED)  # type: ignore[arg-type]
    assert list(hold_orders(state.jobs["j"], said, Holds())) == [Resume(sequence=3)]
