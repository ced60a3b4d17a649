"""Keeps the event loop awake for a moment after an answer to a client that asks one thing after the other.

To be woken costs a processor that has gone to sleep more than a read takes. So while answers leave one by one, the loop
looks again at once, instead of waiting to be told, until there was nothing for a moment. Where several leave in one
turn there is no time to sleep; and while a write is under way the processor is left to those who do it. Knows no
connection.
"""

from __future__ import annotations

import asyncio
from time import monotonic

#: How long behind the last answer: about what a client needs to be woken by it and to ask again.
AWAKE_SECONDS = 0.0001


class Vigil:
    """One for all connections of a loop."""

    __slots__ = ("_loop", "_seen", "_since", "_told", "is_kept")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._told = 0
        self._seen = 0
        self._since = 0.0  # when the last answer was seen
        self.is_kept = False

    def tell(self) -> None:
        """An answer leaves."""
        self._told += 1
        if not self.is_kept:
            self.is_kept = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        told, self._seen = self._told - self._seen, self._told
        now = monotonic()
        if told:
            self._since = now
        if told <= 1 and now - self._since < AWAKE_SECONDS:
            self._loop.call_soon(self._turn)
        else:
            self.is_kept = False
