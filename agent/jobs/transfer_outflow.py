"""The holder's side of a transfer, whoever dialled: chunks as pieces for the wire, read ahead, paced."""

import asyncio
from collections.abc import AsyncIterator

from agent.core.bitmap import Run
from agent.jobs.transfer_files import ChunkReader
from agent.jobs.transfer_intake import Pacer


async def chunk_pieces(reader: ChunkReader, run: Run, pacers: tuple[Pacer, ...]) -> AsyncIterator[bytes]:
    """Give the bytes of consecutive chunks; the next chunk is read in a thread while one is sent.

    Raises
    ------
    CorruptError
        The stored files cannot be read.
    """
    loop = asyncio.get_running_loop()
    piece_bytes = min(pacer.piece_bytes for pacer in pacers)
    ahead = loop.run_in_executor(None, reader.read, run.first, piece_bytes)
    try:
        for index in range(run.first, run.first + run.count):
            pieces = await ahead
            if index + 1 < run.first + run.count:
                ahead = loop.run_in_executor(None, reader.read, index + 1, piece_bytes)
            for piece in pieces:
                for pacer in pacers:
                    await pacer.pass_on(len(piece))
                yield piece
    finally:
        if not ahead.done():
            await asyncio.wait([ahead])
        if not ahead.cancelled():
            ahead.exception()  # seen: whoever closed the stream no longer cares
