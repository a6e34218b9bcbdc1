"""The NVML provider against an NVML whose devices answer as little as real ones do."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from agent.devices.gpu_nvml import RESCAN_S, NvmlGpu
from agent.model.gpu import Scope
from sterna.clock import FakeClock
from sterna.errors import PermanentError, TransientError

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)


NOT_SUPPORTED, NO_PERMISSION, GPU_IS_LOST, UNKNOWN, DRIVER_NOT_LOADED = 3, 4, 15, 999, 9


class NvmlError(Exception):
    def __init__(self, text: str, value: int = NOT_SUPPORTED) -> None:
        super().__init__(text)
        self.value = value


class Card:
    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.limit_mw: int = answers.get("limit_mw", 0)
        self.fault: NvmlError | None = None

    def ask(self, name: str) -> Any:
        if self.fault is not None:
            raise self.fault
        if name not in self.answers:
            raise NvmlError("Not Supported")
        return self.answers[name]


class Nvml:
    """What pynvml offers of what we use, over cards made here."""

    NVMLError = NvmlError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_ERROR_GPU_IS_LOST = GPU_IS_LOST
    NVML_ERROR_DRIVER_NOT_LOADED = DRIVER_NOT_LOADED

    def __init__(self, *cards: Card, broken: bool = False) -> None:
        self.cards = list(cards)
        self.broken = broken
        self.is_open = False
        self.inits = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.inits += 1
        if self.broken:
            raise NvmlError("Driver Not Loaded", DRIVER_NOT_LOADED)
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        if self.cards[index].fault is not None:
            raise NvmlError("GPU is lost", GPU_IS_LOST)
        return self.cards[index]

    def nvmlDeviceGetUUID(self, card: Card) -> Any:  # noqa: N802
        return card.ask("uuid")

    def nvmlDeviceGetName(self, card: Card) -> Any:  # noqa: N802
        return card.ask("model")

    def nvmlDeviceGetClockInfo(self, card: Card, _clock: int) -> Any:  # noqa: N802
        return card.ask("sm_mhz")

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
        if card.answers.get("unprivileged") or not low_mw <= limit_mw <= high_mw:
            raise NvmlError("Insufficient Permissions", NO_PERMISSION)
        card.limit_mw = limit_mw


def full_card(**changes: Any) -> Card:
    answers = {
        "power_mw": 251_500,
        "gpu_percent": 87,
        "degc": 61,
        "sm_mhz": 1980,
        "model": "NVIDIA Test",
        "constraints_mw": (200_000, 700_000),
        "default_mw": 700_000,
        "limit_mw": 700_000,
    }
    return Card(**answers | changes)


def opened(*cards: Card) -> NvmlGpu:
    return NvmlGpu(clock=FakeClock(NOW), nvml=Nvml(*cards))


def test_a_card_that_answers_everything() -> None:
    (reading,) = opened(full_card()).read()
    assert (reading.name, reading.power_w, reading.utilization_frac) == ("gpu0", 251.5, 0.87)
    assert (reading.temperature_degc, reading.power_cap_w, reading.measured_at) == (61.0, None, NOW)
    assert reading.clock_hz == 1_980_000_000


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


def test_capping_wants_permission_and_limits_on_every_card() -> None:
    assert opened(full_card()).capabilities().can_cap
    assert not opened(full_card(unprivileged=True)).capabilities().can_cap
    assert not opened(full_card(), Card()).capabilities().can_cap
    two = opened(full_card(), full_card()).capabilities()
    assert (two.cap_min_w, two.cap_max_w) == (400.0, 1400.0)
    assert (two.scope, two.cap_covers_node) == (Scope.DEVICE, False)
    assert two.source == "NVML: 2 of 2 GPUs, NVIDIA Test"


def test_probing_for_a_cap_changes_no_limit_and_can_be_forbidden() -> None:
    card = full_card(limit_mw=350_000)
    assert opened(card).capabilities().can_cap
    assert card.limit_mw == 350_000
    gpu = NvmlGpu(clock=FakeClock(NOW), nvml=Nvml(card), may_cap=False)
    assert not gpu.capabilities().can_cap


def test_a_refused_limit_is_transient_and_the_other_card_has_its_share() -> None:
    cards = (full_card(), full_card())
    gpu = opened(*cards)
    cards[0].answers["unprivileged"] = True
    with pytest.raises(TransientError, match="gpu0: power limit not set"):
        gpu.set_power_cap_w(600.0)
    assert [card.limit_mw for card in cards] == [700_000, 300_000]


@pytest.mark.parametrize(
    "fault", [NvmlError("GPU is lost", GPU_IS_LOST), NvmlError("Unknown Error", UNKNOWN)]
)
def test_a_card_falls_off_the_bus_and_comes_back_with_its_name_and_cap(fault: NvmlError) -> None:
    clock = FakeClock(NOW)
    cards = [full_card(uuid="GPU-a"), full_card(uuid="GPU-b")]
    nvml = Nvml(*cards)
    gpu = NvmlGpu(clock=clock, nvml=nvml)
    gpu.read()
    gpu.set_power_cap_w(600.0)
    cards[0].fault = fault
    assert [reading.power_w for reading in gpu.read()] == [None, 251.5]
    assert gpu.capabilities().names == ("gpu0", "gpu1")
    assert gpu.capabilities().can_cap
    inits = nvml.inits
    clock.advance(RESCAN_S)
    assert [reading.power_w for reading in gpu.read()] == [None, 251.5]
    assert nvml.inits == inits + 1
    assert cards[1].limit_mw == 600_000  # what the lost card does not draw is the other's
    cards[0].fault, cards[0].limit_mw = None, 700_000
    nvml.cards.reverse()  # NVML may number them anew
    assert gpu.read()[0].power_w is None  # not looked for at every read
    clock.advance(RESCAN_S)
    assert [reading.power_w for reading in gpu.read()] == [251.5, 251.5]
    assert [card.limit_mw for card in cards] == [300_000, 300_000]


def test_a_card_that_never_said_anything_is_not_looked_for() -> None:
    clock, nvml = FakeClock(NOW), Nvml(Card())
    gpu = NvmlGpu(clock=clock, nvml=nvml)
    for _ in range(5):
        clock.advance(RESCAN_S)
        assert gpu.read()[0].power_w is None
    assert nvml.inits == 1


def test_a_driver_that_is_reloaded_is_found_again_and_no_limit_of_others_is_touched() -> None:
    clock, card = FakeClock(NOW), full_card(uuid="GPU-a")
    nvml = Nvml(card)
    gpu = NvmlGpu(clock=clock, nvml=nvml)
    gpu.read()
    card.limit_mw = 350_000
    card.fault, nvml.broken = NvmlError("Driver Not Loaded", DRIVER_NOT_LOADED), True
    for _ in range(3):
        assert gpu.read()[0].power_w is None
        clock.advance(RESCAN_S)
    card.fault, nvml.broken = None, False
    assert gpu.read()[0].power_w == 251.5
    assert card.limit_mw == 350_000


def test_a_driver_without_a_card_is_transient() -> None:
    with pytest.raises(TransientError, match="no GPU"):
        opened()


def test_without_a_driver_the_error_says_so() -> None:
    with pytest.raises(TransientError, match="Driver Not Loaded"):
        NvmlGpu(clock=FakeClock(NOW), nvml=Nvml(broken=True))


def test_close_shuts_nvml_down() -> None:
    nvml = Nvml(full_card())
    NvmlGpu(clock=FakeClock(NOW), nvml=nvml).close()
    assert not nvml.is_open
