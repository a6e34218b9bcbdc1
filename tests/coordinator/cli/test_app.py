"""The command's shape, in process: help, completion, certificates, and what is not loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.cli.app import app
from coordinator.cli.client import ClientConfig, default_config_path, read_client_config
from coordinator.cli.jobfile import read_job_file
from sterna.clock import SystemClock
from sterna.errors import ConfigError
from sterna.identity import Role, load_credentials
from sterna.v1 import job_pb2
from tests.coordinator.cli.conftest import COMMAND, environment

JOB_FILE = Path(__file__).parents[3] / "examples" / "job.toml"


@pytest.mark.parametrize(
    "words", [[], ["job"], ["site"], ["pki"], ["job", "submit"], ["watch"], ["demo"], ["pki", "issue"]]
)
def test_help(words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize("words", [[], ["job"], ["site"], ["pki"], ["forecast"], ["ledger"]])
def test_every_command_is_named_with_a_whole_sentence(words: list[str]) -> None:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"})
    assert "..." not in result.output.partition("Commands:")[2]


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "import coordinator.cli.app\n"
        "heavy = {'grpc', 'rich', 'google', 'msgspec', 'numpy', 'cryptography', 'sqlalchemy', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    env = environment(
        _STERNA_COMPLETE=f"complete_{shell}",
        COMP_WORDS="sterna job ex",
        COMP_CWORD="2",
        _TYPER_COMPLETE_ARGS="sterna job ex",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    done = subprocess.run([COMMAND], env=env, capture_output=True, text=True, check=False, timeout=30)
    assert "explain" in done.stdout
    assert done.stderr == ""


def test_completion_installs(tmp_path: Path) -> None:
    env = environment(HOME=str(tmp_path), SHELL="/bin/bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    done = subprocess.run(
        [COMMAND, "--install-completion", "bash"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0
    assert "_STERNA_COMPLETE" in (tmp_path / ".bash_completions" / "sterna.sh").read_text()


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output.startswith("sterna 0.")


def test_certificates_of_a_fleet(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    made = CliRunner().invoke(app, ["pki", "init", "tern", "--dir", str(folder), "--json"])
    authority = json.loads(made.output)
    assert (authority["schema"], authority["kind"]) == ("sterna.cli/1", "certificate")
    assert authority["data"]["identity"] is None
    issued = CliRunner().invoke(app, ["pki", "issue", "operator", "ann", "--dir", str(folder), "--json"])
    data = json.loads(issued.output)["data"]
    credentials = load_credentials(
        ca_file=Path(data["ca"]),
        cert_file=Path(data["certificate"]),
        key_file=Path(data["key"]),
        now=SystemClock().now(),
    )
    assert (credentials.identity.role, credentials.identity.name) == (Role.OPERATOR, "ann")
    assert data["identity"] == credentials.identity.uri
    again = CliRunner().invoke(app, ["pki", "issue", "operator", "ann", "--dir", str(folder)])
    assert isinstance(again.exception, ConfigError)


def test_the_example_is_a_job() -> None:
    spec = read_job_file(JOB_FILE)
    assert spec.name == "fit-a-line"
    assert spec.stop_grace.seconds == 30
    assert not spec.HasField("min_residence")


def test_a_job_file_with_everything(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(
        'name = "n"\nargv = ["a"]\nresume_argv = ["b"]\nworking_dir = "/x"\ncheckpoint_glob = "*"\n'
        'stop_signal = "INT"\nstop_grace_s = 1.5\npower_w = 2.5\ncheckpoint_bytes = 3\n'
        'on_partition = "stop"\nflexibility = "flex_2"\n'
        'may_migrate = false\nmin_residence_s = 4.0\nhome_site = "h"\nload_s = 5.0\ndeclared_work_s = 6.0\n'
        'stays = ["cache/*"]\n'
        '[env]\nA = "1"\n'
        '[container]\nimage = "i"\nengine = "podman"\nmounts = {d = "/d"}\ndevices = ["e"]\n'
        'network = "none"\narguments = ["-x"]\n'
    )
    wanted = job_pb2.JobSpec(
        name="n",
        argv=["a"],
        resume_argv=["b"],
        env={"A": "1"},
        working_dir="/x",
        checkpoint_glob="*",
        stop_signal="INT",
        power_w=2.5,
        checkpoint_bytes=3,
        on_partition=job_pb2.ON_PARTITION_STOP,
        flexibility=job_pb2.FLEXIBILITY_FLEX_2,
        may_migrate=False,
        home_site="h",
        stays=["cache/*"],
        container=job_pb2.ContainerSpec(
            image="i", engine="podman", mounts={"d": "/d"}, devices=["e"], network="none", arguments=["-x"]
        ),
    )
    wanted.stop_grace.FromMilliseconds(1500)
    wanted.min_residence.FromSeconds(4)
    wanted.load_time.FromSeconds(5)
    wanted.declared_work.FromSeconds(6)
    assert read_job_file(file) == wanted


@pytest.mark.parametrize(
    ("line", "at", "after_s"),
    [
        ("deadline_at = 2030-01-01T06:00:00Z", 1893477600, None),
        ("deadline_at = 2030-01-01T06:00:00+02:00", 1893470400, None),
        ("deadline_after_s = 90.0", None, 90),
    ],
)
def test_a_deadline_in_a_job_file(tmp_path: Path, line: str, at: int | None, after_s: int | None) -> None:
    file = tmp_path / "job.toml"
    file.write_text(f"{line}\n{JOB_FILE.read_text()}")
    spec = read_job_file(file)
    assert (spec.deadline_at.seconds if spec.HasField("deadline_at") else None) == at
    assert (spec.deadline_after.seconds if spec.HasField("deadline_after") else None) == after_s


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("deadline_at = 2030-01-01T06:00:00", "deadline_at: .*timezone"),
        ('deadline_at = "tomorrow"', "deadline_at: "),
        ("deadline_after_s = -1.0", "deadline_after_s: expected zero to"),
        (
            "deadline_at = 2030-01-01T06:00:00Z\ndeadline_after_s = 1.0",
            "deadline_after_s: expected one deadline",
        ),
    ],
)
def test_a_deadline_that_is_none(tmp_path: Path, lines: str, fault: str) -> None:
    file = tmp_path / "job.toml"
    file.write_text(f"{lines}\n{JOB_FILE.read_text()}")
    with pytest.raises(ConfigError, match=rf"job\.toml: {fault}"):
        read_job_file(file)


def test_a_job_of_several_replicas_is_refused_not_run_as_one(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(JOB_FILE.read_text() + "\n[replicas]\nleast = 2\nmost = 4\n")
    with pytest.raises(ConfigError, match=r"job\.toml: replicas: unknown key"):
        read_job_file(file)


def test_where_the_configuration_is_looked_for() -> None:
    assert default_config_path({"STERNA_CLIENT_CONFIG": "/a/b.toml"}) == Path("/a/b.toml")
    assert default_config_path({"XDG_CONFIG_HOME": "/c"}) == Path("/c/sterna/client.toml")
    assert default_config_path({}) == Path.home() / ".config" / "sterna" / "client.toml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('coordinator = "h:1"\nfleet = "f"\n', "tls: missing"),
        ('coordinator = "h:1"\nfleet = "F!"\ninsecure = true\n', "fleet, coordinator_id:"),
        ('coordinator = "h:1"\nfleet = "f"\ninsecure = true\nidentity = "ann"\n', "identity: 'ann' is not"),
        (
            'coordinator = "h:1"\nfleet = "f"\ninsecure = true\n[tls]\nca = "a"\ncert = "b"\nkey = "c"\n',
            "insecure: set together with [tls]",
        ),
        ('coordinator = "h:1"\nfleet = "f"\ninsecure = true\nfleat = "x"\n', "fleat: unknown key"),
    ],
)
def test_faults_of_the_configuration(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "client.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"client\.toml") as caught:
        read_client_config(path)
    assert words in str(caught.value)


def test_the_least_configuration(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    path.write_text('coordinator = "127.0.0.1:1"\nfleet = "f"\ninsecure = true\n')
    assert read_client_config(path) == ClientConfig(coordinator="127.0.0.1:1", fleet="f", insecure=True)


@pytest.mark.parametrize(
    ("module", "missing", "words"),
    [
        ("coordinator.cli.app", "typer", []),
        ("coordinator.main", "sqlalchemy", ["run", "--config", "{config}"]),
    ],
)
def test_without_the_extra_one_line_says_which(
    tmp_path: Path, module: str, missing: str, words: list[str]
) -> None:
    config = tmp_path / "coordinator.toml"
    config.write_text('fleet = "f"\ninsecure = true\nlisten = "127.0.0.1:0"\n[[sites]]\nid = "a"\n')
    script = f"import sys; sys.modules[{missing!r}] = None; from {module} import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *(word.format(config=config) for word in words)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1 and "pip install 'sterna[coordinator]'" in done.stderr


def test_the_demo_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.cli.demo._OF_THE_EXTRA", ("json", "no_such_thing"))
    with pytest.raises(ConfigError, match=r"no no_such_thing: the demo needs its extra"):
        CliRunner().invoke(app, ["demo"], catch_exceptions=False)
