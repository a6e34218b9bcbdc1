"""How a run comes to be: the run directory, the contract's environment, and the shim.

The lock of the run directory is taken here and handed to the shim as an open file, so that from the first
moment on the run is either provably alive or provably dead.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core import container_paths
from agent.jobs.runner import Run
from agent.jobs.shims import ForkedShims, ShimStarter
from agent.model.jobs import JobSpec
from agent.model.records import JobRecord
from agent.shim import files
from sterna import trainers
from sterna.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from agent.jobs.containers import ContainerRuns
    from agent.jobs.images import Spawn

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_HOME", "VIRTUAL_ENV")
"""What a job gets of the agent's own environment; secrets and systemd's sockets stay out."""


HOOKS = Path(trainers.__file__).parent / "path"
"""First on a job's PYTHONPATH; see `sterna.trainers`."""


class Launcher:
    """Starts shims.

    Parameters
    ----------
    site_id : str
        Given to the job as STERNA_SITE.
    environ : mapping
        Where inherited variables are looked up.
    shims : ShimStarter or None
        How the shim comes to run; by default as a process of ours.
    containers : ContainerRuns or None
        Runs in containers; None: this site has none.
    """

    def __init__(
        self,
        *,
        site_id: str,
        environ: Mapping[str, str] = os.environ,
        shims: ShimStarter | None = None,
        containers: "ContainerRuns | None" = None,
    ) -> None:
        self._site_id = site_id
        self._containers = containers
        self._environ = environ
        self._shims = shims or ForkedShims()

    async def launch(self, run: Run, record: JobRecord, resume_from: Path | None) -> bool:
        """Start the shim of a run, which starts the job.

        Parameters
        ----------
        run : Run
            Its directory is made here.
        record : JobRecord
            With spec, epoch and lease.
        resume_from : Path or None
            Private copy of the checkpoint to resume from.

        Returns
        -------
        bool
            False when a shim already owns the directory: nothing was started.

        Raises
        ------
        TransientError
            The machine cannot start a process now.
        """
        lock_fd = await _to_its_end(self._prepare, run, record, resume_from)
        if lock_fd is None:
            return False
        try:
            await self._shims.start(run.directory, lock_fd)
        finally:
            os.close(lock_fd)
        return True

    def _prepare(self, run: Run, record: JobRecord, resume_from: Path | None) -> int | None:
        """Make the run directory durable and take its lock."""
        spec, lease = record.spec, record.lease
        if spec is None or lease is None:
            raise PermanentError(f"job {record.job_id}: nothing to run, or no grant")
        try:
            run.checkpoint_dir.mkdir(parents=True, exist_ok=True)
            fd = run.try_lock()
        except OSError as error:
            raise TransientError(f"job {record.job_id}: run directory: {error}") from error
        if fd is None:
            return None
        try:
            files.write_record(
                str(run.directory), files.RUN, self._run_record(run, record, spec, resume_from)
            )
            run.write_control(epoch=record.epoch, lease=lease, paused=False)
        except BaseException as error:  # a lock that nobody gives back would make the run look alive
            os.close(fd)
            if isinstance(error, OSError):
                raise TransientError(f"job {record.job_id}: run directory: {error}") from error
            raise
        return fd

    def obstacle(self, spec: JobSpec) -> str:
        """Say why a job cannot run at this site, naming the field; empty when it can."""
        if spec.container is None:
            return ""
        if self._containers is None:
            return "no containers run here"
        return self._containers.obstacle(spec.container)

    async def image_obstacle(self, spec: JobSpec, spawn: "Spawn") -> str:
        """Say that what a job without an `obstacle` runs in is not here yet, and have it fetched."""
        if spec.container is None or self._containers is None:
            return ""
        return await self._containers.image_obstacle(spec.container, spawn)

    def _run_record(
        self, run: Run, record: JobRecord, spec: JobSpec, resume_from: Path | None
    ) -> files.Record:
        """Return what the shim is to run."""
        folder = str(run.directory) if spec.container is None else container_paths.RUN
        resume = str(resume_from or "")
        if spec.container is not None and resume_from is not None:
            resume = f"{folder}/{resume_from.relative_to(run.shared)}"
        checkpoints = f"{folder}/{run.checkpoint_dir.name}"
        template = spec.resume_argv if resume and spec.resume_argv else spec.argv
        argv = fill(template, job_id=record.job_id, checkpoint_dir=checkpoints, resume_from=resume)
        contract = {
            "STERNA_JOB_ID": record.job_id,
            "STERNA_SITE": self._site_id,
            "STERNA_EPOCH": str(record.epoch),
            "STERNA_CHECKPOINT_DIR": checkpoints,
            "STERNA_RESUME_FROM": resume,
            "STERNA_STOP_FILE": f"{folder}/{files.STOP}",
            "STERNA_STOP_SIGNAL": spec.stop_signal or "TERM",
            "STERNA_RESULT_FILE": f"{folder}/{files.RESULT}",
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(int(spec.stop_grace_s)),
            files.RUN_ID_VARIABLE: run.run_id,
        }
        known: files.Record = {
            "run_id": run.run_id,
            "job_id": record.job_id,
            "stop_signal": spec.stop_signal or "TERM",
            "stop_grace_s": spec.stop_grace_s,
        }
        if spec.container is not None:
            return known | self._in_container(run, record, spec, argv, contract)
        leased = record.lease is not None and record.lease.ttl_s is not None
        inherited = {name: self._environ[name] for name in INHERITED if name in self._environ}
        return known | {
            "argv": argv,
            "env": inherited | _environment(spec, str(HOOKS), contract),
            "working_dir": spec.working_dir or str(run.directory),
            # Another site may start a leased job once its lease is over, so its child must not outlive the
            # shim that enforces the lease, whatever it traps. Without a lease a chance to save is worth more.
            "parent_death_signal": "KILL" if leased else "TERM",
        }

    def _in_container(
        self, run: Run, record: JobRecord, spec: JobSpec, argv: list[str], contract: Mapping[str, str]
    ) -> files.Record:
        if self._containers is None:
            raise PermanentError(f"job {record.job_id}: {self.obstacle(spec)}")
        env = _environment(spec, container_paths.HOOKS, contract)
        return self._containers.lay_out(run, record, spec, argv, env)


def _environment(spec: JobSpec, hooks: str, contract: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (hooks, spec.env.get("PYTHONPATH"))))
    return {**spec.env, "PYTHONPATH": path, **contract}


async def _to_its_end(prepare: Callable[..., int | None], *arguments: object) -> int | None:
    """Run `prepare` in a thread; when cancelled, wait for it and give back the lock that it took.

    A thread cannot be stopped: left alone it would take the lock for nobody, and the run would look alive
    for as long as this process lives.
    """
    preparing = asyncio.get_running_loop().run_in_executor(None, prepare, *arguments)
    try:
        return await asyncio.shield(preparing)
    except asyncio.CancelledError:
        await asyncio.wait([preparing])
        if not preparing.exception() and (lock_fd := preparing.result()) is not None:
            os.close(lock_fd)
        raise


def fill(template: Sequence[str], **values: str) -> list[str]:
    """Replace ``{name}`` of the known names in each word; other braces are the program's own."""
    words = []
    for word in template:
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", value)  # noqa: PLW2901
        words.append(word)
    return words
