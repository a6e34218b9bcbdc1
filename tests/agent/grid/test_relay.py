"""A relay contact as a source of limits: files as they are in sysfs, a real desk and store."""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.core.commands import Rules
from agent.core.failsafe import FailsafeSettings
from agent.core.relay import Contact
from agent.grid import relay_inputs
from agent.grid.desk import GridDesk
from agent.grid.relay import ASK_AGAIN_S, RelayWatch, WiredContact
from agent.grid.relay_inputs import FakeContact, FileContact, GpioContact, line_request
from agent.model.limits import GridState
from agent.store.commands import MIGRATIONS, CommandStore
from agent.store.db import Database
from sterna.clock import FakeClock
from sterna.errors import TransientError
from tests.agent.grid.rtu_rig import START


class Box:
    """A control box with contacts W1 (4200 W) and W2 (0 W), at a site whose clock moves when told to."""

    def __init__(self, db: Database) -> None:
        self.clock = FakeClock(START)
        self.store = CommandStore(db, boot_id="boot")
        self.w1, self.w2 = FakeContact(), FakeContact()
        self.synced = True
        self.desk = self._desk()
        self.watch = self._watch()

    def _desk(self) -> GridDesk:
        return GridDesk(
            clock=self.clock,
            store=self.store,
            operators=("relay",),
            settings=FailsafeSettings(failsafe_import_w=3000.0),
            rules=Rules(site="site-a"),
            clock_synced=lambda: self.synced,
        )

    def _watch(self) -> RelayWatch:
        return RelayWatch(
            desk=self.desk,
            source="relay",
            contacts=[
                WiredContact(contact=Contact(name="w1", limit_w=4200.0), input=self.w1),
                WiredContact(contact=Contact(name="w2", limit_w=0.0), input=self.w2),
            ],
            clock=self.clock,
            debounce_s=0.5,
        )

    async def restart(self) -> None:
        self.desk = self._desk()
        await self.desk.recover()
        self.watch = self._watch()

    async def look(self, for_s: float = 1.0) -> tuple[GridState, float | None]:
        """Let time pass with looks every fifth of a second, and return what holds."""
        for _ in range(round(for_s / 0.2)):
            self.clock.advance(0.2)
            await self.watch.step()
            await self.desk.tick()
        envelope = self.desk.envelope()
        return envelope.state, None if envelope.binding is None else envelope.binding.limit_w


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    async with Database(tmp_path / "agent.db", MIGRATIONS) as db:
        yield Box(db)


async def test_contacts_limit_and_release(box: Box) -> None:
    assert box.desk.envelope().state is GridState.INIT
    assert await box.look() == (GridState.UNLIMITED, None)
    box.w1.state = True
    assert await box.look() == (GridState.LIMITED, 4200.0)
    binding = box.desk.envelope().binding
    assert binding is not None
    assert (binding.source, binding.end_at, binding.reason) == ("relay", None, "relay w1")
    box.w2.state = True
    assert await box.look() == (GridState.LIMITED, 0.0)
    box.w2.state = False
    assert await box.look() == (GridState.LIMITED, 4200.0)
    box.w1.state = False
    assert await box.look() == (GridState.UNLIMITED, None)


async def test_a_bounce_sets_no_limit(box: Box) -> None:
    await box.look()
    for _ in range(10):
        box.w1.state = not box.w1.state
        assert await box.look(0.2) == (GridState.UNLIMITED, None)
    assert box.desk.last_sequence("relay") == 1


async def test_contacts_are_stored_only_when_they_change(box: Box) -> None:
    box.w1.state = True
    await box.look(60.0)
    assert box.desk.last_sequence("relay") == 1
    assert len(await box.store.pending_acks("relay", 10)) <= 1


async def test_a_contact_that_cannot_be_read_ends_in_failsafe_and_comes_back(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    await box.look()
    box.w1.state = None
    assert await box.look(100.0) == (GridState.UNLIMITED, None)
    assert await box.look(30.0) == (GridState.FAILSAFE, 3000.0)
    assert sum("cannot be read" in record.message for record in caplog.records) == 1
    box.w2.state = True
    assert await box.look() == (GridState.FAILSAFE, 0.0), "what is known may still ask for less"
    box.w2.state = False
    assert await box.look() == (GridState.FAILSAFE, 0.0), "and nothing is let go"
    box.w1.state = False
    assert await box.look() == (GridState.UNLIMITED, None)


async def test_a_restart_keeps_the_limit_until_the_contacts_are_read(box: Box) -> None:
    box.w1.state = True
    await box.look()
    await box.restart()
    envelope = box.desk.envelope()
    assert (envelope.state, [limit.limit_w for limit in envelope.limits]) == (
        GridState.INIT,
        [3000.0, 4200.0],
    )
    box.w1.state = False
    assert await box.look() == (GridState.UNLIMITED, None)


async def test_without_a_calendar_contacts_still_release(box: Box) -> None:
    box.synced = False
    box.w1.state = True
    assert await box.look() == (GridState.LIMITED, 4200.0)
    box.w1.state = False
    assert await box.look() == (GridState.UNLIMITED, None)


async def test_what_could_not_be_stored_is_said_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    await box.look()
    tries = 0

    async def full(*words: object) -> None:
        nonlocal tries
        tries += 1
        raise TransientError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(box.store, "accept", full)
        box.w1.state = True
        assert await box.look(3 * ASK_AGAIN_S) == (GridState.UNLIMITED, None)
    assert 2 <= tries <= 4
    assert await box.look(ASK_AGAIN_S + 1) == (GridState.LIMITED, 4200.0)


@pytest.mark.parametrize(
    ("text", "closed_level", "closed"),
    [("0\n", 0, True), ("1\n", 0, False), ("1", 1, True), (" 0 ", 1, False)],
)
def test_a_file_with_a_level(tmp_path: Path, text: str, closed_level: int, closed: bool) -> None:
    (tmp_path / "value").write_text(text)
    assert FileContact(tmp_path / "value", closed_level).closed() is closed


@pytest.mark.parametrize("text", ["", "2", "on", "01", "9" * 100])
def test_a_file_with_something_else_is_unreadable(tmp_path: Path, text: str) -> None:
    (tmp_path / "value").write_text(text)
    with pytest.raises(TransientError, match="expected 0 or 1"):
        FileContact(tmp_path / "value").closed()


def test_a_pipe_that_nobody_writes_to_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TransientError, match="expected 0 or 1"):
        FileContact(tmp_path / "pipe").closed()


def test_a_missing_file_and_chip_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="No such file"):
        FileContact(tmp_path / "gone").closed()
    with pytest.raises(TransientError, match=r"gone line 4: No such file"):
        GpioContact(tmp_path / "gone", 4).closed()
    (tmp_path / "plain").write_text("")
    with pytest.raises(TransientError, match="plain line 4: Inappropriate ioctl"):
        GpioContact(tmp_path / "plain", 4).closed()


def test_two_halves(tmp_path: Path) -> None:
    one, other = FakeContact(True), FakeContact(False)
    wired = WiredContact(contact=Contact(name="w", limit_w=1.0), input=one, complement=other)
    assert wired.closed() is True
    other.state = True
    assert wired.closed() is None


C_LAYOUT = r"""
#include <linux/gpio.h>
#include <stddef.h>
#include <stdio.h>
int main(void) {
  struct gpio_v2_line_request r;
  printf("%x %x %zu %zu %zu %zu %zu %zu %zu %llu %llu %llu %llu\n",
    (unsigned)GPIO_V2_GET_LINE_IOCTL, (unsigned)GPIO_V2_LINE_GET_VALUES_IOCTL, sizeof r,
    offsetof(struct gpio_v2_line_request, consumer),
    offsetof(struct gpio_v2_line_request, config) + offsetof(struct gpio_v2_line_config, flags),
    offsetof(struct gpio_v2_line_request, num_lines), offsetof(struct gpio_v2_line_request, fd),
    sizeof(struct gpio_v2_line_values), offsetof(struct gpio_v2_line_values, mask),
    (unsigned long long)GPIO_V2_LINE_FLAG_INPUT, (unsigned long long)GPIO_V2_LINE_FLAG_BIAS_PULL_UP,
    (unsigned long long)GPIO_V2_LINE_FLAG_BIAS_PULL_DOWN,
    (unsigned long long)GPIO_V2_LINE_FLAG_BIAS_DISABLED);
  return 0;
}
"""


def test_the_request_is_laid_out_as_the_kernel_header_says(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/usr/include/linux/gpio.h").exists():
        pytest.skip("no C compiler, or no kernel headers")
    (tmp_path / "layout.c").write_text(C_LAYOUT)
    subprocess.run([compiler, "layout.c", "-o", "layout"], cwd=tmp_path, check=True)
    said = subprocess.run(
        [str(tmp_path / "layout")], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [int(word, 16) for word in said[:2]] == [relay_inputs.GET_LINE, relay_inputs.GET_VALUES]
    size, consumer, flags, num_lines, fd, values_size, mask, *bits = (int(word) for word in said[2:])
    request = line_request(17, "pull-up")
    assert (len(request), values_size, mask) == (size, 16, 8)
    assert struct.unpack_from("=I", request) == (17,)
    assert request[consumer : consumer + 13] == b"sterna-agent\0"
    assert struct.unpack_from("=Q", request, flags) == (bits[0] | bits[1],)
    assert struct.unpack_from("=I", request, num_lines) == (1,)
    assert struct.unpack_from("=i", request, fd) == (-1,)
    assert list(relay_inputs.FLAG_BIAS.values()) == bits[1:]


def test_a_gpio_line_is_asked_for_once_and_again_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's side is played by `Kernel`: this machine has no GPIO chip."""
    (tmp_path / "gpiochip0").write_text("")
    kernel = Kernel(tmp_path / "line")
    monkeypatch.setattr(fcntl, "ioctl", kernel.ioctl)
    contact = GpioContact(tmp_path / "gpiochip0", 17, closed_level=0)
    kernel.level = 0
    assert contact.closed()
    kernel.level = 1
    assert not contact.closed()
    assert kernel.requests == 1
    kernel.broken = True
    with pytest.raises(TransientError, match="gpiochip0 line 17: No such device"):
        contact.closed()
    kernel.broken = False
    assert not contact.closed()
    assert kernel.requests == 2
    contact.close()


class Kernel:
    """Answers the two requests of the GPIO interface as the header describes them."""

    def __init__(self, line: Path) -> None:
        line.write_text("")
        self.line, self.level, self.requests, self.broken = line, 0, 0, False

    def ioctl(self, _fd: int, code: int, data: bytes) -> bytes:
        if self.broken:
            raise OSError(19, "No such device")
        if code == relay_inputs.GET_LINE:
            self.requests += 1
            return data[:-4] + struct.pack("=i", os.open(self.line, os.O_RDONLY))
        assert struct.unpack("=QQ", data) == (0, 1)
        return struct.pack("=QQ", self.level, 1)
