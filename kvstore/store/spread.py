"""Keys spread over many small dicts, so that however many there are, they are never moved in one go when a dict grows.

By a checksum, the same in every process: the order of the keys follows from the keys and from the order in which those
of one part came, and from nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeAlias, TypeVar
from zlib import crc32

#: A power of two. With a million keys a part has a thousand, and its copy costs some tens of microseconds.
PARTS = 1024
MASK = PARTS - 1
#: Up to so many keys one dict does: it is quicker, grows in a fraction of a millisecond, and is spread in two at most.
ONE_DICT_KEYS = 8_192

V = TypeVar("V")


def let_others_run() -> None:
    """For a loop over all keys in what is compiled, every thousand of them or so: another thread gets the interpreter
    only where a function begins that is not compiled. So this one must not be."""


class Spread(Generic[V]):
    """What a dict can do, as far as it is needed here."""

    __slots__ = ("_parts", "_shared")

    def __init__(self, items: Iterable[tuple[bytes, V]]) -> None:
        self._parts: list[dict[bytes, V]] = [{} for _ in range(PARTS)]
        self._shared: bytearray | None = None  # 1: this part is another one's, too, and must be copied first
        for key, value in items:
            self._parts[crc32(key) & MASK][key] = value

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __bool__(self) -> bool:
        return any(self._parts)

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            yield from part

    def __contains__(self, key: bytes) -> bool:
        return key in self._parts[crc32(key) & MASK]

    def __getitem__(self, key: bytes) -> V:
        return self._parts[crc32(key) & MASK][key]

    def get(self, key: bytes) -> V | None:
        return self._parts[crc32(key) & MASK].get(key)

    def __setitem__(self, key: bytes, value: V) -> None:
        self._own(key)[key] = value

    def __delitem__(self, key: bytes) -> None:
        del self._own(key)[key]

    def pop(self, key: bytes, default: V) -> V:
        return self._own(key).pop(key, default)

    def _own(self, key: bytes) -> dict[bytes, V]:
        """The part that `key` belongs to, for a change."""
        at = crc32(key) & MASK
        if self._shared is not None and self._shared[at]:
            self._parts[at] = self._parts[at].copy()
            self._shared[at] = 0
        return self._parts[at]

    def fork(self) -> Spread[V]:
        """One with the same items, which may change from now on; this one must not any more. No item is copied yet."""
        other: Spread[V] = Spread.__new__(Spread)
        other._parts = self._parts.copy()
        other._shared = bytearray(b"\1" * PARTS)
        return other


#: One dict while they are few. Whoever adds to it asks `outgrown` afterwards, and puts `spread` of it in its place.
Growing: TypeAlias = dict[bytes, V] | Spread[V]


def growing(items: Iterable[tuple[bytes, V]], count: int) -> Growing[V]:
    """`count` items at once."""
    return Spread(items) if count > ONE_DICT_KEYS else dict(items)


def outgrown(keys: Growing[V]) -> bool:
    return type(keys) is dict and len(keys) > ONE_DICT_KEYS


def spread(keys: Growing[V]) -> Spread[V]:
    return Spread((key, keys[key]) for key in keys)


def fork(keys: Growing[V]) -> Growing[V]:
    """As Spread.fork."""
    return keys.copy() if type(keys) is dict else keys.fork()  # type: ignore[union-attr]
