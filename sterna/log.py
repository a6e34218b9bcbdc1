"""Where log records go: journald with fields, a terminal, or JSON lines. Set up once, by `main`.

Everybody logs fixed sentences and hands the figures over in ``extra``; all three forms keep those fields, so
that ``journalctl JOB_ID=…`` finds a job. Text and JSON go to standard error; standard output is for data.
"""

import errno
import json
import logging
import math
import os
import re
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

Style = Literal["auto", "text", "json", "journal"]

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")

# syslog(3) severities.
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.DEBUG, 7),
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f]+")
_NOT_FIELD = re.compile(r"[^A-Z0-9_]")
_FIELD_LENGTH_MAX = 64


def setup(level: str = "INFO", style: Style = "auto", *, stream: TextIO | None = None) -> None:
    """Send every record of this process to one place; a second call replaces the first.

    Parameters
    ----------
    level : str
        Lowest level that is kept: DEBUG, INFO, WARNING, ERROR or CRITICAL.
    style : {"auto", "text", "json", "journal"}
        "auto" is "journal" when systemd connected standard error to the journal, else "text".
    stream : TextIO or None
        Where text and JSON go. None: standard error.
    """
    target = sys.stderr if stream is None else stream
    if style == "auto":
        style = "journal" if _is_journal(target, os.environ) else "text"
    handler: logging.Handler
    if style == "journal":
        handler = JournalHandler(JOURNAL_SOCKET, identifier=Path(sys.argv[0]).name or "sterna")
    else:
        handler = logging.StreamHandler(target)
        handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what the caller handed over in ``extra``, in its order."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class TextFormatter(logging.Formatter):
    """``12:00:01.123 INFO  agent.grid.mqtt limit accepted  limit_w=4200``, in local time."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback below it where there is one."""
        at = datetime.fromtimestamp(record.created, UTC).astimezone()
        clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        fields = " ".join(f"{name}={_shown(value)}" for name, value in fields_of(record).items())
        line = f"{clock} {record.levelname:<5} {record.name} {record.getMessage()}"
        return "\n".join(filter(None, (f"{line}  {fields}" if fields else line, self._traceback(record))))

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class JsonFormatter(logging.Formatter):
    """One JSON object per line: at, level, logger, message, the fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        document: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in fields_of(record).items():
            # JSON has no NaN; what is no number is missing.
            document.setdefault(
                name, None if isinstance(value, float) and not math.isfinite(value) else value
            )
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=_worded, ensure_ascii=False)


class JournalHandler(logging.Handler):
    """journald's native protocol: a datagram of fields, or a sealed memory file when it is too long for one.

    Parameters
    ----------
    address : Path
        journald's socket.
    identifier : str
        SYSLOG_IDENTIFIER.
    """

    def __init__(self, address: Path, *, identifier: str) -> None:
        super().__init__()
        self._address = str(address)
        self._identifier = identifier
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; failures go where logging sends its own."""
        try:
            self._send(journal_datagram(record, identifier=self._identifier))
        except Exception:  # noqa: BLE001, RUF100 - a log record must never end the daemon
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._address)
        except OSError as error:
            if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                raise
            self._send_file(datagram)

    def _send_file(self, datagram: bytes) -> None:
        import fcntl

        descriptor = os.memfd_create("journal-entry", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(datagram)
            file.flush()
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
            # sendmsg, because send_fds takes no address and we stay unconnected: journald may be restarted.
            rights = descriptor.to_bytes(4, sys.byteorder, signed=True)
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            self._socket.sendmsg([b""], ancillary, 0, self._address)


def journal_datagram(record: logging.LogRecord, *, identifier: str) -> bytes:
    """Return a record in journald's native form; every value of ``extra`` is a field of its own."""
    message = record.getMessage()
    if record.exc_info:
        message += "\n" + logging.Formatter().formatException(record.exc_info)
    fields: dict[str, str] = {
        "MESSAGE": message,
        "PRIORITY": str(next((code for level, code in _PRIORITIES if record.levelno >= level), 7)),
        "SYSLOG_IDENTIFIER": identifier,
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
    }
    for name, value in fields_of(record).items():
        # journald takes A-Z, 0-9 and _, and keeps names that begin with _ for itself.
        fields.setdefault(_NOT_FIELD.sub("_", name.upper()).lstrip("_")[:_FIELD_LENGTH_MAX], _worded(value))
    return b"".join(_journal_field(name, value) for name, value in fields.items() if name)


def _journal_field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether systemd connected this very stream to the journal; the variable alone is inherited."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _worded(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _shown(value: object) -> str:
    words = _worded(value)
    # Quoting keeps a value on its line, whatever a peer put into it.
    return words if _PLAIN.fullmatch(words) else json.dumps(words, ensure_ascii=False)
