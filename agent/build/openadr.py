"""The site as a VEN of an OpenADR 3.1 VTN."""

from pathlib import Path

from agent.build.base import Build
from agent.build.files import secret, server_shows
from agent.build.sources import OPENADR
from agent.config.grid import OpenAdrTable
from agent.config.setpoints import curtails
from agent.core.declaring import SurplusRules, declare
from agent.core.import_costs import import_costs
from agent.core.openadr.plan import LimitSettings
from agent.core.stored import together
from agent.grid.desk import GridDesk
from agent.grid.openadr import OpenAdrVen
from agent.grid.openadr_feed import PlanFeed
from agent.grid.openadr_http import HttpClient
from agent.grid.openadr_mqtt import MqttNotifier
from agent.grid.openadr_reports import Reporter
from agent.grid.openadr_rest import RestVtn
from agent.model.limits import LimitKind
from agent.model.openadr import Signal, SignalKind
from agent.tasks.liaison import News
from agent.tasks.measurements import SiteMeasurements
from sterna.clock import Clock

OPENADR_DEADLINE_S = 90.0


def make_vtn(table: OpenAdrTable, base_dir: Path, clock: Clock) -> RestVtn:
    """Make the client of the VTN.

    Raises
    ------
    ConfigError
        The secret or the CA cannot be read, or the URL is none.
    """
    trust = None if table.ca is None else server_shows(base_dir, "grid.openadr", ca=table.ca)
    return RestVtn(
        url=table.url,
        client_id=table.client_id or None,
        client_secret=secret(base_dir, table.client_secret_file),
        http=HttpClient(tls_context=trust),
        clock=clock,
    )


def open_openadr(build: Build, desk: GridDesk, news: News, table: OpenAdrTable) -> None:
    """Make the VEN and have it run."""
    config = build.config
    measurements = SiteMeasurements(
        snapshot=news.snapshot,
        envelope=desk.envelope,
        stored=lambda: together(news.senses.readings.values()),
    )
    vtn = make_vtn(table, build.base_dir, build.clock)
    ven_name = table.ven_name or f"sterna-{config.site}"
    resource_name = table.resource_name or config.site
    ven = OpenAdrVen(
        vtn=vtn,
        feed=_feed(build, desk, LimitKind.IMPORT_CAPACITY_LIMIT),
        clock=build.clock,
        ven_name=ven_name,
        resource_name=resource_name,
        settings=LimitSettings(
            fallback_w=config.grid.failsafe_import_w,
            level_limits_w={int(level): limit_w for level, limit_w in table.level_limits_w.items()},
            subscription_w=table.subscription_w,
            reference_w=table.reference_w,
            minimum_w=config.grid.minimum_limit_w,
        ),
        exports=_exports(build, desk, table),
        programs=table.programs,
        reporter=Reporter(
            vtn=vtn,
            measurements=build.measured(measurements),
            clock=build.clock,
            ven_name=ven_name,
            resource_name=resource_name,
        ),
        notifier=MqttNotifier(vtn=vtn, client_id=f"{ven_name}-openadr") if table.notifier else None,
        poll_period_s=table.poll_period_s,
        on_beat=build.pulse.heart("openadr", OPENADR_DEADLINE_S).beat,
    )
    _tell_signals(build, ven, news)
    build.clock_trust.listeners.append(ven.poke)  # a schedule waits for the clock
    build.links["openadr"] = lambda: ven.connected
    build.loops["openadr"] = ven.run
    build.listeners.append(measurements.take)


def _exports(build: Build, desk: GridDesk, table: OpenAdrTable) -> tuple[PlanFeed, LimitSettings] | None:
    """Return who keeps limits of the export, and how; None where no device obeys any."""
    if not curtails(build.config.setpoints):
        return None
    # What cannot be read counts as what holds without the VTN, at worst as no export at all.
    fallback_w = 0.0 if table.failsafe_export_w is None else table.failsafe_export_w
    return _feed(build, desk, LimitKind.EXPORT_CAPACITY_LIMIT), LimitSettings(fallback_w=fallback_w)


def _tell_signals(build: Build, ven: OpenAdrVen, news: News) -> None:
    """Have the site tell what the VTN's signals make of its surplus and its import."""

    def signals() -> tuple[Signal, ...]:
        # Nobody's word counts while the calendar that it is told on cannot be believed.
        return ven.signals if build.clock_trust() else ()

    news.prices = lambda now: import_costs(signals(), SignalKind.PRICE, now)
    news.carbon = lambda now: import_costs(signals(), SignalKind.GHG, now)
    if (table := build.config.surplus) is not None:
        rules = SurplusRules(
            price_below_per_kwh=table.price_below_per_kwh,
            price_w=table.price_w,
            curtailed_w=table.curtailed_w,
        )
        news.declare = lambda now: declare(signals(), rules, now)


def _feed(build: Build, desk: GridDesk, kind: LimitKind) -> PlanFeed:
    return PlanFeed(desk=desk, source=OPENADR, kind=kind, clock=build.clock, clock_synced=build.clock_trust)
