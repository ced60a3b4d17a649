"""docs/api-v2.md, *Watching*: who sees which event, as it happens and looking back."""

from __future__ import annotations

import pytest

from kvstore.store.errors import HistoryCleared, KeyExists, StoreError
from kvstore.store.events import Event
from kvstore.store.operations import Operation, Set
from kvstore.store.store import Store
from tests.store.steps import (
    NOW,
    SECOND,
    Ear,
    create,
    cut,
    delete,
    file,
    make_dir,
    post,
    put,
    refresh,
    run,
    swap,
    sweep,
    update,
)


@pytest.mark.parametrize(
    ("watched", "recursive", "written", "seen"),
    [
        (b"/a", False, b"/a", True),
        (b"/a", False, b"/a/b", False),
        (b"/a", False, b"/ab", False),
        (b"/a", True, b"/a", True),
        (b"/a", True, b"/a/b/c", True),
        (b"/a", True, b"/ab", False),
        (b"/a/b", True, b"/a", False),
        (b"/", True, b"/a/b", True),
        (b"/", False, b"/a", False),
        # hidden: only from above, and only if what remains of the path has a hidden component
        (b"/", True, b"/_h", False),
        (b"/", True, b"/a/_h/b", False),
        (b"/a", True, b"/a/_h", False),
        (b"/a/_h", True, b"/a/_h/b", True),
        (b"/a/_h", True, b"/a/_h", True),
        (b"/a/_h", False, b"/a/_h", True),
        (b"/a/_h", True, b"/a/_h/_i", False),
        (b"/a", True, b"/a/b_h", True),
    ],
)
def test_who_sees_a_write(watched: bytes, recursive: bool, written: bytes, seen: bool) -> None:
    store = Store()
    ear = Ear(store, watched, recursive)
    event = run(store, put(written))
    assert ear.heard == ([event] if seen else [])


def test_parents_that_come_along_are_no_events() -> None:
    store = Store()
    ears = [Ear(store, b"/a"), Ear(store, b"/a/b")]
    run(store, put(b"/a/b/c"))
    assert [ear.heard for ear in ears] == [[], []]


@pytest.mark.parametrize(
    "operation", [create(b"/f"), swap(b"/f", previous=b"w"), update(b"/x"), delete(b"/"), cut(b"/f", index=9)]
)
def test_failures_are_no_events(operation: Operation) -> None:
    store = Store()
    run(store, put(b"/f"))
    ear = Ear(store, b"/", recursive=True)
    with pytest.raises(StoreError):
        run(store, operation)
    assert ear.heard == []


def test_a_watch_works_below_a_file_and_on_what_never_was() -> None:
    store = Store()
    run(store, put(b"/f"))
    below = Ear(store, b"/f/x", stream=False)
    run(store, delete(b"/f"), put(b"/f/x"))
    assert below.indices == [3]


def test_a_one_shot_watch_ends_with_its_event_and_a_stream_goes_on() -> None:
    store = Store()
    once, stream = Ear(store, b"/k", stream=False), Ear(store, b"/k")
    assert store.watcher_count == 2
    run(store, put(b"/k"), put(b"/k"))
    assert once.indices == [1]
    assert stream.indices == [1, 2]
    assert not once.watcher.is_waiting
    assert stream.watcher.is_waiting
    assert store.watcher_count == 1


def test_a_stream_on_a_removed_key_sees_it_twice_and_one_above_once() -> None:
    # recorded from etcd in watch/stream_live
    for removal in (delete(b"/d/k"), cut(b"/d/k", index=1)):
        store = Store()
        run(store, put(b"/d/k"))
        on, on_recursive = Ear(store, b"/d/k"), Ear(store, b"/d/k", recursive=True)
        above, once = Ear(store, b"/d", recursive=True), Ear(store, b"/d/k", stream=False)
        run(store, removal)
        assert (on.indices, on_recursive.indices) == ([2, 2], [2, 2])
        assert (above.indices, once.indices) == ([2], [2])


@pytest.mark.parametrize("expire", [False, True])
def test_removing_a_directory_wakes_watches_on_the_nodes_in_it(expire: bool) -> None:
    store = Store()
    run(store, make_dir(b"/d", ttl=1), put(b"/d/e/f"), put(b"/d/_h"), put(b"/dd"))
    inside = [Ear(store, key, recursive) for key in (b"/d/e", b"/d/e/f", b"/d/_h") for recursive in (False, True)]
    outside = [Ear(store, key, recursive=True) for key in (b"/d/x", b"/d/e/f/x", b"/dd")]
    if expire:
        sweep(store, NOW + SECOND)
    else:
        run(store, delete(b"/d", recursive=True))
    assert [ear.indices for ear in inside] == [[5]] * 6
    assert {event.node.key for ear in inside for event in ear.heard if event} == {b"/d"}
    assert [ear.indices for ear in outside] == [[]] * 3


def test_a_refresh_wakes_nobody_and_is_skipped_looking_back_but_takes_a_place() -> None:
    store = Store(history_limit=3)
    run(store, put(b"/k"))
    ear = Ear(store, b"/k")
    event = run(store, refresh(b"/k"))
    assert event is not None
    assert event.is_refresh
    assert ear.heard == []
    assert Ear(store, b"/k", since=2).heard == []
    run(store, refresh(b"/k"), put(b"/k"))
    assert Ear(store, b"/k", since=2).indices == [4]
    with pytest.raises(HistoryCleared):
        Ear(store, b"/k", since=1)


def test_wait_index_in_the_future() -> None:
    store = Store()
    once, stream = Ear(store, b"/k", stream=False, since=3), Ear(store, b"/k", since=2)
    run(store, put(b"/k"), put(b"/k"), put(b"/k"), put(b"/k"))
    assert once.indices == [3]
    assert stream.indices == [2, 3, 4]


def test_a_stream_answered_from_history_delivers_that_and_no_more() -> None:
    store = Store()
    run(store, put(b"/k"), put(b"/k"))
    ear = Ear(store, b"/k", since=1)
    run(store, put(b"/k"))
    assert ear.indices == [1]
    assert not ear.watcher.is_waiting
    assert store.watcher_count == 0
    ear.watcher.cancel()
    next_one = Ear(store, b"/k", since=4)
    run(store, put(b"/k"), put(b"/k"))
    assert next_one.indices == [4, 5]


def looking_back(*operations: Operation, key: bytes, recursive: bool = False, since: int = 1) -> list[int | None]:
    store = Store()
    run(store, *operations)
    return Ear(store, key, recursive, since=since).indices


def test_looking_back_finds_the_first_match() -> None:
    writes = (put(b"/a"), put(b"/b/c"), put(b"/a"))
    assert looking_back(*writes, key=b"/a") == [1]
    assert looking_back(*writes, key=b"/a", since=2) == [3]
    assert looking_back(*writes, key=b"/b") == []
    assert looking_back(*writes, key=b"/b", recursive=True) == [2]
    assert looking_back(*writes, key=b"/", recursive=True, since=3) == [3]
    assert looking_back(put(b"/ab"), key=b"/a", recursive=True) == []


def test_looking_back_sees_hidden_keys() -> None:
    assert looking_back(put(b"/a/_h"), key=b"/a", recursive=True) == [1]
    assert looking_back(put(b"/_h"), key=b"/", recursive=True) == [1]


@pytest.mark.parametrize("key", [b"/foo", b"/foobar", b"/foo/never-existed"])
@pytest.mark.parametrize("recursive", [False, True])
def test_looking_back_a_removed_directory_matches_by_its_name_as_a_string(key: bytes, recursive: bool) -> None:
    removal = delete(b"/foo", recursive=True)
    assert looking_back(make_dir(b"/foo"), removal, key=key, recursive=recursive, since=2) == [2]
    expiring = Store()
    run(expiring, make_dir(b"/foo", ttl=1))
    sweep(expiring, NOW + SECOND)
    assert Ear(expiring, key, recursive, since=2).indices == [2]


def test_looking_back_a_removed_file_matches_only_itself() -> None:
    for removal in (delete(b"/foo"), cut(b"/foo", index=1)):
        assert looking_back(put(b"/foo"), removal, key=b"/foo", since=2) == [2]
        assert looking_back(put(b"/foo"), removal, key=b"/foobar", since=2) == []
    # a set of a directory is no removal
    assert looking_back(make_dir(b"/foo"), key=b"/foobar") == []


def test_history_keeps_so_many_events_and_names_the_oldest() -> None:
    store = Store(history_limit=5)
    assert Ear(store, b"/k", since=1).heard == []
    for _ in range(5):
        run(store, put(b"/k"))
    assert Ear(store, b"/k", since=1).indices == [1]
    run(store, put(b"/k"))
    assert Ear(store, b"/k", since=2).indices == [2]
    for key in (b"/k", b"/never-was"):
        with pytest.raises(HistoryCleared) as caught:
            Ear(store, key, since=1)
        assert (caught.value.oldest, caught.value.asked, caught.value.index) == (2, 1, 6)
    assert store.watcher_count == 1, "the refused ones do not count"


def test_an_event_in_the_history_is_as_it_was() -> None:
    store = Store()
    event = run(store, put(b"/k", b"old", ttl=9))
    run(store, put(b"/k", b"new"), delete(b"/k"))
    assert Ear(store, b"/k", since=1).heard == [event]
    assert event is not None
    assert event.node == file(b"/k", b"old", 1, 1, NOW + 9 * SECOND, 9)


def test_cancel_is_idempotent_and_works_from_within_a_delivery() -> None:
    store = Store()
    first = Ear(store, b"/k")
    heard: list[Event | None] = []

    def cancel_both(event: Event | None) -> None:
        heard.append(event)
        middle.cancel()
        last.watcher.cancel()

    middle = store.watch(b"/k", False, True, 0, cancel_both)
    last = Ear(store, b"/k")
    run(store, put(b"/k"), put(b"/k"))
    assert (first.indices, len(heard), last.indices) == ([1, 2], 1, [])
    assert store.watcher_count == 1
    for _ in range(2):
        first.watcher.cancel()
        middle.cancel()
    assert store.watcher_count == 0
    run(store, put(b"/k"))
    assert first.indices == [1, 2]


def test_an_event_costs_nothing_to_watchers_elsewhere() -> None:
    store = Store()
    touched: list[bytes] = []

    class Counted(bytes):
        """A key that says when it is looked at."""

        def __eq__(self, other: object) -> bool:
            touched.append(bytes(self))
            return bytes.__eq__(self, other)

        __hash__ = bytes.__hash__

    ears = [Ear(store, Counted(b"/d/k%d" % i)) for i in range(1_000)]
    ears += [Ear(store, Counted(b"/d")) for _ in range(1_000)]
    touched.clear()
    run(store, put(b"/d/k7"))
    assert touched == [b"/d/k7"] * len(touched)
    assert [ear.indices for ear in ears if ear.heard] == [[1]]


def test_ten_thousand_watchers_on_one_key() -> None:
    store = Store()
    once = [Ear(store, b"/k", stream=False) for _ in range(10_000)]
    run(store, put(b"/k"))
    assert all(ear.indices == [1] for ear in once)
    assert store.watcher_count == 0


def test_a_name_taken_in_order_is_no_event() -> None:
    store = Store()
    run(store, put(b"/q/00000000000000000002"))
    ear = Ear(store, b"/q", recursive=True)
    with pytest.raises(KeyExists):
        run(store, post(b"/q"))
    assert ear.heard == []


def test_a_directory_over_a_file_is_an_ordinary_set() -> None:
    store = Store()
    run(store, put(b"/k"))
    ear = Ear(store, b"/k")
    run(store, Set(b"/k", b"", True, None, False))
    assert ear.indices == [2]
