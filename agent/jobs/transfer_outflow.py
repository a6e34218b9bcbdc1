"""The holder's side of a transfer, whoever dialled: chunks as pieces for the wire, read ahead, paced."""

import asyncio
from collections.abc import AsyncGenerator

from agent.core.bitmap import Run
from agent.jobs.transfer_files import ChunkReader
from agent.jobs.transfer_intake import Pacer


async def chunk_pieces(
    reader: ChunkReader, run: Run, pacers: tuple[Pacer, ...]
) -> AsyncGenerator[memoryview, None]:
    """Give the bytes of consecutive chunks; the next chunk is read in a thread while one is sent.

    A piece is only good until the next one is asked for.

    Raises
    ------
    CorruptError
        The stored files are not what was sealed, or the disk does not give them back.
    TransientError
        They cannot be read now.
    """
    loop = asyncio.get_running_loop()
    piece_bytes = min(pacer.piece_bytes for pacer in pacers)
    size_bytes = reader.layout.chunk_size_bytes(run.first)
    sending, reading = bytearray(size_bytes), bytearray(size_bytes)
    ahead = loop.run_in_executor(None, reader.read, run.first, reading)
    try:
        for index in range(run.first, run.first + run.count):
            chunk = await ahead
            sending, reading = reading, sending
            if index + 1 < run.first + run.count:
                ahead = loop.run_in_executor(None, reader.read, index + 1, reading)
            for start in range(0, len(chunk), piece_bytes):
                piece = chunk[start : start + piece_bytes]
                for pacer in pacers:
                    await pacer.pass_on(len(piece))
                yield piece
    finally:
        if not ahead.done():
            await asyncio.wait([ahead])
        if not ahead.cancelled():
            ahead.exception()  # seen: whoever closed the stream no longer cares
