import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from sterna.errors import CorruptError, PermanentError, TransientError
from sterna.ticket import mint, site_key
from tests.agent.jobs.sites import (
    CHUNK_BYTES,
    JOB,
    SECRET,
    Site,
    claims,
    fetch_order,
    offer_order,
    sealed,
    ticket,
    tree,
)
from tests.faults.proxy import proxy_to


def ignore(done: int, total: int) -> None:
    pass


@pytest.fixture
def harbor(tmp_path):
    return Site("harbor", tmp_path)


@pytest.fixture
def ridge(tmp_path):
    return Site("ridge", tmp_path)


async def files_of(site, checkpoint):
    return tree(await site.store.files_folder(checkpoint.checkpoint_id))


async def test_the_receiver_dials_and_pulls(harbor, ridge, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    progress = []
    async with harbor.serving():
        order = fetch_order(
            checkpoint.checkpoint_id, harbor.address, ticket("harbor", checkpoint.checkpoint_id)
        )
        result = await ridge.transfers.fetch(JOB, order, lambda done, total: progress.append((done, total)))
        again = await ridge.transfers.fetch(JOB, order, ignore)
    total = checkpoint.manifest.size_bytes
    assert result.checkpoint == checkpoint
    assert result.transferred_bytes == total
    assert result.goodput_bps == pytest.approx(8 * total / result.seconds)
    assert progress[0] == (0, total)
    assert progress[-1] == (total, total)
    assert progress == sorted(progress)
    assert (again.transferred_bytes, again.goodput_bps) == (0, None)
    assert await files_of(ridge, checkpoint) == await files_of(harbor, checkpoint)
    ridge.restart()
    assert await ridge.store.checkpoints(JOB) == (checkpoint,)
    assert not tree(tmp_path / "ridge" / "staging")


async def test_the_holder_dials_and_the_receiver_pulls(harbor, ridge, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    async with ridge.serving(), asyncio.TaskGroup() as group:
        token = ticket("ridge", checkpoint.checkpoint_id)
        order = offer_order(checkpoint.checkpoint_id, ridge.address, token)
        # The holder may be told first: it tries until it is expected.
        offering = group.create_task(harbor.transfers.offer(JOB, order))
        fetching = group.create_task(
            ridge.transfers.fetch(JOB, fetch_order(checkpoint.checkpoint_id, None, ""), ignore)
        )
    assert fetching.result().checkpoint == checkpoint
    assert fetching.result().transferred_bytes == offering.result() == checkpoint.manifest.size_bytes
    assert await files_of(ridge, checkpoint) == await files_of(harbor, checkpoint)


@pytest.mark.parametrize("seed", range(6))
async def test_cuts_at_random_points_resend_no_verified_chunk(harbor, ridge, tmp_path, seed):
    rng = random.Random(seed)
    checkpoint = await sealed(harbor, tmp_path)
    total = checkpoint.manifest.size_bytes
    cuts = 4
    async with harbor.serving(), proxy_to(harbor.port) as proxy:
        order = fetch_order(
            checkpoint.checkpoint_id, proxy.address, ticket("harbor", checkpoint.checkpoint_id)
        )
        left = iter([rng.randrange(1, total // cuts) for _ in range(cuts)])
        verified = [0]

        def on_progress(done: int, _: int) -> None:
            assert done >= verified[-1], "what was verified is never lost"
            verified.append(done)
            if proxy.faults.cut_after_bytes is None:
                proxy.faults.cut_after_bytes = next(left, None)

        result = await ridge.transfers.fetch(JOB, order, on_progress)
    assert proxy.faults.connections > 2
    assert await files_of(ridge, checkpoint) == await files_of(harbor, checkpoint)
    # A cut loses at most what is in flight: a chunk being put together and one being written, per stream.
    assert result.transferred_bytes <= total + (cuts + 1) * 2 * 2 * CHUNK_BYTES


@pytest.mark.parametrize("dialler", ["receiver", "holder"])
async def test_a_restart_of_the_receiver_keeps_verified_chunks(harbor, ridge, tmp_path, dialler):
    checkpoint = await sealed(harbor, tmp_path)
    total = checkpoint.manifest.size_bytes
    half = asyncio.Event()
    here = 0

    def on_progress(done: int, _: int) -> None:
        nonlocal here
        here = done
        if done > total // 2:
            half.set()

    async def move(progress):
        identity = checkpoint.checkpoint_id
        if dialler == "receiver":
            async with harbor.serving():
                order = fetch_order(identity, harbor.address, ticket("harbor", identity))
                return await ridge.transfers.fetch(JOB, order, progress)
        async with ridge.serving(), asyncio.TaskGroup() as group:
            order = offer_order(identity, ridge.address, ticket("ridge", identity))
            fetching = group.create_task(
                ridge.transfers.fetch(JOB, fetch_order(identity, None, "", 2e7), progress)
            )
            group.create_task(harbor.transfers.offer(JOB, order))
        return fetching.result()

    async with asyncio.TaskGroup() as group:
        first = group.create_task(move(on_progress))
        await half.wait()
        first.cancel()
    kept = here
    assert await ridge.store.get(checkpoint.checkpoint_id) is None
    ridge.restart()
    result = await move(ignore)
    assert result.transferred_bytes <= total - kept
    assert await files_of(ridge, checkpoint) == await files_of(harbor, checkpoint)


async def test_bytes_that_a_power_cut_lost_are_not_believed(harbor, ridge, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    identity = checkpoint.checkpoint_id
    staging = tmp_path / "ridge" / "staging" / JOB / f"fetch-{identity}"
    async with harbor.serving(), proxy_to(harbor.port) as proxy:
        order = fetch_order(identity, proxy.address, ticket("harbor", identity))

        def cut_at_half(done: int, total: int) -> None:
            if done > total // 2:
                proxy.faults.refuse = True
                proxy.reset()

        ridge.settings = {"give_up_s": 0.2, "dial_s": 0.3}
        ridge.restart()
        with pytest.raises(TransientError):
            await ridge.transfers.fetch(JOB, order, cut_at_half)
        (staging / "files" / "step-7" / "w.npz").write_bytes(bytes(1_500_000))
        proxy.faults.refuse = False
        ridge.settings = {}
        ridge.restart()
        await ridge.transfers.fetch(JOB, order, ignore)
    assert await files_of(ridge, checkpoint) == await files_of(harbor, checkpoint)


async def test_a_corrupted_chunk_is_asked_for_again_and_never_stored(harbor, ridge, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    needle = (tmp_path / "step-7" / "w.npz").read_bytes()[1_000_000:1_000_016]
    spoilt = 0

    def corrupt(data: bytes) -> bytes:
        nonlocal spoilt
        if spoilt < 2 and needle in data:
            spoilt += 1
            return data.replace(needle, bytes(16))
        return data

    async with harbor.serving(), proxy_to(harbor.port) as proxy:
        proxy.faults.corrupt = corrupt
        order = fetch_order(
            checkpoint.checkpoint_id, proxy.address, ticket("harbor", checkpoint.checkpoint_id)
        )
        result = await ridge.transfers.fetch(JOB, order, ignore)
    assert spoilt == 2
    assert result.transferred_bytes == checkpoint.manifest.size_bytes + 2 * CHUNK_BYTES
    assert await harbor.store.checkpoints(JOB) == (checkpoint,), "the link is to blame, not the holder"
    assert await files_of(ridge, checkpoint) == await files_of(harbor, checkpoint)


@pytest.mark.parametrize("dialler", ["receiver", "holder"])
async def test_a_holder_with_rotten_bytes_is_given_up(harbor, ridge, tmp_path, dialler):
    older = await sealed(harbor, tmp_path, step=3)
    checkpoint = await sealed(harbor, tmp_path)
    told = []
    harbor.store.watch(lambda job_id, left: told.append((job_id, left)))
    identity = checkpoint.checkpoint_id
    stored = await harbor.store.files_folder(identity) / "step-7" / "w.npz"
    data = bytearray(stored.read_bytes())
    data[700_000] ^= 1
    stored.write_bytes(data)
    if dialler == "receiver":
        async with harbor.serving():
            order = fetch_order(identity, harbor.address, ticket("harbor", identity))
            with pytest.raises(
                PermanentError, match=f"DATA_LOSS: checkpoint {identity}: chunk 15 differs, in step-7/w.npz"
            ):
                await ridge.transfers.fetch(JOB, order, ignore)
    else:
        async with ridge.serving():
            order = offer_order(identity, ridge.address, ticket("ridge", identity))
            fetching = ridge.transfers.fetch(JOB, fetch_order(identity, None, ""), ignore)
            results = await asyncio.gather(
                fetching, harbor.transfers.offer(JOB, order), return_exceptions=True
            )
        assert "chunk 15 arrived different 3 times" in str(results[0])
        assert isinstance(results[1], CorruptError)
        assert "chunk 15 differs, in step-7/w.npz" in str(results[1])
    assert await ridge.store.checkpoints(JOB) == ()
    assert await harbor.store.checkpoints(JOB) == (older,), "it is in quarantine where it has rotted"
    assert told == [(JOB, (older,))]


async def test_a_stalled_and_then_black_holed_link_is_survived(harbor, ridge, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    identity = checkpoint.checkpoint_id
    async with harbor.serving(), proxy_to(harbor.port) as proxy:
        order = fetch_order(identity, proxy.address, ticket("harbor", identity))
        hit = False

        def swallow(done: int, total: int) -> None:
            nonlocal hit
            if done > total // 3 and not hit:
                hit = True
                proxy.faults.black_hole = True
                asyncio.get_running_loop().call_later(1.5, heal)

        def heal() -> None:
            proxy.faults.black_hole = False
            proxy.reset()

        result = await ridge.transfers.fetch(JOB, order, swallow)
    assert hit
    assert result.seconds >= 1.0
    assert await files_of(ridge, checkpoint) == await files_of(harbor, checkpoint)


async def test_nobody_there_is_given_up_in_time_and_nothing_is_listed(ridge, harbor, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    identity = checkpoint.checkpoint_id
    ridge.settings = {"give_up_s": 0.3, "dial_s": 0.3}
    ridge.restart()
    async with harbor.serving(), proxy_to(harbor.port) as proxy:
        proxy.faults.refuse = True
        order = fetch_order(identity, proxy.address, ticket("harbor", identity))
        with pytest.raises(TransientError, match="no connection"):
            await ridge.transfers.fetch(JOB, order, ignore)
    with pytest.raises(TransientError, match="nothing was offered"):
        await ridge.transfers.fetch(JOB, fetch_order(identity, None, ""), ignore)
    assert await ridge.store.checkpoints(JOB) == ()


OTHER = "cd" * 32


@pytest.mark.parametrize(
    "changes, dialled, match",
    [
        ({"expires_at": datetime(2026, 1, 1, tzinfo=UTC)}, "harbor", "UNAUTHENTICATED.*expired"),
        ({}, "elsewhere", "UNAUTHENTICATED.*forged"),
        ({"receiver": "summit"}, "harbor", "PERMISSION_DENIED"),
        ({"holder": "summit"}, "harbor", "PERMISSION_DENIED"),
        ({"job_id": "job-2"}, "harbor", "NOT_FOUND"),
        ({"other": True}, "harbor", "PERMISSION_DENIED"),
    ],
)
async def test_a_ticket_opens_only_what_it_names(  # noqa: PLR0917 - fixtures and cases
    harbor, ridge, tmp_path, changes, dialled, match
):
    checkpoint = await sealed(harbor, tmp_path)
    changes = dict(changes)
    identity = checkpoint.checkpoint_id
    named = OTHER if changes.pop("other", False) else identity
    if "expires_at" in changes:
        changes["expires_at"] = datetime.now(UTC) - timedelta(seconds=1)  # noqa: TID251
    token = mint(site_key(SECRET, dialled), claims(named, **changes))
    async with harbor.serving():
        with pytest.raises(PermanentError, match=match):
            await ridge.transfers.fetch(JOB, fetch_order(identity, harbor.address, token), ignore)


async def test_missing_ticket_and_unknown_checkpoint(harbor, ridge, tmp_path):
    async with harbor.serving():
        with pytest.raises(PermanentError, match=r"UNAUTHENTICATED.*malformed"):
            await ridge.transfers.fetch(JOB, fetch_order(OTHER, harbor.address, ""), ignore)
        with pytest.raises(PermanentError, match="NOT_FOUND"):
            order = fetch_order(OTHER, harbor.address, ticket("harbor", OTHER))
            await ridge.transfers.fetch(JOB, order, ignore)


async def test_an_offer_needs_the_holders_own_ticket(harbor, ridge, tmp_path):
    checkpoint = await sealed(harbor, tmp_path)
    identity = checkpoint.checkpoint_id
    async with ridge.serving():
        for changes, match in (
            ({"holder": "summit"}, "PERMISSION_DENIED"),
            ({"receiver": "summit"}, "PERMISSION_DENIED"),
        ):
            order = offer_order(identity, ridge.address, ticket("ridge", identity, **changes))
            with pytest.raises(PermanentError, match=match):
                await harbor.transfers.offer(JOB, order)
        with pytest.raises(PermanentError, match="no checkpoint"):
            await harbor.transfers.offer("job-2", order)


async def test_rate_is_kept_by_the_holder_and_by_the_receiver(harbor, ridge, tmp_path):
    checkpoint = await sealed(harbor, tmp_path, {"w": 500_000})
    identity = checkpoint.checkpoint_id
    rate_bps = 500_000 * 8.0
    for in_ticket, in_order in ((rate_bps, None), (None, rate_bps)):
        await ridge.store.keep_newest(JOB, 0)
        async with harbor.serving():
            token = ticket("harbor", identity, max_bps=in_ticket)
            order = fetch_order(identity, harbor.address, token, in_order)
            result = await ridge.transfers.fetch(JOB, order, ignore)
        # A quarter of a second's worth may burst; the rest takes its time.
        assert 0.6 <= result.seconds < 3.0
