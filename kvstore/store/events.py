"""What the store answers with and what watchers receive: views of nodes, and events.

Immutable values: an event in the history is the very object that the writer was answered with. Nothing here
knows how a view is written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

# The actions of etcd's v2 API. The position is the number in a snapshot: append only, never reorder.
ACTIONS = ("set", "create", "update", "compareAndSwap", "delete", "compareAndDelete", "expire")
SET, CREATE, UPDATE, COMPARE_AND_SWAP, DELETE, COMPARE_AND_DELETE, EXPIRE = ACTIONS


class NodeView(NamedTuple):
    """A node as it was at one index and looked at one time. The root has key b"/" and indices 0."""

    key: bytes
    value: bytes | None  # None: a directory, or the `node` of a removal
    is_dir: bool
    created: int
    modified: int
    expiration: int | None  # nanoseconds since the epoch, signed 64 bit; None: permanent
    ttl: int | None  # seconds left, rounded up, <= 0 when passed; None if and only if `expiration` is
    nodes: tuple[NodeView, ...] | None  # children without the hidden ones; None where they were not asked for


class Event(NamedTuple):
    """One successful write, or one expiry. `index` is the store's index after it and `node.modified`."""

    action: str  # one of ACTIONS
    node: NodeView  # removals: no value, no expiration
    previous: NodeView | None  # the node before; None: there was none (directories without `nodes`)
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of an event
    is_refresh: bool  # a refresh takes its place in the history, but no watcher sees it


# Called synchronously while the store applies, so it must be quick and must never raise. None: the watcher was cut
# off (see Store.adopt) and gets nothing more.
Deliver: TypeAlias = Callable[[Event | None], None]
