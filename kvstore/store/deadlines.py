"""When nodes expire: deadlines from ttls as etcd computes them, and the order in which nodes fall due.

Times are nanoseconds since the epoch, signed 64 bit; they come in as arguments, there is no clock here. Nothing
here knows the tree.
"""

from __future__ import annotations

import heapq

SECOND = 1_000_000_000
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
#: 2000-01-01. A set or create with an earlier deadline is permanent (docs/api-v2.md, *Time to live*).
EARLIEST = 946_684_800 * SECOND
BUCKET_BITS = 28  # 268 ms: a fraction of the sweep interval, so that a sweep looks at few keys not yet due
STALE_FRONT = 1_024  # dead entries of the front heap beyond its living ones that are put up with


def _wrap64(number: int) -> int:
    return ((number - INT64_MIN) & 0xFFFF_FFFF_FFFF_FFFF) + INT64_MIN


def deadline(now: int, ttl: int) -> int | None:
    """The deadline for a ttl in seconds, or None for a permanent key.

    Wraps as etcd's 64-bit arithmetic does (docs/api-v2.md, *Time to live*).
    """
    # 0 stands for "no deadline" in etcd's request, so a sum that happens to be 0 is permanent there
    return _wrap64(now + _wrap64(ttl * SECOND)) or None


def seconds_left(expiration: int, now: int) -> int:
    """Whole seconds, rounded up; a difference beyond 64 bits saturates, as Go's does."""
    return -(-max(INT64_MIN, min(INT64_MAX, expiration - now)) // SECOND)


class Deadlines:
    """Keys ordered by (deadline, key).

    A key is in one bucket, found from its deadline, so that moving it (every refresh does) leaves nothing behind
    and costs the same for ten keys and for ten million. Only the bucket in front is put into order. The order
    depends on nothing but the keys and deadlines held, so all members expire alike.
    """

    __slots__ = ("_buckets", "_front", "_front_number", "_order")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[bytes, int]] = {}  # bucket number -> key -> deadline; never empty
        self._order: list[int] = []  # heap of bucket numbers; holds every number of _buckets, perhaps others
        self._front: list[tuple[int, bytes]] = []  # heap; holds all of the bucket _front_number, perhaps others
        self._front_number: int | None = None

    def add(self, key: bytes, deadline: int) -> None:
        number = deadline >> BUCKET_BITS
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = {}
            self._push_number(number)
        bucket[key] = deadline
        if number == self._front_number:
            heapq.heappush(self._front, (deadline, key))
            if len(self._front) > 2 * len(bucket) + STALE_FRONT:
                self._front_number = None  # more dead than alive: order it anew when asked

    def remove(self, key: bytes, deadline: int) -> None:
        number = deadline >> BUCKET_BITS
        bucket = self._buckets[number]
        del bucket[key]
        if not bucket:
            del self._buckets[number]

    def first(self) -> tuple[int, bytes] | None:
        """The earliest (deadline, key); None when no key has a deadline."""
        order, buckets = self._order, self._buckets
        while order and order[0] not in buckets:
            heapq.heappop(order)
        if not order:
            return None
        number = order[0]
        bucket = buckets[number]
        if number != self._front_number:
            self._front = list(zip(bucket.values(), bucket, strict=True))  # a third of a comprehension's time
            heapq.heapify(self._front)
            self._front_number = number
        front = self._front
        while bucket.get(front[0][1]) != front[0][0]:
            heapq.heappop(front)
        return front[0]

    def _push_number(self, number: int) -> None:
        if len(self._order) > 2 * len(self._buckets) + STALE_FRONT:
            self._order = list(self._buckets)  # holds `number` already
            heapq.heapify(self._order)
        else:
            heapq.heappush(self._order, number)
