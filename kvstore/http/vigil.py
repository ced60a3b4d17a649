"""Keeps the event loop awake for a moment after a request of a client that asks one thing after the other.

To be woken costs a processor that has gone to sleep more than a read takes. So while requests come one by one, the loop
looks again at once, instead of waiting to be told, until there was nothing for a moment. Where several come in one
turn there is no time to sleep, and whoever waits, waits for others: then nothing is done. Knows no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

#: How long behind the last request: about what a client needs to be woken by its answer and to ask again.
AWAKE_SECONDS = 0.0001
#: How long for the outcome of a single write, which wakes the loop as well.
WRITE_SECONDS = 0.001


class Vigil:
    """`pending` tells how many commands wait for their outcome."""

    __slots__ = ("_loop", "_pending", "_seen", "_since", "_told", "is_kept")

    def __init__(self, loop: asyncio.AbstractEventLoop, pending: Callable[[], int]) -> None:
        self._loop = loop
        self._pending = pending
        self._told = 0
        self._seen = 0
        self._since = 0.0  # when the last request was seen
        self.is_kept = False

    def tell(self) -> None:
        """There is a request."""
        self._told += 1
        if not self.is_kept:
            self.is_kept = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        told, self._seen = self._told - self._seen, self._told
        now = monotonic()
        if told:
            self._since = now
        if told <= 1 and now - self._since < (WRITE_SECONDS if self._pending() == 1 else AWAKE_SECONDS):
            self._loop.call_soon(self._turn)
        else:
            self.is_kept = False
