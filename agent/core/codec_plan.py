"""Which way of sending a stretch of a checkpoint is the cheapest, and whether coding pays at all.

Every stretch goes one of four ways: by reference to equal bytes that the destination has, as the difference
to an earlier version of itself, split into byte planes, or as it is. The first is known by hash; between
the others a small sample decides, plane by plane. What it refuses to know: files, compressors, numpy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sterna.units import bytes_to_bits

EXPECTED_FRAC = 0.76
"""Bytes sent over bytes, of a fp32 training 100 steps after its base: the least that was gained."""
ENCODE_BYTES_S = 250e6
DECODE_BYTES_S = 400e6
WORKER_START_S = 1.5
"""Two processes that load numpy on a small machine, and the hashing before the first byte."""

WIDTHS_BYTES = (1, 2, 4, 8)
GAIN_FRAC = 0.02
"""What a way must save of a stretch, or of one of its planes, to be worth its CPU seconds."""


class Codec(Enum):
    """How a stretch is sent."""

    REFERENCE = "reference"
    DELTA = "delta"
    PLANES = "planes"
    RAW = "raw"


OCTET_BYTES = 1
"""Width of what is not known to be anything else."""

_WIDTHS_BYTES = {
    **dict.fromkeys(("F64", "C128", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "C64", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
}


def width_of(dtype: str, size_bytes: int) -> int:
    """Find the width of the elements in `size_bytes` of a data type (safetensors' words), in bytes.

    Whether they are floats or integers makes no difference: the difference of a float's bits is small where
    the value moved little, and where its sign changed nothing can be gained. Unknown types are octets.
    """
    width_bytes = _WIDTHS_BYTES.get(dtype, OCTET_BYTES)
    return width_bytes if size_bytes % width_bytes == 0 else OCTET_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A codec, and how it reads the elements."""

    codec: Codec
    width_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a sample gave: of each byte plane, lowest first, compressed size over size."""

    way: Way
    plane_fracs: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How a stretch is sent: `packed` says for each plane whether it is compressed or stored."""

    way: Way
    packed: tuple[bool, ...]
    expected_frac: float
    """Bytes to send over bytes, as the sample has it."""


RAW = Choice(way=Way(codec=Codec.RAW, width_bytes=OCTET_BYTES), packed=(), expected_frac=1.0)
REFERENCE = Choice(way=Way(codec=Codec.REFERENCE, width_bytes=OCTET_BYTES), packed=(), expected_frac=0.0)


def ways(width_bytes: int, size_bytes: int, *, has_base: bool) -> tuple[Way, ...]:
    """List what is worth a trial, the faster to decode first.

    Parameters
    ----------
    width_bytes : int
        Of an element, as far as known. Octets are tried as wider elements too: most of what is large in a
        checkpoint is made of floats.
    size_bytes : int
        Of the stretch; widths that do not divide it are left out.
    has_base : bool
        The destination has an earlier version of the same length.
    """
    widths = (1, 2, 4) if width_bytes == OCTET_BYTES else (width_bytes,)
    fitting = [width for width in widths if size_bytes % width == 0]
    codecs = (Codec.PLANES, Codec.DELTA) if has_base else (Codec.PLANES,)
    return tuple(Way(codec=codec, width_bytes=width) for codec in codecs for width in fitting)


def choose(trials: Iterable[Trial]) -> Choice:
    """Take the cheapest way; the earlier one where they are equal, raw where none saves `GAIN_FRAC`."""
    best = RAW
    for trial in trials:
        packed = tuple(frac < 1.0 - GAIN_FRAC for frac in trial.plane_fracs)
        fracs = [frac if pack else 1.0 for frac, pack in zip(trial.plane_fracs, packed, strict=True)]
        expected_frac = sum(fracs) / len(fracs)
        bar = 1.0 - GAIN_FRAC if best is RAW else best.expected_frac
        if expected_frac < bar:
            best = Choice(way=trial.way, packed=packed, expected_frac=expected_frac)
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What a checkpoint costs between the stop and its arrival, sent one way."""

    sent_bytes: int
    encode_s: float
    transfer_s: float
    decode_s: float

    @property
    def total_s(self) -> float:
        """Seconds from the sealed checkpoint to the files at the destination, one part after the other."""
        return self.encode_s + self.transfer_s + self.decode_s

    @property
    def streamed_s(self) -> float:
        """The same where each block is sent once it is encoded and decoded once it is there: the slowest."""
        return max(self.encode_s, self.transfer_s, self.decode_s)


def as_it_is(size_bytes: int, goodput_bps: float) -> Stop:
    """Cost of sending everything, unchanged. `goodput_bps` is in bits per second, above 0."""
    return Stop(
        sent_bytes=size_bytes,
        encode_s=0.0,
        transfer_s=bytes_to_bits(size_bytes) / goodput_bps,
        decode_s=0.0,
    )


def coded(
    size_bytes: int, sent_bytes: int, goodput_bps: float, *, encode_bytes_s: float, decode_bytes_s: float
) -> Stop:
    """Cost of encoding, sending and decoding.

    Parameters
    ----------
    size_bytes, sent_bytes : int
        Of the checkpoint, and of what crosses the link.
    goodput_bps : float
        Bits per second, above 0.
    encode_bytes_s, decode_bytes_s : float
        Bytes of checkpoint per second, above 0, as measured on the machines that will do it.
    """
    return Stop(
        sent_bytes=sent_bytes,
        encode_s=size_bytes / encode_bytes_s,
        transfer_s=bytes_to_bits(sent_bytes) / goodput_bps,
        decode_s=size_bytes / decode_bytes_s,
    )


def difference_pays(size_bytes: int, link_bps: float, coding_bytes_s: float | None = None) -> bool:
    """Tell whether a difference, encoded, sent and decoded as a stream, is expected sooner than plain bytes.

    Reckons with the least that trainings in fp32 gained and with one slow core on each side (docs/delta.md).

    Parameters
    ----------
    size_bytes : int
        Of the checkpoint.
    link_bps : float
        Goodput in bits per second, above 0.
    coding_bytes_s : float or None
        Bytes of checkpoint per second that coding was lately seen to reach where it was the slower part.
    """
    slowest_bytes_s = float("inf") if coding_bytes_s is None else coding_bytes_s
    streamed = coded(
        size_bytes,
        round(size_bytes * EXPECTED_FRAC),
        link_bps,
        encode_bytes_s=min(ENCODE_BYTES_S, slowest_bytes_s),
        decode_bytes_s=min(DECODE_BYTES_S, slowest_bytes_s),
    )
    return WORKER_START_S + streamed.streamed_s < as_it_is(size_bytes, link_bps).total_s


def coding_pace_bytes_s(
    size_bytes: int, received_bytes: int, seconds: float, link_bps: float
) -> float | None:
    """Return the pace of a difference that coding held up, in bytes of checkpoint per second.

    None where the link was the slower part: then coding may be as fast as it is reckoned to be.

    Parameters
    ----------
    size_bytes, received_bytes : int
        Of the checkpoint, and of what crossed.
    seconds : float
        From the first byte asked for to the last one decoded.
    link_bps : float
        Goodput in bits per second, above 0.
    """
    carried_s = bytes_to_bits(received_bytes) / link_bps
    return size_bytes / seconds if seconds > 1.5 * carried_s + WORKER_START_S else None
