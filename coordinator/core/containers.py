"""Whether a site has what a job runs in. Pure."""

from collections.abc import Collection

from coordinator.model.job import ContainerSpec
from coordinator.model.site import Capabilities


def lack(container: ContainerSpec | None, engines: Collection[str], folders: Collection[str]) -> str:
    """Say what a site lacks to run a job; empty when it has all.

    Parameters
    ----------
    container : ContainerSpec or None
        What the job runs in; None: a process, which every site runs.
    engines, folders : collection of str
        What the site says that it has: engines, and folders that containers may see.
    """
    if container is None:
        return ""
    if not engines:
        return "the site runs no containers"
    if container.engine and container.engine not in engines:
        return f"the site has no {container.engine}, but {', '.join(engines)}"
    missing = sorted(set(container.mounts) - set(folders))
    if missing:
        return f"the site has no folder {', '.join(missing)} for containers"
    return ""


def lack_at(container: ContainerSpec | None, site: Capabilities) -> str:
    """Say what a site lacks by its own word; see `lack`."""
    return lack(container, site.container_engines, site.container_mounts)
