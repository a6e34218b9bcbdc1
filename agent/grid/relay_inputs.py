"""Where contacts are read: lines of a GPIO character device, files with a digit, fakes.

The kernel's GPIO interface is version 2 of the character device (linux/gpio.h), the one that libgpiod uses.
"""

import fcntl
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from sterna.errors import TransientError

Bias = Literal["none", "pull-up", "pull-down"]

# struct gpio_v2_line_request: offsets[64], consumer[32], config (flags, num_attrs, padding[5], attrs[10]),
# num_lines, event_buffer_size, padding[5], fd.
_REQUEST = struct.Struct("=64I32sQI5I240sII5Ii")
_VALUES = struct.Struct("=QQ")  # bits, mask
GET_LINE = 0xC250B407
GET_VALUES = 0xC010B40E
FLAG_INPUT = 1 << 2
FLAG_BIAS: dict[Bias, int] = {"pull-up": 1 << 8, "pull-down": 1 << 9, "none": 1 << 10}
CONSUMER = b"sterna-agent"


class ContactInput(Protocol):
    """One thing that is open or closed."""

    def closed(self) -> bool:
        """Read it.

        Raises
        ------
        TransientError
            It cannot be read now.
        """
        ...


@dataclass(slots=True)
class FakeContact:
    """A contact that is as it was told. `state` None: it cannot be read."""

    state: bool | None = False

    def closed(self) -> bool:
        """Read it."""
        if self.state is None:
            raise TransientError("contact: not readable")
        return self.state


@dataclass(frozen=True, slots=True)
class FileContact:
    """A file that holds 0 or 1, e.g. ``/sys/class/gpio/gpio17/value``; closed reads `closed_level`."""

    path: Path
    closed_level: int = 0

    def closed(self) -> bool:
        """Read it."""
        try:
            # A pipe that nobody writes to is unreadable, not a reason to wait.
            file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                text = os.read(file, 16)
            finally:
                os.close(file)
        except OSError as error:
            raise TransientError(f"{self.path}: {error.strerror}") from error
        if text.strip() not in {b"0", b"1"}:
            raise TransientError(f"{self.path}: expected 0 or 1")
        return int(text) == self.closed_level


@dataclass(slots=True)
class GpioContact:
    """One line of a GPIO chip, asked for as an input and held while it works.

    Parameters
    ----------
    chip : Path
        E.g. ``/dev/gpiochip0``.
    line : int
        Offset on that chip.
    closed_level : int
        What a closed contact reads: 0 when it pulls the line to ground.
    bias : str
        The chip's own resistor.
    """

    chip: Path
    line: int
    closed_level: int = 0
    bias: Bias = "pull-up"
    _fd: int | None = field(default=None, init=False)

    def closed(self) -> bool:
        """Read it."""
        try:
            if self._fd is None:
                self._fd = self._request()
            answer = fcntl.ioctl(self._fd, GET_VALUES, _VALUES.pack(0, 1))
        except OSError as error:
            self.close()
            raise TransientError(f"{self.chip} line {self.line}: {error.strerror}") from error
        bits, _ = _VALUES.unpack(answer)
        return int(bits & 1) == self.closed_level

    def close(self) -> None:
        """Give the line back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _request(self) -> int:
        chip = os.open(self.chip, os.O_RDWR | os.O_CLOEXEC)
        try:
            answer = fcntl.ioctl(chip, GET_LINE, line_request(self.line, self.bias))
        finally:
            os.close(chip)
        return int(_REQUEST.unpack(answer)[-1])


def line_request(line: int, bias: Bias) -> bytes:
    """Write the request for one input line."""
    flags = FLAG_INPUT | FLAG_BIAS[bias]
    return _REQUEST.pack(line, *[0] * 63, CONSUMER, flags, 0, *[0] * 5, b"", 1, 0, *[0] * 5, -1)
