"""One encoding for all clients that are sent the same event, even if the deliveries of several events alternate.

It saves time, and memory: bytes that clients leave unread exist once, however many clients there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Source = TypeVar("Source")

#: Encodings kept, and their bytes; the newest one is kept whatever its size.
MAX_KEPT = 32
MAX_BYTES = 4 << 20


class Shared(Generic[Source]):
    """The results of `make` for its last sources, which are compared as objects. The oldest result is dropped first."""

    def __init__(self, make: Callable[[Source], bytes]) -> None:
        self._make = make
        self._kept: dict[int, tuple[Source, bytes]] = {}  # a source that is kept shares its id with no other object
        self._bytes = 0

    def __call__(self, source: Source) -> bytes:
        kept = self._kept.get(id(source))
        if kept is not None:
            return kept[1]
        made = self._make(source)
        self._bytes += len(made)
        while self._kept and (len(self._kept) >= MAX_KEPT or self._bytes > MAX_BYTES):
            _, old = self._kept.pop(next(iter(self._kept)))
            self._bytes -= len(old)
        self._kept[id(source)] = source, made
        return made
