"""Keeps the event loop awake for a moment behind a client that asks one thing after the other.

To be woken costs a processor that has gone to sleep more than a read takes. So while answers leave one by one, the loop
looks again at once, instead of waiting to be told, until there was nothing for a moment; and so it does while a lone
write is under way. Where several answers leave in one turn, or several writes are under way, there is no time to sleep
anyway. Knows no connection.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import monotonic

#: How long behind the last answer: about what a client needs to be woken by it and to ask again.
AWAKE_SECONDS = 0.0001
#: How long behind a lone write, which ends sooner on most disks.
WRITE_SECONDS = 0.001


class Vigil:
    """One for all connections of a listener. `pending` tells how many commands wait for their outcome."""

    __slots__ = ("_is_write", "_loop", "_pending", "_seen", "_since", "_told", "is_kept")

    def __init__(self, loop: asyncio.AbstractEventLoop, pending: Callable[[], int]) -> None:
        self._loop = loop
        self._pending = pending
        self._told = 0
        self._seen = 0
        self._is_write = False  # the last of them was one
        self._since = 0.0  # when the last of them was seen
        self.is_kept = False

    def tell(self, is_write: bool = False) -> None:
        """An answer leaves, or a write begins."""
        self._told += 1
        self._is_write = is_write
        if not self.is_kept:
            self.is_kept = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        told, self._seen = self._told - self._seen, self._told
        now = monotonic()
        if told:
            self._since = now
        if told <= 1 and self._goes_on(now - self._since):
            self._loop.call_soon(self._turn)
        else:
            self.is_kept = False

    def _goes_on(self, seconds: float) -> bool:
        pending = self._pending()
        if pending == 1 and self._is_write:
            # Others first, above all the thread that syncs the log. Only here: it may be theirs for milliseconds.
            os.sched_yield()
            return seconds < WRITE_SECONDS
        return pending <= 1 and seconds < AWAKE_SECONDS
