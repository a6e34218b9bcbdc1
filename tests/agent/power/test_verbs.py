import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.power.refusal import Refusal
from agent.power.tools import NvidiaSmi, Nvpmodel
from agent.power.tree import Tree
from agent.power.units import JobUnits
from agent.power.verbs import MOST_REQUEST_BYTES, Verbs, parse
from tests.agent.power.machine import GPU, clocks_of, gpu_file, held_in, machine
from tests.agent.power.test_tools import NVIDIA_SMI, NVPMODEL, script


def verbs_of(folder: Path) -> Verbs:
    sys_root = machine(folder)
    held = held_in(folder)
    (folder / "mode").write_text("1\n")
    (folder / "limit").write_text("400.00\n")
    # A mode change writes the clocks anew, as the real one does.
    clocks = f"echo 918000000 >{gpu_file(sys_root)}"
    changed = NVPMODEL.replace('      echo "$2" >$here/mode', f'      echo "$2" >$here/mode; {clocks}')
    return Verbs(
        clocks=clocks_of(sys_root, held),
        units=JobUnits(Tree(folder / "cgroup")),
        nvpmodel=Nvpmodel(script(folder / "nvpmodel", changed), modes=frozenset({1, 2}), may_reboot=False),
        nvidia=NvidiaSmi(script(folder / "nvidia-smi", NVIDIA_SMI), held),
    )


def done(verbs: Verbs, verb: str, **fields: object) -> dict[str, object]:
    return verbs.carry_out(parse(json.dumps({"verb": verb, **fields}).encode()))


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        (b"", "malformed", "JSON"),
        (b"\xff\xfe", "malformed", "JSON"),
        (b"[" * 4000, "malformed", "JSON"),
        (b"[]", "malformed", "object"),
        (b"{}", "unknown_verb", "set_gpu_max_hz"),
        (b'{"verb": 1}', "unknown_verb", "verb"),
        (b'{"verb": "write"}', "unknown_verb", "verb"),
        (b'{"verb": "status", "path": "/etc/passwd"}', "unknown_field", "no fields"),
        (b'{"verb": "freeze"}', "missing_field", "freeze: unit"),
        (b'{"verb": "freeze", "unit": null}', "bad_field", "unit: expected text"),
        (b'{"verb": "set_gpu_max_hz", "device": "x"}', "missing_field", "hz"),
        (b'{"verb": "set_gpu_max_hz", "device": "x", "hz": true}', "bad_field", "hz"),
        (b'{"verb": "set_gpu_max_hz", "device": "x", "hz": 1.5}', "bad_field", "hz"),
        (b'{"verb": "set_gpu_max_hz", "device": "x", "hz": NaN}', "bad_field", "hz"),
        (b'{"verb": "set_gpu_max_hz", "device": "x", "hz": -1}', "bad_field", "hz"),
        (b'{"verb": "set_gpu_max_hz", "device": "x", "hz": 9999999999999}', "bad_field", "hz"),
        (b'{"verb": "set_nvpmodel", "mode": "1"}', "bad_field", "mode"),
        (b'{"verb": "set_nvpmodel", "mode": 1, "reboot": 1}', "bad_field", "reboot: expected true or false"),
    ],
)
def test_what_is_no_request_is_refused_by_name(line: bytes, code: str, word: str) -> None:
    with pytest.raises(Refusal, match=word) as refused:
        parse(line)
    assert refused.value.code == code


@given(st.binary(max_size=MOST_REQUEST_BYTES))
@example(b'{"verb":"status"}')
@settings(max_examples=100, deadline=None)
def test_bytes_are_a_request_or_a_refusal(line: bytes) -> None:
    try:
        parse(line)
    except Refusal as refusal:
        assert refusal.reason


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(
        ["set_gpu_max_hz", "set_cpu_max_hz", "set_gpu_power_w", "freeze", "restore", "status", 5]
    ),
    st.dictionaries(st.sampled_from(["device", "hz", "gpu", "watts", "unit", "full", "mode", "x"]), _JSON),
)
@settings(max_examples=100, deadline=None)
def test_whatever_the_fields_are_types_hold_after_parsing(verb: object, fields: dict[str, object]) -> None:
    try:
        request = parse(json.dumps({"verb": verb, **fields}).encode())
    except Refusal:
        return
    for name, value in request.values.items():
        wanted = {"device": str, "unit": str, "full": bool, "gpu": int, "mode": int}.get(
            name, (int, type(None))
        )
        assert isinstance(value, wanted)
        assert name in {"full", "reboot"} or type(value) is not bool


def test_status_reads_everything_back(tmp_path: Path) -> None:
    verbs = verbs_of(tmp_path)
    done(verbs, "set_gpu_max_hz", device=GPU, hz=600_000_000)
    status = done(verbs, "status")
    assert [(one["device"], one["max_hz"], one["writable"]) for one in status["gpus"]] == [  # type: ignore[attr-defined]
        (GPU, 510_000_000, True)
    ]
    assert [one["device"] for one in status["cpus"]] == ["policy0"]  # type: ignore[attr-defined]
    assert status["nvpmodel"] == {"mode": 1, "name": "MODE_1"}
    assert status["nvpmodel_allowed"] == [1, 2]
    assert [one["limit_w"] for one in status["nvidia"]] == [400.0, None]  # type: ignore[attr-defined]
    assert status["frozen"] == []


def test_caps_outlive_a_change_of_mode(tmp_path: Path) -> None:
    verbs = verbs_of(tmp_path)
    done(verbs, "set_gpu_max_hz", device=GPU, hz=408_000_000)
    assert done(verbs, "set_nvpmodel", mode=2) == {"mode": 2, "name": "MODE_2"}
    assert gpu_file(tmp_path / "sys").read_text() == "408000000\n"
    # Lifted to what the new mode allows, not to what the old one did.
    assert done(verbs, "set_gpu_max_hz", device=GPU, hz=None)["max_hz"] == 918_000_000


def test_restore_undoes_all_and_tells_what_it_could_not(tmp_path: Path) -> None:
    verbs = verbs_of(tmp_path)
    done(verbs, "set_gpu_max_hz", device=GPU, hz=1)
    done(verbs, "set_cpu_max_hz", device="policy0", hz=1)
    done(verbs, "set_gpu_power_w", gpu=0, watts=150)
    gpu_file(tmp_path / "sys", "available_frequencies").rename(tmp_path / "steps")
    answer = done(verbs, "restore")
    assert answer["faults"] == [f"{GPU}: does not say which clocks it has"]
    assert answer["cpus"][0]["max_hz"] == 1_728_000_000  # type: ignore[index]
    assert answer["nvidia"][0]["limit_w"] == 400  # type: ignore[index]
    (tmp_path / "steps").rename(gpu_file(tmp_path / "sys", "available_frequencies"))
    assert done(verbs, "restore")["faults"] == []
    assert int(gpu_file(tmp_path / "sys").read_text()) == 1_020_000_000
