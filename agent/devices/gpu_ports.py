"""What the agent wants of a node's GPUs, whatever they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.model.gpu import Scope
from agent.model.readings import GpuReading


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCapabilities:
    """What was found by probing, not by asking the data sheet.

    `names` are those of the devices in order, stable within the node, e.g. ``gpu0``. `cap_min_w` and
    `cap_max_w` bound the cap over all devices together, in watts; None when `can_cap` is False or the device
    does not say. `scope` is what the power figures cover; None: there are none.
    `cap_covers_node` tells in which watts a cap is meant: the node's, or those of the devices alone. `source`
    says in words what is read, for people.
    """

    names: tuple[str, ...]
    can_read_power: bool
    can_cap: bool
    cap_min_w: float | None = None
    cap_max_w: float | None = None
    scope: Scope | None = None
    cap_covers_node: bool = True
    source: str = ""


class GpuProvider(Protocol):
    """The GPUs of one node. Calls block for milliseconds: call them in a thread; they may overlap."""

    def capabilities(self) -> GpuCapabilities:
        """Tell what can be read and capped."""
        ...

    def read(self) -> list[GpuReading]:
        """Look at every device once.

        Raises
        ------
        TransientError
            When nothing can be read at all now; a figure that a device does not state is None instead.
        """
        ...

    def set_power_cap_w(self, cap_w: float | None) -> None:
        """Cap the draw of all devices together.

        Parameters
        ----------
        cap_w : float or None
            Watts, >= 0; brought into what the devices allow. None: no cap.

        Raises
        ------
        PermanentError
            When the devices cannot be capped.
        TransientError
            When the device refused this time.
        """
        ...

    def set_jobs(self, powers_w: Mapping[str, float]) -> None:
        """Tell which jobs run and what each draws at full speed, in watts above idle, by job id.

        Devices that can be measured ignore it; the modelled ones draw accordingly.
        """
        ...

    def close(self) -> None:
        """Let go of the devices; a cap stays in force, for the jobs outlive the agent."""
        ...
