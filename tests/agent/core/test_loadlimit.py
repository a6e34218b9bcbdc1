"""What a write to the LoadLimit block means."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core import loadlimit
from agent.core.commands import LimitRequest
from agent.core.limits import CommandStatus, HeldCommand
from agent.core.loadlimit import REJECTED, Judged
from agent.model.grid import OperatorConfig, Reason, Refusal
from agent.model.limits import LimitCommand, LimitKind

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
WHOLE = {"ImpLimW": 4200, "ImpLimRvrtTms": 900, "ImpLimRmpTms": 20, "ImpLimEna": 1}


def made(staged: dict[str, int], cmd_seq: int = 1, last: int | None = None) -> LimitRequest | Refusal:
    return loadlimit.command(staged, cmd_seq=cmd_seq, last=last, now=NOW)


def test_a_whole_command() -> None:
    request = made(WHOLE)
    assert isinstance(request, LimitRequest)
    assert (request.command_id, request.sequence) == ("modbus-1", 1)
    assert (request.value_w, request.duration_s, request.ramp_s) == (4200.0, 900.0, 20.0)
    assert (request.issued_at, request.start_at, request.issued_here) == (NOW, None, True)


def test_no_reversion_time_is_no_expiry_and_no_ramp_is_none() -> None:
    for staged in ({"ImpLimW": 1, "ImpLimEna": 1}, WHOLE | {"ImpLimRvrtTms": 0, "ImpLimRmpTms": 0}):
        request = made(staged)
        assert isinstance(request, LimitRequest)
        assert (request.duration_s, request.ramp_s) == (None, 0.0)


def test_a_release_needs_no_value() -> None:
    request = made({"ImpLimEna": 0})
    assert isinstance(request, LimitRequest)
    assert (request.value_w, request.duration_s) == (None, None)
    assert request.digest == made(WHOLE | {"ImpLimEna": 0}).digest  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("staged", "reason", "field"),
    [
        ({}, Reason.MALFORMED, "ImpLimEna"),
        ({"ImpLimW": 4200}, Reason.MALFORMED, "ImpLimEna"),
        (WHOLE | {"ImpLimEna": 2}, Reason.MALFORMED, "ImpLimEna"),
        ({"ImpLimEna": 1}, Reason.MALFORMED, "ImpLimW"),
        (WHOLE | {"ImpLimW": 0xFFFFFFFF}, Reason.MALFORMED, "ImpLimW"),
        (WHOLE | {"ImpLimW": 0xFFFFFFFB}, Reason.NEGATIVE_VALUE, "ImpLimW"),
        (WHOLE | {"ImpLimW": 0x80000000}, Reason.NEGATIVE_VALUE, "ImpLimW"),
        (WHOLE | {"ImpLimRvrtTms": 366 * 86_400 + 1}, Reason.OUT_OF_BOUNDS, "ImpLimRvrtTms"),
        (WHOLE | {"ImpLimRmpTms": 3601}, Reason.OUT_OF_BOUNDS, "ImpLimRmpTms"),
    ],
)
def test_what_is_refused(staged: dict[str, int], reason: Reason, field: str) -> None:
    refusal = made(staged, cmd_seq=8, last=7)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.field, refusal.sequence) == (reason, field, 8)


@pytest.mark.parametrize(
    ("cmd_seq", "last", "sequence"),
    [
        (0, None, 0),
        (65535, None, 65535),
        (8, 7, 8),
        (7, 7, 7),
        (6, 7, 6),
        (0, 65535, 65536),
        (65535, 65536, 65535),
        (32774, 7, 32774),
        (32775, 7, 7 - 32768),
        (5, 3 * 65536 + 65530, 4 * 65536 + 5),
    ],
)
def test_a_counter_of_16_bits_on_the_line_of_all_sequences(
    cmd_seq: int, last: int | None, sequence: int
) -> None:
    assert loadlimit.sequence_of(cmd_seq, last) == sequence


@given(st.integers(0, 2**40), st.integers(1, 32767))
def test_a_step_ahead_is_ahead_across_every_wrap(last: int, step: int) -> None:
    assert loadlimit.sequence_of((last + step) % 65536, last) == last + step


@pytest.mark.parametrize(
    ("written", "config"),
    [
        ({"FsImpLimW": 3000}, OperatorConfig(failsafe_import_w=3000.0, failsafe_min_s=9000.0)),
        ({"FsDurMin": 7200}, OperatorConfig(failsafe_import_w=4200.0, failsafe_min_s=7200.0)),
    ],
)
def test_settings_keep_what_was_not_written(written: dict[str, int], config: OperatorConfig) -> None:
    held = OperatorConfig(failsafe_import_w=4200.0, failsafe_min_s=9000.0)
    assert loadlimit.settings(written, held) == config


def test_a_negative_failsafe_limit_is_refused() -> None:
    refusal = loadlimit.settings({"FsImpLimW": 0xFFFFF000}, OperatorConfig())
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.NEGATIVE_VALUE


def held(value_w: float | None, *, duration_s: float | None = 900.0) -> HeldCommand:
    command = LimitCommand(
        source="modbus",
        command_id="modbus-65540",
        sequence=65540,
        kind=LimitKind.IMPORT_CAPACITY_LIMIT,
        issued_at=NOW,
        start_at=NOW,
        end_at=None if duration_s is None else NOW + timedelta(seconds=duration_s),
        value_w=value_w,
        ramp_s=20.0,
        reason="",
    )
    end_s = None if duration_s is None else 100.0 + duration_s
    return HeldCommand(
        command=command, accepted_at=NOW, accepted_boot_s=100.0, start_boot_s=100.0, end_boot_s=end_s
    )


def test_what_the_registers_tell_of_the_command() -> None:
    on = {"ImpLimW": 4200, "ImpLimRvrtTms": 900, "ImpLimRmpTms": 20, "ImpLimEna": 1, "CmdSeq": 4}
    assert loadlimit.command_points(held(4200.0), 65540) == on
    assert loadlimit.command_points(held(4200.0, duration_s=None), 65540) == on | {"ImpLimRvrtTms": 0}
    assert loadlimit.command_points(held(None), 65540) == {"CmdSeq": 4, "ImpLimEna": 0}
    assert loadlimit.command_points(None, None) == {"CmdSeq": 0, "ImpLimEna": 0}


def test_what_the_registers_tell_of_the_answer() -> None:
    assert loadlimit.answer_points(None, None, None) == {}
    started = replace(held(1.0), status=CommandStatus.STARTED)
    assert loadlimit.answer_points(started, 65540, None) == {"AckSeq": 4, "AckStatus": 3, "RejectReason": 0}
    for gone in (None, started):
        over = loadlimit.answer_points(gone, 65541, None)
        assert over == {"AckSeq": 5, "AckStatus": 4, "RejectReason": 0}
    judged = Judged(cmd_seq=9, reason=Reason.BELOW_HARD_MINIMUM)
    told = loadlimit.answer_points(started, 65540, judged)
    assert told == {"AckSeq": 9, "AckStatus": REJECTED, "RejectReason": 5}
    other = loadlimit.answer_points(None, 1, Judged(cmd_seq=9, reason=Reason.WRONG_SITE))
    assert other["RejectReason"] == loadlimit.OTHER_REASON
