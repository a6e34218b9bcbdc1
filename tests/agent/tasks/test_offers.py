"""When the grid operator is told of offers, and when they are taken back."""

import json
from dataclasses import replace
from datetime import timedelta

from agent.grid.measured import FakeMeasurements
from agent.grid.wire import SiteSnapshot
from agent.model.figures import Figure, Quantity
from agent.model.limits import Envelope
from agent.model.readings import Quality
from agent.model.telemetry import FlexibilityOffer, FlexibilityOffers
from agent.tasks.offers import REST_S, OfferedMeasurements, Offers
from sterna.clock import FakeClock
from tests.agent.core.budget_site import NOW, limit, limited, power


class Site:
    """A site of 1.8 kW that can come down to 1 kW."""

    def __init__(self) -> None:
        self.clock = FakeClock(now=NOW)
        self.envelope: Envelope = limited(None)
        self.others_w = 1000.0
        self.posts: list[tuple[dict[str, object], float | None]] = []
        self.offers = Offers(
            snapshot=self.snapshot,
            envelope=lambda: self.envelope,
            minimum_limit_w=0.0,
            margin_w=0.0,
            clock=self.clock,
            post=lambda payload, kept_s: self.posts.append((json.loads(payload), kept_s)),
        )

    def snapshot(self) -> SiteSnapshot:
        sample = replace(power(self.others_w, 800.0), measured_at=self.clock.now())
        return SiteSnapshot(power=sample, achievable_min_w=self.others_w)

    def plan(self, *reductions_w: float, valid_s: float = 300.0) -> None:
        now = self.clock.now()
        self.offers.take(
            FlexibilityOffers(
                issued_at=now,
                expires_at=now + timedelta(seconds=valid_s),
                offers=tuple(
                    FlexibilityOffer(
                        offer_id=f"o{at}",
                        start_at=now,
                        duration_s=900.0,
                        reduction_w=reduction_w,
                        jobs=at,
                        cost_job_s=900.0 * at,
                        steps_at_risk=7,
                        shifted_wh=100.0,
                    )
                    for at, reduction_w in enumerate(reductions_w, start=1)
                ),
            )
        )

    def look(self, after_s: float = 1.0) -> dict[str, object] | None:
        """Let time pass and look; what was told then."""
        self.clock.advance(after_s)
        before = len(self.posts)
        self.offers.look()
        return self.posts[-1][0] if len(self.posts) > before else None


def test_offers_are_told_once_with_limit_cost_and_expiry() -> None:
    site = Site()
    first = site.look()
    assert first is not None
    assert (first["offers"], first["reason"]) == ([], "no plan")
    site.plan(400.0, 800.0)
    body = site.look(after_s=1.0)
    assert body == {
        "v": 1,
        "t": "2026-11-22T10:00:02.000Z",
        "expires": "2026-11-22T10:05:01.000Z",
        "gridW": 1800.0,
        "reason": "",
        "offers": [
            {
                "id": f"o{jobs}",
                "direction": "DOWN",
                "powerW": 400.0 * jobs,
                "limitW": 1800.0 - 400.0 * jobs,
                "start": "2026-11-22T10:00:02.000Z",
                "durationS": 900.0,
                "consequence": "DEFER",
                "jobs": jobs,
                "moves": 0,
                "delayJobS": 900.0 * jobs,
                "stepsAtRisk": 7,
                "shiftedWh": 100.0,
                "extraWh": 0.0,
            }
            for jobs in (1, 2)
        ],
    }
    assert site.posts[-1][1] == 304.0, "the broker forgets it soon after it has expired"
    assert site.look() is None


def test_changes_wait_a_moment_withdrawals_do_not() -> None:
    site = Site()
    site.plan(400.0)
    site.look()
    site.others_w = 1500.0
    assert site.look(after_s=1.0) is None
    changed = site.look(after_s=REST_S)
    assert changed is not None and changed["gridW"] == 2300.0
    site.envelope = limited(replace(limit(2200.0), reason="ALERT_GRID_EMERGENCY"))
    gone = site.look(after_s=0.1)
    assert gone is not None
    assert (gone["offers"], gone["expires"], gone["reason"]) == ([], None, "a grid emergency")
    assert site.posts[-1][1] is None


def test_offers_of_a_silent_coordinator_end_by_themselves() -> None:
    site = Site()
    site.plan(400.0, valid_s=60.0)
    assert site.look() is not None
    assert site.look(after_s=58.0) is None
    gone = site.look(after_s=2.0)
    assert gone is not None and gone["reason"] == "no plan"


def test_without_a_broker_nothing_is_posted() -> None:
    site = Site()
    site.offers.post = None
    site.plan(400.0)
    assert site.look() is None


async def test_reports_ahead_tell_what_is_offered() -> None:
    site = Site()
    now_w = Figure(value=800.0, quality=Quality.ESTIMATED)
    others = FakeMeasurements({Quantity.SHED_AVAILABLE_W: now_w, Quantity.IMPORT_W: now_w})
    measured = OfferedMeasurements(others=others, offers=site.offers, clock=site.clock)
    soon = (site.clock.now(), site.clock.now() + timedelta(seconds=600))
    late = (soon[1], soon[1] + timedelta(seconds=600))
    shed = Quantity.SHED_AVAILABLE_W
    assert await measured.figure(shed, *soon, forecast=True) is None
    site.plan(400.0)
    told = await measured.figure(shed, *soon, forecast=True)
    assert told == Figure(value=400.0, quality=Quality.ESTIMATED)
    assert await measured.figure(shed, *late, forecast=True) is None, "no offer lasts to its end"
    assert await measured.figure(shed, *soon, forecast=False) == now_w
    assert await measured.figure(Quantity.IMPORT_W, *soon, forecast=True) == now_w
