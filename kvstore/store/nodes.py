"""All nodes by full key, so that a picture of them costs next to nothing however many there are.

The keys are spread over many small dicts by a checksum, the same in every process. A picture takes the dicts as they
are; whoever changes one afterwards changes a copy of that one alone. So a million nodes are never copied in one go, nor
moved in one go when a dict grows, and no request waits for either. (The children of one directory are still one dict
each, in the tree.) The order of the keys follows from the keys and from the order in which those of one part came.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias
from zlib import crc32

#: A power of two. With a million keys a part has a thousand, and its copy costs some tens of microseconds.
PARTS = 1024
_MASK = PARTS - 1

# (value, created, modified, expiration). value None: a directory; expiration in ns since the epoch, None:
# permanent. A plain tuple, because the garbage collector stops tracking plain tuples of atoms, and a pause over a
# million nodes would be felt.
Node: TypeAlias = tuple[bytes | None, int, int, int | None]


class Nodes:
    """What a dict of nodes can do, as far as it is needed here."""

    __slots__ = ("_parts", "_seen")

    def __init__(self) -> None:
        self._parts: list[dict[bytes, Node]] = [{} for _ in range(PARTS)]
        self._seen = bytearray(PARTS)  # 1: a picture was taken since this part was last copied

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __contains__(self, key: bytes) -> bool:
        return key in self._parts[crc32(key) & _MASK]

    def __getitem__(self, key: bytes) -> Node:
        return self._parts[crc32(key) & _MASK][key]

    def get(self, key: bytes) -> Node | None:
        return self._parts[crc32(key) & _MASK].get(key)

    def __setitem__(self, key: bytes, node: Node) -> None:
        at = crc32(key) & _MASK
        if self._seen[at]:
            self._copy(at)
        self._parts[at][key] = node

    def pop(self, key: bytes) -> Node:
        at = crc32(key) & _MASK
        if self._seen[at]:
            self._copy(at)
        return self._parts[at].pop(key)

    def _copy(self, at: int) -> None:
        self._parts[at] = self._parts[at].copy()
        self._seen[at] = 0

    def freeze(self) -> FrozenNodes:
        """As they are now; no later change shows in it."""
        self._seen = bytearray(b"\1" * PARTS)
        return FrozenNodes(self._parts.copy())


class FrozenNodes:
    """A picture, which another thread may read."""

    __slots__ = ("_parts",)

    def __init__(self, parts: list[dict[bytes, Node]]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[tuple[bytes, Node]]:
        for part in self._parts:
            yield from part.items()
