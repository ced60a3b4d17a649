"""docs/api-v2.md, *Other paths*: what etcd counts for each request, as the recordings `stats` have it."""

from __future__ import annotations

from contextlib import suppress

import pytest

from kvstore.store.errors import StoreError
from kvstore.store.operations import (
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Operation,
    Set,
    Update,
)
from kvstore.store.store import Store
from tests.store.steps import NOW, SECOND, create, cut, delete, make_dir, post, put, refresh, swap, sweep, update


@pytest.fixture
def store() -> Store:
    made = Store()
    for operation in (put(b"/file"), make_dir(b"/dir"), put(b"/dir/child")):
        made.apply(operation, NOW)
    return made


@pytest.mark.parametrize(
    ("operation", "succeeded", "failed"),
    [
        (put(b"/new"), {Set}, set()),
        (refresh(b"/file"), {Set}, set()),
        (put(b"/dir"), set(), {Set}),
        (put(b"/file/below"), set(), {Set}),
        (put(b"/"), set(), {Set}),
        (refresh(b"/none"), set(), {Set}),
        (create(b"/new"), {Create}, set()),
        (create(b"/file"), set(), {Create}),
        (create(b"/file/below"), set(), {Create, Set}),
        (post(b"/dir"), {CreateInOrder}, set()),
        (post(b"/file"), set(), {CreateInOrder, Set}),
        (update(b"/file"), {Update}, set()),
        (update(b"/none"), set(), {Update}),
        (update(b"/dir"), {Update}, set()),  # refused
        (update(b"/"), {Update}, set()),  # refused
        (swap(b"/file", previous=b"v"), {CompareAndSwap}, set()),
        (swap(b"/file", previous=b"zz"), set(), {CompareAndSwap}),
        (swap(b"/dir", previous=b"zz"), set(), {CompareAndSwap}),
        (swap(b"/none", previous=b"zz"), set(), {CompareAndSwap}),
        (swap(b"/", previous=b"zz"), {CompareAndSwap}, set()),  # refused
        (delete(b"/file"), {Delete}, set()),
        (delete(b"/none"), set(), {Delete}),
        (delete(b"/dir"), set(), {Delete}),
        (delete(b"/dir", is_dir=True), set(), {Delete}),
        (delete(b"/"), {Delete}, set()),  # refused
        (cut(b"/file", previous=b"v"), {CompareAndDelete}, set()),
        (cut(b"/file", previous=b"zz"), {CompareAndDelete}, set()),  # refused
        (cut(b"/dir", previous=b"zz"), {CompareAndDelete}, set()),  # refused
        (cut(b"/none", previous=b"zz"), set(), {CompareAndDelete}),
    ],
)
def test_an_operation_counts_as_in_etcd(
    store: Store, operation: Operation, succeeded: set[type[Operation]], failed: set[type[Operation]]
) -> None:
    counts = store.counts
    before = dict(counts.succeeded), dict(counts.failed)
    with suppress(StoreError):
        store.apply(operation, NOW)
    changed = [
        {kind: now - then[kind] for kind, now in current.items() if now != then[kind]}
        for then, current in zip(before, (counts.succeeded, counts.failed), strict=True)
    ]
    assert changed == [dict.fromkeys(succeeded, 1), dict.fromkeys(failed, 1)]


def test_reads_are_counted(store: Store) -> None:
    store.get(b"/file", recursive=False, sort=False, now=NOW)
    store.get(b"/dir", recursive=True, sort=False, now=NOW)
    with pytest.raises(StoreError):
        store.get(b"/none", recursive=True, sort=False, now=NOW)
    counts = store.counts
    assert (counts.gets, counts.recursive_gets, counts.gets_failed) == (3, 2, 1)


def test_each_expired_node_counts_and_its_children_do_not(store: Store) -> None:
    for operation in (put(b"/a", ttl=1), make_dir(b"/b", ttl=1), put(b"/b/c")):
        store.apply(operation, NOW)
    sweep(store, NOW + 2 * SECOND)
    assert store.counts.expired == 2


def test_watches_are_counted_for_ever_and_while_they_wait(store: Store) -> None:
    waiting = store.watch(b"/k", False, False, 0, lambda event: None)
    store.watch(b"/file", False, False, 1, lambda event: None)  # answered from the history
    assert (store.counts.watches, store.watcher_count) == (2, 1)
    waiting.cancel()
    assert (store.counts.watches, store.watcher_count) == (2, 0)
