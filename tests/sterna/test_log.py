import io
import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sterna import log as sterna_log


@pytest.fixture(autouse=True)
def root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # pytest's own handlers would be closed by setup().
    root.handlers[:] = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(style: sterna_log.Style, **extra: object) -> str:
    stream = io.StringIO()
    sterna_log.setup("info", style, stream=stream)
    logging.getLogger("agent.grid.mqtt").info("limit accepted", extra=extra)
    return stream.getvalue()


def test_text_is_a_line_for_people() -> None:
    line = logged("text", limit_w=4200, id="a b", reason='x\n12:00 INFO "forged"', ratio=None)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} INFO  agent\.grid\.mqtt limit accepted  "
        r'limit_w=4200 id="a b" reason="x\\n12:00 INFO \\"forged\\"" ratio=None\n',
        line,
    )


def test_text_without_fields_ends_with_the_sentence() -> None:
    assert logged("text").endswith(" limit accepted\n")


def test_json_is_one_object_a_line() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    line = logged("json", limit_w=4200, at=at, path=Path("/x"), ratio=float("nan"), loops=["a"], until=at)
    document = json.loads(line)
    assert datetime.fromisoformat(document["at"]) != at
    assert document | {"at": None} == {
        "at": None,
        "level": "INFO",
        "logger": "agent.grid.mqtt",
        "message": "limit accepted",
        "limit_w": 4200,
        "path": "/x",
        "ratio": None,
        "loops": ["a"],
        "until": "2026-01-01T00:00:00+00:00",
    }


@pytest.mark.parametrize("style", ["text", "json"])
def test_tracebacks_come_along(style: sterna_log.Style) -> None:
    stream = io.StringIO()
    sterna_log.setup("INFO", style, stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("it failed", extra={"job_id": "j"})
    text = stream.getvalue()
    assert "ValueError: broken" in text
    assert "Traceback" in text
    if style == "json":
        assert json.loads(text)["job_id"] == "j"


def test_the_level_counts_and_a_second_setup_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    sterna_log.setup("DEBUG", "text", stream=first)
    sterna_log.setup("warning", "text", stream=second)
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def fields(datagram: bytes) -> dict[str, str]:
    """Read journald's native form back."""
    found: dict[str, str] = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
        found[name.decode()] = value.decode()
        datagram = rest
    return found


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(5)
        monkeypatch.setattr(sterna_log, "JOURNAL_SOCKET", path)
        yield server


def test_journald_gets_every_field(journald: socket.socket) -> None:
    sterna_log.setup("INFO", "journal")
    logging.getLogger("agent.jobs").error(
        "job ended", extra={"job_id": "j-1", "why": "a\nb", "_priority": 0, "odd-key": 1, "x" * 80: 2}
    )
    found = fields(journald.recv(65536))
    assert found["MESSAGE"] == "job ended"
    assert found["PRIORITY"] == "3"
    assert found["LOGGER"] == "agent.jobs"
    assert found["JOB_ID"] == "j-1"
    assert found["WHY"] == "a\nb"
    assert found["ODD_KEY"] == "1"
    assert found["X" * 64] == "2"
    assert found["CODE_FUNC"] == "test_journald_gets_every_field"
    assert not [name for name in found if name.startswith("_")]


def test_a_record_too_long_for_a_datagram_arrives_as_a_sealed_file(journald: socket.socket) -> None:
    sterna_log.setup("INFO", "journal")
    logging.getLogger("x").info("long", extra={"payload": "y" * 4_000_000})
    data, descriptors, _, _ = socket.recv_fds(journald, 65536, 4)
    assert data == b""
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)
        found = fields(file.read())
    assert len(found["PAYLOAD"]) == 4_000_000


def test_without_journald_the_daemon_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sterna_log, "JOURNAL_SOCKET", tmp_path / "nobody")
    sterna_log.setup("INFO", "journal")
    logging.getLogger("x").info("lost")
    assert "FileNotFoundError" in capsys.readouterr().err


def test_auto_is_the_journal_only_when_this_stream_is_connected_to_it(
    journald: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stderr").open("w+") as stream:
        monkeypatch.setenv("JOURNAL_STREAM", "1:2")
        sterna_log.setup("INFO", "auto", stream=stream)
        logging.getLogger("x").info("to the stream")
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        sterna_log.setup("INFO", "auto", stream=stream)
        logging.getLogger("x").info("to the journal")
        stream.seek(0)
        assert stream.read().endswith("x to the stream\n")
    assert fields(journald.recv(65536))["MESSAGE"] == "to the journal"
