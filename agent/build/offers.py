"""Flexibility that the coordinator computes, on its way to the grid operator; for sites that have both."""

from functools import partial

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.build.power import budget_settings
from agent.grid.desk import GridDesk
from agent.grid.mqtt import MqttLink
from agent.tasks.liaison import Liaison, News
from agent.tasks.offers import OfferedMeasurements, Offers


def open_offers(build: Build, desk: GridDesk, news: News, liaison: Liaison) -> Offers:
    """Make what holds the offers, and have the reports that are made after this tell of them."""
    budget = budget_settings(build)
    offers = Offers(
        snapshot=news.snapshot,
        envelope=desk.envelope,
        minimum_limit_w=build.config.grid.minimum_limit_w,
        # A watt of noise more than the jobs' own must not cost another job.
        margin_w=budget.margin_w + budget.deadband_w,
        clock=build.clock,
    )
    liaison.take_offers = offers.take
    build.measurements.append(
        lambda measurements: OfferedMeasurements(others=measurements, offers=offers, clock=build.clock)
    )
    return offers


def publish_offers(build: Build, offers: Offers, broker: MqttLink) -> None:
    """Have the offers published on the operator's broker."""
    offers.post = partial(broker.post, "offers")
    build.loops["offers"] = partial(offers.run, build.pulse.heart("offers", LOOP_DEADLINE_S))
