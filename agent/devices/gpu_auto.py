"""Chooses how a node's GPUs are read: tries each kind, asks what it really can, and says why it was taken."""

import logging
from collections.abc import Callable, Mapping

from agent.devices.gpu_ports import GpuProvider
from sterna.errors import ConfigError, TransientError

log = logging.getLogger(__name__)


def open_best(candidates: Mapping[str, Callable[[], GpuProvider]]) -> GpuProvider:
    """Open the first kind that can read power; where none can, one that can cap; else the first that answers.

    Parameters
    ----------
    candidates : mapping of kind to callable
        Opens each kind, the best first. What comes after a kind that reads power is not tried: its library
        costs memory.

    Raises
    ------
    TransientError
        When no kind answers, with what each of them said.
    """
    best: tuple[bool, str, GpuProvider] | None = None
    faults: list[str] = []
    for kind, open_kind in candidates.items():
        try:
            gpu = open_kind()
        except (ConfigError, TransientError) as error:
            faults.append(f"{kind}: {error}")
            continue
        found = gpu.capabilities()
        if found.can_read_power:
            if best is not None:
                best[2].close()
            _tell(kind, "it reads power", faults)
            return gpu
        faults.append(f"{kind}: it reads no power")
        if best is None or (found.can_cap and not best[0]):
            if best is not None:
                best[2].close()
            best = (found.can_cap, kind, gpu)
        else:
            gpu.close()
    if best is None:
        raise TransientError("gpu: kind auto finds nothing: " + "; ".join(faults))
    _tell(best[1], "it caps, and nothing reads power" if best[0] else "nothing reads power", faults)
    return best[2]


def _tell(kind: str, why: str, faults: list[str]) -> None:
    log.info("GPU kind chosen", extra={"kind": kind, "because": why, "passed_over": "; ".join(faults)})
