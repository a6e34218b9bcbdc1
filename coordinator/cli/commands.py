"""What each command of `sterna` does: one call, then a document or tables. Loaded when a command runs."""

import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import RenderableType

from coordinator.cli import client, deadline, document, render, screen, watching
from coordinator.cli.client import CALL_TIMEOUT_S
from coordinator.cli.console import open_console
from coordinator.cli.exits import CallError, Exit
from coordinator.cli.explanation import explanation
from sterna.clock import SystemClock
from sterna.v1 import operator_service_pb2 as api
from sterna.v1.operator_service_pb2_grpc import OperatorServiceStub

if TYPE_CHECKING:
    from sterna.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The coordinator, as one command sees it, and the way the command prints.

    Parameters
    ----------
    config : Path or None
        ``client.toml``; None: the default one.
    json : bool
        Print a document instead of tables.
    """

    config: Path | None
    json: bool

    def status(self) -> None:
        """Show the fleet once, what needs attention last."""
        snapshot = self._call(_first_snapshot)
        parts: list[RenderableType] = [screen.fleet_screen(snapshot, title="fleet")]
        parts += [f"! {warning}" for warning in render.warnings(snapshot)]
        self._print("fleet", snapshot, *parts)

    def sites(self) -> None:
        """List the sites."""
        request = api.ListSitesRequest()
        answer = self._call(lambda stub: stub.ListSites(request, timeout=CALL_TIMEOUT_S))
        self._print("sites", answer.sites, render.sites_table(answer.sites, _now()))

    def jobs(self) -> None:
        """List the jobs."""
        request = api.ListJobsRequest()
        answer = self._call(lambda stub: stub.ListJobs(request, timeout=CALL_TIMEOUT_S))
        self._print("jobs", answer.jobs, render.jobs_table(answer.jobs))

    def migrations(self, *, active: bool, job: str) -> None:
        """List the migrations."""
        request = api.ListMigrationsRequest(active_only=active, job_id=job)
        answer = self._call(lambda stub: stub.ListMigrations(request, timeout=CALL_TIMEOUT_S))
        self._print("migrations", answer.migrations, render.migrations_table(answer.migrations))

    def offers(self, site: str) -> None:
        """List what sites offer their grid operators."""
        request = api.ListOffersRequest(site_id=site)
        answer = self._call(lambda stub: stub.ListOffers(request, timeout=CALL_TIMEOUT_S))
        self._print("offers", answer.sites, render.offers_table(answer.sites))

    def watch(self) -> None:
        """Follow the fleet until interrupted."""
        self._call(self._follow)

    def submit(self, file: Path) -> None:
        """Submit a job."""
        from coordinator.cli.jobfile import read_job_file

        request = api.SubmitJobRequest(request_id=client.request_id(), spec=read_job_file(file))
        try:
            answer = self._call(lambda stub: stub.SubmitJob(request, timeout=CALL_TIMEOUT_S))
        except CallError as error:
            if error.exit_code is not Exit.USAGE:
                raise
            # The coordinator knows no file, and its keys as fields of a message.
            raise CallError(f"{file.name}: " + re.sub(r"\bspec\.", "", str(error)), Exit.USAGE) from error
        slack = render.present(answer, "deadline_slack")
        self._print("job", answer.job, render.jobs_table([answer.job]), *deadline.lines(answer.job, slack))

    def show(self, job: str) -> None:
        """Show one job."""
        request = api.GetJobRequest(job_id=job)
        answer = self._call(lambda stub: stub.GetJob(request, timeout=CALL_TIMEOUT_S))
        told = deadline.words(answer.job, render.present(answer, "deadline_slack"))
        self._print("job", answer.job, render.job_details(answer.job, told))

    def explain(self, job: str) -> None:
        """Print the last decision and every site judged now."""
        request = api.ExplainJobRequest(job_id=job)
        answer = self._call(lambda stub: stub.ExplainJob(request, timeout=CALL_TIMEOUT_S))
        self._print("explanation", answer, *explanation(answer))

    def cancel(self, job: str) -> None:
        """End a job for good."""
        request = api.CancelJobRequest(request_id=client.request_id(), job_id=job)
        answer = self._call(lambda stub: stub.CancelJob(request, timeout=CALL_TIMEOUT_S))
        self._print("job", answer.job, render.jobs_table([answer.job]))

    def migrate(self, job: str, destination: str, *, dry_run: bool, force: bool) -> None:
        """Move a job by hand, or judge the move."""
        request = api.MigrateJobRequest(
            request_id=client.request_id(),
            job_id=job,
            destination_site=destination,
            dry_run=dry_run,
            force=force,
        )
        answer = self._call(lambda stub: stub.MigrateJob(request, timeout=CALL_TIMEOUT_S))
        parts: list[RenderableType] = [*render.judgement(answer.judgement)]
        if answer.HasField("migration"):
            parts.append(render.migrations_table([answer.migration]))
        self._print("move", answer, *parts)

    def drain(self, site: str) -> None:
        """Let every job leave a site."""
        request = api.DrainSiteRequest(request_id=client.request_id(), site_id=site)
        answer = self._call(lambda stub: stub.DrainSite(request, timeout=CALL_TIMEOUT_S))
        self._print("site", answer.site, render.sites_table([answer.site], _now()))

    def resume(self, site: str) -> None:
        """End draining and fencing."""
        request = api.ResumeSiteRequest(request_id=client.request_id(), site_id=site)
        answer = self._call(lambda stub: stub.ResumeSite(request, timeout=CALL_TIMEOUT_S))
        self._print("site", answer.site, render.sites_table([answer.site], _now()))

    def fence(self, site: str, *, confirm: str) -> None:
        """Give the word that nothing runs at a site."""
        request = api.FenceSiteRequest(request_id=client.request_id(), site_id=site, confirm=confirm)
        answer = self._call(lambda stub: stub.FenceSite(request, timeout=CALL_TIMEOUT_S))
        freed = ", ".join(answer.job_ids) or "none"
        table = render.sites_table([answer.site], _now())
        self._print("fence", answer, table, f"jobs that may now start elsewhere: {freed}")

    def _call(self, call: "Callable[[OperatorServiceAsyncStub], Awaitable[T]]") -> T:
        return client.call(self.config, lambda channel: call(OperatorServiceStub(channel)))

    def _print(self, kind: str, data: Any, *parts: RenderableType) -> None:
        if self.json:
            sys.stdout.write(document.encode(kind, data).decode())
            return
        console = open_console()
        for part in parts:
            console.print(part)

    async def _follow(self, stub: "OperatorServiceAsyncStub") -> None:
        snapshots = watching.watch(stub)
        if self.json:
            async for _, snapshot in snapshots:
                sys.stdout.write(document.encode("fleet", snapshot, indent=0).decode())
                sys.stdout.flush()
            return
        console = open_console()
        if not console.is_terminal:
            async for _, snapshot in snapshots:
                console.print(_watched(snapshot))
            return
        from rich.live import Live

        with Live(console=console, auto_refresh=False, screen=True) as live:
            async for _, snapshot in snapshots:
                live.update(_watched(snapshot), refresh=True)


def _watched(snapshot: api.WatchFleetResponse) -> RenderableType:
    """Return the live screen: what needs attention first, since a small terminal cuts the end."""
    return screen.fleet_screen(snapshot, title="fleet", most_warnings=4)


async def _first_snapshot(stub: "OperatorServiceAsyncStub") -> api.WatchFleetResponse:
    stream = stub.WatchFleet(api.WatchFleetRequest(), timeout=CALL_TIMEOUT_S)
    async for snapshot in stream:
        stream.cancel()
        return snapshot
    raise CallError("the coordinator ended the stream without a snapshot", Exit.FAILED)


def _now() -> datetime:
    return SystemClock().now()
