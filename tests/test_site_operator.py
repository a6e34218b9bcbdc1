"""docs/site-operator.md, walked through: every command of it is run, every output that it shows is seen."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system.daemons import of_folder

PAGE = Path(__file__).parent.parent / "docs" / "site-operator.md"
PORTS = ("5020", "1883", "7400", "9464")
MARK = "@@ block"

pytestmark = pytest.mark.procs


def blocks() -> list[tuple[str, list[str]]]:
    """Return each block of commands with the lines that must be seen in its output."""
    found: list[tuple[str, list[str]]] = []
    for kind, text in re.findall(r"^```(sh|text)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        if kind == "sh":
            found.append((text, []))
        else:
            found[-1][1].extend(text.splitlines())
    return found


def pattern(line: str) -> str:
    """Return a regular expression for a line; "…" stands for anything, runs of spaces for any."""
    parts = [re.sub(r"(\\ )+", r"\\s+", re.escape(part)) for part in line.split("…")]
    return ".*".join(parts)


@pytest.mark.skipif(
    shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None, reason="no Mosquitto"
)
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_page_works_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    walk = blocks()
    script = "set -euo pipefail\n" + "".join(
        f'echo "{MARK} {number}"\n{text}' for number, (text, _) in enumerate(walk)
    )
    for port in PORTS:
        script = re.sub(rf"\b{port}\b", str(free_port()), script)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    with (tmp_path / "walk.log").open("w+") as output:
        # A session of its own: whatever the page starts and leaves is ended with it.
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "COLUMNS": "200"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=180)
        finally:
            with suppress(ProcessLookupError):  # nothing is left where all went well
                os.killpg(process.pid, signal.SIGKILL)
            for pid in of_folder(tmp_path):  # but the job, which outlives its agent
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        output.seek(0)
        said = output.read()
    assert code == 0, said[-4000:]
    outputs = re.split(rf"^{MARK} \d+$", said, flags=re.MULTILINE)[1:]
    assert len(outputs) == len(walk)
    for (text, lines), seen in zip(walk, outputs, strict=True):
        for line in lines:
            assert re.search(pattern(line), seen), f"{line!r} is not in what\n{text}\nprints:\n{seen}"
