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
    assert all(ear.indices == [1, 3] for ear in few), "they wait for no other key"
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


def test_a_busy_prefix_does_not_delay_other_keys() -> None:
    store = Store()
    turns = paced(store)
    crowd = [Ear(store, b"/w", recursive=True) for _ in range(1000)]
    other = Ear(store, b"/other", stream=False)
    for _ in range(1000):
        run(store, put(b"/w/k"))
    run(store, put(b"/other"))
    assert other.indices == [1001]
    for key in range(50):
        turns.turn()
        late = Ear(store, b"/late/%d" % key)
        run(store, put(b"/late/%d" % key))
        assert late.heard, "nor does it while slices are made"
    assert any(len(ear.heard) < 1000 for ear in crowd)


def test_keys_with_much_due_are_served_in_turn() -> None:
    store = Store()
    turns = paced(store)
    busy = [Ear(store, b"/w", recursive=True) for _ in range(1000)]
    everything = Ear(store, b"/", recursive=True)
    quiet = [Ear(store, b"/q") for _ in range(1000)]
    for _ in range(100):
        run(store, put(b"/w/k"))
    run(store, put(b"/q"))
    slices = 0
    while not all(ear.heard for ear in quiet):
        turns.turn()
        slices += 1
    assert slices <= 5, "half of each slice is theirs, and they take two slices"
    assert everything.indices == list(range(1, 102))
    turns.all()
    assert all(ear.indices == list(range(1, 101)) for ear in busy)


def resumed(store: Store, key: bytes, recursive: bool, index: int) -> list[int]:
    """The indices that a client gets that asks again and again from after `index`."""
    indices: list[int] = []
    while True:
        ear = Ear(store, key, recursive, stream=False, since=index + 1)
        if not ear.heard:
            ear.watcher.cancel()
            return indices
        assert ear.heard[0] is not None
        index = ear.heard[0].index
        indices.append(index)


def last_index(ear: Ear) -> int:
    return max((event.index for event in ear.heard if event is not None), default=0)


def test_watchers_too_far_behind_in_time_end_and_miss_nothing_when_they_ask_again() -> None:
    store = Store()
    turns = Turns()
    now = 0.0
    store.pace_watchers(turns.later, lambda: now)
    ears = [Ear(store, b"/w", recursive=True) for _ in range(1000)]
    other = Ear(store, b"/other")
    for _ in range(100):
        run(store, put(b"/w/k"))
    assert (store.due_events, store.oldest_due_seconds) == (100, 0.0)
    now = watchers.DUE_SECONDS - 1
    turns.turn()
    assert store.oldest_due_seconds == watchers.DUE_SECONDS - 1
    assert not any(None in ear.heard for ear in ears)
    now = watchers.DUE_SECONDS + 1
    run(store, put(b"/other"))
    turns.all()
    assert other.indices == [101]
    assert (store.due_events, store.oldest_due_seconds, store.watchers_ended) == (0, 0.0, 1000)
    assert store.watcher_count == 1
    for ear in ears:
        heard = ear.indices[:-1]
        assert ear.heard[-1] is None
        assert heard == list(range(1, len(heard) + 1))
    for ear in (ears[0], ears[-1]):
        assert resumed(store, b"/w", True, last_index(ear)) == list(range(len(ear.heard), 101))


def test_watchers_end_while_the_history_has_what_they_miss() -> None:
    store = Store(history_limit=100)
    turns = paced(store)
    ears = [Ear(store, b"/w", recursive=True) for _ in range(1000)]
    writes = 0
    while not all(None in ear.heard for ear in ears):
        run(store, put(b"/w/k"))
        writes += 1
        if writes % 10 == 0:
            turns.turn()
    for ear in (ears[0], ears[-1]):
        assert resumed(store, b"/w", True, last_index(ear)) == list(range(len(ear.heard), writes + 1))


@pytest.mark.parametrize("limit", ["DUE_EVENTS", "DUE_BYTES"])
def test_beyond_the_limit_the_key_with_the_most_due_ends(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchers, "SLICE_UNITS", 64)
    monkeypatch.setattr(watchers, limit, 5 if limit == "DUE_EVENTS" else 5000)
    store = Store()
    turns = paced(store)
    few = [Ear(store, b"/few") for _ in range(100)]
    run(store, put(b"/few", b"x" * 600))
    ears = [Ear(store, b"/k") for _ in range(100)]
    other = Ear(store, b"/other")
    for _ in range(10):
        run(store, put(b"/k", b"x" * 600))
    run(store, put(b"/other"))
    turns.all()
    for ear in ears:
        *events, end = ear.heard
        assert end is None
        assert [event.index for event in events if event is not None] == list(range(2, len(events) + 2))
        assert not ear.watcher.is_waiting
    assert other.indices == [12]
    assert all(ear.indices == [1] for ear in few)
    assert store.watcher_count == 101
    assert store.due_events == 0


watches = st.tuples(st.just("watch"), st.sampled_from(KEYS), st.integers(0, 7))
ending_steps = st.one_of(
    steps,
    st.tuples(st.just("put"), st.sampled_from(KEYS[2:]), st.integers(0, 3000)),
    st.tuples(st.just("wait"), st.just(b""), st.integers(1, 4)),
)


@given(
    first=st.lists(watches, min_size=4, max_size=12),
    plan=st.lists(ending_steps, min_size=20, max_size=60),
    units=st.integers(1, 40),
    events=st.integers(1, 10),
    history=st.sampled_from([8, 100]),
)
def test_watchers_that_end_have_an_unbroken_beginning_and_can_ask_for_the_rest(
    first: list[tuple[str, bytes, int]], plan: list[tuple[str, bytes, int]], units: int, events: int, history: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watchers, "SLICE_UNITS", units)
        patch.setattr(watchers, "DUE_EVENTS", events)
        model, store = Store(), Store(history)
        turns = Turns()
        now = 0.0
        store.pace_watchers(turns.later, lambda: now)
        pairs: list[tuple[Ear, Ear, int]] = []
        for what, key, number in first + plan:
            if what == "turn":
                turns.turn()
            elif what == "wait":
                now += number
            elif what in ("watch", "look back"):
                one, other = (Ear(of, key, bool(number & 1), bool(number & 2)) for of in (model, store))
                pairs.append((one, other, store.index))
            elif what != "cancel":
                command = put(key, b"x" * number) if what == "put" else delete(key, is_dir=True, recursive=True)
                for of in (model, store):
                    with contextlib.suppress(StoreError):
                        run(of, command)
        turns.all()
        ended = 0
        for one, other, begin in pairs:
            if None not in other.heard:
                assert other.heard == one.heard
                assert one.watcher.is_waiting == other.watcher.is_waiting
                continue
            ended += 1
            heard = other.heard[:-1]
            assert heard == one.heard[: len(heard)]
            assert not other.watcher.is_waiting
            last = last_index(other) or begin
            watcher = other.watcher
            if history == 100:
                missed = {event.index for event in one.heard if event is not None and event.index > last}
                assert missed <= set(resumed(store, watcher.key, watcher.recursive, last))
        assert store.watchers_ended == ended
        assert (store.due_events, store.oldest_due_seconds) == (0, 0.0)


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
