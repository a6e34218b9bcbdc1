"""What is known of a site only as long as it says so: session, newest reports, telemetry, forecast."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coordinator.model.forecast import SurplusForecast
from coordinator.model.job import JobReport
from coordinator.model.site import GridStatus, MoveRequest, SiteSample


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSite:
    """One site since the coordinator started. `reports` are empty until its first Hello."""

    connected: bool = False
    session: int = 0
    """Counts its sessions; 0 before the first."""
    last_seen_at: datetime | None = None
    sample: SiteSample | None = None
    forecast: SurplusForecast | None = None
    grid_status: GridStatus | None = None
    reports: Mapping[str, JobReport] = field(default_factory=dict)
    move_requests: Mapping[str, MoveRequest] = field(default_factory=dict)


Live = Mapping[str, LiveSite]


def report_of(live: Live, site_id: str | None, job_id: str) -> JobReport | None:
    """Return the newest report of a job by a site; None when it said nothing since we started."""
    site = live.get(site_id) if site_id is not None else None
    return site.reports.get(job_id) if site is not None else None


def is_connected(live: Live, site_id: str | None) -> bool:
    """Tell whether the site has a session now."""
    site = live.get(site_id) if site_id is not None else None
    return site is not None and site.connected
