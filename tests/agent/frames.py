"""Answers of a Modbus device, and what can be wrong with one: structure-aware mutants for both framings."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pymodbus.framer.rtu import FramerRTU


def crc(body: bytes) -> bytes:
    return FramerRTU.compute_CRC(body).to_bytes(2, "big")


@dataclass(frozen=True)
class Request:
    """What the client asked, as read off the wire."""

    rtu: bool
    tid: int
    unit: int
    function: int
    address: int
    count: int

    def framed(self, pdu: bytes, *, tid: int | None = None, unit: int | None = None) -> bytes:
        body = bytes([self.unit if unit is None else unit]) + pdu
        if self.rtu:
            return body + crc(body)
        number = self.tid if tid is None else tid
        return number.to_bytes(2, "big") + b"\0\0" + len(body).to_bytes(2, "big") + body

    def answer(self, registers: list[int]) -> bytes:
        data = b"".join(register.to_bytes(2, "big") for register in registers)
        return self.framed(bytes([self.function, len(data)]) + data)

    def sound_answers(self, sent: bytes) -> Iterator[tuple[int, ...]]:
        """Every whole frame among these bytes that does answer this request, by the book alone."""
        size = 2 * self.count
        head = bytes([self.unit, self.function, size])
        at = sent.find(head)
        while at >= 0:
            body = sent[at : at + 3 + size]
            if len(body) == 3 + size and self._framed_soundly(sent, at, body):
                yield tuple(int.from_bytes(body[n : n + 2], "big") for n in range(3, 3 + size, 2))
            at = sent.find(head, at + 1)

    def _framed_soundly(self, sent: bytes, at: int, body: bytes) -> bool:
        if self.rtu:
            return sent[at + len(body) : at + len(body) + 2] == crc(body)
        header = sent[max(0, at - 6) : at]
        # A device that answers with transaction id 0 is tolerated: there are such.
        tids = (self.tid.to_bytes(2, "big"), b"\0\0")
        return (
            len(header) == 6 and header[:2] in tids and header[2:] == b"\0\0" + len(body).to_bytes(2, "big")
        )


def read_request(frame: bytes, *, rtu: bool) -> Request:
    pdu = frame if rtu else frame[6:]
    return Request(
        rtu=rtu,
        tid=0 if rtu else int.from_bytes(frame[:2], "big"),
        unit=pdu[0],
        function=pdu[1],
        address=int.from_bytes(pdu[2:4], "big"),
        count=int.from_bytes(pdu[4:6], "big"),
    )


Mutator = Callable[[Request, bytes, random.Random], bytes]


def _flipped(request: Request, frame: bytes, dice: random.Random) -> bytes:
    bit = dice.randrange(8 * len(frame))
    return frame[: bit // 8] + bytes([frame[bit // 8] ^ 1 << bit % 8]) + frame[bit // 8 + 1 :]


def _byte_set(request: Request, frame: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(min(12, len(frame)))
    return frame[:at] + bytes([dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))]) + frame[at + 1 :]


def _pdu(request: Request, frame: bytes) -> bytes:
    return frame[1:-2] if request.rtu else frame[7:]


def _other_function(request: Request, frame: bytes, dice: random.Random) -> bytes:
    function = dice.choice((1, 2, 3, 4, 5, 6, 16, 17, 22, 23, 24, 43, 99, dice.randrange(128)))
    return request.framed(bytes([function]) + _pdu(request, frame)[1:])


def _byte_count_lies(request: Request, frame: bytes, dice: random.Random) -> bytes:
    pdu = _pdu(request, frame)
    return request.framed(pdu[:1] + bytes([dice.randrange(256)]) + pdu[2:])


def _other_amount(request: Request, frame: bytes, dice: random.Random) -> bytes:
    return request.answer([dice.randrange(65536) for _ in range(dice.randrange(126))])


def _other_values(request: Request, frame: bytes, dice: random.Random) -> bytes:
    return request.answer([dice.choice((0, 0x7FFF, 0x8000, 0xFFFF)) for _ in range(request.count)])


def _other_unit(request: Request, frame: bytes, dice: random.Random) -> bytes:
    return request.framed(_pdu(request, frame), unit=dice.choice((0, 255, (request.unit + 1) % 256)))


def _other_tid(request: Request, frame: bytes, dice: random.Random) -> bytes:
    return request.framed(_pdu(request, frame), tid=dice.randrange(65536))


def _exception(request: Request, frame: bytes, dice: random.Random) -> bytes:
    return request.framed(bytes([0x80 | dice.choice((3, 4, 16, 0, 127)), dice.randrange(256)]))


def _exception_malformed(request: Request, frame: bytes, dice: random.Random) -> bytes:
    return request.framed(bytes([0x80 | request.function]) + dice.randbytes(dice.choice((0, 2, 5))))


MUTATORS: dict[str, Mutator] = {
    "untouched": lambda request, frame, dice: frame,
    "bit flipped": _flipped,
    "byte set": _byte_set,
    "other function": _other_function,
    "byte count lies": _byte_count_lies,
    "other amount": _other_amount,
    "other values": _other_values,
    "other unit": _other_unit,
    "other transaction": _other_tid,
    "exception": _exception,
    "exception malformed": _exception_malformed,
    "cut": lambda request, frame, dice: frame[: dice.randrange(len(frame))],
    "garbage before": lambda request, frame, dice: dice.randbytes(dice.randrange(1, 9)) + frame,
    "garbage after": lambda request, frame, dice: frame + dice.randbytes(dice.randrange(1, 300)),
    "twice": lambda request, frame, dice: frame + frame,
    "wrong then right": lambda request, frame, dice: _flipped(request, frame, dice) + frame,
    "noise": lambda request, frame, dice: dice.randbytes(dice.randrange(1, 600)),
    "length lies": lambda request, frame, dice: (
        frame if request.rtu else frame[:4] + dice.randbytes(2) + frame[6:]
    ),
    "protocol id": lambda request, frame, dice: (
        frame if request.rtu else frame[:2] + dice.randbytes(2) + frame[4:]
    ),
    "silence": lambda request, frame, dice: b"",
}
