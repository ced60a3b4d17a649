"""Short ways to write down what is done to a store and what comes of it."""

from __future__ import annotations

from kvstore.store.events import Event, NodeView
from kvstore.store.operations import (
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Expire,
    Operation,
    Set,
    Update,
)
from kvstore.store.store import Store
from kvstore.store.watchers import Watcher

SECOND = 10**9
NOW = 1_700_000_000 * SECOND


def put(key: bytes, value: bytes = b"v", ttl: int | None = None) -> Set:
    return Set(key, value, False, ttl, False)


def make_dir(key: bytes, ttl: int | None = None) -> Set:
    return Set(key, b"", True, ttl, False)


def refresh(key: bytes, ttl: int | None = 10) -> Set:
    return Set(key, b"", False, ttl, True)


def create(key: bytes, value: bytes = b"v", ttl: int | None = None) -> Create:
    return Create(key, value, False, ttl)


def post(key: bytes, value: bytes = b"v", ttl: int | None = None) -> CreateInOrder:
    return CreateInOrder(key, value, False, ttl)


def update(key: bytes, value: bytes = b"u", ttl: int | None = None) -> Update:
    return Update(key, value, ttl, False)


def swap(
    key: bytes, value: bytes = b"s", previous: bytes | None = None, index: int = 0, ttl: int | None = None
) -> CompareAndSwap:
    return CompareAndSwap(key, value, previous, index, ttl, False)


def delete(key: bytes, is_dir: bool = False, recursive: bool = False) -> Delete:
    return Delete(key, is_dir, recursive)


def cut(key: bytes, previous: bytes | None = None, index: int = 0) -> CompareAndDelete:
    return CompareAndDelete(key, previous, index)


def file(
    key: bytes,
    value: bytes,
    created: int,
    modified: int,
    expiration: int | None = None,
    ttl: int | None = None,
) -> NodeView:
    return NodeView(key, value, False, created, modified, expiration, ttl, None)


def directory(
    key: bytes,
    created: int,
    modified: int,
    *nodes: NodeView,
    listed: bool = False,
    expiration: int | None = None,
    ttl: int | None = None,
) -> NodeView:
    return NodeView(key, None, True, created, modified, expiration, ttl, nodes if nodes or listed else None)


def gone(key: bytes, created: int, modified: int, is_dir: bool = False) -> NodeView:
    """The `node` of a removal."""
    return NodeView(key, None, is_dir, created, modified, None, None, None)


def run(store: Store, *operations: Operation, now: int = NOW) -> Event | None:
    """Apply all; the event of the last."""
    event = None
    for operation in operations:
        event = store.apply(operation, now)
    return event


def sweep(store: Store, now: int, limit: int = 1_000) -> None:
    assert store.apply(Expire(limit), now) is None


def tree(store: Store, now: int = NOW) -> NodeView:
    return store.get(b"/", True, True, now)


class Ear:
    """A watcher's end: what it was given, in order."""

    def __init__(self, store: Store, key: bytes, recursive: bool = False, stream: bool = True, since: int = 0) -> None:
        self.heard: list[Event | None] = []
        self.watcher: Watcher = store.watch(key, recursive, stream, since, self.heard.append)

    @property
    def indices(self) -> list[int | None]:
        return [None if event is None else event.index for event in self.heard]
