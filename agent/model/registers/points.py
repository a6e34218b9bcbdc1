"""What the register table of a plain Modbus meter is made of. Adding a meter is adding data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Space(Enum):
    """The two register spaces that are read."""

    HOLDING = "holding"
    """Function 3."""
    INPUT = "input"
    """Function 4."""


class WordOrder(Enum):
    """Which register of a longer value comes first. Bytes within a register are always big-endian."""

    BIG = "big"
    LITTLE = "little"


class Kind(Enum):
    """How a value lies in its registers."""

    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"

    @property
    def bits(self) -> int:
        """Length, 16 to 64."""
        return int(self.value[-2:])

    @property
    def count(self) -> int:
        """Registers that it takes, 1, 2 or 4."""
        return self.bits // 16

    @property
    def signed(self) -> bool:
        """Whether it is a two's complement number."""
        return self.value.startswith("int")

    @property
    def floating(self) -> bool:
        """Whether it is an IEEE 754 number."""
        return self.value.startswith("float")


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """One value of a table.

    Parameters
    ----------
    name : str
        One of `FIGURES`.
    address : int
        As on the wire, from 0.
    kind : Kind
        How it is read.
    scale : float
        The raw number times this is in the figure's unit; not 0.
    slow : bool
        It changes slowly: polled with the slow set.
    lead : bool
        Its address is hearsay: no document or device that we saw confirms it.
    """

    name: str
    address: int
    kind: Kind
    scale: float = 1.0
    slow: bool = False
    lead: bool = False

    @property
    def end(self) -> int:
        """Address of the first register after it."""
        return self.address + self.kind.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A family of meters.

    Parameters
    ----------
    name : str
        Short, as configured.
    title : str
        Maker and models.
    source : str
        The document or program that the addresses come from.
    space : Space
        Where its registers are.
    word_order : WordOrder
        For values of more than one register.
    max_read : int
        Most registers that the device gives in one request, 1 to 125.
    max_gap : int
        Unwanted registers that may be read to join two values in one request, >= 0.
    holes : tuple of range
        Addresses that it refuses; no request touches them.
    sentinels : mapping of Kind to frozenset of int
        Raw bit patterns that mean "not available", by kind, beside NaN.
    verified_on_hardware : bool
        Whether somebody saw it agree with a real device, as `verification` says.
    verification : str
        On which device; empty when on none.
    registers : tuple of Register
        Unique by name.
    sums : mapping of str to tuple of str
        Figures that the device does not give and that are the sum of others.
    notes : str
        What a site operator should know.
    """

    name: str
    title: str
    source: str
    space: Space
    word_order: WordOrder
    registers: tuple[Register, ...]
    max_read: int = 125
    max_gap: int = 8
    holes: tuple[range, ...] = ()
    sentinels: Mapping[Kind, frozenset[int]] = field(default_factory=dict)
    verified_on_hardware: bool = False
    verification: str = ""
    sums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: str = ""

    @property
    def figures(self) -> frozenset[str]:
        """Names of all that it can tell."""
        return frozenset(register.name for register in self.registers) | frozenset(self.sums)

    def needed(self, figures: tuple[str, ...]) -> tuple[Register, ...]:
        """Find the registers that these figures are made of; those that it cannot tell are left out."""
        names = {part for figure in figures for part in self.sums.get(figure, (figure,))}
        return tuple(register for register in self.registers if register.name in names)
