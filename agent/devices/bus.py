"""What a meter needs of a bus. `agent.modbus.ModbusBus` is one; `agent.devices.bus_shared` guards one."""

from collections.abc import Sequence
from typing import Protocol


class Bus(Protocol):
    """Registers of the units behind one address."""

    @property
    def peer(self) -> str:
        """Where it leads, for messages."""
        ...

    async def read_holding(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Read holding registers; raises as `agent.modbus.ModbusBus.read_holding`."""
        ...

    async def read_input(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Read input registers; raises as `read_holding`."""
        ...


class WritableBus(Bus, Protocol):
    """A bus that may write what its allow-list names."""

    def allow_writes(self, unit: int, spans: Sequence[range]) -> None:
        """Add registers to the allow-list; see `agent.modbus.ModbusBus.allow_writes`."""
        ...

    async def write_registers(self, unit: int, address: int, values: Sequence[int]) -> None:
        """Write holding registers (function 16); see `agent.modbus.ModbusBus.write_registers`."""
        ...
