"""The hooks as a program meets them: a real interpreter, started as a job is; the library is a stand-in.

What the real libraries make of them is in tests/trainers.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.jobs.launch import HOOKS
from agent.shim import files

STAND_INS = Path(__file__).parent / "stand_ins"
SCRIPT = """
import sys
from pathlib import Path
from transformers.trainer import Trainer
trainer = Trainer(output_dir="out", steps={steps}, every={every}, step_s={step_s}, evaluate_s={evaluate_s})
trainer.args.save_only_model = {light}
{before}
trainer.train({arguments})
Path("after").write_text(str(trainer.state.global_step))
{after}
"""


def script(**values: object) -> str:
    plain = {"steps": 5, "every": 0, "step_s": 0.0, "evaluate_s": 0.0, "light": False}
    return SCRIPT.format(**{**plain, "before": "", "arguments": "", "after": "", **values})


class Program:
    """A program in a folder of its own, as a job or not."""

    def __init__(self, folder: Path, version: str = "5.23.0") -> None:
        self.folder = folder
        self.library = folder / "library"
        (self.library / f"transformers-{version}.dist-info").mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n"
        (self.library / f"transformers-{version}.dist-info" / "METADATA").write_text(metadata)

    def start(
        self, text: str, *, job: bool = True, resume: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        ours = {
            "STERNA_JOB_ID": "j1",
            "STERNA_EPOCH": "1",
            "STERNA_CHECKPOINT_DIR": str(self.folder),
            "STERNA_RESUME_FROM": str(resume or ""),
            "STERNA_STOP_FILE": str(self.folder / "stop.json"),
            "STERNA_RESULT_FILE": str(self.folder / "result.json"),
        }
        path = os.pathsep.join(map(str, (HOOKS, self.library, STAND_INS)))
        return subprocess.Popen(
            [sys.executable, "-c", text],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path} | (ours if job else {}) | dict(env or {}),
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, text: str, **keywords: object) -> tuple[int, str]:
        process = self.start(text, **keywords)  # type: ignore[arg-type]
        _, errors = process.communicate(timeout=30)
        return process.returncode, errors

    def read(self, name: str) -> dict[str, object]:
        record = files.read_record(str(self.folder), name)
        assert record is not None
        return record

    def wait(self, name: str) -> None:
        deadline_s = files.boottime_s() + 20
        while not (self.folder / name).exists():
            assert files.boottime_s() < deadline_s, f"{name} in time"
            time.sleep(0.01)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_runs_to_its_end(program: Program) -> None:
    assert program.run(script(every=2)) == (0, "")
    assert program.read("result.json") == {
        "outcome": "completed",
        "step": 5,
        "checkpoint": {"path": str(program.folder / "out" / "checkpoint-4"), "step": 4},
    }
    assert program.read("progress.json")["start_step"] == 0


@pytest.mark.parametrize(
    ("values", "marker"),
    [
        ({"step_s": 0.02, "steps": 10_000, "light": True}, "progress.json"),
        ({"evaluate_s": 60.0}, "evaluating"),
    ],
)
@pytest.mark.parametrize("by_file", [True, False])
def test_stops_with_a_checkpoint_and_goes_on(
    program: Program, values: dict[str, object], marker: str, by_file: bool
) -> None:
    with program.start(script(**values)) as process:
        program.wait(marker)
        if by_file:
            files.write_record(str(program.folder), files.STOP, {"reason": "moves"})
        else:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 85
    assert not (program.folder / "after").exists()
    result = program.read("result.json")
    step = int(str(result["step"]))
    path = program.folder / "out" / f"checkpoint-{step}"
    assert result == {"outcome": "stopped", "step": step, "checkpoint": {"path": str(path), "step": step}}
    assert (path / "optimizer.pt").exists(), "all that a resume needs, whatever the script saves by itself"
    (program.folder / files.STOP).unlink(missing_ok=True)
    assert program.run(script(steps=step + 3), resume=path)[0] == 0
    assert program.read("progress.json")["start_step"] == step
    assert program.read("result.json")["outcome"] == "completed"


@pytest.mark.parametrize(
    ("job", "env"),
    [(False, {}), (True, {"NO_STERNA_HOOKS": "1"}), (True, {"STERNA_RESULT_FILE": ""})],
)
def test_without_our_variables_nothing_is_different(program: Program, job: bool, env: dict[str, str]) -> None:
    text = script(after="print(Trainer.train.__code__.co_filename.endswith('trainer.py'), file=sys.stderr)")
    assert program.run(text, job=job, env=env) == (0, "True\n")
    assert not (program.folder / "result.json").exists()


@pytest.mark.parametrize(("version", "known"), [("4.45.2", False), ("4.46.0", True), ("6.0.0", False)])
def test_a_version_that_is_not_known_is_said_and_left_alone(
    tmp_path: Path, version: str, known: bool
) -> None:
    program = Program(tmp_path, version)
    code, errors = program.run(script())
    assert code == 0
    assert (f"transformers {version} is not known to these hooks" in errors) is not known
    assert (program.folder / "result.json").exists() is known


def test_a_hook_that_fails_leaves_the_script_alone(program: Program) -> None:
    text = "import transformers.trainer_utils as u; del u.get_last_checkpoint\n"
    folder = program.folder / "broken" / "transformers"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "trainer.py").write_text("class Other: ...\n")
    path = os.pathsep.join(map(str, (HOOKS, program.library, folder.parent)))
    code, errors = program.run("import transformers.trainer", env={"PYTHONPATH": path})
    assert code == 0
    assert "transformers.trainer is not hooked, the script runs as it is" in errors
    assert program.run(text)[0] == 0


@pytest.mark.parametrize(
    ("after", "code", "outcome"),
    [("", 0, "completed"), ("raise ValueError('evaluation')", 1, None)],
)
def test_done_only_when_the_code_after_the_training_is(
    program: Program, after: str, code: int, outcome: str | None
) -> None:
    assert program.run(script(after=after))[0] == code
    record = files.read_record(str(program.folder), files.RESULT)
    assert (record and record["outcome"]) == outcome


def checkpoint(folder: Path, step: int, *, whole: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "pytorch_model.bin").write_text("weights")
    if whole:
        (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


@pytest.mark.parametrize("arguments", ["True", "", "get_last_checkpoint('out')"])
def test_an_incomplete_checkpoint_is_set_aside(program: Program, arguments: str) -> None:
    checkpoint(program.folder / "out", 2)
    checkpoint(program.folder / "out", 4, whole=False)
    checkpoint(program.folder / "out", 3, whole=False)
    (program.folder / "out" / "incomplete-checkpoint-3").mkdir()
    before = "from transformers.trainer_utils import get_last_checkpoint"
    code, errors = program.run(script(before=before, arguments=arguments))
    assert code == 0, errors
    assert errors.count("is not complete (trainer_state.json is missing)") == 2
    assert sorted(path.name for path in (program.folder / "out").iterdir()) == [
        "checkpoint-2",
        "incomplete-checkpoint-3",
        "incomplete-checkpoint-3.2",
        "incomplete-checkpoint-4",
    ]
    assert program.read("progress.json")["start_step"] == (2 if arguments else 0)


@pytest.mark.parametrize(
    ("arguments", "start_step"),
    [("", 3), ("False", 3), ("True", 3), ("get_last_checkpoint('out')", 3), ("'out/checkpoint-2'", 2)],
)
def test_where_it_goes_on(program: Program, arguments: str, start_step: int) -> None:
    """From what Sterna brought, unless the script names another itself."""
    checkpoint(program.folder / "out", 2)
    brought = checkpoint(program.folder / "resume", 3)
    before = "from transformers.trainer_utils import get_last_checkpoint"
    code, errors = program.run(script(before=before, arguments=arguments), resume=brought)
    assert code == 0, errors
    assert program.read("progress.json")["start_step"] == start_step


def test_only_the_first_training_is_the_jobs(program: Program) -> None:
    code, errors = program.run(script(after="Trainer(output_dir='b', steps=9).train()"))
    assert code == 0
    assert "only the first training of a process" in errors
    assert program.read("result.json")["step"] == 5


def test_a_script_with_its_own_signal_handler_keeps_it(program: Program) -> None:
    before = "import signal; signal.signal(signal.SIGTERM, lambda *_: Path('heard').touch())"
    with program.start(script(before=before, steps=10_000, step_s=0.02)) as process:
        program.wait("progress.json")
        process.send_signal(signal.SIGTERM)
        program.wait("heard")
        assert process.poll() is None, "its own handler does not end it"
        files.write_record(str(program.folder), files.STOP, {"reason": "moves"})
        assert process.wait(20) == 85


def test_a_python_without_sterna_finds_it_and_another_sitecustomize_runs_too(program: Program) -> None:
    (program.library / "sitecustomize.py").write_text("import sys; sys.theirs = True\n")
    text = "from sterna import job; print(sys.theirs, job.current().job_id, job.__file__, file=sys.stderr)"
    path = os.pathsep.join(map(str, (HOOKS, program.library)))
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(HOOKS)!r}); import sitecustomize; {text}",
        ],
        env={"PYTHONPATH": path, "STERNA_JOB_ID": "j1", "STERNA_RESULT_FILE": str(program.folder / "r.json")},
        cwd=program.folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stderr.split() == ["True", "j1", str(HOOKS.parents[1] / "job.py")]
