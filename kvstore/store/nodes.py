"""All nodes by full key, so that a picture of them costs next to nothing however many there are.

A picture takes the small dicts that the keys are spread over as they are; whoever changes one afterwards changes a copy
of that one alone. So a million nodes are never copied in one go, and no request waits for it.

What comes out of a snapshot is held packed where that is possible: most of what a member holds after its start will
not be asked for soon, and a tuple with its number takes as much memory as a value of a hundred bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TypeAlias
from zlib import crc32

from kvstore.store.spread import MASK, PARTS

# (value, created, modified, expiration). value None: a directory; expiration in ns since the epoch, None:
# permanent. A plain tuple, because the garbage collector stops tracking plain tuples of atoms, and a pause over a
# million nodes would be felt.
Node: TypeAlias = tuple[bytes | None, int, int, int | None]

# A permanent file that was never changed: the index that is both, and the value behind it.
Packed: TypeAlias = bytes
_INDEX = Struct(">Q")
_INDEX_BYTES = _INDEX.size
#: A longer value is not worth being copied whenever it is asked for.
PACKED_VALUE_BYTES = 1024


def packed(value: bytes | None, created: int, modified: int, expiration: int | None) -> Node | Packed:
    """The node as it takes the least memory, and a little longer to get. struct.error for an index that is none."""
    if created != modified or expiration is not None or value is None or len(value) > PACKED_VALUE_BYTES:
        return value, created, created if created == modified else modified, expiration  # not two equal numbers
    return _INDEX.pack(created) + value


def _unpacked(packed: Packed) -> Node:
    (index,) = _INDEX.unpack_from(packed)
    return packed[_INDEX_BYTES:], index, index, None


class Nodes:
    """What a dict of nodes can do, as far as it is needed here."""

    __slots__ = ("_parts", "_seen")

    def __init__(self) -> None:
        self._parts: list[dict[bytes, Node | Packed]] = [{} for _ in range(PARTS)]
        self._seen = bytearray(PARTS)  # 1: a picture was taken since this part was last copied

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            yield from part

    def __contains__(self, key: bytes) -> bool:
        return key in self._parts[crc32(key) & MASK]

    def __getitem__(self, key: bytes) -> Node:
        node = self._parts[crc32(key) & MASK][key]
        return _unpacked(node) if type(node) is bytes else node  # type: ignore[return-value]

    def get(self, key: bytes) -> Node | None:
        node = self._parts[crc32(key) & MASK].get(key)
        return _unpacked(node) if type(node) is bytes else node  # type: ignore[return-value]

    def put(self, key: bytes, node: Node | Packed) -> None:
        at = crc32(key) & MASK
        if self._seen[at]:
            self._copy(at)
        self._parts[at][key] = node

    def pop(self, key: bytes) -> Node:
        at = crc32(key) & MASK
        if self._seen[at]:
            self._copy(at)
        node = self._parts[at].pop(key)
        return _unpacked(node) if type(node) is bytes else node  # type: ignore[return-value]

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

    def __init__(self, parts: list[dict[bytes, Node | Packed]]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __getitem__(self, key: bytes) -> Node:
        node = self._parts[crc32(key) & MASK][key]
        return _unpacked(node) if type(node) is bytes else node  # type: ignore[return-value]

    def __iter__(self) -> Iterator[tuple[bytes, Node]]:
        for part in self._parts:
            for key, node in part.items():
                yield key, (_unpacked(node) if type(node) is bytes else node)  # type: ignore[misc]
