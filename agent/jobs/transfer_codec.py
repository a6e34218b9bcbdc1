"""Manifests between their message and our own value."""

from datetime import UTC, datetime, timedelta

from agent.core import manifest as manifests
from agent.model.jobs import CheckpointFile, Manifest
from sterna.errors import PeerProtocolError
from sterna.v1 import job_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def manifest_to_proto(manifest: Manifest) -> job_pb2.CheckpointManifest:
    """Put a manifest into its message."""
    message = job_pb2.CheckpointManifest(
        job_id=manifest.job_id,
        epoch=manifest.epoch,
        step=manifest.step,
        files=[job_pb2.CheckpointFile(path=file.path, size_bytes=file.size_bytes) for file in manifest.files],
        chunk_bytes=manifest.chunk_bytes,
        chunk_hashes=manifest.chunk_hashes,
    )
    since = manifest.sealed_at - _EPOCH
    message.sealed_at.seconds = since // timedelta(seconds=1)
    message.sealed_at.nanos = since.microseconds * 1000
    return message


def manifest_from_proto(message: job_pb2.CheckpointManifest, peer: str, checkpoint_id: str) -> Manifest:
    """Read a manifest that a peer sent, and hold it against the identity that was asked for.

    Raises
    ------
    PeerProtocolError
        It is not valid, or it is another one.
    """
    try:
        sealed_at = _EPOCH + timedelta(
            seconds=message.sealed_at.seconds, microseconds=message.sealed_at.nanos // 1000
        )
    except OverflowError as error:
        raise PeerProtocolError(f"{peer}: manifest: sealed_at is out of range") from error
    manifest = Manifest(
        job_id=message.job_id,
        epoch=message.epoch,
        step=message.step,
        files=tuple(CheckpointFile(path=file.path, size_bytes=file.size_bytes) for file in message.files),
        chunk_bytes=message.chunk_bytes,
        chunk_hashes=tuple(message.chunk_hashes),
        sealed_at=sealed_at,
    )
    faults = manifests.faults(manifest)
    if faults:
        raise PeerProtocolError(f"{peer}: manifest: " + "; ".join(faults))
    if manifests.checkpoint_id(manifest) != checkpoint_id:
        raise PeerProtocolError(f"{peer}: manifest is not that of checkpoint {checkpoint_id}")
    return manifest
