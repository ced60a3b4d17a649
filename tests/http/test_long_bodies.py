"""A long listing in pieces is byte for byte the listing in one go, as the tree was, whatever is written meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.http.texts import quote
from kvstore.http.v2 import long_bodies
from kvstore.http.v2.answers import answer_view
from kvstore.http.v2.long_bodies import parts_of, pieces_of_listing
from kvstore.store import spread
from kvstore.store.errors import StoreError
from kvstore.store.frozen_tree import FrozenTree
from kvstore.store.operations import Create, Delete, Expire, Operation, Set
from kvstore.store.store import Store

SECOND = 10**9
NOW = 1_700_000_000 * SECOND

names = st.sampled_from([b"a", b"b", b"_h", b"c", b"10", b"9", b"\xff", b'"value":"'])
keys = st.lists(names, min_size=1, max_size=3).map(lambda parts: b"/" + b"/".join(parts))
values = st.one_of(st.binary(max_size=40), st.sampled_from(["é€𝄞\u2028<&>\x00" * 4, "x" * 30]).map(str.encode))
operations = st.one_of(
    st.builds(Set, keys, values, st.just(False), st.sampled_from([None, 5, 100]), st.just(False)),
    st.builds(Create, keys, st.just(b""), st.just(True), st.sampled_from([None, 5])),
    st.builds(Delete, keys, st.just(True), st.just(True)),
    st.just(Expire()),
)
listings = st.tuples(st.just(b"/") | keys, st.booleans(), st.booleans())


@given(text=st.lists(st.sampled_from([b"\x80", b"\xbf", b"\xe2", b"\x82", b"\xac", b"\xf0", b"a", "é".encode()])))
def test_a_text_may_be_escaped_part_by_part(text: list[bytes]) -> None:
    whole = b"".join(text)
    for size in (4, 5, 7):
        parts = list(parts_of(whole, size))
        assert b"".join(parts) == whole
        assert b"".join(map(quote, parts)) == quote(whole)
        assert all(0 < len(part) <= size for part in parts)


def small_steps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(long_bodies, "VALUE_BYTES", 8)
    patch.setattr(long_bodies, "RUN", 2)
    patch.setattr(spread, "ONE_DICT_KEYS", 2)  # so that few keys are spread, as many would be


def apply(store: Store, command: Operation, now: int = NOW) -> None:
    with contextlib.suppress(StoreError):
        store.apply(command, now)


@given(before=st.lists(operations, max_size=25), asked=listings)
def test_the_pieces_are_the_whole(before: list[Operation], asked: tuple[bytes, bool, bool]) -> None:
    key, recursive, sort = asked
    with pytest.MonkeyPatch.context() as patch:
        small_steps(patch)
        store = Store()
        for command in before:
            apply(store, command)
        if store.is_directory(key):
            whole = answer_view(store.get(key, recursive, sort, NOW), b"").body
            assert b"".join(pieces_of_listing(store.freeze_tree(), key, recursive, sort, NOW)) == whole


@given(
    plan=st.lists(st.one_of(operations, operations, st.integers(0, 9), st.just("begin")), max_size=60),
    asked=listings,
)
def test_what_is_written_meanwhile_does_not_show(
    plan: list[Operation | int | str], asked: tuple[bytes, bool, bool]
) -> None:
    """Several listings at a time, each begun and ended somewhere between the writes."""
    key, recursive, sort = asked
    with pytest.MonkeyPatch.context() as patch:
        small_steps(patch)
        store = Store()
        running: list[tuple[FrozenTree, bytes, list[bytes], Iterator[bytes]]] = []
        for at, step in enumerate([*plan, *[9] * 60]):
            if step == "begin":
                if store.is_directory(key):
                    whole = answer_view(store.get(key, recursive, sort, NOW), b"").body
                    tree = store.freeze_tree()
                    assert tree.index == store.index
                    running.append((tree, whole, [], pieces_of_listing(tree, key, recursive, sort, NOW)))
            elif isinstance(step, int):
                if running:
                    tree, whole, pieces, rest = running.pop(step % len(running))
                    pieces += islice(rest, 4 if at < len(plan) else 10_000)
                    if pieces[-1:] == [b"}\n"]:
                        assert b"".join(pieces) == whole
                        tree.release()
                    else:
                        running.append((tree, whole, pieces, rest))
            else:
                assert not isinstance(step, str)
                apply(store, step, NOW + at * SECOND)
        assert not running


def test_a_huge_value_comes_in_small_pieces() -> None:
    store = Store()
    value = ("é<\x00" * 300_000).encode()
    for number in range(3):
        apply(store, Set(b"/d/%d" % number, value, False, 30, False))
    pieces = list(pieces_of_listing(store.freeze_tree(), b"/d", False, True, NOW))
    assert max(map(len, pieces)) <= 6 * long_bodies.VALUE_BYTES
    assert b"".join(pieces) == answer_view(store.get(b"/d", False, True, NOW), b"").body


def test_a_directory_of_hidden_keys_takes_many_steps() -> None:
    store = Store()
    for number in range(5 * long_bodies.RUN):
        apply(store, Set(b"/d/_%d" % number, b"", False, None, False))
    pieces = list(pieces_of_listing(store.freeze_tree(), b"/d", True, True, NOW))
    assert len(pieces) > 5
    assert b"".join(pieces) == answer_view(store.get(b"/d", True, True, NOW), b"").body


def test_released_trees_cost_writers_nothing() -> None:
    store = Store()
    apply(store, Set(b"/d/a", b"", False, None, False))
    children = store._tree.children[b"/d"]
    trees = [store.freeze_tree(), store.freeze_tree()]
    assert trees[0] is trees[1], "readers of one index share"
    apply(store, Set(b"/d/b", b"", False, None, False))
    other = store.freeze_tree()
    assert store._tree.children[b"/d"] is not children
    assert list(trees[0].children[b"/d"]) == [b"/d/a"]
    other.release()
    apply(store, Set(b"/d/c", b"", False, None, False))
    assert list(trees[0].children[b"/d"]) == [b"/d/a"]
    for tree in trees:
        tree.release()
    children = store._tree.children[b"/d"]
    apply(store, Set(b"/d/e", b"", False, None, False))
    assert store._tree.children[b"/d"] is children


def test_a_tree_stays_as_it_was_when_a_later_one_is_released() -> None:
    store = Store()
    apply(store, Set(b"/d/a", b"", False, None, False))
    first = store.freeze_tree()
    apply(store, Set(b"/x", b"", False, None, False))
    store.freeze_tree().release()
    apply(store, Set(b"/d/b", b"", False, None, False))
    assert list(first.children[b"/d"]) == [b"/d/a"]
