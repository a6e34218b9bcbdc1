"""Which checkpoints a glob finds: what belongs together, of which step it is, and when it was written.

A folder that matches is a checkpoint. Files are one checkpoint where their names tell the same step, and so
are all those whose names tell none: a program that keeps no history writes the same names again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from agent.core import staying
from sterna.trainers import complete

SET_ASIDE = "incomplete-"
"""What our hooks put before the name of a checkpoint that no trainer is to resume from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One checkpoint. `files` None: all of `source`; `step` None: its name does not tell."""

    source: Path
    files: tuple[str, ...] | None
    step: int | None
    written_s: float
    """Calendar seconds of its newest file."""

    def fault(self, stays: Sequence[str] = ()) -> str | None:
        """Say what is missing in it, apart from what stays where it is; None when nothing is."""
        if self.files is None:
            return fault_of(self.source, stays)
        names = (name for name in self.files if not staying.stays(name, stays))
        return next((fault for name in names if (fault := complete.fault(self.source / name))), None)


def fault_of(source: Path, stays: Sequence[str]) -> str | None:
    """Say what is missing in a file or folder, apart from what stays where it is; None when nothing is."""
    return complete.fault(source, lambda path: staying.stays(path.relative_to(source).as_posix(), stays))


def matches(folder: Path, pattern: str) -> list[Match]:
    """List the checkpoints below a folder.

    Parameters
    ----------
    folder : Path
        The job's checkpoint directory.
    pattern : str
        Glob, relative to it.

    Returns
    -------
    list of Match
        Newest first.
    """
    found = [_match(folder, step, paths) for step, paths in _groups(folder, pattern)]
    present = [match for match in found if match is not None]
    return sorted(present, key=lambda match: (match.written_s, match.step or 0), reverse=True)


def _groups(folder: Path, pattern: str) -> Iterator[tuple[int | None, list[Path]]]:
    """Yield step and paths of each checkpoint."""
    by_step: dict[int | None, list[Path]] = {}
    folders: list[Path] = []
    for path in sorted(folder.glob(pattern)):
        name = path.relative_to(folder)
        if path == folder or name.parts[0].startswith(SET_ASIDE) or any(map(path.is_relative_to, folders)):
            continue
        if path.is_dir():
            folders.append(path)
            yield _step(name), [path]
        elif path.is_file():
            by_step.setdefault(_step(name), []).append(path)
    yield from by_step.items()


def _step(name: PurePath) -> int | None:
    """Return the step that a name tells, the file's own before its folders'."""
    steps = (complete.step_of(part) for part in reversed(name.parts))
    return next((step for step in steps if step is not None), None)


def _match(folder: Path, step: int | None, paths: list[Path]) -> Match | None:
    written_s = newest_written_s(paths)
    if written_s is None:
        return None
    if len(paths) == 1 and (step is not None or paths[0].is_dir()):
        return Match(source=paths[0], files=None, step=step, written_s=written_s)
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    return Match(source=folder, files=names, step=step, written_s=written_s)


def newest_written_s(paths: list[Path]) -> float | None:
    """Return the newest modification, in calendar seconds; None when nothing is there (any more)."""
    times = []
    for path in paths:
        try:
            times.append(path.stat().st_mtime)
            times.extend(child.stat().st_mtime for child in path.rglob("*"))
        except FileNotFoundError:
            return None
    return max(times, default=None)
