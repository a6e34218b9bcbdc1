from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.devices import gpu_jetson_sensors
from agent.power.clocks import GPU_PATTERNS
from agent.power.refusal import Refusal
from tests.agent.devices.sysfs_trees import ORIN_CLOCKS_HZ
from tests.agent.power.machine import GPU, clocks_of, gpu_file, held_in, machine

FULL_HZ = ORIN_CLOCKS_HZ[-1]


@pytest.mark.parametrize(
    ("asked_hz", "set_hz"),
    [
        (0, 306_000_000),
        (1, 306_000_000),
        (509_999_999, 408_000_000),
        (510_000_000, 510_000_000),
        (10**12, FULL_HZ),
        (None, FULL_HZ),
    ],
)
def test_a_clock_is_brought_to_a_step_of_the_device(
    tmp_path: Path, asked_hz: int | None, set_hz: int
) -> None:
    sys_root = machine(tmp_path)
    clocks = clocks_of(sys_root, held_in(tmp_path))
    assert clocks.set_max_hz("gpu", GPU, asked_hz) == set_hz
    assert int(gpu_file(sys_root).read_text()) == set_hz


def test_cpus_are_set_in_their_own_unit(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    clocks = clocks_of(sys_root, held_in(tmp_path))
    assert clocks.set_max_hz("cpu", "policy0", 1_000_000_000) == 729_600_000
    policy = sys_root / "devices/system/cpu/cpufreq/policy0"
    assert (policy / "scaling_max_freq").read_text() == "729600\n"
    # A driver without steps takes what lies between its bounds.
    (policy / "scaling_available_frequencies").unlink()
    assert clocks.set_max_hz("cpu", "policy0", 1_000_000_000) == pytest.approx(1_000_000_000, rel=0.02)
    assert clocks.set_max_hz("cpu", "policy0", 5) == 115_200_000
    assert clocks.set_max_hz("cpu", "policy0", None) == 1_728_000_000


def test_the_floor_makes_way_and_comes_back(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    gpu_file(sys_root, "min_freq").write_text(f"{FULL_HZ}\n")  # what jetson_clocks does
    clocks = clocks_of(sys_root, held_in(tmp_path))
    clocks.set_max_hz("gpu", GPU, 408_000_000)
    assert gpu_file(sys_root, "min_freq").read_text() == "408000000\n"
    clocks.set_max_hz("gpu", GPU, 612_000_000)
    assert gpu_file(sys_root, "min_freq").read_text() == "612000000\n"
    clocks.set_max_hz("gpu", GPU, None)
    assert gpu_file(sys_root, "min_freq").read_text() == f"{FULL_HZ}\n"
    assert clocks.status("gpu", GPU)["original_min_hz"] is None


def test_the_owners_ceiling_is_never_exceeded(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    gpu_file(sys_root).write_text("918000000\n")  # an nvpmodel mode
    clocks = clocks_of(sys_root, held_in(tmp_path))
    assert clocks.set_max_hz("gpu", GPU, FULL_HZ) == 918_000_000
    assert clocks.set_max_hz("gpu", GPU, 306_000_000) == 306_000_000
    assert clocks.set_max_hz("gpu", GPU, FULL_HZ) == 918_000_000
    assert clocks.set_max_hz("gpu", GPU, 408_000_000) == 408_000_000
    gpu_file(sys_root).write_text(f"{FULL_HZ}\n")  # the owner raises it while we cap
    assert clocks.set_max_hz("gpu", GPU, 306_000_000) == 306_000_000
    assert clocks.set_max_hz("gpu", GPU, None) == FULL_HZ


def test_a_cap_is_known_to_the_next_process(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    clocks_of(sys_root, held_in(tmp_path)).set_max_hz("gpu", GPU, 408_000_000)
    after = clocks_of(sys_root, held_in(tmp_path))
    status = after.status("gpu", GPU)
    assert (status["max_hz"], status["original_max_hz"]) == (408_000_000, FULL_HZ)
    assert after.caps_hz() == [("gpu", GPU, 408_000_000)]
    assert after.restore("gpu", GPU, full=False) == FULL_HZ
    assert after.caps_hz() == []
    assert held_in(tmp_path).original(f"gpu/{GPU}/max_freq") is None


def test_restore_touches_only_what_we_changed_unless_told(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    gpu_file(sys_root).write_text("612000000\n")
    clocks = clocks_of(sys_root, held_in(tmp_path))
    assert clocks.restore("gpu", GPU, full=False) == 612_000_000
    assert clocks.restore("gpu", GPU, full=True) == FULL_HZ


def test_an_original_that_cannot_be_stored_leaves_the_clock_alone(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    clocks = clocks_of(sys_root, held_in(tmp_path / "missing"))
    with pytest.raises(Refusal, match="originals not stored"):
        clocks.set_max_hz("gpu", GPU, 306_000_000)
    assert int(gpu_file(sys_root).read_text()) == FULL_HZ


@pytest.mark.parametrize(
    "device", ["15340000.vic", "../cpufreq/policy0", "", ".", "..", "17000000.gpu/..", "x.gpu"]
)
def test_other_names_are_refused(tmp_path: Path, device: str) -> None:
    clocks = clocks_of(machine(tmp_path), held_in(tmp_path))
    for act in (
        lambda: clocks.set_max_hz("gpu", device, 1),
        lambda: clocks.status("gpu", device),
        lambda: clocks.restore("gpu", device, full=True),
    ):
        with pytest.raises(Refusal) as refused:
            act()
        assert refused.value.code == "unknown_device"


@pytest.mark.parametrize("missing", ["available_frequencies", "max_freq"])
def test_an_unknown_range_is_not_unlimited(tmp_path: Path, missing: str) -> None:
    sys_root = machine(tmp_path)
    gpu_file(sys_root, missing).unlink()
    clocks = clocks_of(sys_root, held_in(tmp_path))
    with pytest.raises(Refusal) as refused:
        clocks.set_max_hz("gpu", GPU, 306_000_000)
    assert refused.value.code == "no_range"
    assert clocks.status("gpu", GPU)["writable"] is False


def test_a_clock_that_does_not_follow_is_told(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    # A file that takes the write and shows another value: what is read is what counts.
    clocks = clocks_of(sys_root, held_in(tmp_path))
    put = clocks._put_hz
    clocks._put_hz = lambda files, device, file, value_hz: put(files, device, file, FULL_HZ)  # type: ignore[method-assign]
    with pytest.raises(Refusal) as refused:
        clocks.set_max_hz("gpu", GPU, 306_000_000)
    assert refused.value.code == "not_taken"
    assert held_in(tmp_path).original(f"gpu/{GPU}/max_freq") == FULL_HZ


def test_the_agent_and_its_helper_know_the_same_gpus() -> None:
    assert set(gpu_jetson_sensors.GPU_PATTERNS) <= set(GPU_PATTERNS)


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 2 * FULL_HZ)), max_size=12), st.sampled_from(ORIN_CLOCKS_HZ)
)
@settings(max_examples=15, deadline=None)
def test_whatever_is_asked_the_clock_is_a_step_below_the_ceiling_and_can_be_undone(
    asked: list[int | None], found_hz: int
) -> None:
    with TemporaryDirectory() as folder:
        sys_root = machine(Path(folder))
        gpu_file(sys_root).write_text(f"{found_hz}\n")
        for asked_hz in asked:
            clocks = clocks_of(sys_root, held_in(Path(folder)))  # a new process each time
            set_hz = clocks.set_max_hz("gpu", GPU, asked_hz)
            assert set_hz == int(gpu_file(sys_root).read_text())
            assert set_hz in ORIN_CLOCKS_HZ
            assert set_hz <= found_hz
            if asked_hz is not None and asked_hz >= ORIN_CLOCKS_HZ[0]:
                assert set_hz <= asked_hz
            assert int(gpu_file(sys_root, "min_freq").read_text()) <= set_hz
        clocks_of(sys_root, held_in(Path(folder))).restore("gpu", GPU, full=False)
        assert int(gpu_file(sys_root).read_text()) == found_hz
