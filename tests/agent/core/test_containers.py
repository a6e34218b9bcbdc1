"""Which containers run at a site, and by what command."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.containers import ContainerRules, Folder, Placing, env_line, run_argv
from agent.model.jobs import ContainerSpec

RULES = ContainerRules(
    engines={"podman": ("/usr/bin/podman", "--log-level=error"), "docker": ("docker",)},
    arguments=("--runtime", "nvidia"),
    folders={"data": Folder(path="/srv/data"), "scratch": Folder(path="/srv/scratch", read_only=False)},
    devices=("nvidia.com/gpu=*",),
    user="1000:1000",
)
PLACING = Placing(
    name="sterna-j-3-r1",
    labels=("sterna.job=a/j", "sterna.run=r1"),
    shared_dir="/var/lib/sterna-agent/jobs/j/runs/r1/shared",
    package_dir="/opt/sterna/sterna",
    env_file="/var/lib/sterna-agent/jobs/j/runs/r1/environment",
    working_dir="",
    stop_signal="TERM",
    stop_grace_s=30.0,
)


def image(**fields: object) -> ContainerSpec:
    return ContainerSpec(**({"image": "pytorch:2"} | fields))  # type: ignore[arg-type]


def test_the_whole_command() -> None:
    container = image(
        engine="podman",
        mounts={"scratch": "/scratch", "data": "/data"},
        devices=("nvidia.com/gpu=0",),
        network="none",
        arguments=("--shm-size", "1g"),
    )
    rules = ContainerRules(
        engines=RULES.engines,
        arguments=RULES.arguments,
        folders=RULES.folders,
        user="1000:1000",
        keep_id=True,
        any_arguments=True,
    )
    run = "/var/lib/sterna-agent/jobs/j/runs/r1"
    assert run_argv(container, rules, PLACING, ["python3", "train.py"]) == [
        *("/usr/bin/podman", "--log-level=error", "run", "--rm", "--name=sterna-j-3-r1"),
        *("--label=sterna.job=a/j", "--label=sterna.run=r1", "--log-driver=none", "--init"),
        *("--stop-signal=SIGTERM", "--stop-timeout=30", "--userns=keep-id", "--user=1000:1000"),
        f"--env-file={run}/environment",
        f"--mount=type=bind,source={run}/shared,target=/sterna/run",
        "--mount=type=bind,source=/opt/sterna/sterna,target=/sterna/python/sterna,readonly",
        "--mount=type=bind,source=/srv/data,target=/data,readonly",
        "--mount=type=bind,source=/srv/scratch,target=/scratch",
        *("--device=nvidia.com/gpu=0", "--network=none", "--workdir=/sterna/run"),
        *("--runtime", "nvidia", "--shm-size", "1g", "pytorch:2", "python3", "train.py"),
    ]


@pytest.mark.parametrize(
    ("engine", "has", "has_not"),
    [
        ("docker", "--log-driver=none", "--userns=keep-id"),
        ("nerdctl", "--user=0:0", "--log-driver=none"),
        ("podman", "--userns=keep-id", "--workdir=/"),
    ],
)
def test_what_engines_differ_in(engine: str, has: str, has_not: str) -> None:
    rules = ContainerRules(engines={engine: (engine,)}, user="0:0", keep_id=True, with_init=False)
    words = run_argv(image(), rules, PLACING, ["x"])
    assert has in words
    assert has_not not in words
    assert "--init" not in words
    assert words[-2:] == ["pytorch:2", "x"]


def test_little_is_said_where_nothing_is_known() -> None:
    rules = ContainerRules(engines={"nerdctl": ("nerdctl",)})
    placing = Placing(**{name: getattr(PLACING, name) for name in PLACING.__slots__} | {"working_dir": "/w"})
    words = run_argv(image(), rules, placing, [])
    assert not any(word.startswith("--user") for word in words)
    assert "--workdir=/w" in words


@pytest.mark.parametrize(
    ("container", "said"),
    [
        (image(), ""),
        (image(engine="docker"), ""),
        (image(mounts={"data": "/data"}, devices=("nvidia.com/gpu=all",)), ""),
        (image(network="none"), ""),
        (image(engine="nerdctl"), "container.engine: nerdctl is asked for, this site has podman, docker"),
        (image(image=""), "container.image: '' is no image"),
        (image(image="--privileged"), "container.image: '--privileged' is no image"),
        (image(mounts={"etc": "/etc"}), "container.mounts: this site has no folder 'etc' for containers"),
        (image(mounts={"data": "data"}), "container.mounts: 'data' is no absolute path"),
        (
            image(mounts={"data": "/d,readonly=false"}),
            "container.mounts: '/d,readonly=false' is no absolute path",
        ),
        (image(devices=("/dev/sda",)), "container.devices: this site does not give '/dev/sda' to containers"),
        (image(arguments=("--privileged",)), "container.arguments: this site takes none of a job"),
        (image(network="host"), "container.network: this site does not share 'host' with jobs"),
        (image(network="container:x"), "container.network: this site does not share 'container:x' with jobs"),
    ],
)
def test_obstacles(container: ContainerSpec, said: str) -> None:
    assert RULES.obstacle(container) == said


def test_a_site_may_trust_its_jobs() -> None:
    rules = ContainerRules(engines={"docker": ("docker",)}, any_arguments=True)
    assert rules.obstacle(image(arguments=("--privileged",), network="host")) == ""


def test_a_site_without_engines_runs_none() -> None:
    said = "container.engine: any is asked for, this site has none"
    assert ContainerRules(engines={}).obstacle(image()) == said


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=12)


@given(
    st.builds(
        ContainerSpec,
        image=WORDS,
        engine=st.sampled_from(["", "podman", "docker"]),
        mounts=st.dictionaries(st.sampled_from(["data", "scratch"]), WORDS.map("/".__add__)),
        devices=st.lists(WORDS.map("nvidia.com/gpu=".__add__)).map(tuple),
        network=WORDS,
    ),
    st.lists(WORDS),
)
def test_a_job_adds_no_option(container: ContainerSpec, program: list[str]) -> None:
    """Whatever a job says where it may give no arguments, it is no option by itself."""
    if RULES.obstacle(container):
        return
    words = run_argv(container, RULES, PLACING, program)
    cut = len(words) - len(program) - 1
    assert words[cut] == container.image
    plain = run_argv(image(engine=container.engine), RULES, PLACING, [])
    more = [word for word in words[:cut] if word not in plain]
    assert all(word.startswith(("--mount=type=bind,", "--device=", "--network=")) for word in more)
    for word in more:
        if word.startswith("--mount="):
            assert word.count("readonly") <= 1
            assert word.count(",target=") == word.count(",source=") == 1


def test_variables() -> None:
    assert env_line("A", " b=c #") == "A= b=c #\n"
    with pytest.raises(ValueError, match=r"env\['A'\]: no container engine takes"):
        env_line("A", "b\nc")
