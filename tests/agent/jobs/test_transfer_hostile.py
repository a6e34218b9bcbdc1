"""What a full disk, a lying holder, a stranger with a certificate and a lost answer must not achieve."""

import asyncio
import dataclasses
import shutil
import subprocess
from datetime import timedelta

import grpc.aio
import pytest

from agent.core import manifest as manifests
from agent.jobs import serializer, transfer_codec
from agent.jobs.transfer_link import SERVICE
from sterna import pki, rpc
from sterna.clock import SystemClock
from sterna.errors import PermanentError, TransientError
from sterna.identity import Identity, Role, load_credentials
from sterna.v1 import checkpoint_service_pb2 as pb
from tests.agent.jobs.disks import mounted
from tests.agent.jobs.sites import JOB, Site, fetch_order, offer_order, sealed, ticket, tree
from tests.faults.proxy import proxy_to


def ignore(done: int, total: int) -> None:
    pass


@pytest.fixture
def harbor(tmp_path):
    return Site("harbor", tmp_path)


@pytest.fixture
def ridge(tmp_path):
    return Site("ridge", tmp_path)


def lies(manifest):
    """Manifests that a holder may send in place of the true one."""
    files = manifest.files
    up = dataclasses.replace(files[-1], path="step-7/../../../../evil")
    return {
        "another step": dataclasses.replace(manifest, step=manifest.step + 1),
        "another hash": dataclasses.replace(manifest, chunk_hashes=(bytes(32), *manifest.chunk_hashes[1:])),
        "another job": dataclasses.replace(manifest, job_id="job-2"),
        "a path that leads out": dataclasses.replace(manifest, files=(*files[:-1], up)),
        "absurd chunks": dataclasses.replace(manifest, chunk_bytes=2**31),
        "nothing": dataclasses.replace(manifest, files=(), chunk_hashes=()),
    }


@pytest.mark.parametrize(
    "lie",
    ["another step", "another hash", "another job", "a path that leads out", "absurd chunks", "nothing"],
)
@pytest.mark.parametrize("dialler", ["receiver", "holder"])
async def test_a_forged_manifest_is_refused(harbor, ridge, tmp_path, lie, dialler):
    checkpoint = await sealed(harbor, tmp_path)
    identity = checkpoint.checkpoint_id
    forged = transfer_codec.manifest_to_proto(lies(checkpoint.manifest)[lie])
    if dialler == "receiver":

        async def answer(request, context):
            return pb.ManifestResponse(manifest=forged)

        handler = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=pb.ManifestRequest.FromString,
            response_serializer=pb.ManifestResponse.SerializeToString,
        )
        server = rpc.make_server()
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"Manifest": handler}),)
        )
        port = rpc.bind(server, "127.0.0.1:0", credentials=None, insecure=True)
        await server.start()
        order = fetch_order(identity, f"127.0.0.1:{port}", ticket("harbor", identity))
        with pytest.raises(PermanentError, match="manifest"):
            await ridge.transfers.fetch(JOB, order, ignore)
        await server.stop(0)
    else:
        async with ridge.serving(), asyncio.TaskGroup() as group:
            fetching = group.create_task(
                outcome(ridge.transfers.fetch(JOB, fetch_order(identity, None, ""), ignore))
            )
            async with asyncio.timeout(5):
                while ridge.transfers.arrivals.find(identity) is None:  # noqa: ASYNC110 - a poll
                    await asyncio.sleep(0.01)
            channel = harbor.open_channel(ridge.address, "ridge")
            call = channel.stream_stream(
                f"/{SERVICE}/Offer",
                request_serializer=serializer.offer_to_wire,
                response_deserializer=pb.OfferResponse.FromString,
            )(metadata=grpc.aio.Metadata(("sterna-ticket", ticket("ridge", identity))))
            await call.write(pb.OfferRequest(manifest=forged))
            assert await call.code() == grpc.StatusCode.DATA_LOSS
            await channel.close(None)
        assert isinstance(fetching.result(), PermanentError)
    assert await ridge.store.checkpoints(JOB) == ()
    assert not tree(tmp_path / "ridge")


async def outcome(work):
    try:
        return await work
    except (PermanentError, TransientError) as error:
        return error


@pytest.fixture
def small_disk(tmp_path):
    with mounted(tmp_path / "small", "1m") as disk:
        yield disk


async def test_a_full_disk_stops_a_fetch_and_loses_nothing(harbor, tmp_path, small_disk, monkeypatch):
    ridge = Site("ridge", small_disk)
    checkpoint = await sealed(harbor, tmp_path)
    identity = checkpoint.checkpoint_id
    async with harbor.serving():
        order = fetch_order(identity, harbor.address, ticket("harbor", identity))
        with pytest.raises(TransientError, match="no space"):
            await ridge.transfers.fetch(JOB, order, ignore)
        # The look beforehand proves nothing: another may fill the disk meanwhile.
        here = []
        with monkeypatch.context() as patch:
            patch.setattr(ridge.store, "free_bytes", lambda: 10**12)
            with pytest.raises(TransientError, match="No space left"):
                await ridge.transfers.fetch(JOB, order, lambda done, total: here.append(done))
        assert await ridge.store.checkpoints(JOB) == ()
        subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
        result = await ridge.transfers.fetch(JOB, order, ignore)
    assert max(here) > 0
    assert result.transferred_bytes <= checkpoint.manifest.size_bytes - max(here)
    assert tree(await ridge.store.files_folder(identity)) == tree(await harbor.store.files_folder(identity))


async def test_a_full_disk_stops_a_seal_and_a_copy(tmp_path, small_disk):
    ridge = Site("ridge", small_disk)
    with pytest.raises(TransientError, match="No space left"):
        await sealed(ridge, tmp_path)
    assert await ridge.store.checkpoints(JOB) == ()
    assert not tree(small_disk)
    harbor = Site("harbor", tmp_path)
    checkpoint = await sealed(harbor, tmp_path)
    with pytest.raises(TransientError, match="No space left"):
        await harbor.store.materialize(checkpoint.checkpoint_id, small_disk / "run")
    assert not tree(small_disk)
    assert await harbor.store.get(checkpoint.checkpoint_id) == checkpoint


async def test_over_tls_only_the_named_sites_certificate_may_fetch(harbor, ridge, tmp_path, monkeypatch):
    pki.init(tmp_path / "pki", "test")

    def credentials(name):
        if not (tmp_path / "pki" / f"site-{name}.pem").exists():
            pki.issue(tmp_path / "pki", Role.SITE, name)
        return load_credentials(
            ca_file=tmp_path / "pki" / "ca.pem",
            cert_file=tmp_path / "pki" / f"site-{name}.pem",
            key_file=tmp_path / "pki" / f"site-{name}-key.pem",
            now=SystemClock().now() + timedelta(seconds=1),
        )

    def channel_as(name):
        def open_channel(address, site_id):
            expected = Identity(fleet="test", role=Role.SITE, name=site_id)
            return rpc.open_channel(address, credentials=credentials(name), expected=expected)

        return open_channel

    def bind(server, address, **_):
        return real_bind(server, address, credentials=credentials("harbor"))

    real_bind = rpc.bind
    monkeypatch.setattr(rpc, "bind", bind)
    checkpoint = await sealed(harbor, tmp_path)
    identity = checkpoint.checkpoint_id
    async with harbor.serving():
        order = fetch_order(identity, harbor.address, ticket("harbor", identity))
        ridge.settings = {"open_channel": channel_as("summit")}
        ridge.restart()
        with pytest.raises(PermanentError, match="PERMISSION_DENIED"):
            await ridge.transfers.fetch(JOB, order, ignore)
        ridge.settings = {"open_channel": channel_as("ridge")}
        ridge.restart()
        result = await ridge.transfers.fetch(JOB, order, ignore)
    assert result.checkpoint == checkpoint


async def test_an_offer_is_cut_and_goes_on_and_a_lost_answer_is_given_again(harbor, ridge, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    identity = checkpoint.checkpoint_id
    async with ridge.serving(), proxy_to(ridge.port) as proxy:
        order = offer_order(identity, proxy.address, ticket("ridge", identity))
        cuts = iter([proxy.reset] * 2)

        def cut(done: int, total: int) -> None:
            if 0 < done < total:
                next(cuts, lambda: None)()

        async with asyncio.TaskGroup() as group:
            fetching = group.create_task(ridge.transfers.fetch(JOB, fetch_order(identity, None, ""), cut))
            group.create_task(harbor.transfers.offer(JOB, order))
        assert fetching.result().checkpoint == checkpoint
        assert proxy.faults.connections >= 2
        assert await harbor.transfers.offer(JOB, order) == 0
    assert tree(await ridge.store.files_folder(identity)) == tree(await harbor.store.files_folder(identity))


async def test_a_checkpoint_that_was_let_go_is_not_found(harbor, ridge, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    identity = checkpoint.checkpoint_id
    shutil.rmtree(await harbor.store.files_folder(identity))
    async with harbor.serving():
        order = fetch_order(identity, harbor.address, ticket("harbor", identity))
        # A second stream may come when the first has found it out.
        with pytest.raises(PermanentError, match=r"DATA_LOSS|NOT_FOUND"):
            await ridge.transfers.fetch(JOB, order, ignore)
        await harbor.store.keep_newest(JOB, 0)
        with pytest.raises(PermanentError, match="NOT_FOUND"):
            await ridge.transfers.fetch(JOB, order, ignore)
    assert manifests.is_checkpoint_id(identity)
