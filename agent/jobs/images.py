"""Images of containers: whether one is here, and fetching one that is not before a job comes for it."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress

log = logging.getLogger(__name__)

LOOK_TIMEOUT_S = 10.0
FETCH_TIMEOUT_S = 3600.0

Spawn = Callable[[Coroutine[object, object, None]], object]


class Images:
    """What the engines of a site have.

    Parameters
    ----------
    environ : mapping
        Environment of their commands.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._fetching: set[str] = set()
        self._failed: dict[str, str] = {}

    async def obstacle(self, command: tuple[str, ...], image: str, spawn: Spawn) -> str:
        """Say that an image is not here, and have it fetched; empty when it is here.

        Parameters
        ----------
        command : tuple of str
            What every command of the engine begins with.
        image : str
            As the engine names it.
        spawn : callable
            Runs a coroutine beside this one.
        """
        if await self._run(LOOK_TIMEOUT_S, *command, "image", "inspect", image) == "":
            self._failed.pop(image, None)
            return ""
        failed = self._failed.get(image)
        if image not in self._fetching:
            self._fetching.add(image)
            spawn(self._fetch(command, image))
        return f"{image} is not here, and is being fetched" + (f"; last time: {failed}" if failed else "")

    async def _fetch(self, command: tuple[str, ...], image: str) -> None:
        try:
            said = await self._run(FETCH_TIMEOUT_S, *command, "pull", "--quiet", image)
        finally:
            self._fetching.discard(image)
        if said:
            self._failed[image] = said
            log.warning("image not fetched", extra={"image": image, "error": said})
        else:
            log.info("image fetched", extra={"image": image})

    async def _run(self, timeout_s: float, *words: str) -> str:
        """Return the last thing that a command which failed has said; empty: it succeeded."""
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            return str(error)
        try:
            async with asyncio.timeout(timeout_s):
                _, stderr = await process.communicate()
        except TimeoutError:
            return f"{words[0]} takes longer than {timeout_s:.0f} s"
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):  # with all that it started: that holds the pipe open
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode == 0:
            return ""
        lines = stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {process.returncode}"
