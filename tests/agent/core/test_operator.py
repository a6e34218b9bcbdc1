import json
from datetime import UTC, datetime, timedelta

import pytest

from agent.core.failsafe import FailsafeSettings
from agent.core.operator import ConfigBounds, Heartbeat, configured, parse_config, parse_heartbeat
from agent.model.grid import OperatorConfig, Reason, Refusal

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def beat(number: object, offset_s: float) -> bytes:
    return json.dumps({"n": number, "t": (NOW + timedelta(seconds=offset_s)).isoformat()}).encode()


LAST = Heartbeat(number=10, sent_at=NOW - timedelta(seconds=10))


@pytest.mark.parametrize(
    ("payload", "synced", "expected"),
    [
        (beat(11, 0), True, 11),
        (beat(0, 0), True, 0),
        (beat(11, -10), True, 11),
        (beat(10, -10), True, Reason.STALE_SEQUENCE),
        (beat(9, -20), True, Reason.STALE_SEQUENCE),
        (beat(11, -61), True, Reason.TOO_OLD),
        (beat(11, 61), True, Reason.FUTURE_ISSUE),
        (beat(11, 86_400), False, 11),
        (beat("x", 0), True, Reason.MALFORMED),
        (b"", True, Reason.MALFORMED),
    ],
)
def test_a_heartbeat_is_a_fresh_sign_of_life(payload: bytes, synced: bool, expected: object) -> None:
    heard = parse_heartbeat(payload, last=LAST, now=NOW, clock_synced=synced)
    assert (heard.reason if isinstance(heard, Refusal) else heard.number) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, OperatorConfig()),
        ({"failsafeImportW": 4200, "subscriptionW": 15_000}, OperatorConfig(failsafe_import_w=4200.0)),
        (
            {"heartbeatTimeoutS": 60, "failsafeMinS": 7200},
            OperatorConfig(heartbeat_timeout_s=60.0, failsafe_min_s=7200.0),
        ),
        ({"heartbeatTimeoutS": 601}, "heartbeatTimeoutS"),
        ({"failsafeMinS": 60}, "failsafeMinS"),
        ({"failsafeImportW": -1}, "failsafeImportW"),
        ({"failsafeImportW": 9001}, "failsafeImportW"),
        ({"failsafeImportW": float("nan")}, "failsafeImportW"),
        ([], "message"),
    ],
)
def test_settings_hold_only_within_bounds(body: object, expected: object) -> None:
    config = parse_config(json.dumps(body).encode(), ConfigBounds(failsafe_import_max_w=9000.0))
    assert (config.field if isinstance(config, Refusal) else config) == expected


def test_the_operators_settings_lie_over_the_sites_own() -> None:
    site = FailsafeSettings(failsafe_import_w=4200.0)
    assert configured(site, None) is site
    over = configured(site, OperatorConfig(failsafe_import_w=0.0, heartbeat_timeout_s=60.0))
    assert (over.failsafe_import_w, over.heartbeat_timeout_s, over.failsafe_min_s) == (0.0, 60.0, 7200.0)
