"""What a metric is: its name, kind, labels and meaning, and its samples.

Base units and names as Prometheus wants them: watts, joules, seconds, bytes; a counter ends ``_total``. A
figure that is not known has no sample: missing is never zero.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter", "info"]
UNITS = frozenset({"watts", "joules", "seconds", "bytes", "ratio", "celsius", "hertz"})


class Sample(NamedTuple):
    """One figure; the labels' values in the order of the family's names."""

    family: "Family"
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric; `name` is that of its samples, without any ``_total`` or ``_info``."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()

    @property
    def sample_name(self) -> str:
        """Return the name that a query uses."""
        return self.name + {"gauge": "", "counter": "_total", "info": "_info"}[self.kind]

    @property
    def unit(self) -> str | None:
        """Return the base unit that ends the name; None: a count, or a state."""
        ending = self.name.rpartition("_")[2]
        return ending if ending in UNITS else None

    def of(self, value: float | None, *labels: str) -> tuple[Sample, ...]:
        """Return the one sample of a figure; none where it is not known."""
        return () if value is None else (Sample(self, labels, float(value)),)


def gauge(name: str, about: str, *labels: str) -> Family:
    """Return a figure that rises and falls."""
    return Family(name=name, kind="gauge", about=about, labels=labels)


def counter(name: str, about: str, *labels: str) -> Family:
    """Return a figure that only rises, but for restarts."""
    return Family(name=name, kind="counter", about=about, labels=labels)
