"""What sites say that is not stored: who is connected, newest reports, samples, forecasts."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from coordinator.model.forecast import SurplusForecast
from coordinator.model.job import JobPhase, JobReport
from coordinator.model.live import Live, LiveSite
from coordinator.model.site import GridStatus, MoveRequest, SiteSample
from coordinator.tasks.bell import Bell


class LiveBook:
    """The newest of every site. What it hands out is never changed afterwards.

    Parameters
    ----------
    bell : Bell
        Rung when something changes that orders may depend on.
    """

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self.limits_bell = Bell()
        """Rung when other limits hold at a site, or are known to come."""
        self._sites: dict[str, LiveSite] = {}
        self._edition = 0

    @property
    def sites(self) -> Live:
        """Return every site that said something since we started."""
        return self._sites

    @property
    def edition(self) -> int:
        """Return a number that grows with everything that is taken."""
        return self._edition

    def greet(self, site_id: str, reports: Iterable[JobReport], now: datetime) -> None:
        """Take a Hello: what the site does not mention it does not know."""
        known = {report.job_id: report for report in reports}
        self._put(site_id, replace(self._get(site_id), reports=known, move_requests={}, last_seen_at=now))

    def connect(self, site_id: str, session: int, now: datetime) -> None:
        """Note a session."""
        self._put(site_id, replace(self._get(site_id), connected=True, session=session, last_seen_at=now))

    def disconnect(self, site_id: str, session: int) -> None:
        """Note the end of a session, unless a later one has begun."""
        site = self._get(site_id)
        if site.session == session:
            self._put(site_id, replace(site, connected=False))

    def report(self, site_id: str, report: JobReport, now: datetime) -> bool:
        """Take a report; False when a newer one of the job is known."""
        site = self._get(site_id)
        known = site.reports.get(report.job_id)
        if known is not None and _older(report, known):
            return False
        requests = site.move_requests
        if report.phase is not JobPhase.PAUSED and report.job_id in requests:
            # It runs again, or is gone: the site's request is over.
            requests = {job_id: one for job_id, one in requests.items() if job_id != report.job_id}
        reports = {**site.reports, report.job_id: report}
        self._put(site_id, replace(site, reports=reports, move_requests=requests, last_seen_at=now))
        return True

    def sample(self, site_id: str, sample: SiteSample, now: datetime) -> None:
        """Take a live sample; an older one than the newest changes nothing."""
        site = self._get(site_id)
        newer = site.sample is None or sample.measured_at >= site.sample.measured_at
        kept = sample if newer and not sample.historical else site.sample
        self._set(site_id, replace(site, sample=kept, last_seen_at=now))

    def forecast(self, site_id: str, forecast: SurplusForecast) -> None:
        """Take a forecast."""
        self._set(site_id, replace(self._get(site_id), forecast=forecast))

    def grid_status(self, site_id: str, status: GridStatus) -> None:
        """Take what the grid asks of a site."""
        known = self._get(site_id)
        self._set(site_id, replace(known, grid_status=status))
        if _limits_of(status) != _limits_of(known.grid_status):
            self.limits_bell.ring()

    def move_request(self, site_id: str, request: MoveRequest) -> None:
        """Take a request to move a job away; it stands until the job runs again or is gone."""
        site = self._get(site_id)
        requests = {**site.move_requests, request.job_id: request}
        self._put(site_id, replace(site, move_requests=requests))

    def _get(self, site_id: str) -> LiveSite:
        return self._sites.get(site_id, LiveSite())

    def _put(self, site_id: str, site: LiveSite) -> None:
        self._set(site_id, site)
        self._bell.ring()

    def _set(self, site_id: str, site: LiveSite) -> None:
        self._sites = {**self._sites, site_id: site}
        self._edition += 1


def _limits_of(status: GridStatus | None) -> list[tuple[str, str, float]]:
    """Return which limits hold and which will; their times a site reckons anew at each look."""
    if status is None:
        return []
    limits = [("", status.limits), ("coming", status.coming)]
    return [
        (f"{when} {one.source} {one.command_id}", one.reason, one.limit_w)
        for when, some in limits
        for one in some
    ]


def _older(report: JobReport, known: JobReport) -> bool:
    if report.reported_at is None or known.reported_at is None:
        return False
    return report.reported_at < known.reported_at
