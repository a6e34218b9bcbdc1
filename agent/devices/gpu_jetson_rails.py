"""A Jetson's power sensors in sysfs: which rails a board has and which of them make up its input.

Boards are data: a new one is a line in `TOTALS`. Rails are told by their labels, not by the board's name: a
module keeps its rails on every carrier board, and carriers by others state names of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.known import total
from agent.devices.gpu_sysfs import read_int, read_text
from agent.model.gpu import Scope

INA3221 = "sys/bus/i2c/drivers/ina3221"
INA238 = "sys/bus/i2c/drivers/ina238"
_UNUSED_LABELS = frozenset({"", "NC"})
_INA3221_CHANNELS = (1, 2, 3)  # in7 is the sum of shunt voltages, no rail
_MILLI = 1000
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Rails whose sum is the best that a board states of its draw."""

    labels: tuple[str, ...]
    boards: str
    scope: Scope


# Tried in order; where none matches, all rails are summed (see `choose_total`).
TOTALS = (
    Total(labels=("VIN",), boards="AGX Thor", scope=Scope.INPUT),  # INA238 on the carrier board
    Total(labels=("VDD_IN",), boards="Orin Nano, Orin NX, Xavier NX", scope=Scope.MODULE),
    Total(labels=("POM_5V_IN",), boards="Nano", scope=Scope.MODULE),
    # VDDQ_VDD2_1V8AO on the second chip hangs below VIN_SYS_5V0: it would count twice.
    Total(labels=("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), boards="AGX Orin", scope=Scope.PARTS),
    Total(labels=("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), boards="AGX Thor", scope=Scope.PARTS),
    Total(labels=("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), boards="AGX Xavier", scope=Scope.PARTS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoltageCurrent:
    """A rail that states millivolts and milliamperes."""

    voltage: Path
    current: Path

    def power_w(self) -> float | None:
        """Return the rail's draw in watts; None when it cannot be read now."""
        voltage_mv, current_ma = read_int(self.voltage), read_int(self.current)
        if voltage_mv is None or current_ma is None:
            return None
        return voltage_mv * current_ma / _MILLI**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """A rail that states microwatts."""

    power: Path

    def power_w(self) -> float | None:
        """Return the rail's draw in watts; None when it cannot be read now."""
        power_uw = read_int(self.power)
        return None if power_uw is None else power_uw / _MICRO


Rail = VoltageCurrent | Power


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulePower:
    """The rails that make up a module's draw; reading sums them."""

    labels: tuple[str, ...]
    rails: tuple[Rail, ...]
    scope: Scope

    def power_w(self) -> float | None:
        """Return the sum in watts; None when one of the rails cannot be read, for then it is unknown."""
        return total(rail.power_w() for rail in self.rails)


def find_module_power(root: Path) -> ModulePower | None:
    """Find the sensors below `root` (``/``, or a captured tree); None: there is none."""
    rails = dict([*_ina3221_rails(root / INA3221), *_ina238_rails(root / INA238)])
    if not rails:
        return None
    labels, scope = choose_total(rails)
    return ModulePower(labels=labels, rails=tuple(rails[label] for label in labels), scope=scope)


def choose_total(labels: Mapping[str, object] | Sequence[str]) -> tuple[tuple[str, ...], Scope]:
    """Choose the rails to sum.

    On an unknown board that is all of them: rails that overlap are counted twice then, an error on the
    obedient side.

    Returns
    -------
    tuple of str
        Their labels.
    Scope
        What the sum covers.
    """
    for known in TOTALS:
        if all(label in labels for label in known.labels):
            return known.labels, known.scope
    return tuple(labels), Scope.PARTS


def _ina3221_rails(driver: Path) -> Iterator[tuple[str, Rail]]:
    for hwmon in sorted(driver.glob("*/hwmon/hwmon*")):
        for channel in _INA3221_CHANNELS:
            label = read_text(hwmon / f"in{channel}_label")
            if label is not None and label not in _UNUSED_LABELS:
                yield (
                    label,
                    VoltageCurrent(
                        voltage=hwmon / f"in{channel}_input", current=hwmon / f"curr{channel}_input"
                    ),
                )


def _ina238_rails(driver: Path) -> Iterator[tuple[str, Rail]]:
    """Yield the carrier's input monitor; the kernel's driver gives it no label."""
    for hwmon in sorted(driver.glob("*/hwmon/hwmon*")):
        if (hwmon / "power1_input").exists():
            yield read_text(hwmon / "in1_label") or "VIN", Power(power=hwmon / "power1_input")
