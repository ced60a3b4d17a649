"""Deep and long keys: what is not there is found to be missing in time that the key's bytes explain."""

from __future__ import annotations

from random import Random
from time import perf_counter

import pytest

from kvstore.store.errors import StoreError
from kvstore.store.operations import Operation
from kvstore.store.store import Store
from kvstore.store.tree import ROOT, Tree, parent_of
from tests.store.steps import NOW, create, cut, delete, make_dir, post, put, refresh, swap, update

#: Walking up from the end, each of these takes more than ten seconds.
LEVELS = 120_000
SECONDS = 1.0


def by_walking_up(tree: Tree, key: bytes) -> bytes:
    parent = parent_of(key)
    while parent not in tree.nodes:
        parent = parent_of(parent)
    return parent


def some_key(random: Random) -> bytes:
    return b"".join(b"/" + random.choice((b"a", b"b", b"ab")) for _ in range(random.randint(1, 9)))


def test_the_nearest_ancestor_is_the_one_that_walking_up_finds() -> None:
    random = Random(13)
    for _ in range(200):
        tree = Tree()
        for number in range(random.randint(0, 12)):
            key = some_key(random)
            if key not in tree.nodes and tree.nearest(key) in tree.children:
                is_dir = random.random() < 0.3
                tree.insert(key, (None if is_dir else b"v", number, number, None))
        for _ in range(50):
            key = some_key(random)
            assert tree.nearest(key) == by_walking_up(tree, key)


@pytest.mark.parametrize("beginning", [b"/none", b"/file", b"/directory"])
@pytest.mark.parametrize(
    "operation", [refresh, update, swap, lambda key: delete(key, recursive=True), lambda key: cut(key, b"v")]
)
def test_a_missing_deep_key_costs_what_its_bytes_explain(beginning: bytes, operation: object) -> None:
    store = Store()
    store.apply(put(b"/file"), NOW)
    store.apply(make_dir(b"/directory"), NOW)
    key = beginning + b"/a" * LEVELS
    asked: Operation = operation(key)  # type: ignore[operator]
    began = perf_counter()
    with pytest.raises(StoreError):
        store.apply(asked, NOW)
    with pytest.raises(StoreError):
        store.get(key, recursive=False, sort=False, now=NOW)
    assert perf_counter() - began < SECONDS


@pytest.mark.parametrize("operation", [put, create, post])
def test_a_deep_key_below_a_file_is_refused_in_time_that_its_bytes_explain(operation: object) -> None:
    store = Store()
    store.apply(put(b"/file"), NOW)
    asked: Operation = operation(b"/file" + b"/a" * LEVELS)  # type: ignore[operator]
    began = perf_counter()
    with pytest.raises(StoreError):
        store.apply(asked, NOW)
    assert perf_counter() - began < SECONDS


def test_a_key_deeper_than_requests_may_have_still_replays_and_can_be_removed() -> None:
    """Logs of earlier releases hold such keys."""
    store = Store()
    key = b"/a" * 2_000
    store.apply(put(key), NOW)
    assert store.get(key, False, False, NOW).value == b"v"
    with pytest.raises(StoreError):
        store.apply(update(key + b"/b/c"), NOW)
    store.apply(delete(b"/a", recursive=True), NOW)
    assert store.get(ROOT, True, False, NOW).nodes == ()
