"""The NVML provider against an NVML whose devices answer as little as real ones do."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from agent.devices.gpu_nvml import NvmlGpu
from sterna.clock import FakeClock
from sterna.errors import PermanentError, TransientError

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)


class NvmlError(Exception):
    pass


class Card:
    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.limit_mw: int = answers.get("limit_mw", 0)

    def ask(self, name: str) -> Any:
        if name not in self.answers:
            raise NvmlError("Not Supported")
        return self.answers[name]


class Nvml:
    """What pynvml offers of what we use, over cards made here."""

    NVMLError = NvmlError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *cards: Card, broken: bool = False) -> None:
        self.cards = cards
        self.broken = broken
        self.is_open = False

    def nvmlInit(self) -> None:  # noqa: N802
        if self.broken:
            raise NvmlError("Driver Not Loaded")
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        return self.cards[index]

    def nvmlDeviceGetPowerUsage(self, card: Card) -> Any:  # noqa: N802
        return card.ask("power_mw")

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=card.ask("gpu_percent"))

    def nvmlDeviceGetTemperature(self, card: Card, _sensor: int) -> Any:  # noqa: N802
        return card.ask("degc")

    def nvmlDeviceGetPowerManagementLimitConstraints(self, card: Card) -> Any:  # noqa: N802
        return card.ask("constraints_mw")

    def nvmlDeviceGetPowerManagementDefaultLimit(self, card: Card) -> Any:  # noqa: N802
        return card.ask("default_mw")

    def nvmlDeviceGetPowerManagementLimit(self, card: Card) -> Any:  # noqa: N802
        card.ask("default_mw")
        return card.limit_mw

    def nvmlDeviceSetPowerManagementLimit(self, card: Card, limit_mw: int) -> None:  # noqa: N802
        low_mw, high_mw = card.ask("constraints_mw")
        if card.answers.get("refuses") or not low_mw <= limit_mw <= high_mw:
            raise NvmlError("Insufficient Permissions")
        card.limit_mw = limit_mw


def full_card(**changes: Any) -> Card:
    answers = {
        "power_mw": 251_500,
        "gpu_percent": 87,
        "degc": 61,
        "constraints_mw": (200_000, 700_000),
        "default_mw": 700_000,
        "limit_mw": 700_000,
    }
    return Card(**answers | changes)


def opened(*cards: Card, privileged: bool = True) -> NvmlGpu:
    return NvmlGpu(clock=FakeClock(NOW), nvml=Nvml(*cards), privileged=privileged)


def test_a_card_that_answers_everything() -> None:
    (reading,) = opened(full_card()).read()
    assert (reading.name, reading.power_w, reading.utilization_frac) == ("gpu0", 251.5, 0.87)
    assert (reading.temperature_degc, reading.power_cap_w, reading.measured_at) == (61.0, None, NOW)


def test_a_card_that_answers_nothing_is_all_none() -> None:
    gpu = opened(Card())
    (reading,) = gpu.read()
    assert (reading.power_w, reading.utilization_frac) == (None, None)
    assert (reading.temperature_degc, reading.power_cap_w) == (None, None)
    found = gpu.capabilities()
    assert (found.can_read_power, found.can_cap, found.cap_min_w) == (False, False, None)
    with pytest.raises(PermanentError, match="cannot be set"):
        gpu.set_power_cap_w(100.0)


def test_one_poor_card_does_not_blind_the_others() -> None:
    readings = opened(full_card(), Card(power_mw=9_000)).read()
    assert [reading.power_w for reading in readings] == [251.5, 9.0]
    assert [reading.utilization_frac for reading in readings] == [0.87, None]


@pytest.mark.parametrize(
    ("cap_w", "expected_mw"),
    [(1000.0, 500_000), (900.4, 450_200), (100.0, 200_000), (9999.0, 700_000), (None, 700_000)],
)
def test_a_cap_is_shared_evenly_within_each_cards_limits(cap_w: float | None, expected_mw: int) -> None:
    cards = (full_card(limit_mw=300_000), full_card(limit_mw=300_000))
    gpu = opened(*cards)
    gpu.set_power_cap_w(cap_w)
    assert [card.limit_mw for card in cards] == [expected_mw, expected_mw]
    stated = None if expected_mw == 700_000 else expected_mw / 1000
    assert [reading.power_cap_w for reading in gpu.read()] == [stated, stated]


def test_capping_wants_root_and_limits_on_every_card() -> None:
    assert opened(full_card()).capabilities().can_cap
    assert not opened(full_card(), privileged=False).capabilities().can_cap
    assert not opened(full_card(), Card()).capabilities().can_cap
    assert not opened().capabilities().can_cap
    two = opened(full_card(), full_card()).capabilities()
    assert (two.cap_min_w, two.cap_max_w) == (400.0, 1400.0)


def test_a_refused_limit_is_transient() -> None:
    with pytest.raises(TransientError, match="gpu0: power limit not set"):
        opened(full_card(refuses=True)).set_power_cap_w(300.0)


def test_without_a_driver_the_error_says_so() -> None:
    with pytest.raises(TransientError, match="Driver Not Loaded"):
        NvmlGpu(clock=FakeClock(NOW), nvml=Nvml(broken=True))


def test_close_shuts_nvml_down() -> None:
    nvml = Nvml(full_card())
    NvmlGpu(clock=FakeClock(NOW), nvml=nvml).close()
    assert not nvml.is_open
