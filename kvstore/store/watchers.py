"""Who waits for events, and who is woken by one as it happens (docs/api-v2.md, *Watching*).

An event costs in proportion to the watchers that may match it: those on its key, and the recursive ones above. Where
these are many, or the event is large, the deliveries are put off and made in slices, so that a write with ten thousand
watchers does not keep everything else waiting: `pace` says how the next slice is called for. Every watcher still gets
every event that it would get otherwise, once and in order. A watcher that begins meanwhile wants later events only (an
earlier one that is for it would be in the history, and end its watch there), and one that ended is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kvstore.store.events import Deliver, Event
from kvstore.store.tree import ROOT

#: Work of one slice. A unit is the wake-up of a long poll, well below a microsecond; so a slice takes about 10 ms.
SLICE_UNITS = 16_384
#: A stream is written to, which takes a system call.
STREAM_UNITS = 32
#: Bytes of an event that take a unit to be copied to one watcher.
UNIT_BYTES = 512
#: What a slice may take at most, by the clock that was given: a system short of memory sends many times as slowly.
SLICE_SECONDS = 0.01
CHECK_UNITS = 512  # after which the clock is looked at
#: Events whose deliveries are put off, and their bytes. Beyond that, the watchers that a further event is for are
#: ended instead, behind all that they get before it; they ask again, and the history has what they missed.
DUE_EVENTS = 10_000
DUE_BYTES = 64 << 20


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


class _Due:
    """An event on its way to the watchers in `buckets`; None: they are ended instead."""

    __slots__ = ("at", "bucket", "buckets", "event", "index", "size", "watchers")

    def __init__(self, event: Event | None, index: int, size: int, buckets: list[dict[Watcher, None]]) -> None:
        self.event = event
        self.index = index
        self.size = size
        self.buckets = buckets[::-1]  # the next one is the last
        self.bucket: dict[Watcher, None] = {}
        self.watchers: list[Watcher] = []  # of `bucket`, the last one that was taken up
        self.at = 0


class Watchers:
    """All watchers that wait, by key; recursive ones apart, so that an event below never meets the others."""

    __slots__ = (
        "_check",
        "_clock",
        "_credit",
        "_due",
        "_due_bytes",
        "_end",
        "_exact",
        "_is_called",
        "_later",
        "_recursive",
        "_streams",
        "count",
    )

    def __init__(self) -> None:
        self.count = 0
        self._streams = 0
        self._later: Callable[[Callable[[], None]], object] | None = None
        self._clock: Callable[[], float] = _no_clock
        self._is_called = False  # for the next slice
        self._credit = SLICE_UNITS  # that is left until then
        self._check = 0  # the credit at which the clock is looked at
        self._end = 0.0  # of the slice, by the clock
        self._due: deque[_Due] = deque()
        self._due_bytes = 0
        self._exact: dict[bytes, dict[Watcher, None]] = {}  # buckets are never empty; a dict keeps their order
        self._recursive: dict[bytes, dict[Watcher, None]] = {}

    def add(self, watcher: Watcher) -> None:
        buckets = self._recursive if watcher.recursive else self._exact
        bucket = buckets.setdefault(watcher.key, {})
        bucket[watcher] = None
        watcher._watchers, watcher._bucket = self, bucket
        self.count += 1
        if watcher.stream:
            self._streams += 1

    def remove(self, watcher: Watcher) -> None:
        bucket = watcher._bucket
        assert bucket is not None
        del bucket[watcher]
        if not bucket:
            del (self._recursive if watcher.recursive else self._exact)[watcher.key]
        watcher._watchers = watcher._bucket = None
        self.count -= 1
        if watcher.stream:
            self._streams -= 1

    # --- events -------------------------------------------------------------------------------------------------

    def notify(self, event: Event) -> None:
        """Wake the watchers on the event's key and, unless what changed is hidden from them, recursive ones above."""
        key = event.node.key
        found: list[dict[Watcher, None]] = []
        if self._recursive:
            end = 0
            while end != -1:
                bucket = self._recursive.get(key[:end] or ROOT)
                if bucket is not None and b"/_" not in key[end:]:
                    found.append(bucket)
                end = key.find(b"/", end + 1)
        self._find_at(key, found)
        if found:
            self._wake(event, found)

    def notify_removed(self, event: Event, keys: list[bytes]) -> None:
        """Wake the watchers on each node that went with a removal, the removed key itself among them.

        `notify` follows, so a stream on that key sees the removal twice, as with etcd (recorded in the
        conformance scenario watch/stream_live).
        """
        found: list[dict[Watcher, None]] = []
        for key in self._watched_of(keys):
            self._find_at(key, found)
        if found:
            self._wake(event, found)

    def _watched_of(self, removed: list[bytes]) -> list[bytes]:
        """Those of a removed subtree that may be watched, without a look at each where more went than is watched."""
        if len(removed) <= len(self._exact) + len(self._recursive):
            return removed
        top = removed[0]
        below = top + b"/"
        watched = [key for keys in (self._exact, self._recursive) for key in keys if key.startswith(below)]
        if watched:
            gone = set(removed)
            watched = [key for key in dict.fromkeys(watched) if key in gone]
        return [top, *watched]

    def cut_off(self, index: int) -> None:
        """End all that may have missed an event up to `index`: the delivery of None tells them."""
        for buckets in (self._exact, self._recursive):
            for watcher in [w for bucket in buckets.values() for w in bucket if w.since <= index]:
                if watcher.is_waiting:
                    self.remove(watcher)
                    watcher.deliver(None)

    def _find_at(self, key: bytes, found: list[dict[Watcher, None]]) -> None:
        bucket = self._exact.get(key)
        if bucket is not None:
            found.append(bucket)
        bucket = self._recursive.get(key)
        if bucket is not None:
            found.append(bucket)

    # --- deliveries ---------------------------------------------------------------------------------------------

    def pace(
        self, later: Callable[[Callable[[], None]], object] | None, clock: Callable[[], float] | None = None
    ) -> None:
        """From now on deliver in slices: `later` has to call what it is given once, in a moment, with other work in
        between; `clock` gives seconds. None: in one go again, what is due included."""
        self._later = later
        self._clock = clock or _no_clock
        if later is None:
            while self._due:
                self._credit = SLICE_UNITS
                self._run()
        elif self._due:
            self._call(later)

    def _wake(self, event: Event, buckets: list[dict[Watcher, None]]) -> None:
        later = self._later
        if later is None:
            for bucket in buckets:
                self._wake_all(bucket, event)
            return
        if not self._is_called:
            self._call(later)
        size = _size(event)
        if not self._due:
            count = 0
            for bucket in buckets:
                count += len(bucket)
            units = count * ((STREAM_UNITS if self._streams else 1) + size // UNIT_BYTES)
            if units <= self._credit:
                self._credit -= units
                for bucket in buckets:
                    self._wake_all(bucket, event)
                return
        is_lost = len(self._due) >= DUE_EVENTS or self._due_bytes + size > max(DUE_BYTES, size)
        kept = 0 if is_lost else size
        self._due.append(_Due(None if is_lost else event, event.index, kept, buckets))
        self._due_bytes += kept

    def _call(self, later: Callable[[Callable[[], None]], object]) -> None:
        self._is_called = True
        later(self._next_slice)

    def _next_slice(self) -> None:
        self._is_called = False
        self._credit = SLICE_UNITS
        self._run()
        if not self._due:
            self._credit = SLICE_UNITS
        elif self._later is not None:
            self._call(self._later)

    def _run(self) -> None:
        self._end = self._clock() + SLICE_SECONDS
        self._check = self._credit - CHECK_UNITS
        while self._due and self._credit > 0:
            due = self._due[0]
            if self._advance(due):
                self._due.popleft()
                self._due_bytes -= due.size

    def _advance(self, due: _Due) -> bool:
        """Whether it is delivered to all, before the credit was used up."""
        event, index = due.event, due.index
        units = due.size // UNIT_BYTES
        while self._credit > 0:
            if self._credit <= self._check:
                if self._clock() >= self._end:
                    self._credit = 0
                    break
                self._check = self._credit - CHECK_UNITS
            if due.at == len(due.watchers):
                if not due.buckets:
                    return True
                due.bucket = due.buckets.pop()
                due.watchers, due.at = list(due.bucket), 0
                continue
            watcher = due.watchers[due.at]
            due.at += 1
            self._credit -= 1
            if watcher.since <= index and watcher._bucket is due.bucket:
                self._credit -= units + (STREAM_UNITS if watcher.stream else 0)
                if event is None or not watcher.stream:
                    self.remove(watcher)
                watcher.deliver(event)
        return False

    def _wake_all(self, bucket: dict[Watcher, None], event: Event) -> None:
        index = event.index
        for watcher in list(bucket):
            # a delivery may have cancelled a later one
            if watcher.since <= index and watcher._bucket is bucket:
                if not watcher.stream:
                    self.remove(watcher)
                watcher.deliver(event)


def _no_clock() -> float:
    return 0.0


def _size(event: Event) -> int:
    size = 0
    if value := event.node.value:
        size += len(value)
    previous = event.previous
    if previous is not None and (value := previous.value):
        size += len(value)
    return size
