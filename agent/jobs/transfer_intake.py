"""The receiver's side of a transfer, whoever dialled: put pieces together, verify, keep, pace, count."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.core.bitmap import Run
from agent.core.pacing import Bucket, draw, full_bucket
from agent.jobs.checkpoint_files import in_thread
from agent.jobs.transfer_files import MESSAGE_BYTES, Staging
from agent.jobs.transfer_link import LinkError
from sterna.clock import Clock
from sterna.errors import CorruptError, PeerProtocolError, SternaError
from sterna.units import bits_to_bytes

OnProgress = Callable[[int, int], None]
"""Called with the verified bytes so far and the bytes of the whole checkpoint."""
Read = Callable[[], Awaitable[memoryview | None]]
"""Gives the next piece; None at the end of the stream."""

CHUNK_TRIES = 3
BURST_S = 0.25
STORING_CHUNKS = 2
"""Chunks of a stream that wait for a thread or are written, while the next one arrives."""
_MIN_PIECE_BYTES = 16 * 1024


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise, in place of a group of errors, the one that decides: a bug first, a cut last."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise min(_leaves(group), key=_weight) from group


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _weight(error: BaseException) -> int:
    if isinstance(error, LinkError):
        return 2
    return 1 if isinstance(error, SternaError) else 0


class Pacer:
    """Keeps a rate over all streams that share it.

    Parameters
    ----------
    max_bps : float or None
        Bits per second; None: as fast as it goes.
    clock : Clock
        Its duration clock is used.
    """

    def __init__(self, max_bps: float | None, clock: Clock) -> None:
        self._clock = clock
        self._bucket: Bucket | None = None
        self.piece_bytes = MESSAGE_BYTES
        if max_bps is not None:
            rate_bytes_s = bits_to_bytes(max_bps)
            burst_bytes = rate_bytes_s * BURST_S
            self._bucket = full_bucket(rate_bytes_s, burst_bytes, clock.boottime_s())
            # On a slow link a whole message would be silence for longer than the other side waits.
            self.piece_bytes = max(_MIN_PIECE_BYTES, min(MESSAGE_BYTES, int(burst_bytes)))

    async def pass_on(self, size_bytes: int) -> None:
        """Wait until these bytes may pass."""
        if self._bucket is not None:
            self._bucket, wait_s = draw(self._bucket, size_bytes, self._clock.boottime_s())
            if wait_s > 0:
                await asyncio.sleep(wait_s)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one fetch has moved, over all its connections."""

    transferred_bytes: int = 0
    """Received, whether or not it was kept."""
    difference_bytes: int = 0
    """Of these, what came as a difference."""
    strikes: Counter[int] = field(default_factory=Counter)
    """How often a chunk arrived different."""
    looked_s: float = 0.0
    """Seconds in which what an earlier fetch had left was looked at: no link was used meanwhile."""
    moved_at_s: float
    """Duration clock when something last arrived and was kept."""


async def opened(staging: Staging, tally: Tally, clock: Clock) -> None:
    """Open a staging folder, and leave the time out of what the link is judged by."""
    began_s = clock.boottime_s()
    await in_thread(staging.open)
    tally.looked_s += clock.boottime_s() - began_s


class Intake:
    """Fills a staging folder from streams of pieces.

    Parameters
    ----------
    staging : Staging
        Open.
    peer : str
        The holder, for messages.
    tally : Tally
        Outlives the connection.
    pacers : tuple of Pacer
        All of them are obeyed.
    clock : Clock
        Its duration clock is used.
    stall_s : float
        Seconds without a piece after which the stream counts as dead.
    on_progress : callable
        See `OnProgress`.
    """

    def __init__(
        self,
        *,
        staging: Staging,
        peer: str,
        tally: Tally,
        pacers: tuple[Pacer, ...],
        clock: Clock,
        stall_s: float,
        on_progress: OnProgress,
    ) -> None:
        self.staging = staging
        self._peer = peer
        self._tally = tally
        self._pacers = pacers
        self._clock = clock
        self._stall_s = stall_s
        self._on_progress = on_progress
        self._total_bytes = staging.manifest.size_bytes
        self._here_bytes = self._total_bytes - staging.missing_bytes
        on_progress(self._here_bytes, self._total_bytes)

    async def take(self, run: Run, read: Read) -> list[Run]:
        """Take in the chunks of one run.

        Returns
        -------
        list of Run
            What arrived different and is to be asked for again.

        Raises
        ------
        LinkError
            The stream ended early or fell silent.
        PeerProtocolError
            A piece straddles chunks.
        CorruptError
            A chunk arrived different again and again.
        """
        again: list[Run] = []
        storing: deque[asyncio.Task[None]] = deque()
        with unwrapped():
            async with asyncio.TaskGroup() as group:
                for index in range(run.first, run.first + run.count):
                    pieces = await self._gather(index, read)
                    storing.append(group.create_task(self._keep(index, pieces, again)))
                    if len(storing) > STORING_CHUNKS:
                        await storing.popleft()
        return again

    async def _gather(self, index: int, read: Read) -> list[memoryview]:
        """Collect the pieces of a chunk, as they came: putting them together would be one more copy."""
        pieces: list[memoryview] = []
        missing_bytes = self.staging.layout.chunk_size_bytes(index)
        while missing_bytes:
            try:
                async with asyncio.timeout(self._stall_s):
                    piece = await read()
            except TimeoutError as error:
                raise LinkError(f"{self._peer}: nothing came for {self._stall_s} s") from error
            if piece is None:
                raise LinkError(f"{self._peer}: the stream ended within chunk {index}")
            if not 0 < len(piece) <= missing_bytes:
                raise PeerProtocolError(
                    f"{self._peer}: {len(piece)} bytes where chunk {index} lacks {missing_bytes}"
                )
            pieces.append(piece)
            missing_bytes -= len(piece)
            self._tally.transferred_bytes += len(piece)
            for pacer in self._pacers:
                await pacer.pass_on(len(piece))
        return pieces

    async def _keep(self, index: int, pieces: Sequence[memoryview], again: list[Run]) -> None:
        if await in_thread(lambda _: self.staging.store(index, pieces)):
            self._here_bytes += self.staging.layout.chunk_size_bytes(index)
            self._tally.moved_at_s = self._clock.boottime_s()
            self._on_progress(self._here_bytes, self._total_bytes)
            return
        self._tally.strikes[index] += 1
        if self._tally.strikes[index] >= CHUNK_TRIES:
            raise CorruptError(f"{self._peer}: chunk {index} arrived different {CHUNK_TRIES} times")
        again.append(Run(first=index, count=1))  # alone: its holder looks first
