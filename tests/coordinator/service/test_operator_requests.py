"""Specs as operators send them: each fault by its field, and nothing lost on the way."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from coordinator.model.job import ContainerSpec, Flexibility, JobSpec, OnPartition, SlowRange
from coordinator.service.operator_requests import (
    ARGUMENT_BYTES_MAX,
    DURATION_S_MAX,
    job_spec,
    request_id_faults,
)
from coordinator.service.wire import job_spec as message_of
from sterna.v1 import job_pb2

SITES = frozenset({"kiel", "malaga"})


def good(**changes) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(**{"name": "bert", "argv": ["python3", "train.py"], "power_w": 100.0, **changes})


def in_container(**changes) -> job_pb2.JobSpec:
    return good(container=job_pb2.ContainerSpec(**{"image": "i", **changes}))


def with_duration(field: str, seconds: int) -> job_pb2.JobSpec:
    spec = good()
    getattr(spec, field).seconds = seconds
    return spec


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (job_pb2.JobSpec(), ["spec.name", "spec.argv"]),
        (good(slow=job_pb2.SlowRange()), ["spec.slow.power_frac"]),
        (good(slow=job_pb2.SlowRange(power_frac=0.6, speed_frac=0.5)), ["spec.slow.speed_frac"]),
        (good(slow=job_pb2.SlowRange(power_frac=0.6, speed_frac=0.8), power_w=0.0), ["spec.slow"]),
        (good(name="a\nb"), ["spec.name"]),
        (good(name="x" * 129), ["spec.name"]),
        (good(argv=[]), ["spec.argv"]),
        (good(argv=["", "x"]), ["spec.argv"]),
        (good(argv=["a", "b\0c"]), ["spec.argv[1]"]),
        (good(resume_argv=[""]), ["spec.resume_argv"]),
        (good(resume_argv=["a", "\0"]), ["spec.resume_argv[1]"]),
        (good(argv=["a", "x" * ARGUMENT_BYTES_MAX]), ["spec.argv"]),
        (good(env={"A B": "1"}), ["spec.env['A B']"]),
        (good(env={"": "1"}), ["spec.env['']"]),
        (good(env={"1A": "1"}), ["spec.env['1A']"]),
        (good(env={"A=B": "1"}), ["spec.env['A=B']"]),
        (good(env={"STERNA_EPOCH": "9"}), ["spec.env['STERNA_EPOCH']"]),
        (good(env={"A": "x\0"}), ["spec.env['A']"]),
        (good(working_dir="here"), ["spec.working_dir"]),
        (good(working_dir="/a/../b"), ["spec.working_dir"]),
        (good(checkpoint_glob="/etc/*"), ["spec.checkpoint_glob"]),
        (good(checkpoint_glob="../*.npz"), ["spec.checkpoint_glob"]),
        (good(checkpoint_glob="a/../../b"), ["spec.checkpoint_glob"]),
        (good(stays=["a/*", "", "../x", "/y"]), ["spec.stays[1]", "spec.stays[2]", "spec.stays[3]"]),
        (good(stop_signal="SIGTERM"), ["spec.stop_signal"]),
        (good(stop_signal="KILL"), ["spec.stop_signal"]),
        (good(power_w=-1.0), ["spec.power_w"]),
        (good(power_w=float("nan")), ["spec.power_w"]),
        (good(power_w=float("inf")), ["spec.power_w"]),
        (good(checkpoint_bytes=2**63), ["spec.checkpoint_bytes"]),
        (good(on_partition=17), ["spec.on_partition"]),
        (good(flexibility=17), ["spec.flexibility"]),
        (good(home_site="atlantis"), ["spec.home_site"]),
        (in_container(image=""), ["spec.container.image"]),
        (in_container(image="--privileged"), ["spec.container.image"]),
        (in_container(image="a b"), ["spec.container.image"]),
        (in_container(engine="lxc"), ["spec.container.engine"]),
        (in_container(mounts={"../etc": "/x"}), ["spec.container.mounts['../etc']"]),
        (in_container(mounts={"data": "x"}), ["spec.container.mounts['data']"]),
        (in_container(mounts={"data": "/a/../.."}), ["spec.container.mounts['data']"]),
        (in_container(mounts={"data": "/a,b"}), ["spec.container.mounts['data']"]),
        (in_container(mounts={"data": "/"}), ["spec.container.mounts['data']"]),
        (in_container(mounts={"data": "/sterna/run"}), ["spec.container.mounts['data']"]),
        (in_container(devices=["a", "-b"]), ["spec.container.devices[1]"]),
        (in_container(network="-n"), ["spec.container.network"]),
        (in_container(arguments=["x", "a\0"]), ["spec.container.arguments[1]"]),
        (in_container(arguments=["x"] * 257), ["spec.container.arguments"]),
        (in_container(arguments=["x" * ARGUMENT_BYTES_MAX]), ["spec.argv"]),
        (good(env={"A": "b\nc"}, container=job_pb2.ContainerSpec(image="i")), ["spec.env['A']"]),
        (with_duration("stop_grace", -1), ["spec.stop_grace"]),
        (with_duration("min_residence", -1), ["spec.min_residence"]),
        (with_duration("load_time", DURATION_S_MAX + 1), ["spec.load_time"]),
        (with_duration("declared_work", 2**62), ["spec.declared_work"]),
        (good(deadline_at=Timestamp(seconds=9)), ["spec.deadline_at"]),
        (good(declared_work=Duration(), deadline_at=Timestamp(seconds=2**40)), ["spec.deadline_at"]),
        (good(deadline_after=Duration(seconds=9)), ["spec.deadline_after"]),
        (good(declared_work=Duration(), deadline_after=Duration(seconds=-9)), ["spec.deadline_after"]),
        (good(declared_work=Duration(), deadline_after=Duration(seconds=2**40)), ["spec.deadline_after"]),
    ],
)
def test_each_fault_names_its_field(spec: job_pb2.JobSpec, fields: list[str]) -> None:
    faults = job_spec(spec, SITES)
    assert not isinstance(faults, JobSpec)
    assert [fault.field for fault in faults] == fields
    assert all(fault.text for fault in faults)


def test_what_is_absent_gets_the_protos_defaults() -> None:
    spec = job_spec(good(), SITES)
    assert isinstance(spec, JobSpec)
    assert (spec.stop_signal, spec.stop_grace_s, spec.on_partition) == (
        "TERM",
        30.0,
        OnPartition.KEEP_RUNNING,
    )
    assert (spec.min_residence_s, spec.load_s, spec.declared_work_s) == (None, None, None)
    assert spec.flexibility is Flexibility.FLEX_3


def test_an_unknown_home_names_the_sites_there_are() -> None:
    faults = job_spec(good(home_site="atlantis"), SITES)
    assert isinstance(faults, tuple)
    assert faults[0].text.endswith("known sites: kiel, malaga")


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
names = st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True)
containers = st.builds(
    ContainerSpec,
    image=names,
    engine=st.sampled_from(["", "podman", "docker", "nerdctl"]),
    mounts=st.dictionaries(names, names.map("/".__add__), max_size=3),
    devices=st.lists(names, max_size=3).map(tuple),
    network=st.sampled_from(["", "none"]),
    arguments=st.lists(words, max_size=3).map(tuple),
)


def on_one_line(spec: JobSpec) -> JobSpec:
    """No container engine takes a variable of two lines."""
    if spec.container is None:
        return spec
    return replace(spec, env={name: value.replace("\n", " ") for name, value in spec.env.items()})


seconds = st.none() | st.integers(0, 10**9).map(lambda micros: micros / 1e6)


@given(
    st.builds(
        JobSpec,
        name=st.from_regex(r"[ -~]{1,30}", fullmatch=True),
        argv=st.lists(words.filter(bool), min_size=1, max_size=4).map(tuple),
        resume_argv=st.lists(words.filter(bool), max_size=3).map(tuple),
        env=st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), words, max_size=3),
        working_dir=st.sampled_from(["", "/srv/jobs"]),
        checkpoint_glob=st.sampled_from(["", "*.npz", "a/**/b"]),
        stop_signal=st.sampled_from(["TERM", "INT", "USR1"]),
        stop_grace_s=seconds.filter(lambda value: value is not None),
        power_w=st.floats(0, 1e9, exclude_min=True),
        checkpoint_bytes=st.integers(0, 2**63 - 1),
        on_partition=st.sampled_from(OnPartition),
        may_migrate=st.booleans(),
        min_residence_s=seconds,
        home_site=st.sampled_from(["", "kiel"]),
        load_s=seconds,
        declared_work_s=seconds,
        flexibility=st.sampled_from(Flexibility),
        container=st.none() | containers,
        slow=st.none() | st.builds(SlowRange, power_frac=st.floats(0.1, 0.9), speed_frac=st.floats(0.9, 1.0)),
        stays=st.lists(names, max_size=3).map(tuple),
    ).map(on_one_line)
)
def test_a_spec_survives_the_wire(spec: JobSpec) -> None:
    wire = job_pb2.JobSpec.FromString(message_of(spec).SerializeToString())
    assert job_spec(wire, SITES) == spec


@pytest.mark.parametrize(
    "deadline",
    [
        {"deadline_at": datetime(2030, 1, 1, 6, tzinfo=UTC)},
        {"deadline_after_s": 0.0},
        {"deadline_after_s": 9.5},
    ],
)
def test_a_deadline_survives_the_wire(deadline: dict[str, Any]) -> None:
    spec = JobSpec(name="n", argv=("a",), declared_work_s=1.0, **deadline)
    assert job_spec(job_pb2.JobSpec.FromString(message_of(spec).SerializeToString()), SITES) == spec


@pytest.mark.parametrize(
    ("request_id", "usable"), [("", False), ("a", True), ("x" * 64, True), ("x" * 65, False), ("a\n", False)]
)
def test_request_ids(request_id: str, usable: bool) -> None:
    assert (request_id_faults(request_id) == ()) is usable
