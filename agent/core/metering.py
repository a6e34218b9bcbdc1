"""Energy of one meter per interval: its counters where they speak, power between them, gaps told.

A counter is read seldom and counts in steps, so at an interval's edge it lags. What has flowed since it last
moved is therefore integrated from power, and put right when it moves again: the sum over intervals is the
counter's, the cut between two of them is the power's. Owns nothing but figures; `agent.core.energy` judges
each step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from agent.core.energy import Amount, EnergyStep, EnergyTrack, step
from agent.model.readings import MeterReading, Quality
from agent.model.settlement import Energy, EnergyMethod

FULL_FRAC = 0.999
FILL_FRAC = 0.9
"""An interval of which less is known has no energy; between this and full it is filled up, and ESTIMATED."""
OTHER_BOOT_S = 1e18
"""Later than any boot clock, so that the calendar tells how long a reboot took."""
UNCOUNTED_FRAC = 0.05
"""An interval that no counter backs for longer is not COUNTED."""
EDGE_FRAC = 0.25
EDGE_WH = 1.0
"""Energy at the edges that a counter has not confirmed: beyond these the interval is not COUNTED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """What one direction has gathered in one interval.

    `energy_wh` may be below 0 until the interval ends. `spread_s` is time over which a count was spread
    evenly, `uncounted_s` time that no counter backs, `flow_s` time that power tells of. `lead_wh`,
    `trail_wh`: integrated since the counter had last moved, at the first and at the newest step in here.
    """

    energy_wh: float = 0.0
    integrated_wh: float = 0.0
    known_s: float = 0.0
    spread_s: float = 0.0
    uncounted_s: float = 0.0
    flow_s: float = 0.0
    lead_wh: float = 0.0
    trail_wh: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction of one meter.

    `anchored`: the counter was seen to move, so that it is known where in its step it stands. `open_wh` was
    integrated since; `hole_at` is where, since then, a gap began that power does not tell of.
    """

    anchored: bool = False
    open_wh: float = 0.0
    hole_at: datetime | None = None
    buckets: Mapping[int, Bucket] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterLedger:
    """One meter; the first one is empty."""

    track: EnergyTrack = field(default_factory=EnergyTrack)
    imported: Direction = Direction()
    exported: Direction = Direction()


def index_of(at: datetime, length_s: float) -> int:
    """Return the number of the interval that an instant lies in, counted from 1970 in UTC."""
    return int(at.timestamp() // length_s)


def start_of(index: int, length_s: float) -> datetime:
    """Return when an interval begins."""
    return datetime.fromtimestamp(index * length_s, UTC)


def take(
    ledger: MeterLedger,
    reading: MeterReading,
    *,
    length_s: float,
    first: int,
    max_power_w: float,
    max_gap_s: float,
) -> MeterLedger:
    """Take a reading.

    Parameters
    ----------
    ledger : MeterLedger
        What was gathered so far.
    reading : MeterReading
        The newest; one that is not OK, or is not newer, changes nothing.
    length_s : float
        Of an interval.
    first : int
        The oldest interval that is still open; what belongs before it is lost.
    max_power_w, max_gap_s : float
        See `agent.core.energy.step`.
    """
    track, done = step(ledger.track, reading, max_power_w=max_power_w, max_gap_s=max_gap_s)
    if done is None:
        return ledger if track is ledger.track else replace(ledger, track=track)
    return MeterLedger(
        track=track,
        imported=_credited(
            ledger.imported, done.imported, done.imported_flow, done, length_s=length_s, first=first
        ),
        exported=_credited(
            ledger.exported, done.exported, done.exported_flow, done, length_s=length_s, first=first
        ),
    )


def energy(direction: Direction, index: int, length_s: float) -> tuple[Energy, float]:
    """Return the energy of an interval, and what it overdrew, <= 0, to be taken from the next."""
    bucket = direction.buckets.get(index)
    if bucket is None or bucket.known_s < FILL_FRAC * length_s:
        known_s = 0.0 if bucket is None else bucket.known_s
        return Energy(energy_wh=None, method=None, known_s=known_s), 0.0
    method, value_wh = _method(bucket, length_s), bucket.energy_wh
    if bucket.known_s < FULL_FRAC * length_s:
        value_wh *= length_s / bucket.known_s
    told = Energy(
        energy_wh=max(0.0, value_wh),
        method=method,
        known_s=bucket.known_s,
        integrated_wh=bucket.integrated_wh if bucket.flow_s >= FULL_FRAC * length_s else None,
    )
    return told, min(0.0, value_wh)


def closed(ledger: MeterLedger, index: int, length_s: float) -> MeterLedger:
    """Forget an interval; an overdraft goes to the next."""
    return replace(
        ledger,
        imported=_without(ledger.imported, index, length_s),
        exported=_without(ledger.exported, index, length_s),
    )


def rebooted(ledger: MeterLedger) -> MeterLedger:
    """Return a meter as remembered from another boot: its duration clock says nothing any more."""
    track = ledger.track
    if track.measured_s is None:
        return ledger
    return replace(ledger, track=replace(track, measured_s=OTHER_BOOT_S))


def _without(direction: Direction, index: int, length_s: float) -> Direction:
    debt_wh = energy(direction, index, length_s)[1]
    buckets = {number: bucket for number, bucket in direction.buckets.items() if number > index}
    if debt_wh < 0:
        after = buckets.get(index + 1, Bucket(lead_wh=direction.open_wh))
        buckets[index + 1] = replace(after, energy_wh=after.energy_wh + debt_wh)
    return replace(direction, buckets=buckets)


def _method(bucket: Bucket, length_s: float) -> EnergyMethod:
    slack_s = (1 - FULL_FRAC) * length_s
    if abs(bucket.known_s - length_s) > slack_s or bucket.spread_s > slack_s:
        return EnergyMethod.ESTIMATED
    edges_wh = bucket.lead_wh + bucket.trail_wh
    counted = (
        bucket.uncounted_s <= UNCOUNTED_FRAC * length_s and edges_wh <= EDGE_WH + EDGE_FRAC * bucket.energy_wh
    )
    return EnergyMethod.COUNTED if counted else EnergyMethod.INTEGRATED


def _credited(
    direction: Direction, amount: Amount, flow: Amount, done: EnergyStep, *, length_s: float, first: int
) -> Direction:
    """Add what a step says of one direction."""
    if amount.energy_wh is None:
        return Direction(buckets=direction.buckets)  # no counter, and a gap: nothing is known of it
    posting = _Posting(length_s=length_s, first=first, end_at=done.end_at, direction=direction)
    if amount.quality is not Quality.OK:
        # No counter, or one that was reset or is not believed.
        buckets = posting.post(done.duration_s, amount.energy_wh, flow=flow, counted=False)
        return Direction(buckets=buckets)
    if amount.energy_wh == 0.0:
        return _waiting(direction, posting, done, flow)
    return _moved(direction, posting, done, amount.energy_wh, flow)


def _waiting(direction: Direction, posting: "_Posting", done: EnergyStep, flow: Amount) -> Direction:
    """Wait for the counter: power tells, and over a gap nothing has flowed but less than a count."""
    known = flow.energy_wh is not None
    energy_wh = flow.energy_wh or 0.0
    open_wh = direction.open_wh + energy_wh
    return Direction(
        anchored=direction.anchored,
        open_wh=open_wh,
        hole_at=direction.hole_at if known else direction.hole_at or done.begin_at,
        buckets=posting.post(
            done.duration_s,
            energy_wh,
            flow=flow,
            counted=direction.anchored,
            spread=not known,
            trail_wh=open_wh,
        ),
    )


def _moved(
    direction: Direction, posting: "_Posting", done: EnergyStep, counted_wh: float, flow: Amount
) -> Direction:
    """Put right what was integrated since the counter last moved."""
    known = flow.energy_wh is not None and direction.hole_at is None
    if not direction.anchored and known:
        # Where in its first step the counter stood is not known: power tells.
        buckets = posting.post(done.duration_s, flow.energy_wh or 0.0, flow=flow, counted=False)
        return Direction(anchored=True, buckets=buckets)
    owed_wh = counted_wh - direction.open_wh
    duration_s = done.duration_s
    if direction.hole_at is not None:
        # The gap's share was left out when it was seen; now it is known, and goes where the gap was.
        since_s = max(duration_s, (done.end_at - direction.hole_at).total_seconds())
        posting = replace(posting, direction=replace(direction, buckets=posting.mend(since_s, owed_wh)))
        owed_wh = 0.0
    buckets = posting.post(duration_s, owed_wh, flow=flow, counted=True, spread=flow.energy_wh is None)
    return Direction(anchored=True, buckets=buckets)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Posting:
    """Where the end of a step lies, and what it is added to."""

    length_s: float
    first: int
    end_at: datetime
    direction: Direction

    def post(
        self,
        duration_s: float,
        energy_wh: float,
        *,
        flow: Amount,
        counted: bool,
        spread: bool = False,
        trail_wh: float = 0.0,
    ) -> dict[int, Bucket]:
        """Add a step's energy, evenly over its duration; return the buckets."""
        buckets = dict(self.direction.buckets)
        parts = tuple(self._parts(duration_s))
        for index, part_s in parts:
            frac = part_s / duration_s
            bucket = buckets.get(index)
            if bucket is None:
                bucket = Bucket(lead_wh=self.direction.open_wh)
            buckets[index] = Bucket(
                energy_wh=bucket.energy_wh + energy_wh * frac,
                integrated_wh=bucket.integrated_wh + (flow.energy_wh or 0.0) * frac,
                known_s=bucket.known_s + part_s,
                # A gap within one interval is no guess once it is counted: all of it belongs there.
                spread_s=bucket.spread_s + (part_s if spread and len(parts) > 1 else 0.0),
                uncounted_s=bucket.uncounted_s + (0.0 if counted else part_s),
                flow_s=bucket.flow_s + (0.0 if flow.energy_wh is None else part_s),
                lead_wh=bucket.lead_wh,
                trail_wh=trail_wh,
            )
        return buckets

    def mend(self, since_s: float, energy_wh: float) -> dict[int, Bucket]:
        """Spread energy over a time that was already counted as known; what is closed is lost."""
        buckets = dict(self.direction.buckets)
        for index, part_s in self._parts(since_s):
            if index in buckets:
                bucket = buckets[index]
                buckets[index] = replace(bucket, energy_wh=bucket.energy_wh + energy_wh * part_s / since_s)
        return buckets

    def _parts(self, duration_s: float) -> Iterator[tuple[int, float]]:
        """Cut a stretch that ends at `end_at` into its intervals: number and seconds in each.

        A calendar that was set back would put energy into intervals that are closed: it goes into the oldest
        open one instead.
        """
        begin_at = self.end_at - timedelta(seconds=duration_s)
        last = index_of(self.end_at, self.length_s)
        if last < self.first:
            yield self.first, duration_s
            return
        from_index = max(self.first, index_of(begin_at, self.length_s))
        for index in range(from_index, last + 1):
            starts_at = start_of(index, self.length_s)
            ends_at = min(self.end_at, starts_at + timedelta(seconds=self.length_s))
            part_s = (ends_at - max(begin_at, starts_at)).total_seconds()
            if part_s > 0:
                yield index, part_s
