"""The agent's configuration file as a target: production reader and structs, every reason on purpose.

`WRONG` has one or more ways to each fault that a table's own check can tell; what types and the reader refuse
is broken at random. `tests/hostile/test_config.py` holds that no check is left out.
"""

import copy
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from agent.config import AgentConfig
from sterna.config import load
from sterna.errors import ConfigError
from tests.hostile.mutants import flipped, junk, torn

Table = dict[str, Any]
GOOD = "GOOD"
TLS: Table = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
SITE: Table = {
    "fleet": "f",
    "site": "a",
    "state_dir": "state",
    "log_level": "info",
    "tls": TLS,
    "coordinator": {"address": "127.0.0.1:7400", "id": "main", "backoff_max_s": 5.0},
    "grid": {
        "operator": "dso",
        "failsafe_import_w": 4200.0,
        "failsafe_min_s": 7200.0,
        "exit_without_limit": "stay",
        "minimum_limit_w": 100.0,
        "trust_clock": "kernel",
        "mqtt": {"host": "127.0.0.1", "port": 1883, "insecure": True, "operator_keys": ["a.pub"]},
        "openadr": {
            "url": "https://vtn.example",
            "client_id": "c",
            "client_secret_file": "secret",
            "programs": ["p"],
            "level_limits_w": {"1": 8000.0},
        },
        "modbus": {
            "listen": "127.0.0.1:1502",
            "clients": ["127.0.0.0/8"],
            "writers": ["127.0.0.1"],
            "rated_import_w": 11000.0,
        },
        "relay": {"contacts": [{"name": "w4", "limit_w": 4200.0, "line": 3}]},
    },
    "buses": [
        {"name": "hall", "kind": "tcp", "host": "192.0.2.1"},
        {"name": "roof", "kind": "serial", "device": "/dev/ttyUSB0", "baudrate": 9600},
    ],
    "meters": [
        {"name": "grid", "role": "grid", "host": "192.0.2.2", "unit_id": 2},
        {"name": "pv", "role": "generation", "bus": "hall", "writable": ["generation-limit"]},
        {"name": "store", "role": "battery", "bus": "hall", "unit_id": 3, "writable": ["active-power"]},
        {"name": "oven", "role": "load", "kind": "registers", "table": "eastron-sdm630", "bus": "roof"},
        {"name": "other", "role": "load", "kind": "fake", "fake_power_w": 5.0},
    ],
    "setpoints": [
        {"rule": "export-limit", "meter": "pv", "rated_w": 5000.0, "export_limit_w": 3000.0},
        {"rule": "charge-surplus", "meter": "store", "control": "active-power", "max_charge_w": 3000.0},
    ],
    "gpu": {"kind": "fake", "idle_w": 60.0, "max_w": 500.0, "calibration": {"mode": "fixed", "factor": 1.5}},
    "jobs": {"slots": 2, "keep_checkpoints": 2},
    "containers": {"podman": ["podman"], "arguments": ["--init"], "mounts": {"data": {"path": "/srv/data"}}},
    "transfer": {"listen": "127.0.0.1:0"},
    "power": {"margin_w": 10.0, "follow": "surplus", "follow_pause_below_w": 50.0},
    "surplus": {"price_below_per_kwh": 0.0, "price_w": 5000.0, "curtailed_w": 3000.0},
    "settlement": {"interval_minutes": 15, "timezone": "Europe/Berlin"},
    "metrics": {"listen": "127.0.0.1:9464"},
    "home_assistant": {"host": "127.0.0.1", "port": 1883, "insecure": True},
}
FIXED: Table = {"rule": "fixed", "meter": "pv", "control": "generation-limit", "values": {"WMaxLimPct": 70.0}}
GPIO: Table = {"name": "c", "limit_w": 4200.0, "line": 1}

Break = Callable[[Table], None]


def _set(path: str, value: object) -> Break:
    """Return what puts a value at a path such as ``meters.0.host``; tables on the way are made."""
    *way, last = path.split(".")

    def put(document: Table) -> None:
        holder: Any = document
        for name in way:
            holder = holder[int(name)] if isinstance(holder, list) else holder.setdefault(name, {})
        holder[int(last) if isinstance(holder, list) else last] = copy.deepcopy(value)

    return put


def _drop(path: str) -> Break:
    *way, last = path.split(".")

    def drop(document: Table) -> None:
        holder: Any = document
        for name in way:
            holder = holder[int(name)] if isinstance(holder, list) else holder[name]
        del holder[last]

    return drop


def _all(*breaks: Break) -> Break:
    def put(document: Table) -> None:
        for each in breaks:
            each(document)

    return put


def _add(path: str, value: Table) -> Break:
    def put(document: Table) -> None:
        holder: Any = document
        for name in path.split("."):
            holder = holder[name]
        holder.append(copy.deepcopy(value))

    return put


def _each(table: str, keys: str, value: object, words: str) -> list[tuple[Break, str, str]]:
    return [(_set(f"{table}.{key}", value), f"{_shown(table)}.{key}", words) for key in keys.split()]


def _shown(table: str) -> str:
    return re.sub(r"\.(\d+)", r"[\1]", table)


MORE_THAN_ZERO, ZERO_OR_MORE = "expected more than zero", "expected zero or more"

WRONG: list[tuple[Break, str, str]] = [
    (_set("fleet", "Bad_Fleet"), "fleet", "is not made of"),
    (_set("site", "a/b"), "site", "is not made of"),
    (_set("coordinator.address", "203.0.113.1"), "coordinator.address", "expected host:port"),
    (_set("transfer.listen", "127.0.0.1"), "transfer.listen", "expected host:port"),
    (_set("transfer.advertise", "203.0.113.1"), "transfer.advertise", "expected host:port"),
    (_set("coordinator.id", "Main_1"), "coordinator.id", "is not made of"),
    (_set("coordinator.backoff_max_s", 0.0), "coordinator.backoff_max_s", MORE_THAN_ZERO),
    (_drop("tls"), "tls", "missing; give [tls]"),
    (_set("meters.0.name", "pv"), "meters", "two meters are named"),
    # lines
    (_set("buses.1.name", "hall"), "buses", "two buses are named"),
    (_add("buses", {"name": "twin", "kind": "tcp", "host": "192.0.2.1"}), "buses[2]", "leads where bus"),
    (_set("meters.1.bus", "cellar"), "meters[1].bus", "no bus is named"),
    (_set("meters.0.host", "192.0.2.1"), "meters[0].host", "leads there; say bus ="),
    (
        _add("meters", {"name": "x", "role": "load", "host": "192.0.2.2", "rtu_over_tcp": True}),
        "meters[5].rtu_over_tcp",
        "says otherwise",
    ),
    (_drop("buses.1.device"), "buses[1].device", "missing for a serial line"),
    (_set("buses.1.host", "h"), "buses[1].host", "a serial line has none"),
    (_set("buses.1.port", 5), "buses[1].port", "a serial line has none"),
    (_set("buses.0.host", ""), "buses[0].host", "missing for a tcp bus"),
    (_set("buses.0.device", "/dev/x"), "buses[0].device", "is for serial lines"),
    (_set("buses.0.kind", "tls"), "buses[0].tls", "go together with kind"),
    (_set("buses.0.tls", TLS), "buses[0].tls", "go together with kind"),
    (_set("buses.0.port", 70000), "buses[0].port", "expected 1 to 65535"),
    (_set("buses.1.baudrate", 0), "buses[1].baudrate", MORE_THAN_ZERO),
    (_set("buses.0.timeout_s", 0.0), "buses[0].timeout_s", MORE_THAN_ZERO),
    (_set("buses.0.min_gap_s", 6.0), "buses[0].min_gap_s", "expected 0 to 5"),
    # meters
    (_drop("meters.0.host"), "meters[0].host", "missing for a sunspec meter"),
    (_set("meters.1.host", "h"), "meters[1].bus", "says already where the meter is"),
    (_set("meters.3.writable", ["active-power"]), "meters[3].writable", "has no controls"),
    (_drop("meters.3.table"), "meters[3].table", "needs one of table and table_file"),
    (_set("meters.0.port", 0), "meters[0].port", "expected 1 to 65535"),
    (_set("meters.0.unit_id", 248), "meters[0].unit_id", "expected 0 to 247"),
    (_set("meters.0.battery", {}), "meters[0].battery", "the meter has the role"),
    *_each("meters.0", "poll_interval_s timeout_s max_power_w", 0.0, MORE_THAN_ZERO),
    # set-points
    (_set("setpoints.0.meter", "nobody"), "setpoints[0].meter", "no meter is named"),
    (_set("meters.1.writable", []), "setpoints[0].meter", "lacks writable ="),
    (_add("setpoints", FIXED), "setpoints[2]", "has two set-points for"),
    (_set("meters.0.role", "load"), "setpoints[0]", "needs a meter of the role grid"),
    (_set("meters.1.role", "load"), "setpoints[0].meter", "has the role load"),
    (_set("setpoints.0.reversion_s", 5), "setpoints[0].reversion_s", "expected 10 to 3600"),
    (_set("setpoints.0.rated_w", 0.0), "setpoints[0].rated_w", MORE_THAN_ZERO),
    (_set("setpoints.0.rise_w_per_s", -1.0), "setpoints[0].rise_w_per_s", MORE_THAN_ZERO),
    (_set("setpoints.1.max_charge_w", 0.0), "setpoints[1].max_charge_w", MORE_THAN_ZERO),
    (_set("setpoints.1.min_charge_w", 0.0), "setpoints[1].min_charge_w", MORE_THAN_ZERO),
    *_each("setpoints.0", "export_limit_w band_w grace_s", -1.0, ZERO_OR_MORE),
    (_set("setpoints.1.min_charge_w", 4000.0), "setpoints[1].min_charge_w", "is more than max_charge_w"),
    (_set("setpoints.0", FIXED | {"values": {"W": 1.0}}), "setpoints[0].values", "takes WMaxLimPct"),
    (
        _set("setpoints.0", FIXED | {"values": {"WMaxLimPct": 101.0}}),
        "setpoints[0].values.WMaxLimPct",
        "expected 0 to 100",
    ),
    # grid
    (_drop("grid.mqtt"), "grid.mqtt", "missing for operator"),
    *_each(
        "grid",
        "failsafe_import_w failsafe_min_s minimum_limit_w local_limit_w clock_skew_s",
        -1.0,
        ZERO_OR_MORE,
    ),
    (_set("grid.telemetry_period_s", 5.0), "grid.telemetry_period_s", "expected 1 to 4"),
    (_set("grid.operator", "a/b"), "grid.operator", "part of a topic"),
    (_set("grid.minimum_limit_w", 5000.0), "grid.relay.contacts", "asks for less than minimum_limit_w"),
    (_set("grid.heartbeat_timeout_s", 0.0), "grid.heartbeat_timeout_s", MORE_THAN_ZERO),
    (_drop("grid.mqtt.insecure"), "grid.mqtt.tls", "missing; give its table"),
    (_set("grid.mqtt.tls", {"cert": "c"}), "grid.mqtt.tls", "cert and key go together"),
    (_set("grid.mqtt.host", "broker.example"), "grid.mqtt.insecure", "plaintext is for loopback only"),
    (_set("grid.mqtt.port", -1), "grid.mqtt.port", "expected 1 to 65535"),
    (_set("grid.mqtt.session_expiry_s", -1), "grid.mqtt.session_expiry_s", "expected 0 to"),
    (_set("grid.mqtt.report_interval_s", 5.0), "grid.mqtt.report_interval_s", "expected 0 or 60 to 900"),
    (_drop("grid.openadr.client_id"), "grid.openadr.client_secret_file", "go together"),
    (_set("grid.openadr.level_limits_w.4", 1.0), "grid.openadr.level_limits_w", "levels are"),
    (_set("grid.openadr.poll_period_s", 61.0), "grid.openadr.poll_period_s", "polls are heartbeats"),
    (_set("grid.modbus.listen", "0.0.0.0:502"), "grid.modbus.listen", "no wildcard"),
    (_set("grid.modbus.clients", ["somewhere"]), "grid.modbus.clients", "does not appear to be"),
    (_set("grid.modbus.writers", ["10.0.0.1/8"]), "grid.modbus.writers", "has host bits set"),
    (_set("grid.modbus.clients", []), "grid.modbus.clients", "nobody may connect"),
    (
        _set("grid.modbus", SITE["grid"]["modbus"] | {"tls": TLS, "writer_roles": []}),
        "grid.modbus.writer_roles",
        "no role may write",
    ),
    (_set("grid.modbus.unit_id", 256), "grid.modbus.unit_id", "expected 0 to 255"),
    (_set("grid.modbus.idle_s", 59.0), "grid.modbus.idle_s", "expected 60 or more"),
    *_each("grid.modbus", "rated_import_w rated_export_w", 0.0, "expected more than 0"),
    *_each("grid.modbus", "failsafe_export_w", -1.0, ZERO_OR_MORE),
    *_each("grid.mqtt", "failsafe_export_w", -1.0, ZERO_OR_MORE),
    *_each("grid.openadr", "failsafe_export_w", -1.0, ZERO_OR_MORE),
    (
        _all(_set("grid.mqtt.failsafe_export_w", 1.0), _drop("setpoints")),
        "grid.mqtt.failsafe_export_w",
        "nothing obeys it",
    ),
    (
        _all(_set("grid.mqtt.failsafe_export_w", 1.0), _set("grid.operator", "none")),
        "grid.mqtt.failsafe_export_w",
        "nobody's silence counts",
    ),
    (
        _all(_set("grid.modbus.failsafe_export_w", 1.0), _set("grid.modbus.writers", [])),
        "grid.modbus.failsafe_export_w",
        "nobody's silence counts",
    ),
    (
        _all(_set("grid.modbus.failsafe_export_w", 1.0), _drop("setpoints")),
        "grid.modbus.failsafe_export_w",
        "nothing obeys it",
    ),
    (_set("grid.relay.contacts", []), "grid.relay.contacts", "expected 1 to"),
    (_set("grid.relay.contacts", [GPIO, GPIO]), "grid.relay.contacts", "two contacts are named"),
    (_set("grid.relay.debounce_s", 11.0), "grid.relay.debounce_s", "expected 0 to 10"),
    (_set("grid.relay.poll_period_s", 0.0), "grid.relay.poll_period_s", "expected 0.05 to 5"),
    (_set("grid.relay.contacts.0.limit_w", -1.0), "grid.relay.contacts[0].limit_w", ZERO_OR_MORE),
    (_drop("grid.relay.contacts.0.line"), "grid.relay.contacts[0].line", "missing for kind"),
    (_set("grid.relay.contacts.0.path", "p"), "grid.relay.contacts[0].path", "not for kind"),
    (_set("grid.relay.contacts.0.line", -1), "grid.relay.contacts[0].line", ZERO_OR_MORE),
    (
        _set("grid.relay.contacts.0.complement_line", 3),
        "grid.relay.contacts[0].complement_line",
        "is the same line",
    ),
    (_drop("home_assistant.insecure"), "home_assistant.tls", "missing; give its table"),
    (_set("home_assistant.tls", {"key": "k"}), "home_assistant.tls", "cert and key go together"),
    (_set("home_assistant.host", "h.example"), "home_assistant.insecure", "plaintext is for loopback only"),
    (_set("home_assistant.port", 0), "home_assistant.port", "expected 1 to 65535"),
    (_set("home_assistant.period_s", 0.5), "home_assistant.period_s", "expected 1 to 300"),
    (_set("home_assistant.discovery_prefix", "a/#"), "home_assistant.discovery_prefix", "part of a topic"),
    # node
    (_set("gpu.fake_rail_frac", 0.0), "gpu.fake_rail_frac", MORE_THAN_ZERO),
    (_set("gpu.calibration.factor", 4.0), "gpu.calibration.factor", "expected 1.0 to 3.0"),
    (_set("gpu.calibration.min_step_w", 0.0), "gpu.calibration.min_step_w", MORE_THAN_ZERO),
    (_set("gpu.idle_w", -1.0), "gpu.idle_w", ZERO_OR_MORE),
    (_set("gpu.max_w", 0.0), "gpu.max_w", "expected more than idle_w"),
    (_set("jobs.slots", -1), "jobs.slots", ZERO_OR_MORE),
    (_set("jobs.checkpoint_interval_s", -1.0), "jobs.checkpoint_interval_s", ZERO_OR_MORE),
    (_set("jobs.keep_checkpoints", 1), "jobs.keep_checkpoints", "at least the last two"),
    (_drop("containers.podman"), "containers.podman", "no engine is named"),
    (_set("containers.mounts.data.path", "data"), "containers.mounts.data.path", "expected an absolute path"),
    *_each("power", "control_period_s ramp_up_w_per_s ramp_down_w_per_s", 0.0, MORE_THAN_ZERO),
    *_each("power", "margin_w meter_lag_s follow_hold_s", -1.0, ZERO_OR_MORE),
    (_set("power.follow", "off"), "power.follow_pause_below_w", "has no meaning"),
    (_set("settlement.timezone", "Europe/Atlantis"), "settlement.timezone", "no time zone"),
    (_set("settlement.timezone", "../../etc/passwd"), "settlement.timezone", "no time zone"),
    (_set("settlement.look_back_days", 0), "settlement.look_back_days", "expected 1 to 366"),
    *_each("settlement", "adjust_up_frac adjust_down_frac", 1.5, "expected 0 to 1"),
    (_set("surplus.price_w", 0.0), "surplus.price_w", "how many watts"),
    (_drop("surplus.price_below_per_kwh"), "surplus.price_below_per_kwh", "below which price"),
    (_set("surplus.curtailed_w", 0.0), "surplus.curtailed_w", MORE_THAN_ZERO),
    (_set("surplus", {}), "surplus.price_below_per_kwh", "give a price"),
    (_drop("grid.openadr"), "surplus.price_below_per_kwh", "nobody tells prices"),
    (
        _all(
            _drop("grid.openadr"),
            _set("surplus", {"curtailed_w": 3000.0}),
            _drop("setpoints"),
        ),
        "surplus.curtailed_w",
        "nobody limits the export",
    ),
    (_set("metrics.listen", "nowhere"), "metrics.listen", "expected ADDRESS:PORT"),
    (_set("metrics.listen", "192.0.2.1:9464"), "metrics.tls", "plaintext is for loopback only"),
]
"""How a sound file is spoilt, the key that the fault must name, and words of it."""

FOR_READER: list[tuple[Break, str, str]] = [
    (_set("setpoints.1.rule", "never"), "setpoints[1].rule", "unknown 'never'"),
    (_set("meters.0.role", "inverter"), "meters[0].role", "invalid enum value"),
    (_set("tls.key", "$CREDENTIALS_DIRECTORY/k"), "tls.key", "is not set"),
    (
        _set("grid.openadr.client_secret_file", "$CREDENTIALS_DIRECTORY/s"),
        "grid.openadr.client_secret_file",
        "is not set",
    ),
]
"""The same for what chance alone seldom makes the reader of the file say."""

BY_READER = {
    "UNREADABLE": "cannot read: ",
    "NOT_UTF8": "not UTF-8 at byte",
    "UNKNOWN_KEY": ": unknown key",
    "MISSING": ": missing",
    "UNKNOWN_KIND": ": unknown '",
    "NOT_FINITE": "must be a finite number",
    "WRONG_TYPE": ": expected ",
    "NO_CREDENTIALS": "$CREDENTIALS_DIRECTORY is not set",
    "WRONG_CHOICE": "invalid enum value",
}
TOML = "TOML_SYNTAX"


def reason(key: str, words: str) -> str:
    """Name a fault by its key, numbers of items left out, and its words."""
    return re.sub(r"\[\d+\]", "", key) + ": " + words


class ConfigTarget:
    """Bad configurations; what was read before stays what it was."""

    name = "config"
    reasons = frozenset(BY_READER) | {TOML} | {reason(key, words) for _, key, words in WRONG}

    def __init__(self, folder: Path) -> None:
        self._path = folder / "agent.toml"
        self._folder = folder
        self._sound = msgspec.toml.encode(SITE)
        self._path.write_bytes(self._sound)
        self._held = load(self._path, AgentConfig)

    def state(self) -> object:
        """Return the configuration that holds, and what lies in its folder."""
        return self._held, sorted(path.name for path in self._folder.iterdir())

    async def offer(self, rng: random.Random) -> str:
        """Give one bad file."""
        kind = rng.random()
        if kind < 0.6:
            spoil, key, words = told = rng.choice(WRONG + FOR_READER)
            document = copy.deepcopy(SITE)
            spoil(document)
            said = self._refusal(msgspec.toml.encode(_thinned(document, key, rng)))
            expected = f"agent.toml: {key}: "
            meant = [line for line in said or () if line.startswith(expected) and words in line]
            if not meant:
                raise AssertionError(f"{said} instead of {key}: {words}")
            return _by_reader(meant[0]) if told in FOR_READER else reason(key, words)
        if kind < 0.7:
            said = self._refusal(rng.choice((torn, flipped, _cut_line))(self._sound, rng))
        elif kind < 0.9:
            document = copy.deepcopy(SITE)
            _spoil(document, rng)
            said = self._refusal(msgspec.toml.encode(document))
        else:
            said = self._refusal(rng.choice((junk(rng, 60), b"\xff\xfe" + junk(rng, 9), None)))
        return GOOD if said is None else _by_reader(said[0])

    def _refusal(self, payload: bytes | None) -> list[str] | None:
        """Return the lines of the refusal; None: the file is good."""
        path = self._path
        if payload is None:
            path = self._folder / "missing" / "agent.toml"
        else:
            path.write_bytes(payload)
        try:
            load(path, AgentConfig)
        except ConfigError as error:
            lines = str(error).splitlines()
            assert lines and all("agent.toml: " in line for line in lines), lines
            return lines
        return None


def _by_reader(line: str) -> str:
    for name, words in BY_READER.items():
        if words in line:
            return name
    for _, key, words in WRONG:
        if words in line:
            return reason(key, words)
    return TOML


def _thinned(document: Table, key: str, rng: random.Random) -> Table:
    """Return a document without most of what the fault at a key does not need, in any order."""
    root, *rest = re.split(r"[.\[]", key)
    needed = {"fleet", "site", "state_dir", "tls", "grid", root}
    needed |= {"buses", "meters", "setpoints"} if root in ("buses", "meters", "setpoints") else set()
    needed |= {"coordinator"} if root == "tls" else set()
    kept = [name for name in document if name in needed or rng.random() < 0.2]
    rng.shuffle(kept)
    thin = {name: document[name] for name in kept}
    rest += ["openadr"] if "surplus" in thin else []  # which needs it
    for name in ("openadr", "modbus", "relay"):
        if name not in rest and rng.random() < 0.8:
            thin["grid"].pop(name, None)
    return thin


def _cut_line(payload: bytes, rng: random.Random) -> bytes:
    lines = payload.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(pairs):
        yield value, key
        yield from _places(item)


def _spoil(document: Table, rng: random.Random) -> None:
    """Change something at random: another type, another figure, no key, a key that nobody knows."""
    holder, key = rng.choice(list(_places(document)))
    values = (
        "",
        "x" * 300,
        "\x00",
        "$CREDENTIALS_DIRECTORY/k",
        0,
        -1,
        2**62,
        1e308,
        float("nan"),
        float("inf"),
        True,
        [],
        [{}],
        {},
        {"kind": "sunspec"},
        [{"rule": "never"}],
    )
    kind = rng.randrange(4)
    if kind == 0 and isinstance(holder, dict):
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice((f"{key}x", "", "tls", "\u2603", "kind"))] = rng.choice(values)
    else:
        holder[key] = rng.choice(values)


@asynccontextmanager
async def config_target(folder: Path) -> AsyncIterator[ConfigTarget]:
    """Read a sound configuration, then offer bad ones."""
    yield ConfigTarget(folder)
