"""Fleets for the planner's tests, with as few words as a table needs."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from coordinator.model.forecast import ForecastSlot, SurplusForecast
from coordinator.model.import_cost import CostSlot, ImportCost
from coordinator.model.job import SlowRange
from coordinator.model.view import FleetView, JobView, LinkView, Phase, SiteView

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
GBPS = 1e9


def forecast(
    *watts: float, slot_s: float = 600.0, start_s: float = 0.0, spread: float = 0.0
) -> SurplusForecast:
    """A forecast of slots of one length; p10 and p90 are `spread` (a fraction) off the median."""
    edges = [NOW + timedelta(seconds=start_s + i * slot_s) for i in range(len(watts) + 1)]
    return SurplusForecast(
        issued_at=NOW,
        source="plant",
        slots=tuple(
            ForecastSlot(start_at=a, end_at=b, p10_w=w * (1 - spread), p50_w=w, p90_w=w * (1 + spread))
            for a, b, w in zip(edges, edges[1:], watts, strict=False)
        ),
    )


def costs(*per_kwh: float, slot_s: float = 3600.0, start_s: float = 0.0, unit: str = "g/kWh") -> ImportCost:
    """Costs of import in slots of one length."""
    edges = [NOW + timedelta(seconds=start_s + i * slot_s) for i in range(len(per_kwh) + 1)]
    return ImportCost(
        unit=unit,
        slots=tuple(
            CostSlot(start_at=a, end_at=b, per_kwh=figure)
            for a, b, figure in zip(edges, edges[1:], per_kwh, strict=False)
        ),
    )


def site(
    site_id: str,
    *,
    surplus_w: float | None = 0.0,
    windows: SurplusForecast | None = None,
    slots: int = 2,
    slots_held: int = 0,
    available: bool = True,
    draining: bool = False,
    ok: bool = True,
    shed: bool = False,
    cost: ImportCost | None = None,
) -> SiteView:
    return SiteView(
        site_id=site_id,
        available=available and not draining,
        draining=draining,
        slots=slots,
        slots_held=slots_held,
        surplus_w=surplus_w,
        surplus_quality_ok=ok,
        compute_w=0.0,
        forecast=windows,
        wants_to_shed=shed,
        import_cost=cost,
    )


def job(
    job_id: str,
    site_id: str | None = None,
    *,
    phase: Phase | None = None,
    home: str | None = None,
    power_w: float = 500.0,
    checkpoint_bytes: int | None = 1_000_000_000,
    may_migrate: bool = True,
    resident_s: float = 3600.0,
    min_residence_s: float = 0.0,
    held_at: Iterable[str] = (),
    progress: bool = False,
    bound_for: str | None = None,
    slow: SlowRange | None = None,
    slowed_to_w: float | None = None,
    slack_s: float | None = None,
    may_pause: bool = False,
    work_s: float | None = None,
) -> JobView:
    return JobView(
        job_id=job_id,
        phase=phase or (Phase.QUEUED if site_id is None else Phase.RUNNING),
        site_id=site_id,
        home_site=home,
        power_w=power_w,
        checkpoint_bytes=checkpoint_bytes,
        seal_s=1.0,
        load_s=2.0,
        downtime_s=1.0,
        may_migrate=may_migrate,
        submitted_at=NOW - timedelta(hours=2),
        resident_since=None if site_id is None else NOW - timedelta(seconds=resident_s),
        min_residence_s=min_residence_s,
        held_at=frozenset(held_at),
        must_start_at_holder=progress,
        slack_s=slack_s,
        may_pause=may_pause,
        declared_work_s=work_s,
        bound_for=bound_for,
        slow=slow,
        slowed_to_w=slowed_to_w,
    )


def fleet(
    sites: Iterable[SiteView],
    jobs: Iterable[JobView] = (),
    *,
    link_bps: float | None = GBPS,
    links: Iterable[LinkView] | None = None,
) -> FleetView:
    """A fleet whose links all carry `link_bps`, unless they are named."""
    by_id = {s.site_id: s for s in sites}
    if links is None:
        links = [
            LinkView(source=a, destination=b, free_bps=link_bps)
            for a in by_id
            for b in by_id
            if a != b and link_bps is not None
        ]
    return FleetView(
        now=NOW,
        sites=by_id,
        jobs={j.job_id: j for j in jobs},
        links={(link.source, link.destination): link for link in links},
    )
