"""Who waits for events, and who is woken by one as it happens (API.md section 5).

An event costs in proportion to the watchers that may match it: those on its key, and the recursive ones above.
"""

from __future__ import annotations

from kvstore.store.events import Deliver, Event
from kvstore.store.tree import ROOT


class Watcher:
    """One watch. `since` is the lowest index it wants. Made by Store.watch."""

    __slots__ = ("_bucket", "_watchers", "deliver", "key", "recursive", "since", "stream")

    def __init__(self, key: bytes, recursive: bool, stream: bool, since: int, deliver: Deliver) -> None:
        self.key = key
        self.recursive = recursive
        self.stream = stream
        self.since = since
        self.deliver = deliver
        self._watchers: Watchers | None = None  # set while it waits
        self._bucket: dict[Watcher, None] | None = None

    @property
    def is_waiting(self) -> bool:
        """False once it was cancelled, cut off, satisfied (one-shot), or answered from the history."""
        return self._watchers is not None

    def cancel(self) -> None:
        """Stop waiting; does nothing when it does not wait. May be called from a `deliver`."""
        if self._watchers is not None:
            self._watchers.remove(self)


class Watchers:
    """All watchers that wait, by key; recursive ones apart, so that an event below never meets the others."""

    __slots__ = ("_exact", "_recursive", "count")

    def __init__(self) -> None:
        self.count = 0
        self._exact: dict[bytes, dict[Watcher, None]] = {}  # buckets are never empty; a dict keeps their order
        self._recursive: dict[bytes, dict[Watcher, None]] = {}

    def add(self, watcher: Watcher) -> None:
        buckets = self._recursive if watcher.recursive else self._exact
        bucket = buckets.setdefault(watcher.key, {})
        bucket[watcher] = None
        watcher._watchers, watcher._bucket = self, bucket
        self.count += 1

    def remove(self, watcher: Watcher) -> None:
        bucket = watcher._bucket
        assert bucket is not None
        del bucket[watcher]
        if not bucket:
            del (self._recursive if watcher.recursive else self._exact)[watcher.key]
        watcher._watchers = watcher._bucket = None
        self.count -= 1

    def notify(self, event: Event) -> None:
        """Wake the watchers on the event's key and, unless what changed is hidden from them, recursive ones above."""
        key = event.node.key
        if self._recursive:
            end = 0
            while end != -1:
                bucket = self._recursive.get(key[:end] or ROOT)
                if bucket is not None and b"/_" not in key[end:]:
                    self._wake(bucket, event)
                end = key.find(b"/", end + 1)
        self._notify_at(key, event)

    def notify_removed(self, event: Event, keys: list[bytes]) -> None:
        """Wake the watchers on each node that went with a removal, the removed key itself among them.

        `notify` follows, so a stream on that key sees the removal twice, as with etcd (recorded in the
        conformance scenario watch/stream_live).
        """
        for key in keys:
            self._notify_at(key, event)

    def cut_off(self, index: int) -> None:
        """End all that may have missed an event up to `index`: the delivery of None tells them."""
        for buckets in (self._exact, self._recursive):
            for watcher in [w for bucket in buckets.values() for w in bucket if w.since <= index]:
                if watcher.is_waiting:
                    self.remove(watcher)
                    watcher.deliver(None)

    def _notify_at(self, key: bytes, event: Event) -> None:
        for buckets in (self._exact, self._recursive):
            bucket = buckets.get(key)
            if bucket is not None:
                self._wake(bucket, event)

    def _wake(self, bucket: dict[Watcher, None], event: Event) -> None:
        index = event.index
        for watcher in list(bucket):
            # a delivery may have cancelled a later one
            if watcher.since <= index and watcher._bucket is bucket:
                if not watcher.stream:
                    self.remove(watcher)
                watcher.deliver(event)
