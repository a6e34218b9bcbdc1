"""What of the plan's offers a site may tell: no more than it can keep, nothing while it must be cautious."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.offers import Prospectus, PublicOffer, Reach, is_news, prospectus, shed_available_w
from agent.model.limits import Envelope, GridState
from agent.model.readings import Quality, SitePower
from agent.model.telemetry import FlexibilityOffer, FlexibilityOffers
from tests.agent.core.budget_site import NOW, limit, limited, power

FREE = limited(None)
REACH = Reach(achievable_min_w=1000.0)
LATER = NOW + timedelta(seconds=300)


def offer(reduction_w: float = 0.0, increase_w: float = 0.0, length_s: float = 900.0) -> FlexibilityOffer:
    return FlexibilityOffer(
        offer_id="o",
        start_at=NOW,
        duration_s=length_s,
        reduction_w=reduction_w,
        increase_w=increase_w,
        jobs=1,
    )


def sent(*offers: FlexibilityOffer, reason: str = "") -> FlexibilityOffers:
    return FlexibilityOffers(issued_at=NOW, expires_at=LATER, offers=offers, reason=reason)


def told(
    offers: FlexibilityOffers | None,
    sample: SitePower | None = None,
    reach: Reach = REACH,
    envelope: Envelope = FREE,
    after_s: float = 0.0,
) -> Prospectus:
    now = NOW + timedelta(seconds=after_s)
    return prospectus(offers, power=sample or power(1000.0, 800.0), reach=reach, envelope=envelope, now=now)


@pytest.mark.parametrize(
    ("reduction_w", "reach", "power_w"),
    [
        (400.0, REACH, 400.0),
        (900.0, REACH, 800.0),
        (800.0, Reach(achievable_min_w=1500.0), 300.0),
        (800.0, Reach(achievable_min_w=0.0, minimum_limit_w=1600.0), 200.0),
        (400.0, replace(REACH, margin_w=50.0), 350.0),
        (800.0, Reach(achievable_min_w=0.0, minimum_limit_w=1600.0, margin_w=50.0), 200.0),
        (5000.0, Reach(achievable_min_w=-3000.0), 1800.0),
    ],
)
def test_it_offers_what_it_can_keep_and_says_which_limit_takes_it_up(
    reduction_w: float, reach: Reach, power_w: float
) -> None:
    (one,) = told(sent(offer(reduction_w)), reach=reach).offers
    assert (one.power_w, one.limit_w, one.rises) == (power_w, 1800.0 - power_w, False)


@pytest.mark.parametrize(
    ("envelope", "power_w"), [(FREE, 700.0), (limited(2000.0), 200.0), (limited(2500.0, 3000.0), 700.0)]
)
def test_a_rise_stays_below_the_limit(envelope: Envelope, power_w: float) -> None:
    (one,) = told(sent(offer(increase_w=700.0)), envelope=envelope).offers
    assert (one.power_w, one.limit_w, one.rises) == (power_w, None, True)
    assert told(sent(offer(increase_w=700.0)), envelope=limited(1800.0)).offers == ()


@pytest.mark.parametrize(
    ("offers", "changes", "reason"),
    [
        (None, {}, "no plan"),
        (sent(offer(400.0)), {"after_s": 300.0}, "no plan"),
        (sent(reason="a grid emergency"), {}, "a grid emergency"),
        (sent(), {}, "no plan"),
        (sent(offer(400.0)), {"reach": Reach(achievable_min_w=None)}, "the site's import is not measured"),
        (sent(offer(400.0)), {"sample": power(quality=Quality.BAD)}, "the site's import is not measured"),
        (
            sent(offer(400.0)),
            {"reach": Reach(achievable_min_w=1800.0)},
            "the site's own load leaves no room",
        ),
        (
            sent(offer(400.0)),
            {"envelope": Envelope(state=GridState.INIT, limits=())},
            "the grid operator has not been heard",
        ),
        (
            sent(offer(400.0)),
            {"envelope": Envelope(state=GridState.FAILSAFE, limits=())},
            "the grid operator has not been heard",
        ),
        (
            sent(offer(400.0)),
            {"envelope": limited(replace(limit(1500.0), reason="ALERT_GRID_EMERGENCY"))},
            "a grid emergency",
        ),
    ],
)
def test_why_there_is_nothing(
    offers: FlexibilityOffers | None, changes: dict[str, object], reason: str
) -> None:
    made = told(offers, **changes)  # type: ignore[arg-type]
    assert (made.offers, made.reason, made.expires_at) == ((), reason, None)


def test_no_meter_no_offer() -> None:
    made = prospectus(sent(offer(400.0)), power=None, reach=REACH, envelope=FREE, now=NOW)
    assert made.reason == "the site's import is not measured"


def test_what_can_be_left_off_for_so_long() -> None:
    known = told(sent(offer(300.0), offer(200.0, length_s=3600.0), offer(increase_w=900.0, length_s=9000.0)))
    assert shed_available_w(known, 900.0) == 300.0
    assert shed_available_w(known, 901.0) == 200.0
    assert shed_available_w(known, 3601.0) is None


def test_what_is_news() -> None:
    before = told(sent(offer(400.0)))
    assert is_news(before, None)
    assert not is_news(told(sent(offer(400.0)), power(1010.0, 800.0)), before)
    assert is_news(told(sent(offer(400.0)), power(1200.0, 800.0)), before), "another limit takes it up"
    assert is_news(told(sent(offer(400.0)), power(600.0, 800.0), Reach(achievable_min_w=1100.0)), before)
    assert is_news(told(sent(offer(401.0))), before), "another offer"
    assert is_news(told(sent(offer(400.0)), after_s=300.0), before)
    nothing = told(None)
    assert not is_news(told(None), nothing)


@settings(deadline=None)
@given(
    st.floats(0.0, 5000.0),
    st.floats(-5000.0, 5000.0),
    st.floats(0.0, 5000.0),
    st.floats(0.0, 3000.0),
    st.floats(0.0, 200.0),
)
def test_whatever_is_told_can_be_asked_for_and_be_kept(
    reduction_w: float, others_w: float, compute_w: float, minimum_w: float, margin_w: float
) -> None:
    reach = Reach(achievable_min_w=others_w, minimum_limit_w=minimum_w, margin_w=margin_w)
    for one in told(sent(offer(reduction_w)), power(others_w, compute_w), reach).offers:
        assert isinstance(one, PublicOffer) and one.limit_w is not None
        assert one.limit_w >= max(0.0, minimum_w) - 1e-6, "the site would refuse the limit"
        assert one.limit_w - margin_w >= others_w - 1e-6, "the site could not come down to it"
        assert one.power_w <= reduction_w
