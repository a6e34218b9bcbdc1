import json
from pathlib import Path

import pytest

from agent.power.main import main
from tests.agent.power.machine import GPU, gpu_file, helper, machine


def test_asking_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sys_root = machine(tmp_path)
    ask = ["ask", "--socket", str(tmp_path / "sock")]
    with helper(tmp_path, sys_root=sys_root):
        assert main([*ask, "set_gpu_max_hz", f"device={GPU}", "hz=408000000"]) == 0
        assert json.loads(capsys.readouterr().out)["max_hz"] == 408_000_000
        assert main([*ask, "freeze", "unit=ssh.service"]) == 1
        assert json.loads(capsys.readouterr().out)["code"] == "not_a_job"
        assert main([*ask, "restore", "full=true"]) == 0
    assert gpu_file(sys_root).read_text() == "1020000000\n"
    assert main([*ask, "status"]) == 5
    assert str(tmp_path / "sock") in capsys.readouterr().err
    assert main([*ask, "freeze", "unit"]) == 2
    assert "expected FIELD=VALUE, got unit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "give --socket"),
        (["--socket", "/nowhere/sock"], "/nowhere/sock: No such file"),
        (["--socket", "SOCK", "--allow-user", "no such user"], "no user no such user"),
        (["--socket", "SOCK", "--allow-group", "no such group"], "no group no such group"),
    ],
)
def test_what_it_cannot_serve_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    given = [str(tmp_path / "sock") if argument == "SOCK" else argument for argument in arguments]
    assert main(["serve", *given]) == 2
    assert word in capsys.readouterr().err


def test_a_file_in_the_way_is_not_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sock").write_text("precious")
    assert main(["serve", "--socket", str(tmp_path / "sock")]) == 2
    assert (tmp_path / "sock").read_text() == "precious"
    assert "sock" in capsys.readouterr().err
