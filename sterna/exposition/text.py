"""Samples as text: OpenMetrics 1.0 for scrapers that ask for it, Prometheus 0.0.4 for the rest. Pure."""

import math
from collections.abc import Iterable, Sequence

from sterna.exposition.families import Family, Sample

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render(families: Sequence[Family], samples: Iterable[Sample], *, openmetrics: bool) -> bytes:
    """Write a page.

    Parameters
    ----------
    families : sequence of Family
        All that there can be, in the order of the page.
    samples : iterable of Sample
        In any order; a family without one is left out.
    openmetrics : bool
        In the form `OPENMETRICS`; else in that of `PROMETHEUS`.
    """
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.family.name, []).append(sample)
    lines: list[str] = []
    for family in families:
        if family.name in found:
            lines += _head(family, openmetrics)
            lines += [_line(sample) for sample in found[family.name]]
    if openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode()


def _head(family: Family, openmetrics: bool) -> list[str]:
    if not openmetrics:
        name = family.sample_name
        kind = "gauge" if family.kind == "info" else family.kind
        return [f"# HELP {name} {family.about}", f"# TYPE {name} {kind}"]
    unit = [] if family.unit is None else [f"# UNIT {family.name} {family.unit}"]
    return [f"# TYPE {family.name} {family.kind}", *unit, f"# HELP {family.name} {family.about}"]


def _line(sample: Sample) -> str:
    family = sample.family
    labels = ",".join(
        f'{name}="{value.translate(_ESCAPES)}"'
        for name, value in zip(family.labels, sample.labels, strict=True)
    )
    labelled = f"{{{labels}}}" if labels else ""
    return f"{family.sample_name}{labelled} {_number(sample.value)}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
