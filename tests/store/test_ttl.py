"""docs/api-v2.md, *Time to live*: deadlines, what is shown of them, and expiry."""

from __future__ import annotations

import random

import pytest

from kvstore.store.deadlines import Deadlines, deadline, seconds_left
from kvstore.store.errors import KeyNotFound
from kvstore.store.events import Event
from kvstore.store.operations import Create, Operation, Set, Update
from kvstore.store.store import Store
from tests.store.steps import (
    NOW,
    SECOND,
    Ear,
    create,
    delete,
    directory,
    file,
    gone,
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

LARGEST = 2**64 - 1


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        (0, NOW),
        (100, NOW + 100 * SECOND),
        (3_000_000_000, NOW + 3_000_000_000 * SECOND),
        (9_223_372_036, NOW + 9_223_372_036 * SECOND - 2**64),  # the sum wraps, into the year 1734
        (12_000_000_000, NOW + 12_000_000_000 * SECOND - 2**64),  # the product wraps
        (LARGEST, NOW - SECOND),  # wraps to -1 s
    ],
)
def test_deadline_wraps_as_64_bits_do(ttl: int, expected: int) -> None:
    assert deadline(NOW, ttl) == expected


def test_a_deadline_of_zero_is_none() -> None:
    assert deadline(SECOND, LARGEST) is None


@pytest.mark.parametrize(
    ("left", "ttl"),
    [
        (1, 1),
        (SECOND, 1),
        (SECOND + 1, 2),
        (0, 0),
        (-1, 0),
        (-SECOND, -1),
        (-2 * SECOND + 1, -1),
        (-(2**64), -9_223_372_036),
    ],
)
def test_seconds_left_are_rounded_up_and_saturate(left: int, ttl: int) -> None:
    assert seconds_left(NOW + left, NOW) == ttl


@pytest.mark.parametrize(
    "operation",
    [
        put(b"/f", b"x", ttl=5),
        update(b"/f", b"x", ttl=5),
        swap(b"/f", b"x", index=1, ttl=5),
        create(b"/n", b"x", ttl=5),
        post(b"/q", b"x", ttl=5),
        make_dir(b"/n", ttl=5),
        Create(b"/n", b"", True, 5),
        update(b"/d", b"", ttl=5),
        refresh(b"/f", ttl=5),
        Update(b"/d", b"", 5, True),
    ],
)
def test_each_write_can_give_a_ttl_and_takes_away_the_one_there_was(operation: Operation) -> None:
    store = Store()
    run(store, put(b"/f", ttl=50), make_dir(b"/d", ttl=60))
    event = run(store, operation)
    assert event is not None
    assert (event.node.expiration, event.node.ttl) == (NOW + 5 * SECOND, 5)
    assert store.next_deadline == NOW + 5 * SECOND
    shown = store.get(event.node.key, False, False, NOW + SECOND)
    assert (shown.expiration, shown.ttl) == (NOW + 5 * SECOND, 4)
    if event.previous is not None:
        assert event.previous.ttl in (50, 60)


@pytest.mark.parametrize("operation", [put(b"/k"), update(b"/k"), swap(b"/k", index=1), update(b"/d", b"")])
def test_a_write_without_ttl_makes_permanent(operation: Operation) -> None:
    store = Store()
    run(store, put(b"/k", ttl=5) if operation.key == b"/k" else make_dir(b"/d", ttl=5))  # type: ignore[union-attr]
    run(store, operation)
    assert store.next_deadline is None
    sweep(store, NOW + 100 * SECOND)
    assert store.index == 2


@pytest.mark.parametrize("ttl", [9_223_372_036, 12_000_000_000])
def test_a_deadline_before_2000_is_permanent_for_new_nodes(ttl: int) -> None:
    for operation in (put(b"/k", ttl=ttl), create(b"/k", ttl=ttl), make_dir(b"/k", ttl=ttl)):
        store = Store()
        event = run(store, operation)
        assert event is not None
        assert (event.node.expiration, event.node.ttl) == (None, None)
        assert store.next_deadline is None


def test_update_and_swap_take_a_deadline_in_the_past() -> None:
    for operation in (update(b"/k", ttl=9_223_372_036), swap(b"/k", index=1, ttl=9_223_372_036)):
        store = Store()
        event = run(store, put(b"/k"), operation)
        assert event is not None
        assert event.node.ttl == -9_223_372_036
        assert event.node.expiration == NOW + 9_223_372_036 * SECOND - 2**64
        sweep(store, NOW)
        with pytest.raises(KeyNotFound):
            store.get(b"/k", False, False, NOW)


def test_minus_one_second() -> None:
    event = run(Store(), put(b"/k", ttl=LARGEST))
    assert event is not None
    assert (event.node.expiration, event.node.ttl) == (NOW - SECOND, -1)


def test_a_node_stays_until_the_sweep_and_goes_at_its_deadline() -> None:
    store = Store()
    run(store, put(b"/k", ttl=1))
    sweep(store, NOW + SECOND - 1)
    assert store.index == 1
    late = store.get(b"/k", False, False, NOW + 3 * SECOND)
    assert late == file(b"/k", b"v", 1, 1, NOW + SECOND, -2)
    ear = Ear(store, b"/k", stream=False)
    sweep(store, NOW + SECOND)
    old = file(b"/k", b"v", 1, 1, NOW + SECOND, 0)
    assert ear.heard == [Event("expire", gone(b"/k", 1, 2), old, 2, False)]
    assert store.next_deadline is None


def test_ttl_zero_goes_at_the_next_sweep() -> None:
    store = Store()
    event = run(store, put(b"/k", ttl=0))
    assert event is not None
    assert (event.node.expiration, event.node.ttl) == (NOW, 0)
    sweep(store, NOW)
    assert store.index == 2


def test_nodes_expire_in_order_of_deadline_with_one_index_each() -> None:
    store = Store()
    run(store, put(b"/c", ttl=3), put(b"/a", ttl=2), put(b"/b", ttl=1), put(b"/z", ttl=2), put(b"/later", ttl=4))
    ear = Ear(store, b"/", recursive=True)
    sweep(store, NOW + 3 * SECOND)
    assert [event.node.key for event in ear.heard if event] == [b"/b", b"/a", b"/z", b"/c"]
    assert ear.indices == [6, 7, 8, 9]
    assert store.next_deadline == NOW + 4 * SECOND


def test_a_directory_expires_with_its_contents_as_one_event() -> None:
    store = Store()
    run(store, make_dir(b"/d", ttl=2), put(b"/d/a/b"), put(b"/d/soon", ttl=2), put(b"/d/late", ttl=9))
    ear = Ear(store, b"/", recursive=True)
    sweep(store, NOW + 2 * SECOND)
    old = directory(b"/d", 1, 1, expiration=NOW + 2 * SECOND, ttl=0)
    assert ear.heard == [Event("expire", gone(b"/d", 1, 5, is_dir=True), old, 5, False)]
    assert store.next_deadline is None
    assert tree(store) == directory(b"/", 0, 0, listed=True)


def test_a_sweep_removes_no_more_than_its_limit() -> None:
    store = Store()
    run(store, *(put(b"/%d" % i, ttl=1) for i in range(7)))
    sweep(store, NOW + SECOND, limit=5)
    assert store.index == 12
    assert store.next_deadline == NOW + SECOND, "still due: the leader sweeps again"
    sweep(store, NOW + SECOND, limit=5)
    assert store.index == 14
    assert store.next_deadline is None


def test_create_has_no_refresh_and_a_deleted_key_does_not_expire() -> None:
    store = Store()
    run(store, put(b"/k", ttl=1), delete(b"/k"), put(b"/k"))
    sweep(store, NOW + 9 * SECOND)
    assert store.index == 3


def test_set_as_directory_with_ttl_over_a_file_with_ttl() -> None:
    store = Store()
    run(store, put(b"/k", ttl=1), Set(b"/k", b"", True, 3, False))
    assert store.next_deadline == NOW + 3 * SECOND


# --- the order of deadlines -------------------------------------------------------------------------------------


def test_deadlines_agree_with_a_sorted_list() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        deadlines = Deadlines()
        model: dict[bytes, int] = {}
        spread = rng.choice([5, 10**9, 10**11])  # within one bucket; over a few; over many
        for _ in range(400):
            key = b"%d" % rng.randrange(30)
            if key in model:
                deadlines.remove(key, model.pop(key))
            if rng.random() < 0.7:
                model[key] = rng.randrange(-spread, spread)
                deadlines.add(key, model[key])
            if rng.random() < 0.6:
                expected = min(((when, key) for key, when in model.items()), default=None)
                assert deadlines.first() == expected


def test_refreshing_leaves_nothing_behind() -> None:
    deadlines = Deadlines()
    deadlines.add(b"/stays", 5)
    assert deadlines.first() == (5, b"/stays")
    for when in range(10_000):
        # one key that changes within the front bucket, one that goes through ever new buckets
        deadlines.add(b"/near", when)
        deadlines.add(b"/far", when << 30)
        deadlines.remove(b"/near", when)
        deadlines.remove(b"/far", when << 30)
    held = len(deadlines._front) + len(deadlines._order) + len(deadlines._buckets)
    assert held < 5_000
    assert deadlines.first() == (5, b"/stays")
