"""Register tables as files: those that ship, and a site's own, with every fault explained at once."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import msgspec

from agent.model.registers import FIGURES, Kind, Register, Space, Table, WordOrder
from sterna.config import load
from sterna.errors import ConfigError

FOLDER = Path(__file__).parent / "tables"
MAX_READ = 125
ADDRESSES = 65536
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")

KindWord = Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


class RegisterRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[registers.FIGURE]``: one value."""

    address: int
    """As the source document numbers it."""
    type: KindWord
    scale: float = 1.0
    """The raw number times this is in the figure's unit."""
    slow: bool = False
    lead: bool = False
    """Hearsay: neither a document nor a device that we saw confirms it."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        if self.scale == 0:
            yield "scale", "must not be zero"


class TableFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole file."""

    name: str
    title: str
    source: str
    """Document, edition and page, or the program that the addresses come from."""
    space: Literal["holding", "input"]
    address_base: int
    """Subtracted from every address: 0 when the source counts as the wire does, 1 when it counts from 1."""
    word_order: Literal["big", "little"]
    registers: dict[str, RegisterRow]
    max_read: int = MAX_READ
    max_gap: int = 8
    holes: tuple[tuple[int, int], ...] = ()
    """First and last address of stretches that the device refuses, numbered as in the source."""
    sentinels: dict[str, tuple[int, ...]] = {}
    """By type: raw bit patterns that mean "not available"."""
    verified_on_hardware: bool = False
    verification: str = ""
    sums: dict[str, tuple[str, ...]] = {}
    notes: str = ""

    def faults(self) -> Iterable[tuple[str, str]]:
        """Yield what is wrong beyond types."""
        yield from self._head_faults()
        yield from self._figure_faults()
        yield from self._place_faults()
        yield from self._sentinel_faults()

    def _head_faults(self) -> Iterator[tuple[str, str]]:
        if not _NAME.fullmatch(self.name):
            yield "name", f'expected small letters, digits and "-", got "{self.name}"'
        for key in ("title", "source"):
            if not getattr(self, key).strip():
                yield key, "must say something"
        if not 1 <= self.max_read <= MAX_READ:
            yield "max_read", f"expected 1 to {MAX_READ}, got {self.max_read}"
        if self.max_gap < 0:
            yield "max_gap", f"expected zero or more, got {self.max_gap}"
        if self.verified_on_hardware and not self.verification.strip():
            yield "verification", "missing: say on which device the table was verified"

    def _figure_faults(self) -> Iterator[tuple[str, str]]:
        for name in self.registers:
            if name not in FIGURES:
                yield f"registers.{name}", "unknown figure" + _hint(name, FIGURES)
        for name, parts in self.sums.items():
            if name not in FIGURES:
                yield f"sums.{name}", "unknown figure" + _hint(name, FIGURES)
            if name in self.registers:
                yield f"sums.{name}", "is a register of the table already"
            if not parts:
                yield f"sums.{name}", "a sum of nothing"
            for part in parts:
                if part not in self.registers:
                    yield f"sums.{name}", f'no register "{part}"' + _hint(part, self.registers)
        if "active_power_w" not in {*self.registers, *self.sums}:
            yield "registers.active_power_w", "missing: a meter tells at least its power (or give a sum)"

    def _place_faults(self) -> Iterator[tuple[str, str]]:
        for index, (first, last) in enumerate(self.holes):
            if last < first:
                yield f"holes[{index}]", f"ends at {last}, before it begins at {first}"
        taken: dict[int, str] = {}
        for name, row in self.registers.items():
            count, wire = Kind(row.type).count, row.address - self.address_base
            at = f"registers.{name}.address"
            if not 0 <= wire <= ADDRESSES - count:
                yield at, f"{row.address} is {wire} on the wire, not within 0 to {ADDRESSES - count}"
            if count > self.max_read:
                yield (
                    f"registers.{name}.type",
                    f"{row.type} takes {count} registers, max_read is {self.max_read}",
                )
            span = range(row.address, row.address + count)
            if any(first <= last and first < span.stop and last >= span.start for first, last in self.holes):
                yield at, f"{row.address} lies in a hole"
            for other in sorted({taken[place] for place in span if place in taken}):
                yield at, f"{row.address} overlaps {other}"
            taken |= dict.fromkeys(span, name)

    def _sentinel_faults(self) -> Iterator[tuple[str, str]]:
        words = [kind.value for kind in Kind]
        for word, patterns in self.sentinels.items():
            if word not in words:
                yield f"sentinels.{word}", "unknown type" + _hint(word, words)
                continue
            top = (1 << Kind(word).bits) - 1
            for pattern in patterns:
                if not 0 <= pattern <= top:
                    yield f"sentinels.{word}", f"{pattern:#x} is not a bit pattern within 0 to {top:#x}"

    def table(self) -> Table:
        """Make the value that the meter works with, addresses as on the wire."""
        base = self.address_base
        return Table(
            name=self.name,
            title=self.title,
            source=self.source,
            space=Space(self.space),
            word_order=WordOrder(self.word_order),
            registers=tuple(
                Register(
                    name=name,
                    address=row.address - base,
                    kind=Kind(row.type),
                    scale=row.scale,
                    slow=row.slow,
                    lead=row.lead,
                )
                for name, row in self.registers.items()
            ),
            max_read=self.max_read,
            max_gap=self.max_gap,
            holes=tuple(range(first - base, last + 1 - base) for first, last in self.holes),
            sentinels={Kind(word): frozenset(patterns) for word, patterns in self.sentinels.items()},
            verified_on_hardware=self.verified_on_hardware,
            verification=self.verification,
            sums=dict(self.sums),
            notes=self.notes,
        )


def load_table(path: Path) -> Table:
    """Read a table from a file, e.g. a site's own.

    Raises
    ------
    ConfigError
        One fault a line, as ``my-meter.toml: registers.active_power_w.address: 70000 is ...``.
    """
    return load(path, TableFile).table()


def shipped_names() -> tuple[str, ...]:
    """Names of the tables that ship."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def shipped_table(name: str) -> Table:
    """Read a table that ships.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    names = shipped_names()
    if name not in names:
        raise ConfigError(f'no meter table "{name}"{_hint(name, names)}; there are {", ".join(names)}')
    return load_table(FOLDER / f"{name}.toml")


def _hint(name: str, known: Iterable[str] | Mapping[str, object]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
