"""What one line of NVIDIA's tegrastats says. Pure: text in, figures out; what a line does not say is None.

The tool's format differs by board and release: rails with and without ``mW``, names in either case, a GPU
clock in brackets, a date in front. Only what is looked for is read; everything else in a line is left alone.
"""

import re
from dataclasses import dataclass

from agent.devices.gpu_jetson_rails import choose_total
from agent.model.gpu import Scope

# "VDD_IN 5299mW/5299mW" and "CPU 311/311": now and average.
_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?(?!\S)")
# "GR3D_FREQ 62%@306", "GR3D_FREQ 0%", "GR3D_FREQ 0%@[305,305]"; megahertz.
_GPU = re.compile(r"(?<!\S)GR3D_FREQ (\d+)%(?:@\[?(\d+))?")
_ZONE = re.compile(r"(?<!\S)gpu@(-?\d+(?:\.\d+)?)C(?!\S)", re.IGNORECASE)
# They look like rails where a line is cut off before their unit.
_MEMORY = frozenset({"RAM", "SWAP", "IRAM"})
_MW_PER_W = 1000
_HZ_PER_MHZ = 1_000_000
_OFFLINE_DEGC = -256.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TegraLine:
    """The figures of one line; `labels` are the rails that `power_w` is the sum of."""

    power_w: float | None
    utilization_frac: float | None
    clock_hz: float | None
    temperature_degc: float | None
    labels: tuple[str, ...] = ()
    scope: Scope | None = None


def parse_line(line: str) -> TegraLine | None:
    """Read one line.

    Returns
    -------
    TegraLine or None
        None where the line has none of the figures: it is not one of tegrastats, or was cut off.
    """
    rails_mw = {match[1]: int(match[2]) for match in _RAIL.finditer(line) if match[1] not in _MEMORY}
    gpu, zone = _GPU.search(line), _ZONE.search(line)
    if not rails_mw and gpu is None and zone is None:
        return None
    labels, scope = choose_total(rails_mw) if rails_mw else ((), None)
    degc = None if zone is None else float(zone[1])
    return TegraLine(
        power_w=sum(rails_mw[label] for label in labels) / _MW_PER_W if labels else None,
        utilization_frac=None if gpu is None else min(int(gpu[1]) / 100, 1.0),
        clock_hz=None if gpu is None or gpu[2] is None else float(gpu[2]) * _HZ_PER_MHZ,
        temperature_degc=None if degc is None or degc <= _OFFLINE_DEGC else degc,
        labels=labels,
        scope=scope,
    )
