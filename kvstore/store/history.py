"""The last events, so that a watcher can ask for what it missed.

Looking back matches by its own rules, which differ from those for events as they happen (API.md section 5).
"""

from __future__ import annotations

from kvstore.store.errors import HistoryCleared
from kvstore.store.events import DELETE, EXPIRE, Event
from kvstore.store.tree import ROOT


class History:
    """A ring of the newest `limit` events. Every index has one event, so an event's place follows from its index."""

    __slots__ = ("_ring", "_start", "limit", "newest")

    def __init__(self, limit: int, start: int = 1) -> None:
        """`start` is the index of the first event that will be added."""
        assert limit > 0
        self.limit = limit
        self.newest = start - 1
        self._start = start
        self._ring: list[Event | None] = [None] * limit

    @property
    def oldest(self) -> int:
        """The lowest index that can be asked for; newest + 1 while nothing is held."""
        return max(self._start, self.newest - self.limit + 1)

    def add(self, event: Event) -> None:
        index = event.index
        assert index == self.newest + 1, "indices are consecutive"
        self._ring[index % self.limit] = event
        self.newest = index

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
            assert event is not None
            if event.is_refresh:
                continue
            node_key = event.node.key
            if node_key == key or (recursive and node_key.startswith(below)):
                return event
            # a removed directory matches by its name as a string, not by components, as in etcd
            if event.action in (DELETE, EXPIRE) and event.node.is_dir and key.startswith(node_key):
                return event
        return None
