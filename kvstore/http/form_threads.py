"""Threads that parse large forms beside the event loop, and do nothing else.

One parses forms with many escapes, which take longest, another one all other forms; so a large value that is sent
plainly waits for neither them nor name lookups, which are left to the event loop's own threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

#: A form with more of them is one with many: their parsing takes milliseconds.
MANY_ESCAPES = 10_000
PART_BYTES = 64 << 10  # escapes are counted in one such part of a form after the other

T = TypeVar("T")


class FormThreads:
    """The threads of one member. Each starts when it is first needed, and ends with this object or the process."""

    def __init__(self) -> None:
        self._plain = ThreadPoolExecutor(1, "kvstore-forms")
        self._escaped = ThreadPoolExecutor(1, "kvstore-escaped-forms")

    async def run(self, body: bytes | bytearray, job: Callable[[], T]) -> T:
        """Return what `job` does, which is to parse `body`."""
        threads = self._escaped if _has_many_escapes(body) else self._plain
        return await asyncio.get_running_loop().run_in_executor(threads, job)


def _has_many_escapes(body: bytes | bytearray) -> bool:
    """Stop counting early, because that takes a while for a form that consists of them."""
    escapes = 0
    for start in range(0, len(body), PART_BYTES):
        escapes += body.count(b"%", start, start + PART_BYTES)
        if escapes > MANY_ESCAPES:
            return True
    return False
