"""One record per interval: what is in it, when it closes, what a restart and a calendar do to it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.breach import Judgement
from agent.core.settlement import (
    GRACE_S,
    MAX_CATCH_UP,
    NODES,
    Sample,
    SiteLedger,
    closable,
    close,
    observe,
    opened,
    resumed,
    rewound,
)
from agent.model.limits import Limit
from agent.model.readings import MeterReading, MeterRole, Quality
from agent.model.settlement import Compliance, EnergyMethod, LimitUse, SettlementRecord

START = datetime(2026, 3, 30, 12, tzinfo=UTC)
LENGTH_S = 300.0
GRID = {"grid": MeterRole.GRID}
HOUSE = {
    "grid": MeterRole.GRID,
    "sun": MeterRole.GENERATION,
    "load": MeterRole.LOAD,
    "battery": MeterRole.BATTERY,
    "nodes": MeterRole.COMPUTE,
}
COUNTED, INTEGRATED, ESTIMATED = EnergyMethod.COUNTED, EnergyMethod.INTEGRATED, EnergyMethod.ESTIMATED


def limit(limit_w: float, source: str = "mqtt", command_id: str = "c1") -> Limit:
    return Limit(
        source=source,
        command_id=command_id,
        limit_w=limit_w,
        start_at=START,
        end_at=None,
        ramp_s=0.0,
        reason="",
    )


def sample(
    at_s: float,
    powers_w: Mapping[str, float],
    *,
    roles: Mapping[str, MeterRole] = GRID,
    counted: bool = False,
    boot_s: float = 0.0,
    bound: Limit | None = None,
    judgement: Judgement | None = None,
    breach_samples: int = 0,
    excess_w: float = 0.0,
    counterfactual_w: float | None = None,
) -> Sample:
    now = START + timedelta(seconds=at_s)

    def reading(name: str, power_w: float) -> MeterReading:
        role = roles.get(name, MeterRole.COMPUTE)
        count_wh = 1000.0 + power_w * at_s / 3600 if counted else None
        plant = role is MeterRole.GENERATION
        return MeterReading(
            meter=name,
            role=role,
            measured_at=now,
            measured_boottime_s=at_s - boot_s,
            quality=Quality.OK,
            active_power_w=power_w,
            energy_import_wh=None if plant else count_wh,
            energy_export_wh=count_wh if plant else None,
        )

    kept = Judgement.NO_LIMIT if bound is None else Judgement.KEPT
    return Sample(
        now=now,
        now_boot_s=at_s - boot_s,
        readings=tuple(reading(name, power_w) for name, power_w in powers_w.items()),
        limit=bound,
        judgement=kept if judgement is None else judgement,
        breach_samples=breach_samples,
        excess_w=excess_w,
        counterfactual_w=counterfactual_w,
    )


def seen(ledger: SiteLedger, samples: Iterator[Sample] | list[Sample]) -> SiteLedger:
    for one in samples:
        ledger = observe(ledger, one, max_power_w=1e5, max_gap_s=10.0)
    return ledger


def records(
    ledger: SiteLedger, until_s: float, roles: Mapping[str, MeterRole] = GRID
) -> tuple[SiteLedger, tuple[SettlementRecord, ...]]:
    now = START + timedelta(seconds=until_s)
    return close(ledger, until=int(now.timestamp() // LENGTH_S), roles=roles, now=now)


def test_a_house_with_everything() -> None:
    powers = {"grid": 1000.0, "sun": 3000.0, "load": 1500.0, "battery": 500.0, "nodes": 2000.0}
    ledger = seen(
        opened(LENGTH_S, START),
        [sample(n, powers, roles=HOUSE, counted=True, counterfactual_w=2400.0) for n in range(302)],
    )
    ledger, (record,) = records(ledger, 301, HOUSE)
    wh = {
        name: getattr(record, name).energy_wh
        for name in ("grid_import", "grid_export", "generation", "compute", "load", "battery_charge")
    }
    assert wh == pytest.approx(
        {
            "grid_import": 1000 / 12,
            "grid_export": 0.0,
            "generation": 250.0,
            "compute": 2000 / 12,
            "load": 125.0,
            "battery_charge": 500 / 12,
        },
        abs=0.01,
    )
    assert record.grid_import.method is COUNTED
    assert record.grid_export.method is INTEGRATED
    assert record.battery_discharge is not None
    assert record.battery_discharge.energy_wh == 0.0
    assert (record.quality, record.compliance, record.faults) == (Quality.OK, Compliance.NO_LIMIT, ())
    assert record.counterfactual_w == pytest.approx(2400.0)
    assert record.import_w == pytest.approx(1000.0, abs=0.1)
    assert (record.start_at, record.end_at) == (START, START + timedelta(seconds=LENGTH_S))
    assert ledger.first == int(START.timestamp() // LENGTH_S) + 1
    assert records(ledger, 302, HOUSE)[1] == (), "each interval is given up once"


@pytest.mark.parametrize(
    ("powers", "words"),
    [
        ({"grid": 1000.0, "sun": 0.0, "load": 100.0, "battery": 0.0, "nodes": 100.0}, "Wh came in and"),
        ({"grid": 100.0, "sun": 0.0, "nodes": 5000.0}, "Wh came in and"),
        ({"grid": 5000.0, "sun": 0.0, "nodes": 100.0}, None),
        ({"grid": -5000.0, "sun": 1000.0}, "Wh came in and"),
    ],
    ids=["too little used", "more used than came", "the rest is the site's load", "exports what it has not"],
)
def test_energy_that_is_not_conserved_is_told(powers: dict[str, float], words: str | None) -> None:
    roles = {name: HOUSE[name] for name in powers}
    ledger = seen(opened(LENGTH_S, START), [sample(n, powers, roles=roles) for n in range(302)])
    _, (record,) = records(ledger, 301, roles)
    assert [words in fault for fault in record.faults] == ([True] if words else [])


def test_a_counter_that_power_contradicts_is_told() -> None:
    def samples() -> Iterator[Sample]:
        for n in range(302):
            one = sample(n, {"grid": 1000.0}, counted=True)
            yield replace(one, readings=(replace(one.readings[0], energy_import_wh=n * 0.5),))

    _, (record,) = records(seen(opened(LENGTH_S, START), samples()), 301)
    assert record.grid_import.energy_wh == pytest.approx(150.0, abs=1.0)
    assert record.faults == ("grid import: 150 Wh were counted and 83 Wh flowed by power",)


def test_the_nodes_own_word_stands_in_for_a_meter() -> None:
    ledger = seen(opened(LENGTH_S, START), [sample(n, {"grid": 900.0, NODES: 600.0}) for n in range(302)])
    _, (record,) = records(ledger, 301)
    assert record.compute is not None
    assert (record.compute.energy_wh, record.compute.method) == (pytest.approx(50.0), INTEGRATED)
    assert (record.generation, record.load) == (None, None)


def test_one_unknown_meter_makes_the_sum_unknown() -> None:
    roles = {"a": MeterRole.GRID, "b": MeterRole.GRID}
    both = seen(
        opened(LENGTH_S, START), [sample(n, {"a": 600.0, "b": 300.0}, roles=roles) for n in range(302)]
    )
    assert records(both, 301, roles)[1][0].grid_import.energy_wh == pytest.approx(75.0)
    one = seen(opened(LENGTH_S, START), [sample(n, {"a": 600.0}, roles=roles) for n in range(302)])
    record = records(one, 301, roles)[1][0]
    assert (record.grid_import.energy_wh, record.quality, record.import_w) == (None, Quality.BAD, None)


def test_limits_are_told_with_source_command_and_time() -> None:
    def samples() -> Iterator[Sample]:
        for n in range(302):
            bound = limit(4200.0, "failsafe", "") if n <= 100 else limit(800.0) if n <= 200 else None
            yield sample(n, {"grid": 500.0}, bound=bound)

    _, (record,) = records(seen(opened(LENGTH_S, START), samples()), 301)
    assert record.limits == (
        LimitUse(source="mqtt", command_id="c1", limit_w=800.0, held_s=100.0),
        LimitUse(source="failsafe", command_id="", limit_w=4200.0, held_s=100.0),
    )
    assert record.compliance is Compliance.KEPT


@pytest.mark.parametrize(
    ("judgements", "expected"),
    [
        ([(300, Judgement.KEPT)], Compliance.KEPT),
        ([(280, Judgement.KEPT), (20, Judgement.UNKNOWN)], Compliance.KEPT),
        ([(200, Judgement.KEPT), (100, Judgement.UNKNOWN)], Compliance.UNKNOWN),
        ([(290, Judgement.KEPT), (10, Judgement.UNACHIEVABLE)], Compliance.UNACHIEVABLE),
        ([(290, Judgement.RAMPING), (10, Judgement.KEPT)], Compliance.KEPT),
        ([(100, Judgement.UNKNOWN), (200, Judgement.BREACH)], Compliance.BREACH),
    ],
)
def test_compliance(judgements: list[tuple[int, Judgement]], expected: Compliance) -> None:
    words = [word for count, word in judgements for _ in range(count)]
    ledger = seen(
        opened(LENGTH_S, START),
        [
            sample(
                n,
                {"grid": 500.0},
                bound=limit(800.0),
                judgement=words[max(0, n - 1)],
                breach_samples=int(words[max(0, n - 1)] is Judgement.BREACH),
                excess_w=30.0 if words[max(0, n - 1)] is Judgement.BREACH else 0.0,
            )
            for n in range(301)
        ],
    )
    record = records(ledger, 301)[1][0]
    assert record.compliance is expected
    breaches = sum(word is Judgement.BREACH for word in words)
    assert record.breach_samples == breaches
    assert record.worst_excess_w == (30.0 if breaches else 0.0)


def test_an_interval_that_nobody_saw_says_so() -> None:
    ledger = seen(opened(LENGTH_S, START), [sample(n, {"grid": 500.0}) for n in range(10)])
    ledger, found = records(ledger, 1201)
    assert [record.start_at for record in found] == [START + timedelta(seconds=300 * n) for n in range(4)]
    assert {record.compliance for record in found} == {Compliance.UNKNOWN}
    assert {record.grid_import.energy_wh for record in found} == {None}
    assert {record.counterfactual_w for record in found} == {None}


@pytest.mark.parametrize(
    ("heard_s", "now_s", "up_s", "closes"),
    [
        (301, 301, 1e3, 1),
        (299, 301, 1e3, 0),
        (299, 301 + GRACE_S, 1e3, 1),
        (299, 301 + GRACE_S, 5.0, 0),
        (301, 301, 0.0, 1),
        (299, 299, 1e3, 0),
    ],
    ids=["all heard", "one to come", "silent for long", "just started", "just started and heard", "goes on"],
)
def test_when_an_interval_closes(heard_s: float, now_s: float, up_s: float, closes: int) -> None:
    ledger = seen(opened(LENGTH_S, START), [sample(n, {"grid": 1.0}) for n in (0, heard_s)])
    until = closable(ledger, GRID, now=START + timedelta(seconds=now_s), up_s=up_s)
    assert until - ledger.first == closes


def test_a_restart_goes_on_in_the_open_interval() -> None:
    before = seen(opened(LENGTH_S, START), [sample(n, {"grid": 1200.0}, counted=True) for n in range(101)])
    after = resumed(before, length_s=LENGTH_S, now=START + timedelta(seconds=160), same_boot=False)
    after = seen(after, [sample(n, {"grid": 1200.0}, counted=True, boot_s=150.0) for n in range(160, 302)])
    _, (record,) = records(after, 301)
    assert record.grid_import.energy_wh == pytest.approx(100.0, abs=0.5)
    assert record.grid_import.method is COUNTED, "the counter tells of the minute without us"
    assert record.compliance is Compliance.UNKNOWN, "whether a limit was kept in it, nobody can tell"


def test_a_long_absence_is_made_up_for_up_to_a_bound() -> None:
    late = START + timedelta(seconds=LENGTH_S * (MAX_CATCH_UP + 500))
    ledger = resumed(opened(LENGTH_S, START), length_s=LENGTH_S, now=late, same_boot=True)
    _, found = close(ledger, until=int(late.timestamp() // LENGTH_S), roles=GRID, now=late)
    assert len(found) == MAX_CATCH_UP
    assert found[-1].end_at <= late < found[-1].end_at + timedelta(seconds=LENGTH_S)


def test_another_length_begins_where_the_former_ended() -> None:
    before = opened(LENGTH_S, START + timedelta(seconds=600))
    after = resumed(before, length_s=3600.0, now=START + timedelta(seconds=700), same_boot=True)
    assert after.first * 3600.0 == (START + timedelta(hours=1)).timestamp()
    unchanged = seen(after, [sample(n, {"grid": 1.0}) for n in range(700, 710)])
    assert unchanged == after, "it has not begun"
    began = seen(after, [sample(n, {"grid": 1.0}) for n in range(3600, 3610)])
    assert began.meters


def test_a_calendar_that_had_run_ahead_is_followed_back() -> None:
    ahead = seen(opened(LENGTH_S, START + timedelta(days=400)), [sample(86400 * 400, {"grid": 1.0})])
    back = rewound(ahead, START)
    assert back.first == int(START.timestamp() // LENGTH_S)
    assert back.notes == {}
    near = opened(LENGTH_S, START)
    assert rewound(near, START - timedelta(seconds=200)) is near


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(-3000, 3000), st.booleans()), min_size=1, max_size=40)
)
def test_every_interval_has_exactly_one_record(rows: list[tuple[int, float, bool]]) -> None:
    """Whatever the gaps and restarts: the records follow each other without hole or overlap."""
    ledger, at_s, found = opened(LENGTH_S, START), 0, []
    for gap_s, power_w, restart in rows:
        at_s += gap_s
        now = START + timedelta(seconds=at_s)
        if restart:
            ledger = resumed(ledger, length_s=LENGTH_S, now=now, same_boot=True)
        ledger = seen(ledger, [sample(at_s, {"grid": power_w})])
        until = closable(ledger, GRID, now=now, up_s=1e6)
        ledger, more = close(ledger, until=until, roles=GRID, now=now)
        found += more
    starts = [record.start_at for record in found]
    assert starts == [START + timedelta(seconds=LENGTH_S * n) for n in range(len(found))]
    assert len(found) == at_s // int(LENGTH_S)


def test_a_clock_that_was_set_back_is_told() -> None:
    ledger = seen(opened(LENGTH_S, START), [sample(n, {"grid": 600.0}) for n in range(302)])
    ledger, _ = records(ledger, 301)
    again = [sample(n, {"grid": 600.0}, boot_s=-20.0) for n in range(282, 602)]
    _, (record,) = records(seen(ledger, again), 601)
    assert record.faults == (
        "grid import: 319 s in 300 s: the clock was set",
        "grid export: 319 s in 300 s: the clock was set",
    )
    assert record.quality is Quality.ESTIMATED
