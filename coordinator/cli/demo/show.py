"""Sets the demo up, shows it, judges it, and leaves nothing behind."""

import asyncio
import contextlib
import io
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from coordinator.cli import render, screen
from coordinator.cli.console import open_console
from coordinator.cli.demo import fleet as fleets
from coordinator.cli.demo.play import judge, play
from coordinator.cli.demo.processes import Processes
from coordinator.cli.demo.world import make_world
from coordinator.cli.exits import Exit
from sterna.clock import SystemClock
from sterna.errors import SternaError
from sterna.v1 import fleet_pb2
from sterna.v1 import operator_service_pb2 as api

# From the first process to the first minute of the day; the trace stands still until then.
SETTLE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    sites: int
    jobs: int
    minutes: float
    screen: bool
    json: Path | None
    picture: Path | None
    seed: int
    keep: Path | None


def run(options: Options) -> int:
    """Run the demo; returns its exit code."""
    world = make_world(sites=options.sites, jobs=options.jobs, minutes=options.minutes, seed=options.seed)
    console = open_console(stderr=True)
    clock = SystemClock()
    for written in (options.json, options.picture):
        if written is not None:
            written.touch()  # whether it can be written is told before the day, not after it
    with _folder(options.keep) as folder:
        now = clock.now()
        fleet = fleets.lay_out(folder, world, now=now, start_at=now + timedelta(seconds=SETTLE_S))
        processes = Processes(folder / "logs")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as Ctrl-C does
        try:
            starting = (
                f"starting {3 + 2 * options.sites} processes in {folder}; "
                f"the day begins in about {SETTLE_S:.0f} s"
            )
            console.print(starting)
            fleets.start(fleet, processes)
            with _view(console, starting, live=options.screen and console.is_terminal) as view:
                outcome = asyncio.run(
                    play(
                        fleet,
                        processes,
                        clock=clock,
                        show=view.show,
                        ready=lambda: fleets.start_operator(fleet, processes),
                    )
                )
            processes.stop_everything()
            if processes.revived:
                console.print(f"ended by somebody and started again: {', '.join(processes.revived)}")
            if options.picture is not None:
                view.draw(options.picture)
            console.print(
                "every job has ended; training each once more outside Sterna to compare the weights"
            )
            summary = judge(fleet, outcome)
        except KeyboardInterrupt:
            console.print("stopped")
            return 128 + signal.SIGINT
        except SternaError as error:
            console.print(f"demo: {error}")
            return Exit.FAILED
        finally:
            processes.stop_everything()
    if options.json is not None:
        options.json.write_text(json.dumps(summary.to_json(), indent=2) + "\n")
    sys.stdout.write("\n".join(summary.lines()) + "\n")
    for problem in summary.problems():
        console.print(f"demo: {problem}")
    return Exit.FAILED if summary.problems() else Exit.OK


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="sterna-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class _View:
    """Shows snapshots, and tells once what changed between them."""

    console: Console
    live: Live | None
    busy: RenderableType = ""
    """The screen on which most was going on: jobs under way, and moves that were made."""
    _busiest: int = 0
    _news: list[str] = field(default_factory=list)
    _told: dict[str, str] = field(default_factory=dict)

    def show(self, snapshot: api.WatchFleetResponse) -> None:
        for line in self._changes(snapshot):
            self._news.append(line)
            if self.live is None:
                self.console.print(line, soft_wrap=True)
        picture = screen.fleet_screen(snapshot, title="Sterna demo", news=self._news[-6:])
        if self.live is not None:
            self.live.update(picture, refresh=True)
        going_on = sum(job.state in _UNDER_WAY for job in snapshot.jobs) + len(snapshot.migrations)
        if going_on >= self._busiest:
            self.busy, self._busiest = picture, going_on

    def draw(self, path: Path) -> None:
        """Write the busy screen as SVG."""
        paper = Console(record=True, width=120, file=io.StringIO(), force_terminal=True, markup=False)
        paper.print(self.busy)
        paper.save_svg(str(path), title="sterna demo")

    def _changes(self, snapshot: api.WatchFleetResponse) -> Iterator[str]:
        at = f"{render.instant(snapshot.at):%H:%M:%S}"
        names = {job.job_id: job.spec.name for job in snapshot.jobs}
        for site in snapshot.sites:
            words = render.limit_words(site).plain
            if self._is_new(f"limit {site.site_id}", words):
                yield f"{at} {site.site_id}: grid limit {words}"
        for migration in snapshot.migrations:
            state = render.migration_state(migration.state)
            if not self._is_new(migration.migration_id, state):
                continue
            way = f"{migration.source_site} → {migration.destination_site}"
            planned = f"{migration.migration_id} planned"
            why = migration.failure or (migration.reason if self._is_new(planned, "") else "")
            yield f"{at} {names.get(migration.job_id, migration.job_id)}: {way} {state}" + (
                why and f" ({why})"
            )
        for job in snapshot.jobs:
            word = render.job_state(job.state).plain
            if self._is_new(job.job_id, f"{word} {job.owner_site}") and job.state != _MIGRATING:
                yield f"{at} {job.spec.name}: {word} {job.owner_site}".rstrip()

    def _is_new(self, key: str, value: str) -> bool:
        known = self._told.get(key)
        self._told[key] = value
        return known != value


_MIGRATING = fleet_pb2.JOB_STATE_MIGRATING
_UNDER_WAY = {fleet_pb2.JOB_STATE_RUNNING, _MIGRATING}


@contextlib.contextmanager
def _view(console: Console, starting: str, *, live: bool) -> Iterator[_View]:
    if not live:
        yield _View(console, None)
        return
    with Live(starting, console=console, auto_refresh=False, screen=True) as display:
        yield _View(console, display)
