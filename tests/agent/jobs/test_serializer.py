import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.jobs import serializer
from sterna.errors import PeerProtocolError
from sterna.v1 import checkpoint_service_pb2 as pb
from sterna.v1 import job_pb2

SIZES = st.integers(0, 300_000)


@given(SIZES)
@example(0)
@example(127)
@example(128)
@example(16_383)
@example(16_384)
@example(1024 * 1024)
@example(2_097_152)
def test_the_generated_class_reads_what_we_write_and_we_read_what_it_writes(size):
    data = bytes(index % 251 for index in range(min(size, 1000))) + bytes(max(0, size - 1000))
    for given_as in (data, memoryview(data)):
        assert pb.ChunkResponse.FromString(serializer.chunk_to_wire(given_as)).data == data
        offered = pb.OfferRequest.FromString(serializer.offer_to_wire(given_as))
        assert (offered.WhichOneof("message"), offered.data) == ("data", data)
    assert serializer.chunk_from_wire(pb.ChunkResponse(data=data).SerializeToString()) == data
    assert serializer.offer_from_wire(pb.OfferRequest(data=data).SerializeToString()) == data


def test_a_manifest_passes_through_the_offer_serialiser():
    message = pb.OfferRequest(manifest=job_pb2.CheckpointManifest(job_id="job-1", chunk_hashes=[bytes(32)]))
    assert serializer.offer_from_wire(serializer.offer_to_wire(message)) == message


def test_a_field_of_a_later_version_does_not_hide_the_data():
    later = b"\x18\x07"  # field 3, varint 7
    for wire in (later + serializer.chunk_to_wire(b"abc"), serializer.chunk_to_wire(b"abc") + later):
        assert serializer.chunk_from_wire(wire) == b"abc"
    assert serializer.offer_from_wire(serializer.offer_to_wire(b"abc") + later) == b"abc"


@given(st.binary(max_size=40))
def test_both_readers_agree_on_noise(wire):
    try:
        expected = pb.ChunkResponse.FromString(wire).data
    except Exception:
        expected = None
    if expected is None:
        with pytest.raises(PeerProtocolError):
            serializer.chunk_from_wire(wire)
    else:
        assert serializer.chunk_from_wire(wire) == expected


@pytest.mark.parametrize("wire", [b"\x12\x05ab", b"\x12", b"\xff\xff", b"\x12\xff\xff\xff\xff\xff\xff"])
def test_noise_is_no_offer(wire):
    with pytest.raises(PeerProtocolError):
        serializer.offer_from_wire(wire)


@given(st.binary(min_size=1, max_size=5000))
def test_data_is_not_copied(data):
    wire = serializer.chunk_to_wire(data)
    assert serializer.chunk_from_wire(wire).obj is wire
