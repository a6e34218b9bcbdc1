"""What a SunSpec register table is made of. Adding a model is adding data."""

from dataclasses import dataclass, field
from enum import Enum


class Type(Enum):
    """SunSpec point types that our tables use."""

    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    UINT64 = "uint64"
    ENUM16 = "enum16"
    SUNSSF = "sunssf"
    ACC32 = "acc32"
    ACC64 = "acc64"
    BITFIELD16 = "bitfield16"
    BITFIELD32 = "bitfield32"
    FLOAT32 = "float32"
    STRING = "string"
    PAD = "pad"


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a model.

    Parameters
    ----------
    offset : int
        Registers from the model's ID register.
    count : int
        Registers that it takes.
    name : str
        SunSpec's own name.
    type : Type
        How its registers are read.
    sf : str
        Name of the point that holds its scale factor; empty when it has none.
    unit : str
        As SunSpec states it; empty when it has none.
    mandatory : bool
        Whether a device must implement it.
    writable : bool
        Whether SunSpec lets it be written.
    """

    offset: int
    count: int
    name: str
    type: Type
    sf: str = ""
    unit: str = ""
    mandatory: bool = False
    writable: bool = False

    @property
    def end(self) -> int:
        """Offset of the first register after it."""
        return self.offset + self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Points that repeat after the fixed ones, e.g. once for each DC port.

    Parameters
    ----------
    name : str
        SunSpec's name.
    count : str
        Name of the fixed point that says how many there are.
    length : int
        Registers of one.
    points : tuple of Point
        Offsets from the first register of one; scale factors are fixed points of the model.
    """

    name: str
    count: str
    length: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A register table.

    Parameters
    ----------
    name : str
        SunSpec's name of the model.
    ids : tuple of int
        Model numbers that share the layout.
    length : int
        Registers after ID and L, without repeating groups.
    points : tuple of Point
        Ascending by offset, ID and L first. Those of a named group are called ``group.point``.
    group : Group or None
        What repeats after them.
    """

    name: str
    ids: tuple[int, ...]
    length: int
    points: tuple[Point, ...]
    group: Group | None = None
    _by_name: dict[str, Point] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {point.name: point for point in self.points})

    def point(self, name: str) -> Point:
        """Look a point up; KeyError when the model has none of that name."""
        return self._by_name[name]

    def span(self, names: tuple[str, ...]) -> int:
        """Count the registers from ID on that hold these points *and their scale factors*.

        A scale factor must be read in the same transaction as its value: some devices change it with power.
        """
        wanted = [self.point(name) for name in names]
        wanted += [self.point(point.sf) for point in wanted if point.sf]
        return max(point.end for point in wanted)
