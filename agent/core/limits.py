"""The merged timeline: which limits are in force at an instant, whoever set them.

Durations are held on CLOCK_BOOTTIME, so that a stepped calendar neither ends nor prolongs a limit; the
calendar is used once, on acceptance, and again only when a reboot has started the boot clock anew, and then
only one that is kept: until it is, no time is taken off.
Within one source the newest command that is in force speaks; across sources the most restrictive wins.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from agent.core.failsafe import PROTECTED, FailsafeSettings, Machine
from agent.model.limits import Envelope, GridState, Limit, LimitCommand, LimitKind

FAILSAFE_SOURCE = "failsafe"
JOIN_S = 2.0
"""Two commands for the same instant lie no further apart on the boot clock than a calendar is slewed."""


def export_source(link: str) -> str:
    """Name what a link says of the export: a source of its own, as its sequences and its newest word are."""
    return f"{link}-export"


def link_of(source: str) -> str:
    """Name the link that a source is heard on: its name, or what stands before the part of it."""
    return source.partition("-")[0]


class CommandStatus(Enum):
    """Where a stored command stands (S2's words)."""

    ACCEPTED = "ACCEPTED"
    STARTED = "STARTED"
    SUCCEEDED = "SUCCEEDED"
    REVOKED = "REVOKED"


class Doubt(Enum):
    """Which of a command's two times of acceptance is not known yet."""

    NONE = ""
    CALENDAR = "calendar"
    """It was accepted while nobody kept the calendar."""
    BOOT = "boot"
    """The machine has rebooted since, and nobody could say for how long it was off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCommand:
    """An accepted command with its place on the boot clock; `end_boot_s` None: until replaced.

    `accepted_at` and `accepted_boot_s` are the same instant on both clocks, but for `doubt`.
    """

    command: LimitCommand
    accepted_at: datetime
    accepted_boot_s: float
    start_boot_s: float
    end_boot_s: float | None
    status: CommandStatus = CommandStatus.ACCEPTED
    doubt: Doubt = Doubt.NONE

    def in_force(self, now_boot_s: float) -> bool:
        """Whether the command's interval covers the instant."""
        return self.start_boot_s <= now_boot_s and not self.is_over(now_boot_s)

    def is_over(self, now_boot_s: float) -> bool:
        """Whether the command's duration has ended."""
        return self.end_boot_s is not None and self.end_boot_s <= now_boot_s

    def remaining_s(self, now_boot_s: float) -> float | None:
        """Seconds until the end, >= 0; None when it holds until replaced."""
        return None if self.end_boot_s is None else max(0.0, self.end_boot_s - now_boot_s)


def hold(
    command: LimitCommand, now: datetime, now_boot_s: float, *, calendar_kept: bool = True
) -> HeldCommand:
    """Place a command that is accepted now on the boot clock."""

    def on_boot(instant: datetime) -> float:
        return now_boot_s + (instant - now).total_seconds()

    return HeldCommand(
        command=command,
        accepted_at=now,
        accepted_boot_s=now_boot_s,
        start_boot_s=on_boot(command.start_at),
        end_boot_s=None if command.end_at is None else on_boot(command.end_at),
        doubt=Doubt.NONE if calendar_kept else Doubt.CALENDAR,
    )


def resume(
    held: HeldCommand, now: datetime, now_boot_s: float, *, same_boot: bool, calendar_kept: bool
) -> HeldCommand:
    """Place a stored command on this boot's clock, with its remaining time.

    Parameters
    ----------
    held : HeldCommand
        As stored.
    now : datetime
        Calendar now.
    now_boot_s : float
        CLOCK_BOOTTIME now, in seconds.
    same_boot : bool
        Whether the machine has not rebooted since; then the stored boot times hold as they are.
    calendar_kept : bool
        Whether the calendar can be trusted.

    Notes
    -----
    After a reboot only a calendar that is kept tells how much time went by. Until then no time is taken off,
    the cautious reading, and for good where the acceptance itself was dated by a calendar that nobody kept.
    """
    if not same_boot:
        held = _placed(held, now_boot_s)
        if held.doubt is Doubt.NONE:
            held = replace(held, doubt=Doubt.BOOT)
    return settled(held, now, now_boot_s) if calendar_kept else held


def settled(held: HeldCommand, now: datetime, now_boot_s: float) -> HeldCommand:
    """Work out the time of acceptance that is in doubt, by a calendar that is kept."""
    match held.doubt:
        case Doubt.BOOT:
            gone_s = max(0.0, (now - held.accepted_at).total_seconds())
            return replace(_placed(held, now_boot_s - gone_s), doubt=Doubt.NONE)
        case Doubt.CALENDAR:
            accepted_at = now - timedelta(seconds=now_boot_s - held.accepted_boot_s)
            return replace(held, accepted_at=accepted_at, doubt=Doubt.NONE)
        case Doubt.NONE:
            return held


def _placed(held: HeldCommand, accepted_boot_s: float) -> HeldCommand:
    def moved(boot_s: float) -> float:
        # From the acceptance on, so that what had begun by then is not moved behind now by a rounding.
        return accepted_boot_s + (boot_s - held.accepted_boot_s)

    return replace(
        held,
        accepted_boot_s=accepted_boot_s,
        start_boot_s=moved(held.start_boot_s),
        end_boot_s=None if held.end_boot_s is None else moved(held.end_boot_s),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Every accepted command that is in force or may still come to be."""

    held: tuple[HeldCommand, ...] = ()

    def settled(self, now: datetime, now_boot_s: float) -> "Timeline":
        """Work out what is in doubt, by a calendar that is kept."""
        return Timeline(held=tuple(settled(held, now, now_boot_s) for held in self.held))

    def with_command(self, added: HeldCommand) -> "Timeline":
        """Add an accepted command; it replaces a command of the same source and sequence."""
        key = (added.command.source, added.command.sequence)
        kept = (item for item in self.held if (item.command.source, item.command.sequence) != key)
        return Timeline(held=(*kept, added))

    def joined(self, added: HeldCommand) -> HeldCommand:
        """Have a command begin where one of its source ends that was told for the same instant.

        The calendar may have been slewed since, and between the two nothing would hold.
        """
        for held in self.held:
            ends_s = held.end_boot_s
            if (held.command.source, held.command.end_at) != (added.command.source, added.command.start_at):
                continue
            if ends_s is not None and ends_s < added.start_boot_s <= ends_s + JOIN_S:
                return replace(added, start_boot_s=ends_s)
        return added

    def with_reversion(self, limit: HeldCommand, after: HeldCommand) -> "Timeline":
        """Add a limit and what follows when its time is over: together all that their source says."""
        kept = (held for held in self.held if held.command.source != limit.command.source)
        return Timeline(held=(*kept, after, limit))

    def speaking(self, source: str, now_boot_s: float) -> HeldCommand | None:
        """Return the source's newest command in force, be it a limit or a release; None: none is."""
        mine = (h for h in self.held if h.command.source == source and h.in_force(now_boot_s))
        return max(mine, key=lambda held: held.command.sequence, default=None)

    def limiting(
        self, now_boot_s: float, kind: LimitKind = LimitKind.IMPORT_CAPACITY_LIMIT
    ) -> tuple[HeldCommand, ...]:
        """Return the limits of a kind in force, one per source at most, most restrictive first."""
        newest: dict[str, HeldCommand] = {}
        for held in self.held:
            command = held.command
            if command.kind is kind and held.in_force(now_boot_s):
                before = newest.get(command.source)
                if before is None or command.sequence > before.command.sequence:
                    newest[command.source] = held
        limits = [held for held in newest.values() if not held.command.is_release]
        return tuple(sorted(limits, key=_restriction))

    def coming(self, now_boot_s: float) -> tuple[HeldCommand, ...]:
        """Return the limits of the import that begin later, by start."""
        limits = (
            held
            for held in self.pruned(now_boot_s).held
            if held.command.kind is LimitKind.IMPORT_CAPACITY_LIMIT
            and held.start_boot_s > now_boot_s
            and not held.command.is_release
        )
        return tuple(sorted(limits, key=lambda held: (held.start_boot_s, held.command.source)))

    def steady_until_s(self, now_boot_s: float) -> float:
        """Return when, on CLOCK_BOOTTIME, a command begins or ends next; inf: none does."""
        edges_s = (edge_s for held in self.held for edge_s in (held.start_boot_s, held.end_boot_s))
        return min(
            (edge_s for edge_s in edges_s if edge_s is not None and edge_s > now_boot_s), default=math.inf
        )

    def retired(self, now_boot_s: float) -> tuple[HeldCommand, ...]:
        """Return the commands that can never speak again: over, or behind a newer one without an end."""
        begun = self._begun(now_boot_s)
        return tuple(held for held in self.held if held.is_over(now_boot_s) or _replaced(held, begun))

    def pruned(self, now_boot_s: float) -> "Timeline":
        """Drop what can never speak again."""
        gone = self.retired(now_boot_s)
        return Timeline(held=tuple(held for held in self.held if held not in gone))

    def advanced(self, now_boot_s: float) -> tuple[HeldCommand, ...]:
        """Return the commands whose status has changed, with their new status, in order of sequence."""
        begun = self._begun(now_boot_s)
        statuses = ((held, _status(held, begun, now_boot_s)) for held in self.held)
        changed = [replace(held, status=status) for held, status in statuses if status is not held.status]
        return tuple(sorted(changed, key=lambda held: (held.command.source, held.command.sequence)))

    def _begun(self, now_boot_s: float) -> list[HeldCommand]:
        return [held for held in self.held if held.in_force(now_boot_s)]


def _status(held: HeldCommand, begun: Sequence[HeldCommand], now_boot_s: float) -> CommandStatus:
    if held.is_over(now_boot_s):
        return CommandStatus.SUCCEEDED
    if _replaced(held, begun):
        done = CommandStatus.SUCCEEDED if held.command.is_release else CommandStatus.REVOKED
        return held.status if held.status is CommandStatus.SUCCEEDED else done
    if held.start_boot_s > now_boot_s:
        return CommandStatus.ACCEPTED
    # A release is done the moment it holds; a limit is done when its duration ends.
    return CommandStatus.SUCCEEDED if held.command.is_release else CommandStatus.STARTED


def _replaced(held: HeldCommand, begun: Sequence[HeldCommand]) -> bool:
    """Whether a newer command of the source, of those in force, outlasts this one."""
    return any(
        other.command.source == held.command.source
        and other.command.sequence > held.command.sequence
        and _outlasts(other, held)
        for other in begun
    )


def envelope(
    timeline: Timeline,
    machines: Iterable[tuple[Machine, FailsafeSettings]],
    *,
    now: datetime,
    now_boot_s: float,
    standing_limits_w: Mapping[str, float] | None = None,
) -> Envelope:
    """Merge everything that limits the site's import now.

    Parameters
    ----------
    timeline : Timeline
        Accepted commands of every source.
    machines : iterable of (Machine, FailsafeSettings)
        One per operator's link, stepped to now; none at a site without an operator.
    now, now_boot_s
        The same instant on both clocks.
    standing_limits_w : mapping of source to watts, or None
        Limits that hold always: what the connection allows, what the site operator has configured.

    Returns
    -------
    Envelope
        The most cautious state, the limits in force with the most restrictive first, and those to come.
        `start_at` and `end_at` are told on today's calendar, so that ``end_at - now`` is the remaining time.
    """
    pairs = tuple(machines)
    limits = [_limit(held, now, now_boot_s) for held in timeline.limiting(now_boot_s)]
    for machine, settings in pairs:
        if machine.state in PROTECTED:
            limit_w = settings.failsafe_import_w
            limits.append(_failsafe_limit(machine, settings, limit_w, now, now_boot_s))
    for source, limit_w in (standing_limits_w or {}).items():
        limits.append(_standing_limit(source, limit_w, now, now_boot_s))
    state = min((machine.state for machine, _ in pairs), key=_CAUTION.index, default=GridState.AUTONOMOUS)
    return Envelope(
        state=state,
        limits=tuple(sorted(limits, key=lambda limit: (limit.limit_w, limit.source))),
        coming=tuple(_limit(held, now, now_boot_s) for held in timeline.coming(now_boot_s)),
    )


def export_limits(
    timeline: Timeline,
    machines: Iterable[tuple[Machine, FailsafeSettings, float]],
    *,
    now: datetime,
    now_boot_s: float,
) -> tuple[Limit, ...]:
    """Merge everything that operators say of the site's export now, the most restrictive first.

    Parameters
    ----------
    timeline : Timeline
        Accepted commands of every source.
    machines : iterable of (Machine, FailsafeSettings, watts)
        The links that have a fail-safe limit for the export, stepped to now, with that limit.
    now, now_boot_s
        The same instant on both clocks.
    """
    limits = [
        _limit(held, now, now_boot_s)
        for held in timeline.limiting(now_boot_s, LimitKind.EXPORT_CAPACITY_LIMIT)
    ]
    limits += [
        _failsafe_limit(machine, settings, limit_w, now, now_boot_s)
        for machine, settings, limit_w in machines
        if machine.state in PROTECTED
    ]
    return tuple(sorted(limits, key=lambda limit: (limit.limit_w, limit.source)))


_CAUTION = [GridState.FAILSAFE, GridState.INIT, GridState.LIMITED, GridState.UNLIMITED, GridState.AUTONOMOUS]


def _failsafe_limit(
    machine: Machine, settings: FailsafeSettings, limit_w: float, now: datetime, now_boot_s: float
) -> Limit:
    return Limit(
        source=FAILSAFE_SOURCE,
        command_id="",
        limit_w=limit_w,
        start_at=now - timedelta(seconds=now_boot_s - machine.entered_s),
        end_at=None,
        ramp_s=settings.ramp_s,
        reason="cold start" if machine.state is GridState.INIT else "heartbeat lost",
    )


def _standing_limit(source: str, limit_w: float, now: datetime, now_boot_s: float) -> Limit:
    return Limit(
        source=source,
        command_id="",
        limit_w=limit_w,
        start_at=now - timedelta(seconds=now_boot_s),
        end_at=None,
        ramp_s=0.0,
        reason="standing",
    )


def _limit(held: HeldCommand, now: datetime, now_boot_s: float) -> Limit:
    remaining_s = held.remaining_s(now_boot_s)
    # Commanded for the past, a limit binds from its acceptance: nobody can be late before being told.
    since_s = now_boot_s - max(held.start_boot_s, held.accepted_boot_s)
    return Limit(
        source=held.command.source,
        command_id=held.command.command_id,
        limit_w=_restriction(held)[0],
        start_at=now - timedelta(seconds=since_s),
        end_at=None if remaining_s is None else now + timedelta(seconds=remaining_s),
        ramp_s=held.command.ramp_s,
        reason=held.command.reason,
    )


def _restriction(held: HeldCommand) -> tuple[float, str]:
    value_w = held.command.value_w
    return (math.inf if value_w is None else value_w, held.command.source)


def _outlasts(newer: HeldCommand, older: HeldCommand) -> bool:
    if newer.end_boot_s is None:
        return True
    return older.end_boot_s is not None and older.end_boot_s <= newer.end_boot_s
