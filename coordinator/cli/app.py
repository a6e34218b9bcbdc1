"""`sterna`: the fleet operator's command. Declares commands; what they do is loaded when one runs."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

try:
    import typer
except ModuleNotFoundError:  # a base installation is an agent's
    sys.exit("sterna: needs the extra `coordinator`: pip install 'sterna[coordinator]'")

from coordinator.cli import demo, forecast, ledger, page, pki, replay
from coordinator.cli.exits import CallError, Exit
from coordinator.cli.options import ConfigOption, JsonOption
from sterna.errors import SternaError

if TYPE_CHECKING:
    from coordinator.cli.commands import Desk

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Moves AI training jobs between renewable-powered sites.",
)
job_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Submit, look at and move jobs.")
site_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Drain, resume and fence sites.")
app.add_typer(job_app, name="job")
app.add_typer(site_app, name="site")
app.add_typer(pki.app, name="pki")
app.add_typer(forecast.app, name="forecast")
app.add_typer(ledger.app, name="ledger")
app.command(name="demo")(demo.command)
app.command(name="replay")(replay.command)
app.command(name="page")(page.command)

JobArgument = Annotated[
    str, typer.Argument(help="Job id, a beginning of it that fits one job, or the job's name.")
]
SiteArgument = Annotated[str, typer.Argument(help="Site id.")]


def _desk(config: Path | None, json: bool) -> "Desk":
    from coordinator.cli.commands import Desk

    return Desk(config=config, json=json)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"sterna {version('sterna')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def status(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show sites, jobs, migrations and what needs attention."""
    _desk(config, json).status()


@app.command()
def sites(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the sites."""
    _desk(config, json).sites()


@app.command()
def jobs(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the jobs."""
    _desk(config, json).jobs()


@app.command()
def migrations(
    config: ConfigOption = None,
    json: JsonOption = False,
    active: Annotated[bool, typer.Option("--active", help="Only those under way.")] = False,
    job: Annotated[str, typer.Option("--job", help="Only those of this job.")] = "",
) -> None:
    """List the migrations, newest first."""
    _desk(config, json).migrations(active=active, job=job)


@app.command()
def offers(
    config: ConfigOption = None,
    json: JsonOption = False,
    site: Annotated[str, typer.Option("--site", help="Only those of this site.")] = "",
) -> None:
    """List what each site offers its grid operator.

    How much, for how long, and what it costs jobs.
    """
    _desk(config, json).offers(site)


@app.command()
def watch(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Follow the fleet.

    With --json one document per change, a line each.
    """
    _desk(config, json).watch()


@job_app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="Job file (TOML); see examples/job.toml.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Submit a job."""
    _desk(config, json).submit(file)


@job_app.command()
def show(job: JobArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show one job."""
    _desk(config, json).show(job)


@job_app.command()
def explain(job: JobArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Say why the job is where it is, and what each move would take."""
    _desk(config, json).explain(job)


@job_app.command()
def cancel(job: JobArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """End a job for good."""
    _desk(config, json).cancel(job)


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
    _desk(config, json).migrate(job, destination, dry_run=dry_run, force=force)


@site_app.command()
def drain(site: SiteArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Move every job away and let none arrive."""
    _desk(config, json).drain(site)


@site_app.command()
def resume(site: SiteArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """End draining or fencing."""
    _desk(config, json).resume(site)


@site_app.command()
def fence(
    site: SiteArgument,
    confirm: Annotated[str, typer.Option("--confirm", help="The site's id once more.")] = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Give your word that nothing runs at the site any more.

    Its jobs may then start elsewhere.
    """
    if not confirm and sys.stdin.isatty():
        confirm = typer.prompt(f"If a job still runs at {site}, it will run twice. Site's id again", err=True)
    if confirm != site:
        sys.stderr.write(f"sterna: not fenced; --confirm {site} says that you mean it\n")
        raise typer.Exit(Exit.USAGE)
    _desk(config, json).fence(site, confirm=confirm)


def main() -> None:
    """Run the command; every Sterna error is one message on standard error and an exit code."""
    # Both are read when grpc is imported. Its core writes lines of its own on a failed handshake, where ours
    # says it once, and on each process that the demo starts, which needs none of what gRPC does at a fork.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
    try:
        app()
    except CallError as error:
        _fail(error, error.exit_code)
    except SternaError as error:
        _fail("\nsterna: ".join(str(error).splitlines()), Exit.USAGE)  # a fault is a line
    except OSError as error:
        if error.filename is None:  # not of a file that the command line names
            raise
        _fail(f"{error.filename}: {error.strerror}", Exit.USAGE)


def _fail(error: SternaError | str, code: Exit) -> None:
    sys.stderr.write(f"sterna: {error}\n")
    raise SystemExit(code) from None
