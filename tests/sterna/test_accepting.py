"""Accepting connections: what cannot be accepted passes, and a closed port ends it."""

import asyncio
import errno
import socket
from contextlib import aclosing

import pytest

from sterna import accepting
from sterna.listening import listen


class Exhausted(socket.socket):
    """A listener whose first accept finds no file descriptor."""

    tried = False

    def accept(self) -> tuple[socket.socket, object]:
        if not self.tried:
            self.tried = True
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_a_connection_that_cannot_be_accepted_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "RETRY_S", 0.0)
    with listen("127.0.0.1", 0, backlog=1) as bound, Exhausted(fileno=bound.detach()) as listener:
        listener.setblocking(False)
        with socket.create_connection(listener.getsockname()) as client:
            async with asyncio.timeout(10.0), aclosing(accepting.connections(listener)) as accepted:
                connection, address = await anext(accepted)
            with connection:
                assert connection.getpeername() == client.getsockname()
                assert address == "127.0.0.1"
    assert [record.message for record in caplog.records] == ["a connection could not be accepted"]


async def test_a_closed_port_ends_it() -> None:
    listener = listen("127.0.0.1", 0, backlog=1)
    listener.close()
    assert [one async for one in accepting.connections(listener)] == []
