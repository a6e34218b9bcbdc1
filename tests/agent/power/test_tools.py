"""The vendor tools are stood in for by scripts that say what the real ones say, in their words."""

from pathlib import Path

import pytest

from agent.power import tools
from agent.power.refusal import Refusal
from agent.power.tools import NvidiaSmi, Nvpmodel
from tests.agent.power.machine import held_in

NVPMODEL = """#!/bin/sh
here=$(dirname "$0")
case "$1" in
  -q) echo "NVPM WARN: fan mode is not set!"; echo "NV Power Mode: MODE_$(cat $here/mode)"; cat $here/mode ;;
  -m)
    echo "$2" >>$here/asked
    if [ "$2" = 3 ]; then
      echo "NVPM WARN: Reboot required for changing to this power mode: $2"
      echo "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
      read answer || exit 1
      echo "$answer" >$here/answer
      [ "$answer" = YES ] && echo $2 >$here/mode
    elif [ "$2" != 7 ]; then
      echo "$2" >$here/mode
    fi ;;
esac
"""
NVIDIA_SMI = """#!/bin/sh
here=$(dirname "$0")
case "$1" in
  --query-gpu=*)
    echo "0, $(cat $here/limit), 100.00, 450.00, 400.00"
    echo "1, [N/A], [N/A], [N/A], [N/A]" ;;
  -i) echo "$2 $4" >>$here/asked; [ -e $here/stuck ] || echo "$4.00" >$here/limit ;;
esac
"""


@pytest.fixture
def nvpmodel(tmp_path: Path) -> Path:
    (tmp_path / "mode").write_text("1\n")
    return script(tmp_path / "nvpmodel", NVPMODEL)


@pytest.fixture
def nvidia_smi(tmp_path: Path) -> Path:
    (tmp_path / "limit").write_text("400.00\n")
    return script(tmp_path / "nvidia-smi", NVIDIA_SMI)


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def modes(path: Path, *, may_reboot: bool = False) -> Nvpmodel:
    return Nvpmodel(path, modes=frozenset({1, 2, 3, 7}), may_reboot=may_reboot)


def test_an_allowed_mode_is_set_and_verified(nvpmodel: Path) -> None:
    model = modes(nvpmodel)
    assert model.mode() == (1, "MODE_1")
    assert model.set_mode(2, reboot=False) == (2, "MODE_2")
    assert model.set_mode(2, reboot=False) == (2, "MODE_2")
    assert (nvpmodel.parent / "asked").read_text() == "2\n"  # what is set already is not set again


def test_a_mode_that_is_not_allowed_is_never_tried(nvpmodel: Path) -> None:
    with pytest.raises(Refusal, match=r"allowed here are \[1, 2, 3, 7\]") as refused:
        modes(nvpmodel).set_mode(0, reboot=False)
    assert refused.value.code == "mode_not_allowed"
    with pytest.raises(Refusal, match="allowed here are none"):
        Nvpmodel(nvpmodel, modes=frozenset(), may_reboot=True).set_mode(0, reboot=True)
    assert not (nvpmodel.parent / "asked").exists()


def test_the_question_is_answered_no_and_the_mode_stays(nvpmodel: Path) -> None:
    with pytest.raises(Refusal, match=r"3 needs a reboot; the mode is still 1 \(MODE_1\)") as refused:
        modes(nvpmodel, may_reboot=True).set_mode(3, reboot=False)
    assert refused.value.code == "needs_reboot"
    assert (nvpmodel.parent / "answer").read_text() == "n\n"


def test_a_reboot_takes_both_the_option_and_the_request(nvpmodel: Path) -> None:
    with pytest.raises(Refusal) as refused:
        modes(nvpmodel).set_mode(3, reboot=True)
    assert refused.value.code == "reboot_not_allowed"
    assert not (nvpmodel.parent / "answer").exists()
    assert modes(nvpmodel, may_reboot=True).set_mode(3, reboot=True).number == 3
    assert (nvpmodel.parent / "answer").read_text() == "YES\n"


def test_a_mode_that_is_not_taken_is_told(nvpmodel: Path) -> None:
    with pytest.raises(Refusal, match=r"asked for 7, it is 1") as refused:
        modes(nvpmodel).set_mode(7, reboot=False)
    assert refused.value.code == "not_taken"


def test_a_tool_that_hangs_or_is_missing_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "TIMEOUT_S", 0.2)
    hung = script(tmp_path / "hung", "#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(Refusal, match="hung: no end within"):
        modes(hung).mode()
    with pytest.raises(Refusal, match="missing: No such file"):
        modes(tmp_path / "missing").mode()
    assert not modes(tmp_path / "missing").present
    assert modes(script(tmp_path / "mute", "#!/bin/sh\n")).mode() is None


def test_limits_are_read_and_what_a_gpu_does_not_say_is_none(nvidia_smi: Path, tmp_path: Path) -> None:
    first, second = NvidiaSmi(nvidia_smi, held_in(tmp_path)).status()
    assert (first["limit_w"], first["lowest_w"], first["highest_w"], first["default_w"]) == (
        400,
        100,
        450,
        400,
    )
    assert (second["gpu"], second["limit_w"], second["lowest_w"]) == (1, None, None)


@pytest.mark.parametrize(("asked_w", "set_w"), [(250, 250), (0, 100), (440, 400), (10**9, 400), (None, 400)])
def test_a_limit_stays_in_the_range_and_below_what_was_found(
    nvidia_smi: Path, tmp_path: Path, asked_w: int | None, set_w: float
) -> None:
    assert NvidiaSmi(nvidia_smi, held_in(tmp_path)).set_limit_w(0, asked_w) == set_w


def test_a_limit_is_known_to_the_next_process_and_undone(nvidia_smi: Path, tmp_path: Path) -> None:
    NvidiaSmi(nvidia_smi, held_in(tmp_path)).set_limit_w(0, 150)
    after = NvidiaSmi(nvidia_smi, held_in(tmp_path))
    assert after.held() == [0]
    assert after.status()[0]["original_w"] == 400
    assert after.set_limit_w(0, None) == 400
    assert after.held() == []


def test_what_cannot_be_limited_is_refused(nvidia_smi: Path, tmp_path: Path) -> None:
    smi = NvidiaSmi(nvidia_smi, held_in(tmp_path))
    with pytest.raises(Refusal, match="gpu: 1: does not say"):
        smi.set_limit_w(1, 200)
    with pytest.raises(Refusal, match="no GPU 2"):
        smi.set_limit_w(2, 200)
    (tmp_path / "stuck").touch()
    with pytest.raises(Refusal, match="asked for 200 W, it is 400 W"):
        smi.set_limit_w(0, 200)
    assert not (tmp_path / "asked").read_text().startswith("1")
