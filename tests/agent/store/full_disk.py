"""A real database that can be told to fail like a full disk; shared by the tests of what is stored in it."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from agent.store.db import Database
from sterna.errors import TransientError

T = TypeVar("T")


class FullDisk(Database):
    """Counts its transactions, too."""

    transactions = 0
    full = False

    async def run(self, work: Callable[[sqlite3.Connection], T], *, spare: bool = False) -> T:
        self.transactions += 1
        if self.full:
            raise TransientError("database or disk is full")
        return await super().run(work, spare=spare)
