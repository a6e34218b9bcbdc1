"""`sterna`: the fleet operator's command. Each command is one call; what it prints is made in `render`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from google.protobuf.message import Message
from rich.console import Console, RenderableType

from coordinator.cli import client, demo, pki, render, screen
from coordinator.cli.client import CALL_TIMEOUT_S, CallError, Exit
from coordinator.cli.jobfile import read_job_file
from sterna.clock import SystemClock
from sterna.errors import SternaError
from sterna.v1 import fleet_pb2
from sterna.v1 import operator_service_pb2 as api
from sterna.v1.operator_service_pb2_grpc import OperatorServiceStub

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Moves AI training jobs between renewable-powered sites.",
)
job_app = typer.Typer(no_args_is_help=True, help="Submit, look at and move jobs.")
site_app = typer.Typer(no_args_is_help=True, help="Drain, resume and fence sites.")
app.add_typer(job_app, name="job")
app.add_typer(site_app, name="site")
app.add_typer(pki.app, name="pki")
app.command(name="demo")(demo.command)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="client.toml; default: $STERNA_CLIENT_CONFIG, ~/.config/sterna/client.toml."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
JobArgument = Annotated[str, typer.Argument(help="Job id or an unambiguous beginning of it.")]
SiteArgument = Annotated[str, typer.Argument(help="Site id.")]

Call = Callable[[OperatorServiceStub], Awaitable[Any]]


def _call(config: Path | None, call: Call) -> Any:
    path = config or client.default_config_path()

    async def run() -> Any:
        async with client.connect(client.read_client_config(path), path.parent) as stub:
            return await call(stub)

    return asyncio.run(run())


def _print(json: bool, key: str, value: Message | list[Any], *tables: RenderableType) -> None:
    if json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(render.as_json(key, value))).decode() + "\n")
        return
    console = Console(highlight=False)
    for table in tables:
        console.print(table)


def _now() -> Any:
    return SystemClock().now().astimezone(UTC)


@app.command()
def status(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show the fleet in one screen: sites, jobs, active migrations."""
    snapshot = _call(config, _first_snapshot)
    _print(json, "fleet", snapshot, screen.fleet_screen(snapshot, title="fleet"))


@app.command()
def sites(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the sites."""
    answer = _call(config, lambda stub: stub.ListSites(api.ListSitesRequest(), timeout=CALL_TIMEOUT_S))
    _print(json, "sites", list(answer.sites), render.sites_table(answer.sites, _now()))


@app.command()
def jobs(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the jobs."""
    answer = _call(config, lambda stub: stub.ListJobs(api.ListJobsRequest(), timeout=CALL_TIMEOUT_S))
    _print(json, "jobs", list(answer.jobs), render.jobs_table(answer.jobs))


@app.command()
def migrations(
    config: ConfigOption = None,
    json: JsonOption = False,
    active: Annotated[bool, typer.Option("--active", help="Only those under way.")] = False,
) -> None:
    """List the migrations, newest first."""
    request = api.ListMigrationsRequest(active_only=active)
    answer = _call(config, lambda stub: stub.ListMigrations(request, timeout=CALL_TIMEOUT_S))
    _print(json, "migrations", list(answer.migrations), render.migrations_table(answer.migrations))


@app.command()
def watch(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Follow the fleet; with --json one document per change, a line each."""

    async def follow(stub: OperatorServiceStub) -> None:
        from rich.live import Live

        with Live(
            console=Console(stderr=json), auto_refresh=False, screen=not json and sys.stdout.isatty()
        ) as live:
            async for snapshot in stub.WatchFleet(api.WatchFleetRequest()):
                if json:
                    sys.stdout.buffer.write(msgspec.json.encode(render.as_json("fleet", snapshot)) + b"\n")
                    sys.stdout.flush()
                else:
                    live.update(screen.fleet_screen(snapshot, title="fleet"), refresh=True)

    _call(config, follow)


@job_app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="Job file (TOML); see examples/job.toml.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Submit a job."""
    request = api.SubmitJobRequest(request_id=client.request_id(), spec=read_job_file(file))
    answer = _call(config, lambda stub: stub.SubmitJob(request, timeout=CALL_TIMEOUT_S))
    _print(json, "job", answer.job, render.jobs_table([answer.job]))


@job_app.command()
def show(job: JobArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show one job."""
    answer = _call(config, lambda stub: stub.GetJob(api.GetJobRequest(job_id=job), timeout=CALL_TIMEOUT_S))
    _print(json, "job", answer.job, render.jobs_table([answer.job]))


@job_app.command()
def explain(job: JobArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Say why the job is where it is, and what each move would take."""
    request = api.ExplainJobRequest(job_id=job)
    answer = _call(config, lambda stub: stub.ExplainJob(request, timeout=CALL_TIMEOUT_S))
    _print(json, "explanation", answer, *_explanation(answer))


@job_app.command()
def cancel(job: JobArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """End a job for good."""
    request = api.CancelJobRequest(request_id=client.request_id(), job_id=job)
    answer = _call(config, lambda stub: stub.CancelJob(request, timeout=CALL_TIMEOUT_S))
    _print(json, "job", answer.job, render.jobs_table([answer.job]))


@job_app.command()
def migrate(
    job: JobArgument,
    destination: SiteArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge only.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Move even when it is not feasible.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Move a job by hand."""
    request = api.MigrateJobRequest(
        request_id=client.request_id(), job_id=job, destination_site=destination, dry_run=dry_run, force=force
    )
    answer = _call(config, lambda stub: stub.MigrateJob(request, timeout=CALL_TIMEOUT_S))
    tables: list[RenderableType] = [render.terms_table(answer.judgement)]
    if answer.HasField("migration"):
        tables.append(render.migrations_table([answer.migration]))
    _print(json, "answer", answer, *tables)


@site_app.command()
def drain(site: SiteArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Move every job away and let none arrive."""
    request = api.DrainSiteRequest(request_id=client.request_id(), site_id=site)
    answer = _call(config, lambda stub: stub.DrainSite(request, timeout=CALL_TIMEOUT_S))
    _print(json, "site", answer.site, render.sites_table([answer.site], _now()))


@site_app.command()
def resume(site: SiteArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """End draining or fencing."""
    request = api.ResumeSiteRequest(request_id=client.request_id(), site_id=site)
    answer = _call(config, lambda stub: stub.ResumeSite(request, timeout=CALL_TIMEOUT_S))
    _print(json, "site", answer.site, render.sites_table([answer.site], _now()))


@site_app.command()
def fence(
    site: SiteArgument,
    confirm: Annotated[str, typer.Option("--confirm", help="The site's id once more.")] = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Give your word that nothing runs at the site any more, so that its jobs may start elsewhere."""
    request = api.FenceSiteRequest(request_id=client.request_id(), site_id=site, confirm=confirm)
    answer = _call(config, lambda stub: stub.FenceSite(request, timeout=CALL_TIMEOUT_S))
    _print(
        json,
        "answer",
        answer,
        render.sites_table([answer.site], _now()),
        f"jobs freed: {len(answer.job_ids)}",
    )


async def _first_snapshot(stub: OperatorServiceStub) -> api.WatchFleetResponse:
    async for snapshot in stub.WatchFleet(api.WatchFleetRequest(), timeout=CALL_TIMEOUT_S):
        return snapshot
    raise CallError("the coordinator ended the stream without a snapshot", Exit.FAILED)


def _explanation(answer: api.ExplainJobResponse) -> list[RenderableType]:
    parts: list[RenderableType] = [render.jobs_table([answer.job])]
    if answer.HasField("decision"):
        decision = answer.decision
        kind = render.enum_word(fleet_pb2.DecisionKind.Name(decision.kind), "DECISION_KIND_")
        at = render.instant(decision.decided_at)
        parts.append(
            f"\nlast decision {at:%Y-%m-%d %H:%M:%S} UTC by {decision.policy}: {kind} {decision.target_site}"
        )
        parts.append(f"  {decision.reason}\n")
    for alternative in answer.now:
        parts.append(render.terms_table(alternative))
        parts += [f"  not chosen: {rejection}" for rejection in alternative.rejections]
        parts.append("")
    return parts


def main() -> None:
    """Run the command; every Sterna error is one line on standard error and an exit code."""
    try:
        app()
    except CallError as error:
        sys.stderr.write(f"sterna: {error}\n")
        raise SystemExit(error.exit_code) from None
    except SternaError as error:
        sys.stderr.write(f"sterna: {error}\n")
        raise SystemExit(Exit.USAGE) from None
