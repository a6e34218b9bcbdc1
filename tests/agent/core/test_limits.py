from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.failsafe import Event, FailsafeSettings, cold_start, step
from agent.core.limits import CommandStatus, HeldCommand, Timeline, envelope, hold, resume, settled
from agent.model.limits import Envelope, GridState, LimitCommand, LimitKind

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
BOOT = 1000.0
SETTINGS = FailsafeSettings(failsafe_import_w=4200.0)


def command(
    sequence: int,
    value_w: float | None,
    *,
    source: str = "mqtt",
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> LimitCommand:
    start_at = NOW + timedelta(seconds=start_s)
    return LimitCommand(
        source=source,
        command_id=f"{source}-{sequence}",
        sequence=sequence,
        kind=LimitKind.IMPORT_CAPACITY_LIMIT,
        issued_at=NOW,
        start_at=start_at,
        end_at=None if duration_s is None else start_at + timedelta(seconds=duration_s),
        value_w=value_w,
        ramp_s=0.0,
        reason="",
    )


def timeline(*commands: LimitCommand) -> Timeline:
    whole = Timeline()
    for item in commands:
        whole = whole.with_command(hold(item, NOW, BOOT))
    return whole


def at(whole: Timeline, offset_s: float, **more: object) -> Envelope:
    machine = step(
        step(cold_start(BOOT, SETTINGS), Event.HEARTBEAT, BOOT, SETTINGS), Event.RELEASE, BOOT, SETTINGS
    )
    return envelope(
        whole,
        [(machine, SETTINGS)],
        now=NOW + timedelta(seconds=offset_s),
        now_boot_s=BOOT + offset_s,
        **more,  # type: ignore[arg-type]
    )


def test_limits_to_come_are_told_by_their_start() -> None:
    whole = timeline(
        command(1, 5000.0),
        command(2, 3000.0, start_s=90.0, duration_s=60.0),
        command(3, 2000.0, start_s=30.0),
        command(4, None, start_s=300.0),
    )
    assert [(one.limit_w, one.end_at) for one in at(whole, 10.0).coming] == [
        (2000.0, None),
        (3000.0, NOW + timedelta(seconds=150.0)),
    ]
    assert [one.start_at for one in at(whole, 10.0).coming] == [
        NOW + timedelta(seconds=s) for s in (30.0, 90.0)
    ]
    assert at(whole, 40.0).coming == (), "a newer one that holds until it is replaced speaks from now on"
    assert at(whole, 40.0).limits[0].limit_w == 2000.0


def bound(whole: Timeline, offset_s: float) -> float | None:
    binding = at(whole, offset_s).binding
    return None if binding is None else binding.limit_w


BASE = command(1, 9000.0)
SHORT = command(2, 3000.0, duration_s=900)
OTHER = command(7, 5000.0, source="modbus", duration_s=1800)

TABLE = [
    ("nothing", (), [(0, None)]),
    ("absent_duration_treated_as_zero_32492", (BASE,), [(0, 9000), (10, 9000), (10**8, 9000)]),
    ("ends when its duration ends", (SHORT,), [(0, 3000), (899.9, 3000), (900, None)]),
    ("the next active limit shows", (BASE, SHORT, OTHER), [(0, 3000), (900, 5000), (1800, 9000)]),
    ("the newest of a source speaks", (SHORT, command(3, 4000.0)), [(0, 4000), (900, 4000)]),
    ("a release ends the source's own only", (BASE, OTHER, command(2, None)), [(0, 5000), (1800, None)]),
    ("a release for a while", (BASE, command(2, None, duration_s=60)), [(0, None), (60, 9000)]),
    (
        "starts later",
        (BASE, command(2, 1000.0, start_s=60, duration_s=60)),
        [(59, 9000), (60, 1000), (120, 9000)],
    ),
    ("zero is a limit", (command(1, 0.0),), [(0, 0)]),
]


@pytest.mark.parametrize(("commands", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_binds_when(
    commands: tuple[LimitCommand, ...], expected: list[tuple[float, float | None]]
) -> None:
    assert [(offset_s, bound(timeline(*commands), offset_s)) for offset_s, _ in expected] == expected


def test_remaining_time_is_published_31153() -> None:
    binding = at(timeline(SHORT), 300).binding
    assert binding is not None
    assert binding.end_at == NOW + timedelta(seconds=900)
    assert at(timeline(BASE), 300).binding.end_at is None


def test_a_clock_step_neither_ends_nor_prolongs_a_limit() -> None:
    whole = timeline(SHORT)
    for step_s in (-3600.0, 3600.0, 400 * 86_400.0):
        now = NOW + timedelta(seconds=100 + step_s)
        binding = envelope(whole, [], now=now, now_boot_s=BOOT + 100).binding
        assert binding is not None
        assert (binding.end_at - now).total_seconds() == pytest.approx(800)


def test_the_failsafe_limit_is_one_among_the_others_and_shows_the_state() -> None:
    machine = cold_start(BOOT, SETTINGS)
    init = envelope(
        timeline(OTHER),
        [(machine, SETTINGS)],
        now=NOW,
        now_boot_s=BOOT,
        standing_limits_w={"hardware": 11_000.0},
    )
    assert [(limit.source, limit.limit_w) for limit in init.limits] == [
        ("failsafe", 4200.0),
        ("modbus", 5000.0),
        ("hardware", 11_000.0),
    ]
    assert init.state is GridState.INIT
    lost = step(machine, Event.TICK, BOOT + 200, SETTINGS)
    failed = envelope(timeline(SHORT), [(lost, SETTINGS)], now=NOW, now_boot_s=BOOT + 200)
    assert (failed.state, failed.binding.limit_w) == (GridState.FAILSAFE, 3000.0)
    assert failed.limits[1].reason == "heartbeat lost"
    assert failed.limits[1].start_at == NOW - timedelta(seconds=80)
    assert envelope(Timeline(), [], now=NOW, now_boot_s=BOOT).state is GridState.AUTONOMOUS


def test_heartbeat_routed_to_another_device_31561_the_worst_link_counts() -> None:
    good = step(
        step(cold_start(BOOT, SETTINGS), Event.HEARTBEAT, BOOT, SETTINGS), Event.RELEASE, BOOT, SETTINGS
    )
    both = envelope(
        Timeline(), [(good, SETTINGS), (cold_start(BOOT, SETTINGS), SETTINGS)], now=NOW, now_boot_s=BOOT
    )
    assert (both.state, both.binding.source) == (GridState.INIT, "failsafe")


@pytest.mark.parametrize(
    ("slewed_s", "source", "gap_s"),
    [(0.4, "mqtt", 0.0), (-0.4, "mqtt", 0.0), (0.4, "modbus", 0.4), (3.0, "mqtt", 3.0)],
    ids=["slewed back", "slewed ahead", "another source", "stepped"],
)
def test_between_two_commands_that_meet_nothing_is_lifted(slewed_s: float, source: str, gap_s: float) -> None:
    first = timeline(command(1, 3000.0, duration_s=600))
    next_one = command(2, 4000.0, source=source, start_s=600, duration_s=600)
    whole = first.with_command(
        first.joined(hold(next_one, NOW + timedelta(seconds=100), BOOT + 100 + slewed_s))
    )
    assert bound(whole, 600 - 0.5) in (3000.0, 4000.0)
    assert (bound(whole, 600 + gap_s / 2) is None) is (gap_s > 0)
    assert bound(whole, 600 + gap_s) == 4000.0


def test_told_in_the_past_binds_from_acceptance() -> None:
    binding = at(timeline(command(1, 1.0, start_s=-60)), 10).binding
    assert binding.start_at == NOW


@pytest.mark.parametrize(
    ("same_boot", "gone_s", "remaining_s"),
    [(True, 300.0, 600.0), (False, 300.0, 600.0), (False, -86_400.0, 900.0), (False, 5000.0, 0.0)],
    ids=["same boot", "rebooted", "1970 after the reboot: nothing is taken off", "over meanwhile"],
)
def test_a_restart_resumes_with_the_remaining_time(
    same_boot: bool, gone_s: float, remaining_s: float
) -> None:
    now_boot_s = BOOT + gone_s if same_boot else 12.0

    def resumed(given: LimitCommand) -> HeldCommand:
        now = NOW + timedelta(seconds=gone_s)
        return resume(hold(given, NOW, BOOT), now, now_boot_s, same_boot=same_boot, calendar_kept=True)

    assert resumed(SHORT).remaining_s(now_boot_s) == pytest.approx(remaining_s)
    assert resumed(BASE).remaining_s(now_boot_s) is None


calendars = st.tuples(st.floats(-1e9, 1e9), st.booleans())
"""How far a calendar that nobody keeps is off, in seconds, and whether somebody keeps it: then it is true."""


@given(
    seen=st.tuples(calendars, calendars, calendars),
    gone_s=st.floats(0, 1e5),
    since_s=st.floats(0, 1e5),
    restarts=st.booleans(),
)
def test_law_no_calendar_that_nobody_keeps_ends_a_limit_early(
    seen: tuple[tuple[float, bool], ...], gone_s: float, since_s: float, restarts: bool
) -> None:
    accepted, first, later = seen

    def shown(calendar: tuple[float, bool], true_s: float) -> datetime:
        off_s, kept = calendar
        return NOW + timedelta(seconds=true_s if kept else true_s + off_s)

    limit = replace(SHORT, start_at=shown(accepted, 0), end_at=shown(accepted, 0) + timedelta(seconds=900))
    held = hold(limit, shown(accepted, 0), BOOT, calendar_kept=accepted[1])
    held = resume(held, shown(first, gone_s), 5.0, same_boot=False, calendar_kept=first[1])
    true_s, boot_s = gone_s + since_s, 5.0 + since_s
    if restarts:
        held = resume(held, shown(later, true_s), boot_s, same_boot=True, calendar_kept=later[1])
    elif later[1]:
        held = settled(held, shown(later, true_s), boot_s)
    known = accepted[1] and (first[1] or later[1])
    remaining_s = max(0.0, 900.0 - (true_s if known else since_s))
    assert held.remaining_s(boot_s) == pytest.approx(remaining_s, abs=1e-3)
    assert held.in_force(boot_s) == (remaining_s > 0) or remaining_s < 1e-3


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(-1e6, 0), st.floats(-1e6, 1e6))
def test_law_what_had_begun_when_it_was_accepted_is_in_force_after_a_reboot(
    accepted_boot_s: float, now_boot_s: float, start_s: float, gone_s: float
) -> None:
    held = hold(command(1, 3000.0, start_s=start_s), NOW, accepted_boot_s)
    now = NOW + timedelta(seconds=gone_s)
    again = resume(held, now, now_boot_s, same_boot=False, calendar_kept=True)
    assert again.in_force(now_boot_s)


def test_statuses_advance_once_and_the_retired_are_pruned() -> None:
    whole = timeline(BASE, SHORT, command(3, 1.0, start_s=60, duration_s=30))

    def advance(offset_s: float) -> list[tuple[int, CommandStatus]]:
        nonlocal whole
        moved = whole.advanced(BOOT + offset_s)
        for held in moved:
            whole = whole.with_command(held)
        whole = whole.pruned(BOOT + offset_s)
        return [(held.command.sequence, held.status) for held in moved]

    assert advance(0) == [(1, CommandStatus.STARTED), (2, CommandStatus.STARTED)]
    assert advance(1) == []
    assert advance(60) == [(3, CommandStatus.STARTED)]
    assert advance(901) == [(2, CommandStatus.SUCCEEDED), (3, CommandStatus.SUCCEEDED)]
    assert [held.command.sequence for held in whole.held] == [1]
    whole = whole.with_command(hold(command(4, None), NOW, BOOT))
    assert advance(902) == [(1, CommandStatus.REVOKED), (4, CommandStatus.SUCCEEDED)]
    assert advance(903) == []


COMMANDS = st.builds(
    lambda sequence, value_w, source, start_s, duration_s: command(
        sequence, value_w, source=source, start_s=start_s, duration_s=duration_s
    ),
    st.integers(0, 8),
    st.one_of(st.none(), st.floats(0, 1e5)),
    st.sampled_from(["mqtt", "modbus"]),
    st.integers(0, 50),
    st.one_of(st.none(), st.integers(1, 100)),
)


@given(st.lists(COMMANDS, max_size=10), st.floats(0, 200))
def test_law_the_binding_limit_is_the_least_in_force_and_pruning_changes_nothing(
    commands: list[LimitCommand], offset_s: float
) -> None:
    whole = timeline(*commands)
    shown = at(whole, offset_s)
    values = [limit.limit_w for limit in shown.limits]
    assert values == sorted(values)
    assert len({limit.source for limit in shown.limits}) == len(values)
    for cut_s in (0.0, offset_s / 2, offset_s):
        assert at(whole.pruned(BOOT + cut_s), offset_s) == shown


@given(st.lists(COMMANDS, max_size=6), COMMANDS, st.floats(0, 200))
def test_law_a_further_source_never_lifts_a_limit(
    commands: list[LimitCommand], extra: LimitCommand, offset_s: float
) -> None:

    before = at(timeline(*commands), offset_s).binding
    added = hold(replace(extra, source="openadr"), NOW, BOOT)
    after = at(timeline(*commands).with_command(added), offset_s).binding
    if before is not None:
        assert after is not None
        assert after.limit_w <= before.limit_w
