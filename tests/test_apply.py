"""The whole replicated state, frozen and restored, goes on as if nothing had happened."""

from __future__ import annotations

import gc

import pytest

from kvstore.apply import StateMachine
from kvstore.levels import HIGHEST_LEVEL
from kvstore.membership import Member, Membership
from kvstore.store.operations import CreateInOrder, Set
from kvstore.store.store import Store
from kvstore.store.tree import Tree
from kvstore.wire import Publish, WireError, pack

NOW = 1_800_000_000 * 10**9


def machine() -> StateMachine:
    made = StateMachine(Store(100), Membership([Member(1, "n1", ("http://a:1",))]))
    made.apply(Set(b"/a/b", b"\xff", False, 60, False), NOW)
    made.apply(Publish(1, "n1", ("http://c:1",)), NOW + 1)
    made.apply(CreateInOrder(b"/queue", b"job", False, None), NOW + 2)
    return made


@pytest.mark.parametrize(
    "head",
    [
        (1, (((None, "n1", ("http://a:1",), ()),), ()), (0, False, (), ()), 5),
        (1, (((1, "n1", "http://a:1", ()),), ()), (0, False, (), ()), 5),
        (1, ((), (None,)), (0, False, (), ()), 5),
        (1, 5, (0, False, (), ()), 5),
        (1, ((), ()), (0, None, (), ()), 5),
        (1, ((), ()), (0, False, ((b"u", "hash", None),), ()), 5),
        (1, ((), ()), (0, False, (), ()), -5),
    ],
)
def test_what_is_no_state_is_refused(head: object) -> None:
    rows = list(machine().freeze().chunks())[1:]
    with pytest.raises(WireError):
        StateMachine.restore([pack(head), *rows], 100)


@pytest.mark.parametrize("rows", [[], [(1, 2)], [("a", 1, 1)], [(0, 1, 0), (b"/", 5)], [(3, 0, 5)], [(0, 0, 1), (9,)]])
def test_rows_that_are_no_store_are_refused(rows: list[object]) -> None:
    head = next(machine().freeze().chunks())
    with pytest.raises(WireError):
        StateMachine.restore([head, *[pack([row]) for row in rows]], 100)


def test_restored_it_is_the_same_to_the_byte() -> None:
    original = machine()
    restored = StateMachine.restore(original.freeze().chunks(), 100)
    assert list(restored.freeze().chunks()) == list(original.freeze().chunks())
    assert restored.time == NOW + 2
    assert restored.membership.members == original.membership.members


def test_a_frozen_view_is_not_moved_by_what_comes_after() -> None:
    original = machine()
    before = list(original.freeze().chunks())
    frozen = original.freeze()
    original.apply(Set(b"/a/b", b"later", False, None, False), NOW + 3)
    original.apply(Publish(1, "other", ()), NOW + 4)
    assert list(frozen.chunks()) == before


def test_who_adopts_a_state_goes_on_from_its_time() -> None:
    behind = StateMachine(Store(100), Membership())
    behind.adopt(machine())
    assert behind.time == NOW + 2
    assert list(behind.freeze().chunks()) == list(machine().freeze().chunks())


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([], "not msgpack"),
        ([pack("noise")], "does not begin with its layout"),
        ([pack((0, (), (), 0))], "does not begin with its layout"),
        ([pack((HIGHEST_LEVEL + 1, (), (), 0))], f"layout {HIGHEST_LEVEL + 1} was written by a later version"),
    ],
)
def test_what_is_no_snapshot_of_ours_is_refused(chunks: list[bytes], message: str) -> None:
    with pytest.raises(WireError, match=message):
        StateMachine.restore(chunks, 100)


def test_a_state_that_was_replaced_goes_without_the_collector() -> None:
    """What is installed is frozen, so the collector never looks at it: a cycle would keep the whole state for good."""
    live = machine()
    chunks = list(machine().freeze().chunks())
    gc.collect()
    gc.disable()
    try:
        before = sum(type(one) is Tree for one in gc.get_objects())
        for _ in range(3):
            live.adopt(StateMachine.restore(chunks, 100))
        assert sum(type(one) is Tree for one in gc.get_objects()) == before
    finally:
        gc.enable()
