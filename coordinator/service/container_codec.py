"""What a job runs in, as a message and back; checked field by field where an operator sends it."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from coordinator.model.job import ContainerSpec
from sterna.v1 import job_pb2

ENGINES = ("docker", "nerdctl", "podman")
ARGUMENTS_MAX = 256

_WORD = re.compile(r"[^\s\0-][^\s\0]*")
"""One that no engine takes for an option."""
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RESERVED = PurePosixPath("/sterna")
"""Where the agent mounts what the job is given."""


def read(message: job_pb2.JobSpec) -> ContainerSpec | None:
    """Return what a job runs in, as sent; None: a process of the site."""
    if not message.HasField("container"):
        return None
    container = message.container
    return ContainerSpec(
        image=container.image,
        engine=container.engine,
        mounts=dict(container.mounts),
        devices=tuple(container.devices),
        network=container.network,
        arguments=tuple(container.arguments),
    )


def write(container: ContainerSpec | None) -> job_pb2.ContainerSpec | None:
    """Return the message; None stays None, which a message reads as absent."""
    if container is None:
        return None
    return job_pb2.ContainerSpec(
        image=container.image,
        engine=container.engine,
        mounts=container.mounts,
        devices=container.devices,
        network=container.network,
        arguments=container.arguments,
    )


def faults(message: job_pb2.JobSpec) -> Iterator[tuple[str, str]]:
    """Yield (field, what is wrong) of what a job is to run in."""
    if not message.HasField("container"):
        return
    container = message.container
    if not _WORD.fullmatch(container.image):
        yield "container.image", f"expected the name of an image, got {container.image!r}"
    if container.engine and container.engine not in ENGINES:
        yield "container.engine", f"expected one of {', '.join(ENGINES)}, got {container.engine!r}"
    for name, target in container.mounts.items():
        yield from _mount_faults(name, target)
    for index, device in enumerate(container.devices):
        if not _WORD.fullmatch(device):
            yield f"container.devices[{index}]", f"expected the name of a device, got {device!r}"
    if container.network and not _WORD.fullmatch(container.network):
        yield "container.network", f"expected the name of a network, got {container.network!r}"
    if len(container.arguments) > ARGUMENTS_MAX:
        yield "container.arguments", f"expected at most {ARGUMENTS_MAX}, got {len(container.arguments)}"
    for index, word in enumerate(container.arguments):
        if "\0" in word:
            yield f"container.arguments[{index}]", "holds a NUL character"
    for name, value in message.env.items():
        if "\n" in value:
            yield f"env[{name!r}]", "its value holds a line feed, which no container engine takes"


def _mount_faults(name: str, target: str) -> Iterator[tuple[str, str]]:
    field = f"container.mounts[{name!r}]"
    if not _FOLDER.fullmatch(name):
        yield field, "expected the plain name of a folder of the site, as its [containers.mounts] has it"
    path = PurePosixPath(target)
    if not path.is_absolute() or ".." in path.parts or any(sign in target for sign in ',"\n\0'):
        yield field, f"expected an absolute path in the container, got {target!r}"
    elif path == PurePosixPath("/") or path.is_relative_to(_RESERVED):
        yield field, f"{target} is taken"
