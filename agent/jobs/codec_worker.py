"""Runs the checkpoint codec in a process of its own: short-lived, of low priority, gone when we are.

The agent itself imports neither numpy nor zstandard: what it knows of the codec is a command line and lines
of JSON. It refuses to know which checkpoints are worth it (`agent.core.codec_plan`) and where they go.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sterna.errors import CorruptError, PermanentError, TransientError

Progress = Callable[[int], None]
"""Told how many bytes were worked on so far, a few times per second."""

PIECE_BYTES = 256 * 1024
SILENCE_S = 5.0
"""A stream says that it still works at least so often."""

_MODULE = "agent.jobs.codec"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """What an encoding gave, or would give: `codec_bytes` maps a codec to (bytes in, bytes sent)."""

    size_bytes: int
    sent_bytes: int
    codec_bytes: Mapping[str, tuple[int, int]]


class CodecWorker:
    """Starts one worker process per call.

    Parameters
    ----------
    timeout_s : float
        Longest time that one call may take, in seconds; the worker is killed then.
    niceness : int
        The worker's own, 0 to 19, whatever that of the agent is.
    python : str
        Interpreter, with the extra ``delta`` installed.
    """

    def __init__(self, *, timeout_s: float, niceness: int = 10, python: str = sys.executable) -> None:
        self._timeout_s = timeout_s
        self._command_streaming = (python, "-m", _MODULE, "--nice", str(niceness))
        self._command = (*self._command_streaming, "--orphan-ends")

    async def encode(
        self, new: Path, container: Path, old: Path | None = None, progress: Progress | None = None
    ) -> Coded:
        """Encode the checkpoint `new`, as a difference to `old`, into the file `container`.

        Raises
        ------
        CorruptError
            The checkpoint changed while it was read.
        TransientError
            Too slow, out of memory or of disk, or the worker died.
        PermanentError
            There is no such checkpoint, or the extra ``delta`` is not installed.
        """
        arguments = ["encode", "--new", str(new), "--container", str(container), *_old(old)]
        return _coded(await self._run(arguments, container, progress))

    async def estimate(self, new: Path, old: Path | None = None, progress: Progress | None = None) -> Coded:
        """Tell what `encode` would send. Raises as `encode` does."""
        return _coded(await self._run(["estimate", "--new", str(new), *_old(old)], None, progress))

    async def decode(
        self,
        container: Path,
        target: Path,
        old: Path | None = None,
        *,
        max_bytes: int,
        progress: Progress | None = None,
    ) -> int:
        """Make the checkpoint `target`, at most `max_bytes` large; return its bytes.

        Raises
        ------
        CorruptError
            The container or `old` is not what it should be; nothing is left at the target.
        TransientError, PermanentError
            As for `encode`.
        """
        arguments = ["decode", "--container", str(container), "--target", str(target)]
        arguments += ["--max-bytes", str(max_bytes), *_old(old)]
        return int(str((await self._run(arguments, target, progress))["size_bytes"]))

    async def encode_stream(self, new: Path, old: Path) -> AsyncGenerator[bytes, None]:
        """Encode `new` as a difference to `old`; give the container piece by piece, while it is made.

        An empty piece says that nothing was ready for `SILENCE_S`. The worker ends with the generator: close
        it (``contextlib.aclosing``).

        Raises
        ------
        As `encode` does, behind the last piece: what was given before is then worth nothing by itself.
        """
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *("encode", "--new", str(new), "--container", "-", *_old(old)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=PIECE_BYTES,
        )
        try:
            if process.stdout is None or process.stderr is None:
                raise PermanentError("codec: its process has no output")
            while True:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        piece = await process.stdout.read(PIECE_BYTES)
                except TimeoutError:
                    yield b""
                    continue
                if not piece:
                    break
                yield piece
            _judged(await process.stderr.read(), await process.wait())
        finally:
            await _end(process, None)

    async def decode_stream(
        self,
        pieces: AsyncIterator[bytes | memoryview],
        target: Path,
        old: Path,
        *,
        max_bytes: int,
        progress: Progress,
    ) -> int:
        """Fill the files at `target` from a container that is still arriving; return their bytes.

        What was filled before an error stays. Raises as `decode` does, and what `pieces` raises.
        """
        arguments = ("decode", "--container", "-", "--target", str(target))
        process = await asyncio.create_subprocess_exec(
            *self._command_streaming,
            *(*arguments, "--max-bytes", str(max_bytes), *_old(old)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.TaskGroup() as group:
                answering = group.create_task(_answer(process, progress))
                await _feed(process, pieces)
            answer, code = answering.result(), await process.wait()
        except BaseExceptionGroup as group_error:
            raise _first(group_error) from group_error
        finally:
            await _end(process, None)
        if answer is None:
            raise TransientError(f"codec: its process ended with {code} and no answer")
        return int(str(answer["size_bytes"]))

    async def _run(
        self, arguments: Sequence[str], makes: Path | None, progress: Progress | None
    ) -> Mapping[str, object]:
        process = await asyncio.create_subprocess_exec(
            *self._command, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await _answer(process, progress)
                code = await process.wait()
        except TimeoutError as error:
            raise TransientError(f"codec: took longer than {self._timeout_s:g} s") from error
        finally:
            await _end(process, makes)
        if answer is None:
            raise TransientError(f"codec: its process ended with {code} and no answer")
        return answer


async def _feed(process: asyncio.subprocess.Process, pieces: AsyncIterator[bytes | memoryview]) -> None:
    """Pass the pieces on until there are no more, or the worker has seen enough."""
    if process.stdin is None:
        raise PermanentError("codec: its process has no input")
    async for piece in pieces:
        process.stdin.write(bytes(piece))
        try:
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return  # it says why
    process.stdin.close()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _judged(output: bytes, code: int) -> None:
    """Raise what a streaming encoder said at its end, if that was an error or nothing."""
    last = output.splitlines()[-1] if output else b""
    try:
        said = json.loads(last)
    except ValueError:
        raise TransientError(f"codec: its process ended with {code} and no answer") from None
    if "error" in said:
        raise _error(said["error"])


async def _answer(
    process: asyncio.subprocess.Process, progress: Progress | None
) -> Mapping[str, object] | None:
    """Read lines until there are no more; None when none was a result."""
    result: Mapping[str, object] | None = None
    if process.stdout is None:
        raise PermanentError("codec: its process has no output")
    async for line in process.stdout:
        said = json.loads(line)
        if "error" in said:
            raise _error(said["error"])
        if "done_bytes" in said and progress is not None:
            progress(said["done_bytes"])
        result = said.get("result", result)
    return result


async def _end(process: asyncio.subprocess.Process, makes: Path | None) -> None:
    """Leave neither a process nor half of what it made."""
    if process.returncode is None:
        try:
            process.kill()
        except ProcessLookupError:
            return  # it ended by itself, just now
        # Killed, it ends within moments, also when we are being cancelled again meanwhile.
        await asyncio.shield(process.wait())
    if process.returncode != 0 and makes is not None:
        await asyncio.shield(asyncio.to_thread(_remove, makes.with_name(makes.name + ".partial")))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _error(said: Mapping[str, str]) -> Exception:
    message = f"codec: {said['message']}"
    match said["kind"]:
        case "corrupt":
            return CorruptError(message)
        case "disk":
            return TransientError(message)
        case "missing":
            return PermanentError(f"{message}; the extra 'delta' is not installed")
        case _:
            return PermanentError(message)


def _coded(result: Mapping[str, object]) -> Coded:
    counts = result["codec_bytes"]
    if not isinstance(counts, dict):
        raise PermanentError("codec: its answer is not one")
    return Coded(
        size_bytes=int(str(result["size_bytes"])),
        sent_bytes=int(str(result["sent_bytes"])),
        codec_bytes={codec: (given, sent) for codec, (given, sent) in counts.items()},
    )


def _old(old: Path | None) -> list[str]:
    return [] if old is None else ["--old", str(old)]
