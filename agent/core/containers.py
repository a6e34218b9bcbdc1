"""Which containers a site runs, and the command that runs one. Pure.

A job says what it runs in; how that is done here is the site's: where its engines and folders are, what
every run is given. A container gets the folder of its run at a fixed place, whatever site it is at, so that
paths in a checkpoint stay true when the job has moved.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from agent.core.container_paths import PYTHON, RUN, can_mount
from agent.model.jobs import ContainerSpec

_HOST_NETWORKS = ("host", "container:", "ns:")
_OWN_LOGS = frozenset({"podman", "docker"})
"""Engines that show what a program writes without keeping it a second time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder of the site that containers may see."""

    path: str
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRules:
    """What the site gives containers.

    Parameters
    ----------
    engines : mapping
        The words that an engine's every command begins with, by its name, the preferred one first.
    arguments : tuple of str
        What every run is given besides.
    folders : mapping
        What jobs may mount, by name.
    devices : tuple of str
        Patterns of the devices that jobs may name.
    any_arguments : bool
        Whether jobs may give arguments of their own, and share the host's network: with most engines that is
        to be root here.
    with_init : bool
        Whether a small init runs first: without one a program that does not handle its stop signal never
        hears it.
    user : str
        UID:GID that programs run as, so that what they write is the agent's.
    keep_id : bool
        Whether podman runs without root, and must map that user to itself.
    """

    engines: Mapping[str, tuple[str, ...]]
    arguments: tuple[str, ...] = ()
    folders: Mapping[str, Folder] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    any_arguments: bool = False
    with_init: bool = True
    user: str = ""
    keep_id: bool = False

    def engine_for(self, container: ContainerSpec) -> str | None:
        """Return the name of the engine that runs it here; None: there is none."""
        wanted = container.engine or next(iter(self.engines), "")
        return wanted if wanted in self.engines else None

    def obstacle(self, container: ContainerSpec) -> str:
        """Say why it cannot run here, naming the field; empty when it can."""
        return next(self._obstacles(container), "")

    def _obstacles(self, container: ContainerSpec) -> Iterator[str]:
        if self.engine_for(container) is None:
            known = ", ".join(self.engines) or "none"
            yield f"container.engine: {container.engine or 'any'} is asked for, this site has {known}"
        if not container.image or container.image.startswith("-"):
            yield f"container.image: {container.image!r} is no image"
        for name, target in container.mounts.items():
            if name not in self.folders:
                yield f"container.mounts: this site has no folder {name!r} for containers"
            if not can_mount(target):
                yield f"container.mounts: {target!r} is no absolute path"
        for device in container.devices:
            if not any(fnmatchcase(device, pattern) for pattern in self.devices):
                yield f"container.devices: this site does not give {device!r} to containers"
        if self.any_arguments:
            return
        if container.arguments:
            yield "container.arguments: this site takes none of a job"
        if container.network.startswith(_HOST_NETWORKS):
            yield f"container.network: this site does not share {container.network!r} with jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Where and as what a container runs; folders and `env_file` are paths of the host."""

    name: str
    labels: tuple[str, ...]
    shared_dir: str
    package_dir: str
    env_file: str
    working_dir: str
    stop_signal: str
    stop_grace_s: float


def run_argv(
    container: ContainerSpec, rules: ContainerRules, placing: Placing, program: Sequence[str]
) -> list[str]:
    """Return the command that runs a program in a container, in the foreground, until it ends.

    Parameters
    ----------
    container : ContainerSpec
        Without an `obstacle` here.
    rules : ContainerRules
        The site's.
    placing : Placing
        The run.
    program : sequence of str
        What follows the image.
    """
    engine = rules.engine_for(container) or ""
    words = [*rules.engines[engine], "run", "--rm", f"--name={placing.name}"]
    words += [f"--label={label}" for label in placing.labels]
    if engine in _OWN_LOGS:
        words.append("--log-driver=none")
    if rules.with_init:
        words.append("--init")
    # For ends that are the engine's doing; ours come as signals through its command.
    words += [
        f"--stop-signal=SIG{placing.stop_signal}",
        f"--stop-timeout={max(1, round(placing.stop_grace_s))}",
    ]
    if rules.keep_id and engine == "podman":
        words.append("--userns=keep-id")
    if rules.user:
        words.append(f"--user={rules.user}")
    words.append(f"--env-file={placing.env_file}")
    words.append(_mount(placing.shared_dir, RUN, read_only=False))
    words.append(_mount(placing.package_dir, f"{PYTHON}/sterna", read_only=True))
    for name, target in sorted(container.mounts.items()):
        folder = rules.folders[name]
        words.append(_mount(folder.path, target, read_only=folder.read_only))
    words += [f"--device={device}" for device in container.devices]
    if container.network:
        words.append(f"--network={container.network}")
    words.append(f"--workdir={placing.working_dir or RUN}")
    return [*words, *rules.arguments, *container.arguments, container.image, *program]


def env_line(name: str, value: str) -> str:
    """Return a variable as a line of an engine's file of variables.

    Raises
    ------
    ValueError
        No engine takes it.
    """
    if set(value) & {"\n", "\0"}:
        raise ValueError(f"env[{name!r}]: no container engine takes a value with a line feed")
    return f"{name}={value}\n"


def _mount(source: str, target: str, *, read_only: bool) -> str:
    return f"--mount=type=bind,source={source},target={target}" + (",readonly" if read_only else "")
