"""Whether a store's folder can be read, and when to try again. It refuses to know what lies in it."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.jobs import checkpoint_files as disk
from sterna.clock import Clock
from sterna.errors import TransientError

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY_S = 5.0
"""A folder that could not be read is left alone for so long: a sick disk may take seconds to say so."""


class Access:
    """The first reading of a store, until it succeeds.

    Parameters
    ----------
    root : Path
        The store's folder, for the message.
    clock : Clock
        For the pauses between tries.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._again_s = 0.0
        self.fault = ""
        """Why it could not be read; empty when it could, or nobody has tried."""

    async def read(self, work: Callable[[threading.Event], T]) -> T:
        """Read in a thread, unless that has failed a moment ago.

        Raises
        ------
        TransientError
            The folder cannot be read; `retry_after_s` is the time until the next try.
        """
        left_s = self._again_s - self._clock.boottime_s()
        if self.fault and left_s > 0.0:
            raise TransientError(self.fault, retry_after_s=left_s)
        try:
            found = await disk.in_thread(work)
        except TransientError as error:
            fault = f"the checkpoint folder {self._root} cannot be read: {error.__cause__ or error}"
            if fault != self.fault:
                log.error("checkpoints cannot be read, no job is taken", extra={"fault": fault})
            self.fault, self._again_s = fault, self._clock.boottime_s() + RETRY_S
            raise TransientError(fault, retry_after_s=RETRY_S) from error
        if self.fault:
            log.info("checkpoints can be read again", extra={"folder": str(self._root)})
        self.fault = ""
        return found
