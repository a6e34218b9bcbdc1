"""Container engines that jobs may name, and what their containers get."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from agent.core.container_paths import can_mount


class FolderTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[containers.mounts.NAME]``: a folder that jobs may mount by that name."""

    path: Path
    """Absolute."""
    read_only: bool = True
    """False: jobs may write there."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if not can_mount(str(self.path)):
            yield "path", f"expected an absolute path without commas and quotes, got {str(self.path)!r}"


class ContainersTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[containers]``: how jobs run in containers here; without an engine none does."""

    podman: tuple[str, ...] = ()
    """The words that its every command begins with, e.g. ["podman"]."""
    docker: tuple[str, ...] = ()
    """The same for docker."""
    nerdctl: tuple[str, ...] = ()
    """The same for nerdctl."""
    arguments: tuple[str, ...] = ()
    """Given to every run, e.g. how this site's GPUs reach containers."""
    mounts: dict[str, FolderTable] = {}
    devices: tuple[str, ...] = ("nvidia.com/gpu=*",)
    """Patterns of the devices that jobs may name."""
    any_arguments: bool = False
    """Jobs may give arguments of their own and share the host's network: mostly that is to be root here."""
    init: bool = True
    """Run the engine's own small init first, so that programs that handle no signal hear it."""

    def engines(self) -> Mapping[str, tuple[str, ...]]:
        """Return the engines that are configured, by name, the preferred one first."""
        named = {"podman": self.podman, "docker": self.docker, "nerdctl": self.nerdctl}
        return {name: words for name, words in named.items() if words}

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if not self.engines() and (self.mounts or self.arguments or self.any_arguments):
            yield "podman", "no engine is named: give podman, docker or nerdctl"
