"""REST answers that are not what they should be, and what the VTN's notifier may be."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from agent.grid.openadr_http import HttpClient, Response
from agent.grid.openadr_mqtt import MqttNotifier
from agent.grid.openadr_rest import PAGE, RestVtn
from sterna.clock import FakeClock
from sterna.errors import ConfigError, PeerProtocolError, TransientError

URL = "https://vtn.example/openadr3/3.1.0"


class Canned(HttpClient):
    """Answers from a table of path to JSON; what it lacks is 404."""

    def __init__(self, answers: Mapping[str, object], status: int = 200) -> None:
        super().__init__()
        self.answers = dict(answers)
        self.status = status
        self.asked: list[str] = []

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        path = url.removeprefix(URL)
        self.asked.append(path)
        answer = self.answers.get(path, self.answers.get(path.partition("?")[0]))
        if answer is None:
            return Response(status=404, headers={}, body=b"<html>")
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return Response(status=self.status, headers={"retry-after": "soon"}, body=payload)


def client(answers: Mapping[str, object], *, status: int = 200, secret: str | None = None) -> RestVtn:
    return RestVtn(
        url=URL,
        client_id=None if secret is None else "ven",
        client_secret=secret,
        http=Canned(answers, status),
        clock=FakeClock(datetime(2026, 1, 1, tzinfo=UTC)),
    )


async def test_a_vtn_for_anybody_needs_no_token() -> None:
    vtn = client({"/programs": [{"id": "p1", "programName": "flex"}]})
    assert await vtn.token() is None
    assert vtn.client_id is None
    assert [program.name for program in await vtn.programs()] == ["flex"]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({}, r"GET https://vtn\.example/openadr3/3\.1\.0/auth/server: 404"),
        ({"/auth/server": {}}, "auth/server: tokenURL: not a string"),
        (
            {"/auth/server": {"tokenURL": "http://elsewhere/token"}},
            "tokenURL: http://elsewhere/token: plaintext",
        ),
        ({"/auth/server": {"tokenURL": f"{URL}/t"}, "/t": {"token": "x"}}, "/t: access_token: not a string"),
        (
            {"/auth/server": {"tokenURL": f"{URL}/t"}, "/t": {"access_token": "a\r\nb"}},
            "access_token: has letters",
        ),
        (
            {"/auth/server": {"tokenURL": f"{URL}/t"}, "/t": {"access_token": "a", "expires_in": "1h"}},
            "expires_in: not a number",
        ),
    ],
)
async def test_a_token_that_cannot_be_had_names_url_and_field(answers: dict[str, object], words: str) -> None:
    with pytest.raises(PeerProtocolError, match=words):
        await client(answers, secret="s").events()


async def test_a_secret_without_a_name_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="go together"):
        RestVtn(
            url=URL,
            client_id=None,
            client_secret="s",
            http=HttpClient(),
            clock=FakeClock(datetime(2026, 1, 1, tzinfo=UTC)),
        )


async def test_documents_that_cannot_be_read_name_url_and_field() -> None:
    with pytest.raises(PeerProtocolError, match=r"/programs: \[1\]\.programName: not a string"):
        await client({"/programs": [{"programName": "a"}, {}]}).programs()
    with pytest.raises(PeerProtocolError, match="/events: document: not JSON"):
        await client({"/events": b"<html>"}).events()
    with pytest.raises(PeerProtocolError, match="expected the object"):
        await client({"/vens": []}).create_ven({})


async def test_a_retry_after_that_is_no_number_is_none() -> None:
    with pytest.raises(TransientError, match="503") as refusal:
        await client({"/events": {}}, status=503).events()
    assert refusal.value.retry_after_s is None


async def test_a_vtn_that_knows_no_pages_is_read_once() -> None:
    full = [{"id": f"e{n}", "programID": "p"} for n in range(PAGE)]
    assert len(await client({"/events": full}).events()) == PAGE


@pytest.mark.parametrize(
    "notifiers",
    [{"WEBHOOK": True}, {"MQTT": {"URIS": []}}],
)
async def test_a_vtn_that_does_not_notify_over_mqtt_is_polled(notifiers: object) -> None:
    pokes: list[int] = []
    vtn = client({"/notifiers": notifiers})
    await MqttNotifier(vtn=vtn, client_id="c").run("v", lambda: pokes.append(1))
    assert pokes == []


async def test_a_vtn_without_topics_for_us_is_polled() -> None:
    topics = "/notifiers/mqtt/topics/vens/v%2F1"
    answers: dict[str, object] = {"/notifiers": {"MQTT": {"URIS": ["mqtt://127.0.0.1"]}}}
    answers |= {f"{topics}/{name}": {"topics": {}} for name in ("events", "programs")}
    await MqttNotifier(vtn=client(answers), client_id="c").run("v/1", lambda: None)
