"""Deliveries in slices: every watcher gets what it would get in one go, once and in order, whatever happens between."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.store import watchers
from kvstore.store.errors import StoreError
from kvstore.store.events import Event
from kvstore.store.store import Store
from kvstore.store.watchers import SLICE_UNITS, STREAM_UNITS, Watcher
from tests.store.steps import Ear, delete, put, run

KEYS = (b"/", b"/a", b"/a/b", b"/a/c", b"/a/_h", b"/d")


class Turns:
    """The turns of an event loop, one at a time."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], None]] = deque()

    def later(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def turn(self) -> None:
        for _ in range(len(self.calls)):
            self.calls.popleft()()

    def all(self) -> int:
        turns = 0
        while self.calls:
            self.turn()
            turns += 1
        return turns


def paced(store: Store) -> Turns:
    turns = Turns()
    store.pace_watchers(turns.later)
    return turns


steps = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KEYS[2:]), st.integers(0, 3000)),
    st.tuples(st.just("remove"), st.sampled_from(KEYS[1:]), st.just(0)),
    st.tuples(st.just("watch"), st.sampled_from(KEYS), st.integers(0, 7)),
    st.tuples(st.just("look back"), st.sampled_from(KEYS), st.integers(0, 7)),
    st.tuples(st.just("cancel"), st.just(b""), st.integers(0, 40)),
    st.tuples(st.just("turn"), st.just(b""), st.just(0)),
)


@given(plan=st.lists(steps, max_size=60), units=st.integers(1, 40))
def test_slices_change_nothing_of_what_is_heard(plan: list[tuple[str, bytes, int]], units: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watchers, "SLICE_UNITS", units)
        both = Store(), Store()
        turns = paced(both[1])
        pairs: list[tuple[Ear, Ear]] = []
        cancelled: set[int] = set()
        for what, key, number in plan:
            if what == "turn":
                turns.turn()
            elif what == "cancel":
                if pairs:
                    cancelled.add(number % len(pairs))
                    for ear in pairs[number % len(pairs)]:
                        ear.watcher.cancel()
            elif what in ("watch", "look back"):
                since = max(1, both[0].index - number // 4) if what == "look back" else 0
                one, other = (Ear(store, key, bool(number & 1), bool(number & 2), since) for store in both)
                pairs.append((one, other))
            else:
                command = put(key, b"x" * number) if what == "put" else delete(key, is_dir=True, recursive=True)
                for store in both:
                    with contextlib.suppress(StoreError):
                        run(store, command)
        turns.all()
        for number, (one, other) in enumerate(pairs):
            if number in cancelled:
                assert one.heard[: len(other.heard)] == other.heard
            else:
                assert one.heard == other.heard
                assert one.watcher.is_waiting == other.watcher.is_waiting
        assert both[0].watcher_count == both[1].watcher_count


def test_few_are_woken_at_once_and_many_in_slices() -> None:
    store = Store()
    turns = paced(store)
    few = [Ear(store, b"/few") for _ in range(10)]
    many = [Ear(store, b"/many") for _ in range(SLICE_UNITS // STREAM_UNITS * 3)]
    run(store, put(b"/few"))
    assert all(ear.indices == [1] for ear in few)
    run(store, put(b"/many"), put(b"/few"))
    assert not any(ear.heard for ear in many)
    turns.turn()
    heard = sum(bool(ear.heard) for ear in many)
    assert 0 < heard <= SLICE_UNITS // STREAM_UNITS + 1
    assert all(ear.indices == [1] for ear in few), "events keep their order"
    turns.all()
    assert all(ear.indices == [2] for ear in many)
    assert all(ear.indices == [1, 3] for ear in few)


def test_a_large_event_is_sliced_by_its_bytes() -> None:
    store = Store()
    turns = paced(store)
    ears = [Ear(store, b"/k") for _ in range(100)]
    run(store, put(b"/k", b"x" * (1 << 20)))
    assert turns.all() >= 6
    assert all(ear.indices == [1] for ear in ears)


def test_a_slice_ends_with_its_time() -> None:
    store = Store()
    turns = Turns()
    now = 0.0
    store.pace_watchers(turns.later, lambda: now)
    slow: list[Event | None] = []

    def take_long(event: Event | None) -> None:
        nonlocal now
        slow.append(event)
        now += watchers.SLICE_SECONDS

    for _ in range(SLICE_UNITS // STREAM_UNITS + 1):
        store.watch(b"/k", False, True, 0, take_long)
    run(store, put(b"/k"))
    turns.turn()
    assert 0 < len(slow) <= watchers.CHECK_UNITS // STREAM_UNITS + 1
    turns.all()
    assert len(slow) == SLICE_UNITS // STREAM_UNITS + 1


def test_what_is_put_off_is_delivered_when_the_pace_ends() -> None:
    store = Store()
    paced(store)
    ears = [Ear(store, b"/k") for _ in range(SLICE_UNITS)]
    run(store, put(b"/k"))
    store.pace_watchers(None)
    assert all(ear.indices == [1] for ear in ears)


def test_a_watcher_that_begins_meanwhile_hears_later_events_only() -> None:
    store = Store()
    turns = paced(store)
    crowd = [Ear(store, b"/a", recursive=True) for _ in range(SLICE_UNITS)]
    run(store, put(b"/a/b"))
    late = Ear(store, b"/a/b")
    below = Ear(store, b"/a/c", since=1)  # the history has nothing of it since then
    turns.all()
    assert all(ear.indices == [1] for ear in crowd)
    assert (late.heard, below.heard) == ([], [])
    run(store, put(b"/a/b"), put(b"/a/c"))
    turns.all()
    assert (late.indices, below.indices) == ([2], [3])


@pytest.mark.parametrize("limit", ["DUE_EVENTS", "DUE_BYTES"])
def test_beyond_the_limit_watchers_end_behind_what_they_got(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "SLICE_UNITS", 64)
    monkeypatch.setattr(watchers, limit, 3 if limit == "DUE_EVENTS" else 3000)
    store = Store()
    turns = paced(store)
    ears = [Ear(store, b"/k") for _ in range(100)]
    other = Ear(store, b"/other")
    for _ in range(6):
        run(store, put(b"/k", b"x" * 600))
    run(store, put(b"/other"))
    turns.all()
    for ear in ears:
        *events, end = ear.heard
        assert end is None
        assert [event.index for event in events if event is not None] == list(range(1, len(events) + 1))
        assert 2 <= len(events) <= 3
        assert not ear.watcher.is_waiting
    assert other.indices == [7] or other.heard == [None]
    assert store.watcher_count == other.watcher.is_waiting


def test_a_removal_asks_only_for_what_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    for number in range(1000):
        run(store, put(b"/d/%d" % number))
    ears = [Ear(store, key) for key in (b"/d/7", b"/d/none", b"/d", b"/dd")]
    asked: list[bytes] = []
    original = watchers.Watchers._watched_of

    def watched_of(self: watchers.Watchers, removed: list[bytes]) -> list[bytes]:
        asked.extend(found := original(self, removed))
        return found

    if watchers.__file__.endswith(".py"):  # a compiled method cannot be patched
        monkeypatch.setattr(watchers.Watchers, "_watched_of", watched_of)
    run(store, delete(b"/d", is_dir=True, recursive=True))
    assert [ear.indices for ear in ears] == [[1001], [], [1001, 1001], []]
    assert len(asked) <= 4


def test_a_delivery_may_cancel_others_in_the_same_slice() -> None:
    store = Store()
    turns = paced(store)
    heard: list[Event | None] = []
    started: list[Watcher] = []

    def cancel_all(event: Event | None) -> None:
        heard.append(event)
        for watcher in started:
            watcher.cancel()

    started += [store.watch(b"/k", False, True, 0, cancel_all) for _ in range(SLICE_UNITS)]
    run(store, put(b"/k"))
    turns.all()
    assert len(heard) == 1
    assert store.watcher_count == 0
