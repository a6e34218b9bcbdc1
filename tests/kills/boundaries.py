"""Every place in a migration at which something becomes durable, by name, and how to have somebody die there.

Nothing in the daemons knows of it: `path/sitecustomize.py`, which only these tests put on the daemons' path,
wraps the named functions. A place is armed by a file, for one death.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

PATH = Path(__file__).parent / "path"
ROOT = Path(__file__).parents[2]
VARIABLE = "STERNA_TEST_BOUNDARIES"

_STORE = "agent.jobs.checkpoints"
_TWINS = "agent.jobs.twins"
_DISK = "agent.jobs.checkpoint_files"
_COPIES = "agent.jobs.checkpoint_copies"
_STAGING = "agent.jobs.transfer_files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a process dies: before or after a call of a function with certain arguments."""

    name: str
    victim: str
    """source, destination or coordinator."""
    module: str
    attribute: str
    when: str
    only: str = "True"
    """Expression over `args`."""


def _records(victim: str, *phases: str) -> Iterator[Place]:
    """Yield the agent's record of a phase: about to be committed, and committed."""
    for phase in phases:
        for when in ("before", "after"):
            yield Place(
                name=f"{victim}: {when} its record says {phase}",
                victim=victim,
                module="agent.store.jobs",
                attribute="JobRecords.save",
                when=when,
                only=f"args[1].phase.name == {phase!r}",
            )


def _steps(**events: str) -> Iterator[Place]:
    """Yield the coordinator's transactions: about to be committed, and committed."""
    for name, only in events.items():
        for when in ("before", "after"):
            yield Place(
                name=f"coordinator: {when} its record says {name}",
                victim="coordinator",
                module="coordinator.store.fleet_store",
                attribute="FleetStore.append",
                when=when,
                only=f"any({only} for event in args[1])",
            )


def _kind(name: str) -> str:
    return f"type(event).__name__ == {name!r}"


def _advanced(event: str) -> str:
    return f"getattr(getattr(event, 'event', None), 'name', '') == {event!r}"


def _one(name: str, victim: str, function: tuple[str, str], when: str = "after", only: str = "True") -> Place:
    module, attribute = function
    return Place(
        name=f"{victim}: {name}", victim=victim, module=module, attribute=attribute, when=when, only=only
    )


_RENAMED = "args[0].parent.name == 'sealed'"

SOURCE = (
    *_records("source", "STOPPING", "SEALED", "RELEASED"),
    _one("the checkpoint has a name out of the trainer's reach", "source", (_COPIES, "link_out")),
    _one("it is hashed and durable", "source", ("agent.jobs.checkpoint_taking", "Taking.__call__")),
    _one(
        "its manifest is written", "source", (_DISK, "write_durable"), only="args[0].name == 'manifest.json'"
    ),
    _one("it is renamed, the name not yet durable", "source", (_DISK, "sync_folder"), "before", _RENAMED),
    _one("it is published", "source", (_STORE, "CheckpointStore._move_in")),
    _one(
        "an old checkpoint is in the trash", "source", (_DISK, "remove"), "before", "'trash' in str(args[0])"
    ),
    _one("an old checkpoint is removed", "source", (_DISK, "remove"), only="'trash' in str(args[0])"),
    _one(
        "it is recorded, what the trainer left is still there",
        "source",
        ("agent.jobs.runner", "Run.remove_bulk"),
        "before",
    ),
    _one("its runs are about to go", "source", ("agent.jobs.keeper", "Keeper._remove_runs"), "before"),
)
DESTINATION = (
    *_records("destination", "RESERVED", "FETCHING", "HELD", "STARTING", "RUNNING"),
    _one("the staging folder is laid out", "destination", (_STAGING, "Staging.open")),
    _one("a chunk is written, its bit is not", "destination", (_DISK, "write_at")),
    _one("a chunk is noted", "destination", (_STAGING, "Staging.store")),
    _one("all bytes are durable", "destination", (_STAGING, "Staging._sync")),
    _one(
        "it is renamed, the name not yet durable", "destination", (_DISK, "sync_folder"), "before", _RENAMED
    ),
    _one("it is published", "destination", (_STORE, "CheckpointStore._move_in")),
    _one("nothing of the transfer is left", "destination", (_STAGING, "Staging.publish")),
    _one("the trainer's own copy is made", "destination", (_TWINS, "Twin._complete")),
    _one("that copy is in its run", "destination", (_TWINS, "Twin.move_to")),
    _one("the run is laid out and locked", "destination", ("agent.jobs.launch", "Launcher._prepare")),
    _one("the shim is started", "destination", ("agent.jobs.shims", "ForkedShims.start")),
)
COORDINATOR = tuple(
    _steps(
        PLANNED=_kind("MigrationPlanned"),
        PREPARED=_advanced("RESERVED"),
        STOPPING=_advanced("STOP"),
        SEALED=_kind("MigrationSealed"),
        TRANSFERRING=_advanced("FETCH"),
        VERIFIED=_advanced("VERIFY"),
        COMMITTED=_kind("MigrationCommitted"),
        STARTING=_advanced("START"),
        CONFIRMED=_advanced("CONFIRM"),
        DONE=_advanced("FINISH"),
    )
)
PLACES = (*SOURCE, *DESTINATION, *COORDINATOR)

SHIM_PLACES = tuple(
    (site, name, when)
    for site, name in (("source", "exit.json"), ("destination", "shim.json"))
    for when in ("before", "after")
)
"""The two records that a shim makes durable: at the source that its job has ended, at the destination that
it has one."""


def environment(folder: Path, daemon: str) -> dict[str, str]:
    """Return what a daemon gets so that it can be armed; below `folder` lie its files."""
    places = folder / f"places-{daemon}.json"
    given = {
        "armed": str(folder / f"armed-{daemon}"),
        "places": [asdict(place) for place in PLACES],
        "shim": str(PATH / "dying_shim.py"),
    }
    places.write_text(json.dumps(given))
    return {VARIABLE: str(places), "PYTHONPATH": f"{PATH}:{ROOT}"}


def arm(folder: Path, daemon: str, place: str) -> None:
    """Have a daemon die when it comes to a place."""
    file = folder / f"armed-{daemon}"
    file.with_suffix(".fired").unlink(missing_ok=True)
    partial = folder / f".arming-{daemon}"
    partial.write_text(place)
    partial.rename(file)


def has_died(folder: Path, daemon: str) -> bool:
    """Tell whether it came to that place."""
    return (folder / f"armed-{daemon}.fired").exists()
