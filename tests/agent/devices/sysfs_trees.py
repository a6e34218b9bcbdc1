"""Synthetic sysfs trees of boards, with the names and units that their kernels use; no tree was captured."""

from pathlib import Path

ORIN_CLOCKS_HZ = (306_000_000, 408_000_000, 510_000_000, 612_000_000, 918_000_000, 1_020_000_000)


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def _rail(chip: str, channel: int, label: str, voltage_mv: int, current_ma: int) -> dict[str, str]:
    hwmon = f"sys/bus/i2c/drivers/ina3221/{chip}/hwmon/hwmon{1 if chip.endswith('0') else 2}"
    return {
        f"{hwmon}/in{channel}_label": label,
        f"{hwmon}/in{channel}_input": str(voltage_mv),
        f"{hwmon}/curr{channel}_input": str(current_ma),
    }


def _gpu(name: str) -> dict[str, str]:
    devfreq = f"sys/class/devfreq/{name}"
    return {
        f"{devfreq}/available_frequencies": " ".join(str(hz) for hz in ORIN_CLOCKS_HZ),
        f"{devfreq}/cur_freq": "306000000",
        f"{devfreq}/min_freq": "306000000",
        f"{devfreq}/max_freq": str(ORIN_CLOCKS_HZ[-1]),
        f"{devfreq}/device/load": "873",
        "sys/class/devfreq/15340000.vic/max_freq": "729600000",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "48531",
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
        "sys/class/thermal/thermal_zone1/temp": "51250",
    }


def orin_nano(root: Path) -> Path:
    """VDD_IN is the module's input; channel 7 sums shunt voltages and is no rail. 5.04 V x 1.5 A = 7.56 W."""
    hwmon = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    _write(root, _rail("1-0040", 1, "VDD_IN", 5040, 1500))
    _write(root, _rail("1-0040", 2, "VDD_CPU_GPU_CV", 5032, 480))
    _write(root, _rail("1-0040", 3, "VDD_SOC", 5032, 400))
    _write(root, {f"{hwmon}/in7_label": "sum of shunt voltages", f"{hwmon}/in7_input": "12"})
    _write(root, _gpu("17000000.gpu"))
    return root


def agx_orin(root: Path) -> Path:
    """No total: 19 V x (0.8 + 0.4) A + 5 V x 1 A = 27.8 W; the second chip hangs below VIN_SYS_5V0."""
    _write(root, _rail("1-0040", 1, "VDD_GPU_SOC", 19000, 800))
    _write(root, _rail("1-0040", 2, "VDD_CPU_CV", 19000, 400))
    _write(root, _rail("1-0040", 3, "VIN_SYS_5V0", 5000, 1000))
    _write(root, _rail("1-0041", 1, "NC", 0, 0))
    _write(root, _rail("1-0041", 2, "VDDQ_VDD2_1V8AO", 5000, 200))
    _write(root, _gpu("17000000.ga10b"))
    return root


def orin_nx(root: Path) -> Path:
    """As Orin Nano, with the GPU's name of JetPack 5 and a device tree. 5.0 V x 4.0 A = 20 W."""
    _write(root, _rail("1-0040", 1, "VDD_IN", 5000, 4000))
    _write(root, _rail("1-0040", 2, "VDD_CPU_GPU_CV", 5000, 2000))
    _write(root, _rail("1-0040", 3, "VDD_SOC", 5000, 600))
    _write(root, _gpu("17000000.ga10b"))
    _write(root, {"proc/device-tree/model": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0"})
    return root


def agx_thor(root: Path, *, carrier: bool = True) -> Path:
    """Three rails, 12 V x (1 + 1.5) A + 5 V x 2 A = 40 W; the carrier's INA238 states 55.5 W at its input.

    The driver's folder names are those of the mainline kernel; the GPU states no load.
    """
    _write(root, _rail("1-0040", 1, "VDD_GPU", 12000, 1000))
    _write(root, _rail("1-0040", 2, "VDD_CPU_SOC_MSS", 12000, 1500))
    _write(root, _rail("1-0040", 3, "VIN_SYS_5V0", 5000, 2000))
    if carrier:
        _write(root, {"sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon3/power1_input": "55500000"})
    files = _gpu("gpu-gpc-0")
    del files["sys/class/devfreq/gpu-gpc-0/device/load"]
    _write(root, files | {"sys/class/devfreq/gpu-nvd-0/max_freq": "900000000"})
    _write(root, {"proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0"})
    return root
