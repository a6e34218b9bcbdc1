"""Runs the checkpoint codec in a process of its own: short-lived, of low priority, gone when we are.

The agent itself imports neither numpy nor zstandard: what it knows of the codec is a command line and lines
of JSON. It refuses to know which checkpoints are worth it (`agent.core.codec_plan`) and where they go.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sterna.errors import CorruptError, PermanentError, TransientError

Progress = Callable[[int], None]
"""Told how many bytes were worked on so far, a few times per second."""

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
        Added to the worker's own, 0 to 19.
    python : str
        Interpreter, with the extra ``delta`` installed.
    """

    def __init__(self, *, timeout_s: float, niceness: int = 10, python: str = sys.executable) -> None:
        self._timeout_s = timeout_s
        self._command = (python, "-m", _MODULE, "--orphan-ends", "--nice", str(niceness))

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
