"""docs/mqtt.md says what the code does: examples are read, reasons listed, the signature is verified."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.config import AgentConfig
from agent.core.commands import Accepted, Rules, judge, parse_limit
from agent.core.offers import Prospectus, PublicOffer
from agent.core.operator import ConfigBounds, Heartbeat, parse_config, parse_heartbeat
from agent.grid import wire
from agent.grid.signing import OperatorSeal
from agent.model.grid import Ack, AckStatus, OperatorConfig, Reason, Refusal
from agent.model.limits import Envelope, GridState, Limit
from agent.model.readings import Quality, SitePower
from agent.model.telemetry import FlexibilityOffer
from sterna.config import load
from sterna.errors import ConfigError
from sterna.signing import load_verifier

PAGE = (Path(__file__).parents[3] / "docs/mqtt.md").read_text(encoding="utf-8")
NOW = datetime(2026, 11, 22, 10, 6, tzinfo=UTC)


def section(title: str) -> str:
    return re.split(r"^#{2,3} ", PAGE.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def example(title: str, kind: str = "json") -> str:
    return fences(title, kind)[0]


def fences(title: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", section(title), flags=re.DOTALL)


def test_the_limit_is_accepted_as_it_stands() -> None:
    request = parse_limit(example("`limit`").encode())
    assert not isinstance(request, Refusal)
    verdict = judge(
        request, source="mqtt", rules=Rules(site="site-a"), last=None, now=NOW - timedelta(minutes=5)
    )
    assert isinstance(verdict, Accepted)
    assert (verdict.command.value_w, verdict.command.ramp_s) == (4200.0, 20.0)
    listed = re.findall(r"^\| `(\w+)` \|", section("`limit`"), flags=re.MULTILINE)
    assert set(listed) == set(json.loads(example("`limit`")))


def test_heartbeat_and_settings_are_taken_as_they_stand() -> None:
    sent_at = datetime(2026, 11, 22, 10, 0, 10, tzinfo=UTC)
    beat = parse_heartbeat(example("`heartbeat`").encode(), last=None, now=sent_at)
    assert beat == Heartbeat(number=8812, sent_at=sent_at)
    config = parse_config(example("`config`").encode(), ConfigBounds())
    assert isinstance(config, OperatorConfig)
    assert None not in (config.failsafe_import_w, config.failsafe_min_s, config.heartbeat_timeout_s)
    assert config.issued_at == datetime(2026, 11, 22, 9, tzinfo=UTC)


def test_what_the_site_says_has_the_fields_of_the_page() -> None:
    power = SitePower(
        measured_at=NOW,
        quality=Quality.OK,
        grid_w=3980.0,
        generation_w=650.0,
        available_w=None,
        battery_w=0.0,
        compute_w=2100.0,
        site_load_w=None,
        surplus_w=None,
    )
    limit = Limit(
        source="mqtt",
        command_id="7d1e0c52",
        limit_w=4200.0,
        start_at=NOW,
        end_at=NOW + timedelta(seconds=540),
        ramp_s=20.0,
        reason="",
    )
    envelope = Envelope(state=GridState.LIMITED, limits=(limit,))
    export = replace(limit, source="mqtt-export", limit_w=6000.0, end_at=None)
    ack = Ack(
        source="mqtt",
        command_id="7d1e0c52",
        sequence=1287,
        status=AckStatus.ACCEPTED,
        at=datetime(2026, 11, 22, 10, 0, 0, 105_000, tzinfo=UTC),
        applied_w=4200.0,
    )
    snapshot = wire.SiteSnapshot(power=power, achievable_min_w=1800.0, achievable_max_w=9200.0)
    snapshot = replace(snapshot, exports=(export,), soc_frac=0.62, frequency_hz=49.98)
    written = wire.encode_status(envelope, snapshot, sequence=1287, export_sequence=88, now=NOW)
    status = json.loads(written)
    assert json.loads(example("`status`")) == {**status, "ageS": 0.6}
    assert json.loads(example("`ack`")) == json.loads(wire.encode_ack(ack))
    assert json.loads(example("`telemetry`")) == json.loads(wire.encode_telemetry(snapshot, power))
    assert json.loads(example("`heartbeat/site`")) == json.loads(wire.encode_mirror(17, envelope, NOW))
    assert wire.encode_offline().decode() in section("The link")


def test_the_offers_have_the_fields_of_the_page() -> None:
    shown = json.loads(example("`offers`"))
    (one,) = shown["offers"]
    offer = FlexibilityOffer(
        offer_id=one["id"],
        start_at=NOW,
        duration_s=900.0,
        reduction_w=800.0,
        jobs=2,
        cost_job_s=1800.0,
        steps_at_risk=212,
        shifted_wh=200.0,
    )
    told = Prospectus(
        offers=(PublicOffer(offer=offer, power_w=790.0, limit_w=2020.0),),
        expires_at=NOW + timedelta(minutes=5),
        import_w=2810.0,
    )
    assert shown == json.loads(wire.encode_offers(told, NOW))
    listed = re.findall(r"^\| (`.*?`) \|", section("`offers`"), flags=re.MULTILINE)
    names = {name for cell in listed for name in re.findall(r"`(\w+)`", cell)}
    assert names | {"v", "t", "offers"} == {*shown, *one}


def test_the_report_is_json_with_the_figures_of_one_interval() -> None:
    [interval] = json.loads(example("`report`"))["resources"][0]["intervals"]
    told = {each["type"]: each["values"][0] for each in interval["payloads"]}
    assert told["USAGE"] == pytest.approx(told["DEMAND"] * 300 / 3600, abs=1e-6)


def test_every_reason_and_every_status_is_listed_and_no_other() -> None:
    reasons = re.findall(r"^\| `(\w+)` \|", section("Why something is refused"), flags=re.MULTILINE)
    assert sorted(reasons) == sorted(reason.value for reason in Reason)
    statuses = re.findall(r"^\| `(\w+)` \|", section("`ack`"), flags=re.MULTILINE)
    assert sorted(statuses) == sorted(status.value for status in AckStatus)


def test_the_signature_of_the_page_is_good(tmp_path: Path) -> None:
    signed, pem = fences("Signatures", "text")
    (tmp_path / "dso-x.pub").write_text(pem)
    topic, _, form = signed.rstrip("\n").partition("\n")
    seal = OperatorSeal(keys=[load_verifier(tmp_path / "dso-x.pub")], base_topic="dr/v1/dso-x/site-a")
    assert topic == "dr/v1/dso-x/site-a/limit"
    payload = example("Signatures")
    assert seal.check("limit", payload.encode()) is None
    message = json.loads(payload)
    assert json.loads(form) == {name: value for name, value in message.items() if name != "sig"}
    assert seal.check("limit", json.dumps({**message, "valueW": 4201}).encode()) is not None


def load_with(folder: Path, change: tuple[str, str] = ("\n", "\n")) -> AgentConfig:
    """Load a configuration with the page's tables, one line of them changed."""
    text = example("The link", "toml")
    assert change[0] in text
    path = folder / "agent.toml"
    path.write_text('fleet = "f"\nsite = "site-a"\nstate_dir = "state"\n' + text.replace(*change, 1))
    return load(path, AgentConfig)


def test_the_configuration_of_the_page_is_good(tmp_path: Path) -> None:
    grid = load_with(tmp_path).grid
    assert grid.mqtt is not None
    assert grid.mqtt.operator_keys == (Path("dso-x.pub"),)


@pytest.mark.parametrize(
    ("line", "instead", "fault"),
    [
        ("port = 8883", "port = 0", "grid.mqtt.port"),
        ('key = "site-a-mqtt-key.pem"', "", "grid.mqtt.tls"),
        ("port = 8883", "insecure = true", "grid.mqtt.insecure"),
        ("session_expiry_s = 3600", "session_expiry_s = -1", "grid.mqtt.session_expiry_s"),
        ("report_interval_s = 300.0", "report_interval_s = 30.0", "grid.mqtt.report_interval_s"),
        ("telemetry_period_s = 1.0", "telemetry_period_s = 5.0", "grid.telemetry_period_s"),
        ('operator = "dso-x"', 'operator = "dso/x"', "grid.operator"),
        ('operator = "dso-x"', 'operator = ""', "grid.operator"),
    ],
)
def test_a_fault_names_its_key(tmp_path: Path, line: str, instead: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=f"{re.escape(fault)}: "):
        load_with(tmp_path, (line, instead))
