"""`sterna demo`: a whole fleet on this machine, from real daemons, through one day of measured weather."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from sterna.errors import ConfigError

_OF_THE_EXTRA = ("iotcore", "tomli_w")


def command(
    sites: Annotated[int, typer.Option(min=2, max=9, help="Sites.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, max=24, help="Training jobs.")] = 6,
    minutes: Annotated[float, typer.Option(min=1, help="How long the day takes.")] = 3.0,
    no_screen: Annotated[bool, typer.Option("--no-screen", help="Lines instead of the live screen.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write the summary to this file.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw the screen of a busy moment to this SVG file.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the jobs' data.")] = 1,
    keep: Annotated[Path | None, typer.Option("--keep", help="Keep logs and stores in this folder.")] = None,
) -> None:
    """Run a whole fleet on this machine and count what it did.

    Real daemons move real training jobs after measured weather.
    """
    missing = [name for name in _OF_THE_EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigError(f"no {', '.join(missing)}: the demo needs its extra, pip install 'sterna[demo]'")
    from coordinator.cli.demo import show  # the daemons' libraries are not wanted for --help

    raise typer.Exit(
        show.run(
            show.Options(
                sites=sites,
                jobs=jobs,
                minutes=minutes,
                screen=not no_screen,
                json=json,
                picture=picture,
                seed=seed,
                keep=keep,
            )
        )
    )
