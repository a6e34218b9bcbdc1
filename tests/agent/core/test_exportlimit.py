from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.commands import Accepted, LimitRequest, Reversion, Rules, judge
from agent.core.exportlimit import CONTROLS, W_MAX, W_SET, Control, Standing, command, registers, values
from agent.core.failsafe import Event, FailsafeSettings, cold_start, step
from agent.core.limits import HeldCommand, Timeline, envelope, export_limits, hold
from agent.model.grid import Reason, Refusal
from agent.model.limits import GridState, LimitKind
from agent.model.sunspec.codec import decode, encode
from agent.model.sunspec.der_controls import DER_CONTROLS

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
BOOT = 1000.0
WMAX_W = 12_000.0
RULES = Rules(site="site-a", hard_minimum_w=4000.0)
BY_CONTROL = pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)


def off(control: Control) -> dict[str, int]:
    return registers(control, Standing(limit=None), now_boot_s=BOOT, rated_w=WMAX_W)


def meant(control: Control, *, value: int, timer: int = 0, after: int | None = None) -> dict[str, int]:
    told = {control.switch: 1, control.value: value, control.timer: timer}
    return told if after is None else told | {control.after_switch: 1, control.after: after}


def commanded(
    control: Control, written: dict[str, int], *, last: int | None = None
) -> LimitRequest | Refusal | None:
    return command(control, written, off(control), last=last, now=NOW, rated_w=WMAX_W)


def held(control: Control, written: dict[str, int]) -> Timeline:
    """Have a write judged and held."""
    request = commanded(control, written)
    assert isinstance(request, LimitRequest)
    verdict = judge(request, source=control.name, rules=RULES, last=None, now=NOW)
    assert isinstance(verdict, Accepted)
    limit = hold(verdict.command, NOW, BOOT)
    if verdict.after is None:
        return Timeline().with_command(limit)
    return Timeline().with_reversion(limit, hold(verdict.after, NOW, BOOT))


def shown(timeline: Timeline, control: Control, now_boot_s: float) -> dict[str, int]:
    """Tell the registers of what holds at an instant."""
    later = [one for one in timeline.held if one.start_boot_s > now_boot_s]
    standing = Standing(limit=timeline.speaking(control.name, now_boot_s), after=later[0] if later else None)
    return registers(control, standing, now_boot_s=now_boot_s, rated_w=WMAX_W)


@BY_CONTROL
def test_a_control_that_is_off_is_implemented_and_shows_the_whole_export(control: Control) -> None:
    told = off(control)
    assert (told[control.switch], told[control.after_switch], told[control.timer]) == (0, 0, 0)
    assert control.watts(told[control.value], WMAX_W) == WMAX_W
    decoded = decode(DER_CONTROLS, encode(DER_CONTROLS, values(off(W_MAX) | off(W_SET))))
    assert (decoded["WMaxLimPct"], decoded["WSet"], decoded["WSetMod"]) == (100.0, 12_000, 1)
    assert (decoded["WMaxLimPctRvrtRem"], decoded["WSetRvrtRem"], decoded["VarSetEna"]) == (0, 0, None)


@pytest.mark.parametrize(
    ("control", "raw", "limit_w"),
    [
        (W_MAX, 5000, 6000.0),
        (W_MAX, 0, 0.0),
        (W_MAX, 10_000, WMAX_W),
        (W_SET, 0, 0.0),
        (W_SET, 12_000, WMAX_W),
    ],
)
def test_a_limit_of_the_export(control: Control, raw: int, limit_w: float) -> None:
    request = commanded(control, meant(control, value=raw), last=8)
    assert isinstance(request, LimitRequest)
    assert (request.kind, request.value_w) == (LimitKind.EXPORT_CAPACITY_LIMIT, limit_w)
    assert (request.sequence, request.duration_s, request.reversion) == (10, None, None)


@BY_CONTROL
def test_a_limit_with_a_time_has_a_reversion(control: Control) -> None:
    request = commanded(control, meant(control, value=1200, timer=300))
    assert isinstance(request, LimitRequest)
    assert (request.duration_s, request.reversion) == (300.0, Reversion(value_w=None))
    request = commanded(control, meant(control, value=1200, timer=300, after=0))
    assert isinstance(request, LimitRequest)
    assert request.reversion == Reversion(value_w=0.0)
    request = commanded(control, meant(control, value=1200, after=0))
    assert isinstance(request, LimitRequest)
    assert request.reversion is None, "without a time nothing reverts"


@BY_CONTROL
def test_nothing_is_commanded_before_the_switch(control: Control) -> None:
    assert commanded(control, {control.value: 7, control.timer: 60}) is None
    release = commanded(control, {control.switch: 0, control.timer: 60})
    assert isinstance(release, LimitRequest)
    assert (release.value_w, release.duration_s, release.reversion) == (None, None, None)


@BY_CONTROL
def test_while_it_is_on_what_is_written_holds_at_once(control: Control) -> None:
    before = off(control) | {control.switch: 1, control.timer: 300}
    request = command(control, {control.value: 7}, before, last=4, now=NOW, rated_w=WMAX_W)
    assert isinstance(request, LimitRequest)
    assert (request.value_w, request.duration_s) == (control.watts(7, WMAX_W), 300.0)


@pytest.mark.parametrize(
    ("written", "reason", "field"),
    [
        ({"WMaxLimPctEna": 2}, Reason.MALFORMED, "WMaxLimPctEna"),
        ({"WMaxLimPctEnaRvrt": 0xFFFF}, Reason.MALFORMED, "WMaxLimPctEnaRvrt"),
        ({"WMaxLimPct": 10_001}, Reason.OUT_OF_BOUNDS, "WMaxLimPct"),
        ({"WMaxLimPctRvrt": 0xFFFF}, Reason.OUT_OF_BOUNDS, "WMaxLimPctRvrt"),
        ({"WMaxLimPctRvrtTms": 366 * 86_400 + 1}, Reason.OUT_OF_BOUNDS, "WMaxLimPctRvrtTms"),
        ({"WSet": 0xFFFFFFFF}, Reason.NEGATIVE_VALUE, "WSet"),
        ({"WSetRvrt": 0x80000000}, Reason.NEGATIVE_VALUE, "WSetRvrt"),
        ({"WSet": 12_001}, Reason.OUT_OF_BOUNDS, "WSet"),
    ],
)
def test_what_is_refused_when_it_is_written(written: dict[str, int], reason: Reason, field: str) -> None:
    control = next(control for control in CONTROLS if written.keys() <= control.points)
    for more in ({}, {control.switch: 1}):
        refusal = commanded(control, more | written)
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.field) == (reason, field)


@BY_CONTROL
def test_the_reversion_follows_and_stays(control: Control) -> None:
    timeline = held(control, meant(control, value=1200, timer=300, after=600))
    limit_w, after_w = control.watts(1200, WMAX_W), control.watts(600, WMAX_W)

    def binding(offset_s: float) -> tuple[float, ...]:
        at_s = BOOT + offset_s
        limits = export_limits(timeline, [], now=NOW + timedelta(seconds=offset_s), now_boot_s=at_s)
        return tuple(limit.limit_w for limit in limits)

    assert [binding(offset_s) for offset_s in (0, 299, 300, 1e6)] == [
        (limit_w,),
        (limit_w,),
        (after_w,),
        (after_w,),
    ]
    told = shown(timeline, control, BOOT + 100)
    assert (told[control.timer], told[control.remaining]) == (300, 200)
    assert (told[control.after], told[control.after_switch]) == (600, 1)
    told = shown(timeline, control, BOOT + 300)
    assert (told[control.switch], told[control.value], told[control.timer]) == (1, 600, 0)
    assert envelope(timeline, [], now=NOW, now_boot_s=BOOT).limits == (), "the import is not limited by it"
    kept = timeline.pruned(BOOT + 301)
    assert [one.command.value_w for one in kept.held] == [after_w]


def test_the_stricter_control_binds_and_silence_counts() -> None:
    timeline = Timeline(
        held=(*held(W_MAX, {"WMaxLimPctEna": 1}).held, *held(W_SET, meant(W_SET, value=5000)).held)
    )
    settings = FailsafeSettings(failsafe_import_w=4200.0)
    machine = cold_start(BOOT, settings)

    def limits(machine_now: object) -> list[tuple[str, float, str]]:
        told = export_limits(timeline, [(machine_now, settings, 3000.0)], now=NOW, now_boot_s=BOOT)  # type: ignore[list-item]
        return [(limit.source, limit.limit_w, limit.reason) for limit in told]

    commands = [("wset", 5000.0, "Modbus WSetEna"), ("wmaxlim", WMAX_W, "Modbus WMaxLimPctEna")]
    assert limits(machine) == [("failsafe", 3000.0, "cold start"), *commands]
    heard = step(machine, Event.HEARTBEAT, BOOT, settings)
    released = step(heard, Event.RELEASE, BOOT, settings)
    assert limits(released) == commands
    lost = step(released, Event.TICK, BOOT + 120, settings)
    assert lost.state is GridState.FAILSAFE
    assert limits(lost)[0] == ("failsafe", 3000.0, "heartbeat lost")


def test_a_reversion_replaces_all_that_its_source_has_said() -> None:
    before = held(W_SET, meant(W_SET, value=5000))
    other = replace(before.held[0], command=replace(before.held[0].command, source="wmaxlim"))
    pair = held(W_SET, meant(W_SET, value=100, timer=60))
    after, limit = pair.held
    whole = before.with_command(other).with_reversion(limit, after)
    assert set(whole.held) == {other, limit, after}


@given(st.sampled_from(CONTROLS), st.integers(0, 10_000), st.floats(10_000.0, 1e6), st.integers(1, 10**6))
def test_what_was_written_is_read_back(control: Control, raw: int, rated_w: float, timer: int) -> None:
    before = registers(control, Standing(limit=None), now_boot_s=BOOT, rated_w=rated_w)
    written = meant(control, value=raw, timer=timer, after=raw // 2)
    request = command(control, written, before, last=None, now=NOW, rated_w=rated_w)
    assert isinstance(request, LimitRequest)
    verdict = judge(request, source="s", rules=RULES, last=None, now=NOW)
    assert isinstance(verdict, Accepted) and verdict.after is not None
    both: list[HeldCommand] = [hold(one, NOW, BOOT) for one in (verdict.command, verdict.after)]
    told = registers(control, Standing(limit=both[0], after=both[1]), now_boot_s=BOOT, rated_w=rated_w)
    assert {name: told[name] for name in written} == written
