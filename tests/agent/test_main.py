"""What a start that cannot be says: one line, and no traceback."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = 'fleet = "f"\nsite = "s"\nstate_dir = "{}"\ngrid = {{ operator = "none", trust_clock = "always" }}\n'


def started(folder: Path, state_dir: str) -> tuple[int, str]:
    config = folder / "agent.toml"
    config.write_text(CONFIG.format(state_dir))
    command = [sys.executable, "-m", "agent.main", "run", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_a_state_dir_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    code, said = started(tmp_path, "state")
    assert (code, said) == (2, f"sterna-agent: agent.toml: state_dir: {tmp_path / 'state'}: is no folder\n")


def test_a_state_dir_that_cannot_be_made(tmp_path: Path) -> None:
    code, said = started(tmp_path, "/proc/1/state")
    assert code == 2
    assert said.startswith("sterna-agent: agent.toml: state_dir: /proc/1/state: cannot be made: ")
    assert said.count("\n") == 1


def test_a_second_agent_on_the_same_state(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with (tmp_path / "state" / "agent.db.lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        code, said = started(tmp_path, "state")
    store = tmp_path / "state" / "agent.db"
    assert (code, said) == (1, f"sterna-agent: store {store} is in use by another process\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("simulate-vtn", "--client-secret-file", "nowhere"), 2, "nowhere: No such file or directory"),
        (("simulate-operator", "--broker", "127.0.0.1:1"), 1, "--broker: 127.0.0.1:1: "),
        (("simulate-operator", "--broker", "localhost"), 2, "argument --broker: "),
    ],
)
def test_a_stand_in_that_cannot_start(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    times = ("--limit-after-s", "1", "--limit-before-s", "2", "--limit-s", "3", "--journal", "journal")
    more = ("--operator", "dso", "--site", "s", *times) if "operator" in words[0] else ()
    command = [sys.executable, "-m", "agent.main", *words, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
