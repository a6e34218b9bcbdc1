"""Scripts that a test started and left are ended with it."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.trainers import running

Start = Callable[..., running.Script]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[running.Script] = []

    def make(*arguments, **keywords) -> running.Script:
        started.append(running.run(*arguments, **keywords))
        return started[-1]

    yield make
    for script in started:
        with suppress(ProcessLookupError):
            os.killpg(script.process.pid, signal.SIGKILL)
        script.process.wait(20)
