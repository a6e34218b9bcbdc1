from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.core.breach import BreachTally, Judgement, export_of, fold, import_of
from agent.core.sitepower import site_power
from agent.model.limits import Limit
from agent.model.readings import MeterReading, MeterRole, Quality, SitePower

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def limit(limit_w: float = 4000.0, start_s: float = 0.0, ramp_s: float = 20.0) -> Limit:
    return Limit(
        source="mqtt",
        command_id="c",
        limit_w=limit_w,
        start_at=NOW + timedelta(seconds=start_s),
        end_at=None,
        ramp_s=ramp_s,
        reason="",
    )


def sample(
    at_s: float, grid_w: float | None, compute_w: float | None = 1000.0, quality: Quality = Quality.OK
) -> SitePower:
    return SitePower(
        measured_at=NOW + timedelta(seconds=at_s),
        quality=quality,
        grid_w=grid_w,
        generation_w=None,
        available_w=None,
        battery_w=None,
        compute_w=compute_w,
        site_load_w=None,
        surplus_w=None,
    )


def fold_at(tally: BreachTally, power: SitePower, bound: Limit | None) -> BreachTally:
    offset_s = (power.measured_at - NOW).total_seconds()
    now_boot_s = 1000.0 + offset_s
    return fold(
        tally, import_of(power), bound, tolerance_w=50.0, now=power.measured_at, now_boot_s=now_boot_s
    )


def test_what_counts_and_what_does_not() -> None:
    rows = [
        (sample(22.0, 4500), limit(), Judgement.RAMPING),
        (sample(22.1, 4500), limit(), Judgement.BREACH),
        (sample(30, 4050), limit(), Judgement.KEPT),
        (sample(30, 4050.1), limit(), Judgement.BREACH),
        (sample(30, 4500, quality=Quality.STALE), limit(), Judgement.UNKNOWN),
        (sample(30, 4500, quality=Quality.ESTIMATED), limit(), Judgement.UNKNOWN),
        (sample(30, None), limit(), Judgement.UNKNOWN),
        (sample(30, 9000), None, Judgement.NO_LIMIT),
        (sample(30, 5000, 1000), limit(), Judgement.UNACHIEVABLE),
        (sample(30, 4999, 1000), limit(), Judgement.BREACH),
        (sample(30, 5000, None), limit(), Judgement.BREACH),
        (sample(-1, 9000, 9000), limit(), Judgement.RAMPING),
    ]
    for power, bound, expected in rows:
        tally = fold_at(BreachTally(), power, bound)
        assert (tally.judgement, tally.samples) == (expected, int(expected is Judgement.BREACH))


def test_a_run_of_samples_is_one_episode_and_a_sample_counts_once() -> None:
    tally = BreachTally()
    for at_s, grid_w in ((30, 4500), (31, 4700), (31, 4700), (32, 4000), (33, 4600)):
        tally = fold_at(tally, sample(at_s, grid_w), limit())
    assert (tally.samples, tally.episodes, tally.worst_excess_w) == (3, 2, 700.0)


def test_repeating_a_limit_excuses_nothing_but_a_tighter_one_starts_a_ramp() -> None:
    tally = fold_at(BreachTally(), sample(30, 4000), limit())
    tally = fold_at(tally, sample(31, 4500), limit(start_s=30))
    assert tally.judgement is Judgement.BREACH
    tally = fold_at(tally, sample(32, 4600), limit(4200.0, start_s=31))
    assert tally.judgement is Judgement.BREACH, "a looser one neither"
    tally = fold_at(tally, sample(33, 4500), limit(3000.0, start_s=32))
    assert tally.judgement is Judgement.RAMPING
    tally = fold_at(tally, sample(55, 3900), limit(3000.0, start_s=32))
    assert tally.judgement is Judgement.BREACH
    tally = fold_at(tally, sample(56, 9000), None)
    tally = fold_at(tally, sample(57, 9000, 9000), limit(start_s=57))
    assert tally.judgement is Judgement.RAMPING


def test_a_stepped_calendar_excuses_nothing() -> None:
    tally = fold_at(BreachTally(), sample(30, 4000), limit())
    for step_s in (-3600.0, 3600.0):
        power = sample(31 + step_s, 4500)
        stepped = fold(
            tally,
            import_of(power),
            limit(start_s=step_s),
            tolerance_w=50.0,
            now=power.measured_at,
            now_boot_s=1031.0,
        )
        assert stepped.judgement is Judgement.BREACH


def test_a_silent_plant_hides_no_breach() -> None:
    import_known = replace(sample(30, 4500, quality=Quality.BAD), grid_quality=Quality.OK)
    assert fold_at(BreachTally(), import_known, limit()).judgement is Judgement.BREACH
    import_lost = replace(sample(30, 4500), grid_quality=Quality.STALE)
    assert fold_at(BreachTally(), import_lost, limit()).judgement is Judgement.UNKNOWN


@pytest.mark.parametrize("silent", ["plant", "battery"])
def test_a_meter_that_stays_silent_hides_no_breach_of_either_direction(silent: str) -> None:
    roles = {"grid": MeterRole.GRID, "plant": MeterRole.GENERATION, "battery": MeterRole.BATTERY}
    for flow_of, grid_w in ((import_of, 5000.0), (lambda power: export_of(power, None), -5000.0)):
        tally = BreachTally()
        for at_s in range(30, 40):
            now = NOW + timedelta(seconds=at_s)
            readings = {
                name: MeterReading(
                    meter=name,
                    role=role,
                    measured_at=NOW if name == silent else now,
                    measured_boottime_s=1000.0,
                    quality=Quality.STALE if name == silent else Quality.OK,
                    active_power_w=grid_w if role is MeterRole.GRID else 0.0,
                )
                for name, role in roles.items()
            }
            power = site_power(readings, meters=roles, now=now, compute_w=4900.0)
            tally = fold(tally, flow_of(power), limit(), tolerance_w=50.0, now=now, now_boot_s=1000.0 + at_s)
        assert (tally.samples, tally.episodes) == (10, 1)


@pytest.mark.parametrize(
    ("grid_w", "rest_w", "expected"),
    [
        (-4050.0, 0.0, Judgement.KEPT),
        (9000.0, 0.0, Judgement.KEPT),
        (-4051.0, 0.0, Judgement.BREACH),
        (-4051.0, 3999.0, Judgement.BREACH),
        (-4051.0, 4000.0, Judgement.UNACHIEVABLE),
        (-4051.0, None, Judgement.BREACH),
        (None, 0.0, Judgement.UNKNOWN),
    ],
)
def test_the_export_is_judged_by_the_same_rule(
    grid_w: float | None, rest_w: float | None, expected: Judgement
) -> None:
    for at_s, word in ((22.0, Judgement.RAMPING), (22.1, Judgement.BREACH)):
        power = sample(at_s, grid_w)
        tally = fold(
            BreachTally(),
            export_of(power, rest_w),
            limit(),
            tolerance_w=50.0,
            now=power.measured_at,
            now_boot_s=1000.0 + at_s,
        )
        late = expected in (Judgement.BREACH, Judgement.UNACHIEVABLE)
        assert tally.judgement is (word if late and word is Judgement.RAMPING else expected)
        assert tally.worst_excess_w == (51.0 if tally.judgement is Judgement.BREACH else 0.0)
