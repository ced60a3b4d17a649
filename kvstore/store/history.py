"""The last events, so that a watcher can ask for what it missed.

Looking back matches by its own rules, which differ from those for events as they happen (docs/api-v2.md, *Watching*).
"""

from __future__ import annotations

from kvstore.store.errors import HistoryCleared
from kvstore.store.events import DELETE, EXPIRE, Event
from kvstore.store.tree import ROOT

HISTORY_BYTES = 64 << 20
#: What an event takes beside its key and values: the tuples of it and of its nodes, about.
EVENT_BYTES = 512


class History:
    """A ring of the newest events: at most `limit` of them, and of `limit_bytes` together, about.

    Every index but that of the founding has one event, so an event's place follows from its index. The newest
    one is always held.
    """

    __slots__ = ("_bytes", "_ring", "_sizes", "limit", "limit_bytes", "newest", "oldest")

    def __init__(self, limit: int, limit_bytes: int = HISTORY_BYTES, start: int = 1) -> None:
        """`start` is the index of the first event that will be added."""
        assert limit > 0
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.newest = start - 1
        self.oldest = start  # the lowest index that can be asked for; newest + 1 while nothing is held
        self._ring: list[Event | None] = [None] * limit
        self._sizes = [0] * limit  # of the events in the ring, at the same places
        self._bytes = 0

    def found(self) -> None:
        """Index 1 is the founding of the cluster: it has no event, and can be asked for like any other."""
        if self.newest == 0:
            self.newest = 1
        elif self.oldest == 2 and self.newest <= self.limit:
            self.oldest = 1

    def add(self, event: Event) -> None:
        _, node, previous, index, _ = event
        assert index == self.newest + 1, "indices are consecutive"
        size = EVENT_BYTES + len(node[0])
        if value := node[1]:
            size += len(value)
        if previous is not None and (value := previous[1]):
            size += len(value)
        limit, sizes = self.limit, self._sizes
        place = index % limit
        held = self._bytes = self._bytes + size - sizes[place]
        sizes[place] = size
        self._ring[place] = event
        self.newest = index
        if index - self.oldest >= limit:
            self.oldest += 1
        if held > self.limit_bytes:
            self._drop()

    def _drop(self) -> None:
        while self._bytes > self.limit_bytes and self.oldest < self.newest:
            place = self.oldest % self.limit
            self._bytes -= self._sizes[place]
            self._sizes[place] = 0
            self._ring[place] = None
            self.oldest += 1

    def since(self, index: int) -> list[Event]:
        """The events from `index` on, which must not be older than `oldest`."""
        assert index >= self.oldest
        count = self.newest - index + 1
        if count <= 0:
            return []
        start = index % self.limit
        events = self._ring[start : start + count]
        events += self._ring[: count - len(events)]
        return [event for event in events if event is not None]

    def find(self, key: bytes, recursive: bool, since: int) -> Event | None:
        """The first event with an index of at least `since` that a look back for `key` reports.

        Raises HistoryCleared when `since` is too old, whether or not anything would match.
        """
        if since > self.newest:
            return None
        if since < self.oldest:
            raise HistoryCleared(self.newest, self.oldest, since)
        below = key if key == ROOT else key + b"/"
        for index in range(since, self.newest + 1):
            event = self._ring[index % self.limit]
            if event is None or event.is_refresh:  # None: the founding
                continue
            node_key = event.node.key
            if node_key == key or (recursive and node_key.startswith(below)):
                return event
            # a removed directory matches by its name as a string, not by components, as in etcd
            if event.action in (DELETE, EXPIRE) and event.node.is_dir and key.startswith(node_key):
                return event
        return None
