"""A container engine's command for tests: ``fake_engine.py STATE run|ps|pause|unpause|kill|rm …``.

Its containers are processes in sessions of their own, which outlive the command that ran them, as an engine's
do. While STATE/down exists it answers nothing, like an engine whose daemon hangs; while
STATE/no-pause exists it pauses nothing.
"""

import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

STATE = Path(sys.argv[1])
IMAGE = "image"


def containers(ids: list[str]) -> list[tuple[Path, dict]]:
    return [(path, json.loads(path.read_text())) for path in STATE.glob("*.json") if path.stem in ids]


def run(words: list[str]) -> int:
    at = words.index(IMAGE)
    options, program = words[:at], words[at + 1 :]
    env = {"PATH": os.environ["PATH"]}
    for option in options:
        if option.startswith("--env-file="):
            lines = Path(option.partition("=")[2]).read_text().splitlines()
            env |= dict(line.split("=", 1) for line in lines)
    if program[0] == "no-such-program":
        sys.stderr.write("Error: no such program\n")
        return 127
    child = subprocess.Popen(program, env=env, start_new_session=True, stdin=subprocess.DEVNULL)
    state = STATE / f"{uuid.uuid4().hex}.json"
    labels = [option.partition("=")[2] for option in options if option.startswith("--label=")]
    state.with_suffix(".part").write_text(json.dumps({"pid": child.pid, "labels": labels}))
    state.with_suffix(".part").replace(state)
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    code = child.wait()
    state.unlink(missing_ok=True)
    return code if code >= 0 else 128 - code


def each(ids: list[str], signum: int) -> int:
    found = containers(ids)
    for path, container in found:
        with suppress(ProcessLookupError):
            os.killpg(container["pid"], signum)
        if signum == signal.SIGKILL:
            path.unlink(missing_ok=True)
    return 0 if found else 1


def main(verb: str, words: list[str]) -> int:
    if (STATE / "down").exists():
        return 1
    if verb == "run":
        return run(words)
    if verb == "ps":
        wanted = next(word.partition("=label=")[2] for word in words if word.startswith("--filter=label="))
        for path in STATE.glob("*.json"):
            with suppress(FileNotFoundError):
                if wanted in json.loads(path.read_text())["labels"]:
                    print(path.stem)
        return 0
    if verb in ("pause", "unpause") and (STATE / "no-pause").exists():
        return 125
    signals = {
        "pause": signal.SIGSTOP,
        "unpause": signal.SIGCONT,
        "kill": signal.SIGKILL,
        "rm": signal.SIGKILL,
    }
    return each(words, signals[verb])


sys.exit(main(sys.argv[2], sys.argv[3:]))
