"""Who waits for events, and who is woken by one as it happens (docs/api-v2.md, *Watching*).

An event costs in proportion to the watchers that may match it: those on its key, and the recursive ones above. Where
these are many, or the event is large, the deliveries are put off and made in slices, so that a write with ten thousand
watchers does not delay everything else: `pace` says how the next slice is called for. Every watcher still gets every
event that it would get otherwise, once and in order. A watcher that begins meanwhile wants later events only (an
earlier matching event would be in the history, and end its watch there); a watcher that ended is skipped.

The order is kept in each bucket, that is, among the watchers of one key. An event for a bucket with nothing due is
delivered immediately, whatever other buckets have due; those with something due are served in turn, a part of a slice
each. Where deliveries are too late, the watchers of the bucket are ended: they ask again, and the history has the rest.
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
#: Share of a slice that a bucket takes before the next one, and that is left for immediate deliveries after a slice.
BUCKET_SHARE = 8
DIRECT_SHARE = 4
#: How long an event may be due. Once the oldest of a bucket has waited longer, the watchers of the bucket are ended.
DUE_SECONDS = 5.0
#: Events that are due, and their bytes. Beyond that, the watchers of the bucket with the most bytes due are ended.
DUE_EVENTS = 10_000
DUE_BYTES = 32 << 20
#: What an event counts beside its values when the bytes due in a bucket are compared.
EVENT_BYTES = 512


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
        self._bucket: Bucket | None = None

    @property
    def is_waiting(self) -> bool:
        """False once it was cancelled, cut off, satisfied (one-shot), or answered from the history."""
        return self._watchers is not None

    def cancel(self) -> None:
        """Stop waiting; does nothing when it does not wait. May be called from a `deliver`."""
        if self._watchers is not None:
            self._watchers.remove(self)


class _Due:
    """An event to deliver, shared by the buckets that it is due in; without an event: the watchers are to be ended."""

    __slots__ = ("event", "index", "places", "size", "time")

    def __init__(self, event: Event | None, index: int, size: int, time: float) -> None:
        self.event = event
        self.index = index
        self.size = size
        self.time = time  # since when it is due
        self.places = 0  # buckets that it is due in


# Stand-ins of a bucket with nothing due; never changed.
_NOTHING: deque[_Due] = deque()
_NOBODY: list[Watcher] = []


class Bucket:
    """The watchers of one key, either the recursive or the other ones, and the events due to them.

    Never empty while an event can find it: when the last watcher goes, so do the events due.
    """

    __slots__ = ("at", "due", "is_busy", "key", "recursive", "round", "streams", "watchers", "weight")

    def __init__(self, key: bytes, recursive: bool) -> None:
        self.key = key
        self.recursive = recursive
        self.watchers: dict[Watcher, None] = {}  # a dict keeps their order
        self.streams = 0
        self.due: deque[_Due] = _NOTHING
        self.weight = 0  # bytes due, about
        self.is_busy = False  # stands in the queue of buckets
        self.round: list[Watcher] = _NOBODY  # the watchers that the first event due goes to
        self.at = -1  # the position of the next watcher; -1: the event was not begun


class Watchers:
    """All watchers that wait, by key; recursive ones apart, so that an event below never meets the others."""

    __slots__ = (
        "_busy",
        "_check",
        "_clock",
        "_credit",
        "_due_bytes",
        "_end",
        "_exact",
        "_is_called",
        "_later",
        "_newest",
        "_reach",
        "_recursive",
        "count",
        "due_count",
        "ended",
    )

    def __init__(self, reach: int) -> None:
        """`reach`: how far the index of an event due may lag, so that the history still has the following ones."""
        self.count = 0
        self.due_count = 0  # events due
        self.ended = 0  # watchers that ended because they lagged too far
        self._reach = reach
        self._newest = 0  # index of the last event
        self._later: Callable[[Callable[[], None]], object] | None = None
        self._clock: Callable[[], float] = _no_clock
        self._is_called = False  # for the next slice
        self._credit = SLICE_UNITS  # that is left until then
        self._check = 0  # the credit at which the clock is looked at
        self._end = 0.0  # of the slice, by the clock
        self._busy: deque[Bucket] = (
            deque()
        )  # with something due, or that had when they were put here; the next one first
        self._due_bytes = 0
        self._exact: dict[bytes, Bucket] = {}
        self._recursive: dict[bytes, Bucket] = {}

    def add(self, watcher: Watcher) -> None:
        buckets = self._recursive if watcher.recursive else self._exact
        bucket = buckets.get(watcher.key)
        if bucket is None:
            bucket = buckets[watcher.key] = Bucket(watcher.key, watcher.recursive)
        bucket.watchers[watcher] = None
        watcher._watchers, watcher._bucket = self, bucket
        self.count += 1
        if watcher.stream:
            bucket.streams += 1

    def remove(self, watcher: Watcher) -> None:
        bucket = watcher._bucket
        assert bucket is not None
        del bucket.watchers[watcher]
        watcher._watchers = watcher._bucket = None
        self.count -= 1
        if watcher.stream:
            bucket.streams -= 1
        if not bucket.watchers:
            del (self._recursive if bucket.recursive else self._exact)[bucket.key]
            self._drop(bucket)

    @property
    def oldest_due_seconds(self) -> float:
        """For how long the oldest event due has waited; 0 if none is due."""
        times = [bucket.due[0].time for bucket in self._busy if bucket.due]
        return max(0.0, self._clock() - min(times)) if times else 0.0

    # --- events -------------------------------------------------------------------------------------------------

    def notify(self, event: Event) -> None:
        """Wake the watchers on the event's key and, unless what changed is hidden from them, recursive ones above."""
        self._newest = event.index
        key = event.node.key
        found: list[Bucket] = []
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
        found: list[Bucket] = []
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
            for watcher in [w for bucket in buckets.values() for w in bucket.watchers if w.since <= index]:
                if watcher.is_waiting:
                    self.remove(watcher)
                    watcher.deliver(None)

    def _find_at(self, key: bytes, found: list[Bucket]) -> None:
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
            while self._busy:
                self._credit = SLICE_UNITS
                self._run()
        elif self._busy:
            now = self._clock()
            for bucket in self._busy:
                for due in bucket.due:
                    due.time = now
            self._call(later)

    def _wake(self, event: Event, buckets: list[Bucket]) -> None:
        later = self._later
        if later is None:
            for bucket in buckets:
                self._wake_all(bucket, event)
            return
        if not self._is_called:
            self._call(later)
        size = _size(event)
        due: _Due | None = None
        for bucket in buckets:
            if not bucket.due:
                units = len(bucket.watchers) * (1 + size // UNIT_BYTES) + bucket.streams * STREAM_UNITS
                if units <= self._credit:
                    self._credit -= units
                    self._wake_all(bucket, event)
                    continue
            if not bucket.watchers:
                continue  # a delivery has cancelled them
            if due is None:
                due = self._due_event(event, size)
            self._put(bucket, due)

    def _due_event(self, event: Event, size: int) -> _Due:
        """An event that becomes due, within the limits."""
        limit = max(DUE_BYTES, size)
        while self.due_count >= DUE_EVENTS or self._due_bytes + size > limit:
            self._end_all(max(self._busy, key=_weight))
        self.due_count += 1
        self._due_bytes += size
        return _Due(event, event.index, size, self._clock())

    def _put(self, bucket: Bucket, due: _Due) -> None:
        due.places += 1
        if bucket.due is _NOTHING:
            bucket.due = deque()
        bucket.due.append(due)
        if due.event is not None:
            bucket.weight += EVENT_BYTES + due.size
        if not bucket.is_busy:
            bucket.is_busy = True
            self._busy.append(bucket)

    def _take(self, bucket: Bucket) -> None:
        """Remove the first event due in a bucket."""
        due = bucket.due.popleft()
        bucket.round, bucket.at = _NOBODY, -1
        if due.event is not None:
            bucket.weight -= EVENT_BYTES + due.size
            due.places -= 1
            if not due.places:
                self.due_count -= 1
                self._due_bytes -= due.size

    def _drop(self, bucket: Bucket) -> None:
        while bucket.due:
            self._take(bucket)
        bucket.due = _NOTHING

    def _end_all(self, bucket: Bucket) -> None:
        """End the watchers that events are due to, in place of delivering these."""
        index = bucket.due[-1].index
        self._drop(bucket)
        self._put(bucket, _Due(None, index, 0, self._clock()))

    def _call(self, later: Callable[[Callable[[], None]], object]) -> None:
        self._is_called = True
        later(self._next_slice)

    def _next_slice(self) -> None:
        self._is_called = False
        self._credit = SLICE_UNITS
        self._run()
        if not self._busy:
            self._credit = SLICE_UNITS
        else:
            self._credit = SLICE_UNITS // DIRECT_SHARE
            if self._later is not None:
                self._call(self._later)

    def _run(self) -> None:
        now = self._clock()
        self._end = now + SLICE_SECONDS
        self._check = self._credit - CHECK_UNITS
        while self._busy and self._credit > 0:
            bucket = self._busy.popleft()
            if bucket.due:
                self._serve(bucket)
            else:
                self._credit -= 1
            if bucket.due:
                self._busy.append(bucket)
                first = bucket.due[0]
                is_late = now - first.time > DUE_SECONDS or self._newest - first.index > self._reach
                if is_late and first.event is not None and self._later is not None:
                    self._end_all(bucket)
            else:
                bucket.is_busy = False
                bucket.due = _NOTHING

    def _serve(self, bucket: Bucket) -> None:
        """Deliver the events due in a bucket, until its share of the slice is used up."""
        least = max(0, self._credit - max(1, SLICE_UNITS // BUCKET_SHARE))
        while bucket.due and (self._credit > least or bucket.at == len(bucket.round)):
            if self._credit <= self._check:
                if self._clock() >= self._end:
                    self._credit = 0
                    return
                self._check = self._credit - CHECK_UNITS
            if bucket.at < 0:
                bucket.round, bucket.at = list(bucket.watchers), 0
            if bucket.at == len(bucket.round):
                self._take(bucket)
                self._credit -= 1
                continue
            due = bucket.due[0]
            watcher = bucket.round[bucket.at]
            bucket.at += 1
            self._credit -= 1
            if watcher.since <= due.index and watcher._bucket is bucket:
                self._credit -= due.size // UNIT_BYTES + (STREAM_UNITS if watcher.stream else 0)
                event = due.event
                if event is None:
                    self.ended += 1
                if event is None or not watcher.stream:
                    self.remove(watcher)
                watcher.deliver(event)

    def _wake_all(self, bucket: Bucket, event: Event) -> None:
        index = event.index
        for watcher in list(bucket.watchers):
            # a delivery may have cancelled a later one
            if watcher.since <= index and watcher._bucket is bucket:
                if not watcher.stream:
                    self.remove(watcher)
                watcher.deliver(event)


def _no_clock() -> float:
    return 0.0


def _weight(bucket: Bucket) -> int:
    return bucket.weight


def _size(event: Event) -> int:
    size = 0
    if value := event.node.value:
        size += len(value)
    previous = event.previous
    if previous is not None and (value := previous.value):
        size += len(value)
    return size
