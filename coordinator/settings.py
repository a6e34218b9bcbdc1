"""The tables of ``coordinator.toml`` as the settings that the parts take."""

from dataclasses import fields
from math import inf

from coordinator.config import CoordinatorConfig, PlannerTable
from coordinator.core.offers import OfferSettings
from coordinator.core.policy import PlannerSettings
from coordinator.core.prestage import PrestageSettings
from coordinator.core.progress import MigrationTimeouts
from coordinator.core.view import ViewSettings
from coordinator.forecast.feed import FeedForecaster
from coordinator.forecast.forecaster import FirstOf, Forecaster
from coordinator.forecast.learnt import LearntForecaster
from coordinator.forecast.persistence import PersistenceForecaster
from coordinator.model.import_cost import Objective

PERSISTENCE_SLOTS = 12
LEARNT_MAX_SLOTS = 3
"""A learnt forecast counts for so many slots after the last one that it was learnt from."""


def timeouts(config: CoordinatorConfig) -> MigrationTimeouts:
    """Return how long a move may stay in each state."""
    table = config.migration
    return MigrationTimeouts(
        planned_s=table.planned_s,
        prepared_s=table.prepared_s,
        stopping_s=table.stopping_s,
        transferring_s=table.transferring_s,
    )


def forecaster(config: CoordinatorConfig) -> Forecaster:
    """Return who is believed, in order of trust."""
    table = config.planner
    horizon_s = table.persistence_horizon_s
    known: dict[str, Forecaster] = {
        "feed": FeedForecaster(max_age_s=table.forecast_max_age_s),
        "learnt": LearntForecaster(max_age_s=LEARNT_MAX_SLOTS * config.forecast.slot_s),
        "persistence": PersistenceForecaster(
            horizon_s=horizon_s, slot_s=horizon_s / PERSISTENCE_SLOTS, spread_frac_per_s=1 / horizon_s
        ),
    }
    return FirstOf([known[source] for source in config.forecast.sources])


def planner_settings(table: PlannerTable) -> PlannerSettings:
    """Return the numbers of the policies."""
    return PlannerSettings(**{one.name: getattr(table, one.name) for one in fields(PlannerSettings)})


def prestage_settings(config: CoordinatorConfig) -> PrestageSettings:
    """Return when a checkpoint travels ahead."""
    return PrestageSettings(
        view=view_settings(config),
        tolerance=planner_settings(config.planner).tolerance,
        least_transfer_s=config.migration.ahead_least_transfer_s,
        least_bytes=config.migration.ahead_least_bytes,
    )


def carry_after_s(config: CoordinatorConfig) -> float:
    """Return for how long a job waits for room where its checkpoint is; for ever where none may move."""
    return inf if config.planner.policy == "static" else config.migration.carry_after_s


def offer_settings(config: CoordinatorConfig) -> OfferSettings:
    """Return how offers to grid operators are made."""
    table = config.offers
    return OfferSettings(
        durations_s=table.durations_s,
        valid_s=table.valid_s,
        least_w=table.least_w,
        stale_s=config.planner.sample_stale_s,
    )


def view_settings(config: CoordinatorConfig) -> ViewSettings:
    """Return what a view of the fleet assumes."""
    table = config.planner
    return ViewSettings(
        seal_s=table.seal_s,
        load_s=table.load_s,
        downtime_s=table.downtime_s,
        min_residence_s=table.min_residence_s,
        stale_s=table.sample_stale_s,
        eta=table.eta,
        default_bps=config.links.default_bps,
        link_bps={(pair.source, pair.destination): pair.bps for pair in config.links.pairs},
        sites=config.site_ids,
        hold_back_s=table.hold_back_s,
        least_run_s=table.least_run_s,
        objective=Objective(table.objective),
        cost_per_kwh=_costs_per_kwh(config),
    )


def _costs_per_kwh(config: CoordinatorConfig) -> dict[str, float]:
    """Return what import usually costs, by what is to be saved there, of sites that have it."""
    priced = config.planner.objective == "price"
    told = {site.id: site.price_per_kwh if priced else site.carbon_g_per_kwh for site in config.sites}
    return {site_id: cost for site_id, cost in told.items() if cost is not None}
