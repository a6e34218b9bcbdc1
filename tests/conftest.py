"""Fixtures that every part's tests may use."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings

from sterna import pki
from sterna.clock import SystemClock
from sterna.identity import Credentials, Identity, Role, load_credentials

FLEET = "test-fleet"

# How long drawing takes says how busy the machine is, not whether a law holds. The same examples come each
# time, so that no change is judged by what chance finds elsewhere; `scripts/test-laws` looks for new ones.
settings.register_profile(
    "sterna", suppress_health_check=[HealthCheck.too_slow], deadline=None, derandomize=True
)
settings.register_profile("search", settings.get_profile("sterna"), derandomize=False)
settings.load_profile(os.environ.get("STERNA_LAWS", "sterna"))

# A shell that starts the tests in the background has Ctrl-C ignored, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Fleet:
    """A certificate authority and the credentials that it hands out, made once per test run and name."""

    def __init__(self, folder: Path, fleet: str = FLEET) -> None:
        self.name = fleet
        self.folder = folder
        self.ca = pki.init(folder, fleet)
        self._files: dict[Identity, pki.IssuedFiles] = {}

    def files(self, role: Role, name: str, hosts: Iterable[str] = ()) -> pki.IssuedFiles:
        identity = Identity(fleet=self.name, role=role, name=name)
        if identity not in self._files:
            self._files[identity] = pki.issue(self.folder, role, name, hosts)
        return self._files[identity]

    def credentials(self, role: Role, name: str) -> Credentials:
        files = self.files(role, name)
        return load_credentials(
            ca_file=files.ca_file,
            cert_file=files.cert_file,
            key_file=files.key_file,
            now=SystemClock().now(),
            expected=files.identity,
        )


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The fleet `test-fleet` with its CA."""
    return Fleet(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def other_fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A fleet of the same name whose CA is another one."""
    return Fleet(tmp_path_factory.mktemp("other-pki"))


class Eventually(Protocol):
    async def __call__(
        self, holds: Callable[[], bool | Awaitable[bool]], *, within_s: float = 5.0, what: str = "condition"
    ) -> None: ...


@pytest.fixture
def eventually() -> Eventually:
    """Poll until a condition holds; fail at the deadline."""

    async def poll(
        holds: Callable[[], bool | Awaitable[bool]], *, within_s: float = 5.0, what: str = "condition"
    ) -> None:
        deadline = time.monotonic() + within_s  # noqa: TID251 - real sockets, real time
        while True:
            answer = holds()
            if answer if isinstance(answer, bool) else await answer:
                return
            if time.monotonic() > deadline:  # noqa: TID251
                raise AssertionError(f"{what} did not hold within {within_s} s")
            await asyncio.sleep(0.01)

    return poll
