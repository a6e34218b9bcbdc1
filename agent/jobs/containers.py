"""A job's run as a container: files at fixed places, a command, and nothing of the job left before it."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sterna
from agent.core import containers
from agent.core.container_paths import can_mount
from agent.core.containers import ContainerRules, Placing
from agent.jobs.images import Images, Spawn
from agent.jobs.runner import Run
from agent.model.jobs import ContainerSpec, JobSpec
from agent.model.records import JobRecord
from agent.shim.engine import RUN_LABEL, Engine
from sterna.errors import PermanentError, TransientError

ENVIRONMENT = "environment"
"""File of the run directory with the program's variables: arguments could be read by every user."""
ENGINE_VARIABLES = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR"),
    *("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS"),
    *("DOCKER_HOST", "DOCKER_CONFIG", "CONTAINERS_CONF", "REGISTRY_AUTH_FILE"),
)
"""What an engine's commands get of the agent's own environment."""
PACKAGE = Path(sterna.__file__).parent


class ContainerRuns:
    """Runs in containers.

    Parameters
    ----------
    site_id : str
        Two sites of one machine may share an engine.
    rules : ContainerRules
        What the site gives containers.
    environ : mapping
        Where the variables of the engine's commands are looked up.
    """

    def __init__(self, *, site_id: str, rules: ContainerRules, environ: Mapping[str, str]) -> None:
        self._site_id = site_id
        self._rules = rules
        self._environ = {name: environ[name] for name in ENGINE_VARIABLES if name in environ}
        self._images = Images(self._environ)

    def obstacle(self, container: ContainerSpec) -> str:
        """Say why it cannot run here, naming the field; empty when it can."""
        return self._rules.obstacle(container)

    async def image_obstacle(self, container: ContainerSpec, spawn: Spawn) -> str:
        """Say that its image is not here, and have it fetched; empty when it is here."""
        command = self._rules.engines[self._rules.engine_for(container) or ""]
        found = await self._images.obstacle(command, container.image, spawn)
        return f"container.image: {found}" if found else ""

    def lay_out(
        self, run: Run, record: JobRecord, spec: JobSpec, argv: list[str], env: Mapping[str, str]
    ) -> dict[str, object]:
        """Return the run's record, its file of variables written, once no container of the job is left.

        Parameters
        ----------
        run : Run
            Its directory exists and is locked.
        record, spec
            The job, which names a container.
        argv, env
            Of the program, in the container.

        Raises
        ------
        PermanentError
            It cannot run here.
        TransientError
            The engine does not say that nothing of the job is left: it must not run twice.
        """
        assert spec.container is not None
        fault = self.obstacle(spec.container)
        name = self._rules.engine_for(spec.container)
        if fault or name is None:
            raise PermanentError(f"job {record.job_id}: {fault}")
        paths = (str(run.shared.absolute()), str(PACKAGE))
        if not all(map(can_mount, paths)):
            raise PermanentError(f"job {record.job_id}: no container engine mounts {' or '.join(paths)}")
        command, label = list(self._rules.engines[name]), f"sterna.job={self._site_id}/{record.job_id}"
        if not Engine(command, label, self._environ).remove():
            raise TransientError(f"job {record.job_id}: {name} does not say that nothing of it is left")
        env_file = run.directory / ENVIRONMENT
        try:
            lines = "".join(containers.env_line(key, value) for key, value in env.items())
        except ValueError as error:
            raise PermanentError(f"job {record.job_id}: {error}") from error
        env_file.touch(mode=0o600)
        env_file.write_text(lines)
        placing = Placing(
            name=f"sterna-{record.job_id}-{record.epoch}-{run.run_id}",
            labels=(label, f"{RUN_LABEL}={run.run_id}"),
            shared_dir=paths[0],
            package_dir=paths[1],
            env_file=str(env_file),
            working_dir=spec.working_dir,
            stop_signal=spec.stop_signal or "TERM",
            stop_grace_s=spec.stop_grace_s,
        )
        return {
            "argv": containers.run_argv(spec.container, self._rules, placing, argv),
            "env": self._environ,
            "engine": command,
            "shared": paths[0],
            "working_dir": str(run.directory),
            # SIGKILL would end the engine's command and leave the container; SIGTERM reaches the program.
            "parent_death_signal": "TERM",
        }


def rules_here(rules: ContainerRules) -> ContainerRules:
    """Return the rules for this process: what programs write is to be its own."""
    return replace(rules, user=f"{os.geteuid()}:{os.getegid()}", keep_id=os.geteuid() != 0)
