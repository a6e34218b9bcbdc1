import os
from pathlib import Path

import pytest

from agent.power.refusal import Refusal
from agent.power.tree import Tree
from tests.agent.power.machine import GPU, gpu_file, machine

MAX_FREQ = f"class/devfreq/{GPU}/max_freq"


def test_links_inside_of_the_tree_are_followed(tmp_path: Path) -> None:
    tree = Tree(machine(tmp_path))
    assert tree.integer(MAX_FREQ) == 1_020_000_000
    assert GPU in tree.names("class/devfreq")
    tree.write(MAX_FREQ, 306_000_000)
    assert gpu_file(tmp_path / "sys").read_text() == "306000000\n"


def test_no_tail_of_a_longer_value_stays(tmp_path: Path) -> None:
    tree = Tree(machine(tmp_path))
    tree.write(MAX_FREQ, 7)
    assert gpu_file(tmp_path / "sys").read_text() == "7\n"


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_link_out_of_the_tree_is_neither_read_nor_written(tmp_path: Path, whole_folder: bool) -> None:
    sys_root = machine(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "max_freq").write_text("1\n")
    devfreq = sys_root / "class/devfreq"
    if whole_folder:
        (devfreq / "evil.gpu").symlink_to(outside)
    else:
        (devfreq / "evil.gpu").mkdir()
        (devfreq / "evil.gpu/max_freq").symlink_to(outside / "max_freq")
    tree = Tree(sys_root)
    with pytest.raises(Refusal) as refused:
        tree.write("class/devfreq/evil.gpu/max_freq", 5)
    assert refused.value.code in {"outside", "io"}
    assert not tree.writable("class/devfreq/evil.gpu/max_freq")
    assert (outside / "max_freq").read_text() == "1\n"


@pytest.mark.parametrize("name", ["../outside/secret", "/etc/hostname", "class/../../outside/secret"])
def test_a_path_out_of_the_tree_is_refused(tmp_path: Path, name: str) -> None:
    tree = Tree(machine(tmp_path))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("1\n")
    with pytest.raises(Refusal, match="leads out of"):
        tree.text(name)
    with pytest.raises(Refusal, match="leads out of"):
        tree.write(name, 2)
    assert (tmp_path / "outside/secret").read_text() == "1\n"


def test_a_pipe_does_not_hold_us_up(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    os.mkfifo(sys_root / "pipe")
    with pytest.raises(Refusal):
        Tree(sys_root).write("pipe", 1)
    with pytest.raises(Refusal, match="not a plain file"):
        Tree(sys_root).text("pipe")


def test_what_is_missing_is_none(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "nowhere")
    assert (tree.names("class"), tree.text("class/x"), tree.integer("class/x")) == ([], None, None)
    assert not tree.writable("class/x")
    with pytest.raises(Refusal) as refused:
        tree.write("class/x", 1)
    assert refused.value.code == "io"


@pytest.mark.parametrize("content", ["", "-5", "1 2", "0x10", "٣", "garbage"])
def test_what_is_no_number_is_none(tmp_path: Path, content: str) -> None:
    sys_root = machine(tmp_path)
    gpu_file(sys_root).write_text(content)
    assert Tree(sys_root).integer(MAX_FREQ) is None


def test_a_file_without_a_write_bit_is_not_writable_even_for_root(tmp_path: Path) -> None:
    sys_root = machine(tmp_path)
    tree = Tree(sys_root)
    assert tree.writable(MAX_FREQ)
    gpu_file(sys_root).chmod(0o444)
    assert not tree.writable(MAX_FREQ)
    assert gpu_file(sys_root).read_text() == "1020000000\n"
