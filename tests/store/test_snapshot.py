"""Freezing, restoring, and taking over the state of a snapshot with watchers in place."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from typing import Any

import msgpack
import pytest

from kvstore.store.errors import HistoryCleared, UnreadableSnapshot
from kvstore.store.store import Store
from tests.store.steps import (
    NOW,
    SECOND,
    Ear,
    create,
    cut,
    delete,
    make_dir,
    post,
    put,
    refresh,
    run,
    swap,
    sweep,
    tree,
    update,
)

LIMIT = 20


def lived_in() -> Store:
    """A store that has seen every operation, with deadlines ahead and hidden nodes."""
    store = Store(LIMIT)
    run(store, put(b"/a/b/c"), put(b"/a/_h", ttl=5), make_dir(b"/d", ttl=7), put(b"/d/f"), post(b"/q"))
    run(store, create(b"/\xff\x00"), update(b"/a/b/c", ttl=9), swap(b"/d/f", b"", previous=b"v"))
    run(store, make_dir(b"/\xff\x00"), refresh(b"/a/b/c", ttl=3), put(b"/z"), cut(b"/z", previous=b"v"))
    run(store, put(b"/t", ttl=1), put(b"/gone/x"), delete(b"/gone", recursive=True), update(b"/d", b"", ttl=8))
    sweep(store, NOW + SECOND)
    return store


def rows(store: Store) -> list[Any]:
    return [row for chunk in store.freeze().chunks() for row in chunk]


def plain(value: object) -> bool:
    if type(value) is tuple:
        return all(plain(item) for item in value)
    return value is None or type(value) in (bytes, int, bool)


def test_restore_is_the_inverse_of_freeze() -> None:
    store = lived_in()
    for size in (1, 7, 1_000):
        restored = Store.restore(store.freeze().chunks(size), LIMIT)
        assert restored.index == store.index
        assert tree(restored) == tree(store)
        assert rows(restored) == rows(store)
        assert restored.next_deadline == store.next_deadline == NOW + 3 * SECOND


def test_rows_are_plain_and_chunks_bounded() -> None:
    chunks = list(lived_in().freeze().chunks(4))
    assert all(1 <= len(chunk) <= 4 for chunk in chunks)
    assert all(plain(row) for chunk in chunks for row in chunk)


def test_chunks_are_cut_by_bytes_and_a_row_that_is_larger_stands_alone() -> None:
    store = Store(LIMIT, history_bytes=1 << 20)
    for number in range(30):
        run(store, put(b"/%d" % number, bytes(100)))
    run(store, put(b"/" + b"n" * 700), put(b"/large", bytes(2_000)), put(b"/large", bytes(3_000)))
    sizes = []
    for chunk in list(store.freeze().chunks(size=500))[1:]:
        weights = [len(b"".join(part for part in _flat(row) if type(part) is bytes)) for row in chunk]
        sizes.append(sum(weights))
        assert sum(weights) <= 500 or len(weights) == 1
    assert max(sizes) >= 5_000, "the event with the value before and after"
    assert min(sizes[:-1]) > 100, "rows share a chunk where they fit"
    restored = Store.restore(store.freeze().chunks(size=500), LIMIT, 1 << 20)
    assert rows(restored) == rows(store)


def test_a_large_value_is_held_once_after_a_restore_as_before_it() -> None:
    store = Store(LIMIT)
    run(store, put(b"/a", b"1" * 5_000), put(b"/a", b"2" * 5_000), put(b"/a", b"3" * 5_000))
    restored = Store.restore(store.freeze().chunks(), LIMIT)
    assert rows(restored) == rows(store)
    for one in (store, restored):
        events = one.freeze()._events
        assert events[2].node.value is one._tree.nodes[b"/a"][0]
        for before, after in pairwise(events):
            assert after.previous is not None
            assert after.previous.value is before.node.value


def _flat(value: Any) -> list[Any]:
    return [part for item in value for part in _flat(item)] if type(value) is tuple else [value]


def test_restore_takes_lists_for_tuples() -> None:
    def listed(value: Any) -> Any:
        return [listed(item) for item in value] if isinstance(value, tuple) else value

    store = lived_in()
    restored = Store.restore([[listed(row)] for row in rows(store)], LIMIT)
    assert rows(restored) == rows(store)
    assert Ear(restored, b"/a/b/c", since=1).heard == Ear(store, b"/a/b/c", since=1).heard


def test_both_go_on_alike_after_a_restore() -> None:
    store = lived_in()
    restored = Store.restore(store.freeze().chunks(), LIMIT)
    for each in (store, restored):
        sweep(each, NOW + 7 * SECOND)
        run(each, put(b"/a/b/d"), post(b"/q"), delete(b"/a", recursive=True), put(b"/a/new", ttl=1))
    assert rows(restored) == rows(store)


def test_the_past_is_the_same_on_a_restored_member() -> None:
    store = lived_in()
    run(store, *(put(b"/n%d" % i) for i in range(10)))
    restored = Store.restore(store.freeze().chunks(), LIMIT)
    oldest = store.index - LIMIT + 1
    for since in range(oldest, store.index + 1):
        for key in (b"/", b"/d", b"/gone/never", b"/n3"):
            expected = Ear(store, key, recursive=True, since=since).heard
            assert Ear(restored, key, recursive=True, since=since).heard == expected
    with pytest.raises(HistoryCleared) as caught:
        Ear(restored, b"/", since=oldest - 1)
    assert caught.value.oldest == oldest


def test_a_shorter_history_keeps_the_newest_and_a_longer_one_what_there_is() -> None:
    store = lived_in()
    first = store.index - 4
    shorter = Store.restore(store.freeze().chunks(), 5)
    assert Ear(shorter, b"/", recursive=True, since=first).indices == [first]
    with pytest.raises(HistoryCleared):
        Ear(shorter, b"/", since=first - 1)
    longer = Store.restore(shorter.freeze().chunks(), 50)
    with pytest.raises(HistoryCleared):
        Ear(longer, b"/", since=first - 1)
    run(longer, *(put(b"/k") for _ in range(45)))
    assert Ear(longer, b"/", recursive=True, since=first).indices == [first]


def test_a_frozen_picture_does_not_follow_the_store() -> None:
    store = lived_in()
    expected = rows(store)
    chunks = store.freeze().chunks(2)
    seen = list(next(chunks))
    run(store, put(b"/a/b/c", b"new"), delete(b"/d", recursive=True), put(b"/brand/new"), make_dir(b"/e"))
    sweep(store, NOW + 100 * SECOND)
    run(store, *(put(b"/k") for _ in range(LIMIT)))
    for chunk in chunks:
        seen += chunk
    assert seen == expected


def test_an_empty_store() -> None:
    restored = Store.restore(Store(LIMIT).freeze().chunks(), LIMIT)
    assert restored.index == 0
    run(restored, put(b"/k"))
    assert Ear(restored, b"/k", since=1).indices == [1]


PROGRAM = """
from tests.store.test_snapshot import lived_in, rows
print(rows(lived_in()))
"""


def test_every_process_freezes_the_same() -> None:
    """The order of sets of bytes differs from process to process; nothing may depend on it."""
    printed = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed == [f"{rows(lived_in())}\n"] * 2


def test_rows_that_are_no_store_are_refused() -> None:
    complete = rows(lived_in())
    for damaged in (
        [],
        [complete[:3]],
        [complete[:-1]],
        [complete, [complete[-1]]],
        [complete[:1], [row for row in complete[1:] if row[0] != b"/a"]],
        nodes((b"/", None, 0, 0, None), (b"/f", b"a file", 1, 1, None), (b"/f/g", b"v", 1, 1, None)),
        nodes((b"/", b"a file", 0, 0, None)),
        nodes((b"/f", b"v", 1, 1, None)),
        nodes((b"/", None, 0, 0, None), (b"/f", b"v", -1, -1, None)),
        nodes((b"/", None, 0, 0, None), (b"/f", 5, 1, 1, None)),
        nodes((b"/", None, 0, 0, None), (b"/f", b"v", 1, 1)),
    ):
        with pytest.raises(UnreadableSnapshot):
            Store.restore(damaged, LIMIT)


def nodes(*rows: tuple[Any, ...]) -> list[list[tuple[Any, ...]]]:
    return [[(0, len(rows), 0)], list(rows)]


def test_a_restored_key_takes_little_memory() -> None:
    """The key, its index and value as one, and its places among the nodes and in its directory."""
    store = Store(LIMIT)
    count = 10_000
    run(store, *(put(b"/small/%d/%d" % divmod(number, 1_000), b"v" * 100) for number in range(count)))
    chunks = [msgpack.packb(chunk) for chunk in store.freeze().chunks()]
    tracemalloc.start()
    restored = Store.restore((msgpack.unpackb(chunk, use_list=False) for chunk in chunks), LIMIT)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert restored.index == count
    assert taken / count < 300


# --- adopting ---------------------------------------------------------------------------------------------------


def level() -> tuple[Store, Store]:
    """The leader's store, and that of a follower which will miss what comes next."""
    leader, follower = Store(LIMIT), Store(LIMIT)
    for store in (leader, follower):
        run(store, put(b"/d/f"), put(b"/k", ttl=5))
    return leader, follower


def catch_up(follower: Store, leader: Store) -> None:
    follower.adopt(Store.restore(leader.freeze().chunks(), LIMIT))


def test_watchers_get_what_happened_in_between_in_order() -> None:
    leader, follower = level()
    all_of_it, once = Ear(follower, b"/", recursive=True), Ear(follower, b"/k", stream=False)
    future = Ear(follower, b"/k", since=5)
    run(leader, put(b"/x"), refresh(b"/k"), put(b"/k"), put(b"/_h"), put(b"/k"))
    expected = Ear(leader, b"/k", since=5).heard[0]
    catch_up(follower, leader)
    assert follower.index == 7
    assert all_of_it.indices == [3, 5, 7]
    assert once.indices == [5]
    assert future.heard[0] == expected
    run(follower, put(b"/k"))
    assert all_of_it.indices == [3, 5, 7, 8]
    assert future.indices == [5, 7, 8]


def test_a_removed_directory_wakes_those_who_watched_what_was_in_it_then() -> None:
    leader, follower = level()
    there, never, came = Ear(follower, b"/d/f"), Ear(follower, b"/d/x"), Ear(follower, b"/d/new/n")
    run(leader, put(b"/d/new/n"), delete(b"/d", recursive=True))
    catch_up(follower, leader)
    assert (there.indices, never.indices, came.indices) == ([4], [], [3, 4])


def test_watchers_who_may_have_missed_something_are_cut_off() -> None:
    leader, follower = level()
    missed = [Ear(follower, b"/k"), Ear(follower, b"/elsewhere", stream=False), Ear(follower, b"/", recursive=True)]
    future = Ear(follower, b"/k", since=leader.index + LIMIT + 2)
    run(leader, *(put(b"/k") for _ in range(LIMIT + 1)))
    catch_up(follower, leader)
    assert [ear.heard for ear in missed] == [[None]] * 3
    assert not any(ear.watcher.is_waiting for ear in missed)
    assert future.heard == []
    assert follower.watcher_count == 1
    run(follower, put(b"/k"))
    assert future.indices == [follower.index]


def test_one_event_less_and_nobody_is_cut_off() -> None:
    leader, follower = level()
    ear = Ear(follower, b"/k")
    run(leader, *(put(b"/k") for _ in range(LIMIT)))
    catch_up(follower, leader)
    assert ear.indices == list(range(3, 3 + LIMIT))


def test_a_watcher_told_that_it_is_cut_off_may_cancel_others() -> None:
    leader, follower = level()
    told: list[object] = []
    watchers = [follower.watch(b"/k", False, True, 0, lambda event: cancel_all(event)) for _ in range(3)]

    def cancel_all(event: object) -> None:
        told.append(event)
        for watcher in watchers:
            watcher.cancel()

    run(leader, *(put(b"/k") for _ in range(LIMIT + 1)))
    catch_up(follower, leader)
    assert told == [None]
    assert follower.watcher_count == 0


def test_the_state_never_goes_back() -> None:
    leader, follower = level()
    run(follower, put(b"/ahead"))
    with pytest.raises(AssertionError):
        catch_up(follower, leader)
