"""Bodies of directory listings, kept until the next write: many clients ask again and again for the same ones.

A store with the same index is the same store, so what was written out once is right until the index moves. Not kept are
listings in which something expires: what they say of it changes with every second.
"""

from __future__ import annotations

from kvstore.http.v2.parameters import KeyRequest

#: Of all bodies together; one more, and they all go.
LISTINGS_BYTES = 8 << 20
_EXPIRES = b'"expiration":"'  # a quote within a key or value is escaped, so this can only be a field


class Listings:
    """The bodies of one store at one index."""

    __slots__ = ("_bodies", "_bytes", "_index")

    def __init__(self) -> None:
        self._index = -1
        self._bytes = 0
        self._bodies: dict[tuple[bytes, bool, bool], bytes] = {}

    def get(self, asked: KeyRequest, index: int) -> bytes | None:
        """The body for a directory as it is at `index`, if it was kept."""
        if index != self._index:
            return None
        return self._bodies.get((asked.key, asked.recursive, asked.sorted))

    def keep(self, asked: KeyRequest, index: int, body: bytes) -> None:
        if _EXPIRES in body:
            return
        self._bytes += len(body)
        if index != self._index or self._bytes > LISTINGS_BYTES:
            self._bodies.clear()
            self._index = index
            self._bytes = len(body)
        if self._bytes <= LISTINGS_BYTES:
            self._bodies[(asked.key, asked.recursive, asked.sorted)] = body
