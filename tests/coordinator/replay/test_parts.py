"""Jobs in pieces and distributed jobs in the exact replay, and what the second opinion makes of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.partial import Piece
from coordinator.core.policies import policy_named
from coordinator.model.replication import Replication
from coordinator.replay.exact import run
from coordinator.replay.foresight import Perfect
from coordinator.replay.journal import Interval, Stage, read_journal, write_journal
from coordinator.replay.metrics import Metrics, measure
from coordinator.replay.record import Record, settings_of
from coordinator.replay.transfers import Cause, Transfer, read_transfers, write_transfers
from coordinator.replay.verify import recompute
from coordinator.replay.world import Task, World
from sterna.errors import ConfigError, CorruptError
from tests.coordinator.replay.worlds import GB, HOUR, task, world

POLICIES = ("static", "energy-only", "feasibility-aware", "sterna")


def replay(day: World, name: str) -> Record:
    return run(day, policy_named(name), settings_of(day), Perfect(day))


def rows(record: Record, job_id: str = "1") -> list[tuple[str, str, float, float]]:
    found = sorted(record.intervals, key=lambda row: row.start_s)
    return [(row.stage.value, row.site_id, row.start_s, row.end_s) for row in found if row.job_id == job_id]


def told(record: Record, *causes: Cause) -> list[tuple[str, str, str, float, float, float]]:
    return [
        (one.cause.value, one.source, one.destination, one.start_s, one.end_s, one.size_bytes)
        for one in record.transfers
        if one.cause in causes
    ]


# 100 GB, of which 3 GB are an adapter: at 8 Gbit/s a GB crosses, seals and loads in a second.
ADAPTER = (
    Piece(name="base", size_bytes=97 * GB, change_frac=0.0),
    Piece(name="adapter", size_bytes=3 * GB),
)
HANDOVER = {"a": [500.0, 0.0, 0.0, 0.0], "b": [0.0, 500.0, 500.0, 500.0]}


def test_what_never_changes_travels_while_the_job_goes_on() -> None:
    day = world(HANDOVER, task(size_gb=100, pieces=ADAPTER))
    got = replay(day, "energy-only")
    assert rows(got) == [
        ("run", "a", 0.0, HOUR + 97.0),
        ("seal", "a", HOUR + 97.0, HOUR + 100.0),
        ("load", "b", HOUR + 103.0, HOUR + 233.0),
        ("run", "b", HOUR + 233.0, 2 * HOUR + 136.0),
    ]
    assert told(got, Cause.AHEAD, Cause.STOP) == [
        ("ahead", "a", "b", HOUR, HOUR + 97.0, 97 * GB),
        ("stop", "a", "b", HOUR + 100.0, HOUR + 103.0, 3 * GB),
    ]
    figures = measure(day, got.intervals, got.transfers)
    assert figures.network_wh == pytest.approx(1.9 * 100)
    assert (figures.migrations, figures.given_up) == (1, 0)
    # The slot at b is held from the start of the transfer that goes ahead.
    drawn_s = sum(row.end_s - row.start_s for row in got.intervals)
    assert figures.slots_held == pytest.approx((drawn_s + 97 + 3 + 3) / (24 * HOUR))
    assert same(recompute(day, got.intervals, got.transfers), figures)


def test_the_way_back_costs_only_what_changes() -> None:
    days = {"a": [500.0, 0.0, 500.0, 500.0], "b": [0.0, 500.0, 0.0, 0.0]}
    got = replay(world(days, task(size_gb=100, pieces=ADAPTER, work_s=3 * HOUR)), "energy-only")
    assert [one[:3] + one[5:] for one in told(got, *Cause)] == [
        ("ahead", "a", "b", 97 * GB),
        ("stop", "a", "b", 3 * GB),
        ("stop", "b", "a", 3 * GB),
    ]


def test_a_job_that_ends_while_its_pieces_travel_never_moves() -> None:
    day = world(HANDOVER, task(size_gb=100, pieces=ADAPTER, work_s=HOUR + 50.0))
    got = replay(day, "energy-only")
    assert rows(got) == [("run", "a", 0.0, HOUR + 50.0)]
    assert told(got, *Cause) == [("ahead", "a", "b", HOUR, HOUR + 50.0, 50 * GB)]
    figures = measure(day, got.intervals, got.transfers)
    assert (figures.migrations, figures.given_up) == (0, 0)
    assert same(recompute(day, got.intervals, got.transfers), figures)


def test_a_move_whose_pieces_came_too_late_is_given_up() -> None:
    # The pieces take 2985 s of a window of an hour; what is left is not ten times the 162 s of the stop.
    days = {"a": [500.0, 0.0, 0.0, 0.0], "b": [0.0, 500.0, 0.0, 0.0]}
    pieces = (
        Piece(name="base", size_bytes=97 * GB, change_frac=0.0),
        Piece(name="adapter", size_bytes=GB),
        Piece(name="shards", size_bytes=2 * GB, stays=True),
    )
    day = world(days, task(size_gb=100, pieces=pieces, work_s=4 * HOUR), link_bps=0.26e9)
    got = replay(day, "feasibility-aware")
    figures = measure(day, got.intervals, got.transfers)
    assert rows(got) == [("run", "a", 0.0, 4 * HOUR)]
    assert (figures.migrations, figures.given_up) == (0, 1)
    assert same(recompute(day, got.intervals, got.transfers), figures)


def test_pieces_travel_ahead_only_where_they_must_if_so_asked() -> None:
    # At 8 Gbit/s all of it is over in 233 s of a window of three hours; at 0.5 Gbit/s only the adapter is.
    for link_bps, causes in ((8e9, ["stop"]), (0.5e9, ["ahead", "stop"])):
        day = world(HANDOVER, task(size_gb=100, pieces=ADAPTER), link_bps=link_bps)
        for name in ("feasibility-aware", "sterna"):
            got = replay(replace(day, ahead_if_needed=True), name)
            assert [one[0] for one in told(got, *Cause)] == causes
            assert measure(day, got.intervals, got.transfers).overruns == 0
            recompute(day, got.intervals, got.transfers)
        # Who reckons with no rate and no window cannot tell, and sends ahead.
        assert [one[0] for one in told(replay(day, "energy-only"), *Cause)] == ["ahead", "stop"]


PAIR = Replication(least=2, most=3, sync_bytes=GB, round_s=1000.0, efficiency=(1.0, 1.0, 1.0))


def test_replicas_train_exchange_and_end_together() -> None:
    day = world({"a": [0.0], "b": [0.0], "c": [0.0]}, task(work_s=3000.0, replication=PAIR))
    got = replay(day, "static")
    # Two do 2000 s of work in a round of 1000 s, then 1 GB crosses each way in 1 s; the last ends it.
    assert rows(got) == [("run", "a", 0.0, 1502.0), ("run", "b", 0.0, 1502.0)]
    assert {row.replica for row in got.intervals} == {0, 1}
    assert sorted(told(got, *Cause)) == [
        ("sync", "a", "b", 1000.0, 1001.0, GB),
        ("sync", "a", "b", 1501.0, 1502.0, GB),
        ("sync", "b", "a", 1000.0, 1001.0, GB),
        ("sync", "b", "a", 1501.0, 1502.0, GB),
    ]
    figures = measure(day, got.intervals, got.transfers)
    assert figures.exchanges_wh == figures.network_wh == pytest.approx(4 * 1.9)
    assert (figures.replicas, figures.jobs, figures.migrations) == (2.0, 1, 0)
    assert figures.mean_completion_s == 1502.0
    assert same(recompute(day, got.intervals, got.transfers), figures)


def test_a_third_joins_from_a_sibling_and_speeds_the_job_up() -> None:
    day = world(
        {"a": [500.0] * 9, "b": [500.0] * 9, "c": [0.0, *[500.0] * 8]},
        task(work_s=6 * HOUR, size_gb=6, replication=replace(PAIR, round_s=HOUR)),
    )
    got = replay(day, "sterna")
    (join,) = told(got, Cause.JOIN)
    loads = [row for row in rows(got) if row[0] == "load"]
    assert loads == [("load", "c", join[4], join[4] + 36.0)]
    figures = measure(day, got.intervals, got.transfers)
    assert figures.mean_completion_s < 3 * HOUR - 1000.0
    assert figures.nonrenewable_wh == pytest.approx(figures.network_wh)
    assert same(recompute(day, got.intervals, got.transfers), figures)


def test_a_replica_in_the_dark_is_replaced_and_never_fewer_than_the_least_train() -> None:
    fixed = Replication(least=2, most=2, sync_bytes=GB, round_s=HOUR, efficiency=(1.0, 1.0))
    day = world(
        {"a": [500.0] * 9, "b": [500.0, 0.0, 0.0], "c": [0.0, *[500.0] * 8]},
        task(work_s=6 * HOUR, size_gb=6, replication=fixed),
    )
    got = replay(day, "feasibility-aware")
    by_replica = {row.replica: row for row in got.intervals if row.stage is Stage.RUN}
    assert [by_replica[n].site_id for n in range(3)] == ["a", "b", "c"]
    # The one at b leaves in the instant in which the one at c trains.
    assert by_replica[1].end_s == by_replica[2].start_s > HOUR
    assert same(recompute(day, got.intervals, got.transfers), measure(day, got.intervals, got.transfers))
    still = measure(day, replay(day, "static").intervals, ())
    assert measure(day, got.intervals, got.transfers).nonrenewable_wh < still.nonrenewable_wh


def test_one_that_found_no_slot_at_first_fetches_the_state_later() -> None:
    day = world(
        {"a": [0.0], "b": [0.0]},
        task("0", "b", work_s=HOUR),
        task("1", at_s=10.0, work_s=4 * HOUR, replication=replace(PAIR, most=2, efficiency=(1.0, 1.0))),
        slots=1,
    )
    for name in POLICIES:
        got = replay(day, name)
        assert [one[:4] for one in told(got, Cause.JOIN)] == [("join", "a", "b", HOUR)], name
        assert same(recompute(day, got.intervals, got.transfers), measure(day, got.intervals, got.transfers))


@pytest.mark.parametrize(
    ("job", "fault"),
    [
        (task(replication=replace(PAIR, least=3)), "1: 3 replicas at 2 sites"),
        (task(size_gb=100, pieces=ADAPTER[:1]), "1: pieces do not sum up to the checkpoint"),
        (task(pieces=[Piece(name="x", size_bytes=GB, change_frac=0.0)]), "1: no piece changes and moves"),
        (task(size_gb=2, pieces=[Piece(name="x", size_bytes=GB)] * 2), "1: a piece appears twice"),
        (task(pieces=[Piece(name="x", size_bytes=GB)], replication=PAIR), "1: replicas fetch whole"),
    ],
)
def test_what_cannot_be_is_refused(job: Task, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        replay(world({"a": [0.0], "b": [0.0]}, job), "static")


def test_replicas_cannot_be_held_back() -> None:
    day = world({"a": [0.0], "b": [0.0]}, task(replication=PAIR), hold_back_s=HOUR)
    with pytest.raises(ConfigError, match="1: replicas cannot be held back"):
        replay(day, "static")


def test_rows_and_transfers_survive_the_disk(tmp_path: Path) -> None:
    both = replace(PAIR, most=2, efficiency=(1.0, 1.0))
    day = world(HANDOVER, task(size_gb=100, pieces=ADAPTER), task("2", "b", replication=both))
    got = replay(day, "energy-only")
    write_journal(tmp_path / "decisions.jsonl", day, got.intervals)
    write_transfers(tmp_path / "transfers.jsonl", day, got.transfers)
    again = list(read_journal(tmp_path / "decisions.jsonl", day))
    crossed = list(read_transfers(tmp_path / "transfers.jsonl", day))
    assert same(recompute(day, again, crossed), measure(day, got.intervals, got.transfers))
    assert list(read_transfers(tmp_path / "nothing.jsonl", day)) == []
    text = (tmp_path / "decisions.jsonl").read_text()
    assert '"job": "2", "replica": 0, "site": "b"' in text and '{"job": "1", "site": "a"' in text


REPLACED = world(
    {"a": [500.0] * 9, "b": [500.0, 0.0, 0.0], "c": [0.0, *[500.0] * 8]},
    task(work_s=6 * HOUR, size_gb=6, replication=replace(PAIR, most=2, efficiency=(1.0, 1.0), round_s=HOUR)),
)


@pytest.mark.parametrize(
    ("spoil_row", "spoil_transfer", "fault"),
    [
        (lambda r: None if r.replica == 1 else r, None, "1 replicas at|worked|not between"),
        (lambda r: replace(r, end_s=r.end_s - 60) if r.replica == 1 else r, None, "1 replicas at"),
        (
            lambda r: replace(r, start_s=r.start_s - 60) if r.stage is Stage.LOAD else r,
            None,
            "had not fetched",
        ),
        (lambda r: replace(r, stage=Stage.SEAL) if r.stage is Stage.LOAD else r, None, "replica 2: "),
        (lambda r: replace(r, site_id="a") if r.replica == 1 else r, None, "two replicas at a"),
        (lambda r: replace(r, start_s=r.start_s + 9) if r.replica == 1 else r, None, "trained from nothing"),
        (lambda r: replace(r, end_s=r.end_s - 5) if r.stage is Stage.LOAD else r, None, "a load of 31.000 s"),
        (lambda r: replace(r, start_s=r.start_s - 9), None, "began before it was submitted"),
        (lambda r: None, None, "job 1: never ran"),
        (None, lambda t: None if t.cause is Cause.JOIN else t, "loaded what it had not fetched"),
        (None, lambda t: None if t.cause is Cause.SYNC else t, "no exchange by"),
        (None, lambda t: replace(t, size_bytes=1.0), "an exchange at .* not of|fetched 1 bytes"),
        (None, lambda t: replace(t, source="b") if t.cause is Cause.JOIN else t, None),
        (None, lambda t: replace(t, end_s=t.start_s), "bytes .* in 0.000 s"),
        (None, lambda t: replace(t, source="c") if t.cause is Cause.JOIN else t, "nobody trained at c"),
        (None, lambda t: replace(t, job_id="9"), "job 9 is not of this scenario"),
    ],
)
def test_a_spoilt_record_of_replicas_is_refused(
    spoil_row: object, spoil_transfer: object, fault: str | None
) -> None:
    got = replay(REPLACED, "feasibility-aware")
    intervals: list[Interval] = list(got.intervals)
    transfers: list[Transfer] = list(got.transfers)
    if spoil_row is not None:
        intervals = [new for row in intervals if (new := spoil_row(row)) is not None]  # type: ignore[operator]
    if spoil_transfer is not None:
        transfers = [new for one in transfers if (new := spoil_transfer(one)) is not None]  # type: ignore[operator]
    if fault is None:
        recompute(REPLACED, intervals, transfers)
        return
    with pytest.raises(CorruptError, match=fault):
        recompute(REPLACED, intervals, transfers)


def test_a_spoilt_record_of_pieces_is_refused() -> None:
    day = world(HANDOVER, task(size_gb=100, pieces=ADAPTER))
    got = replay(day, "energy-only")
    ahead, stop = got.transfers
    for spoilt, fault in (
        ((stop,), "bytes crossed, 100000000000 were to"),
        ((ahead,), "1 moves, 0 transfers at a stop"),
        ((ahead, replace(stop, size_bytes=2.0 * GB)), "2000000000 bytes crossed, 3000000000 were to"),
        ((ahead, replace(stop, start_s=stop.start_s - 9.0)), "no transfer between seal and load"),
    ):
        with pytest.raises(CorruptError, match=fault):
            recompute(day, got.intervals, spoilt)


def same(one: Metrics, other: Metrics) -> bool:
    return all(
        getattr(one, name) == pytest.approx(getattr(other, name)) for name in Metrics.__dataclass_fields__
    )


SITES = ("a", "b", "c")
pieces_of = st.sampled_from(
    [
        (),
        ((0.9, 0.0, False), (0.1, 1.0, False)),
        ((1.0, 0.7, False),),
        ((0.6, 1.0, True), (0.4, 0.7, False)),
        ((0.5, 0.0, False), (0.3, 0.4, False), (0.2, 1.0, False)),
    ]
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    curve = st.lists(st.sampled_from([0.0, 500.0, 700.0, 1700.0]), min_size=8, max_size=8)
    times = sorted(draw(st.lists(st.floats(0.0, 6 * HOUR), min_size=1, max_size=5)))
    tasks = []
    for number, at_s in enumerate(times):
        size_gb = draw(st.sampled_from([1, 10, 100]))
        least = draw(st.integers(1, 3))
        most = draw(st.integers(least, 3))
        how = Replication(
            least=least,
            most=most,
            sync_bytes=draw(st.sampled_from([0, size_gb * GB // 3])),
            round_s=draw(st.sampled_from([600.0, HOUR])),
            efficiency=(1.0, 0.95, 0.9)[:most],
        )
        parted = draw(st.booleans())
        tasks.append(
            task(
                str(number),
                draw(st.sampled_from(SITES)),
                at_s=at_s,
                work_s=draw(st.floats(60.0, 5 * HOUR)),
                size_gb=size_gb,
                replication=None if parted else how,
                pieces=[
                    Piece(
                        name=f"p{n}",
                        size_bytes=round(share * 10) * size_gb * GB // 10,
                        change_frac=frac,
                        stays=stays,
                    )
                    for n, (share, frac, stays) in enumerate(draw(pieces_of))
                ]
                if parted
                else (),
            )
        )
    return world(
        {name: draw(curve) for name in SITES},
        *tasks,
        slots=draw(st.integers(1, 3)),
        link_bps=draw(st.sampled_from([0.5e9, 8e9])),
        access_bps=draw(st.sampled_from([None, 0.4e9])),
        eta=0.9,
        tail=400,
    )


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=40, deadline=None)
@given(day=worlds())
def test_the_second_opinion_finds_no_fault_and_the_same_figures(name: str, day: World) -> None:
    # It checks slots, links, work, rounds and bytes of exchanges, the least number, one at a time on the way.
    got = replay(day, name)
    assert same(recompute(day, got.intervals, got.transfers), measure(day, got.intervals, got.transfers))
    assert replay(day, name) == got
