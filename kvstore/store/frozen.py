"""A picture of the whole store at one index: taken at once, read in slices by another thread, read back exactly.

The rows are plain tuples of bytes, int, bool and None. How they become bytes, and their format's version, is the
matter of the floors above.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeAlias

from kvstore.store.errors import UnreadableSnapshot
from kvstore.store.events import ACTIONS, Event, NodeView
from kvstore.store.history import HISTORY_BYTES, History
from kvstore.store.nodes import PACKED_VALUE_BYTES, FrozenNodes, packed
from kvstore.store.tree import Tree

CHUNK_ROWS = 200  # rows in one chunk: about a fifth of a millisecond of work for the reader
CHUNK_BYTES = 1 << 20  # of keys and values in one chunk; a single row may be larger

Row: TypeAlias = tuple[Any, ...]


class Frozen:
    """The store as it was at `index`. Nothing in it changes any more.

    Chunks hold rows in this order: (index, number of nodes, number of events); for each node
    (key, value, created, modified, expiration), in any order; for each event of the history,
    from the oldest, (number of the action, is_refresh, node, previous or None), both as the first seven fields
    of a NodeView.
    """

    __slots__ = ("_events", "_nodes", "index", "is_founded")

    def __init__(self, index: int, nodes: FrozenNodes, events: list[Event], is_founded: bool = False) -> None:
        self.is_founded = is_founded
        self.index = index
        self._nodes = nodes
        self._events = events

    def chunks(self, rows: int = CHUNK_ROWS, size: int = CHUNK_BYTES) -> Iterator[list[Row]]:
        """Chunks of at most `rows` rows and, unless one row alone is larger, `size` bytes of keys and values."""
        yield [(self.index, len(self._nodes), len(self._events))]
        yield from _cut(((key, *node) for key, node in self._nodes), _node_bytes, rows, size)
        yield from _cut(map(_event_row, self._events), _event_bytes, rows, size)


def _cut(rows: Iterable[Row], weigh: Callable[[Row], int], most: int, size: int) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    held = 0
    for row in rows:
        weight = weigh(row)
        if chunk and (len(chunk) == most or held + weight > size):
            yield chunk
            chunk, held = [], 0
        chunk.append(row)
        held += weight
    if chunk:
        yield chunk


def _node_bytes(row: Row) -> int:
    key, value = row[:2]
    return len(key) + (len(value) if value else 0)


def _event_bytes(row: Row) -> int:
    _, _, node, previous = row
    return _node_bytes(node) + (0 if previous is None else _node_bytes(previous))


def thaw(
    chunks: Iterable[Sequence[Sequence[Any]]], history_limit: int, history_bytes: int = HISTORY_BYTES
) -> tuple[int, Tree, History]:
    """The exact inverse of Frozen.chunks: (index, tree, history); rows may be tuples or lists.

    Narrower limits of the history than those of the frozen store keep the newest events.
    Raises UnreadableSnapshot when rows are missing, too many, or out of order.
    """
    rows = chain.from_iterable(chunks)
    header = next(rows, None)
    if header is None:
        raise UnreadableSnapshot("it is empty")
    index, node_count, event_count = header
    tree = Tree()
    try:
        _thaw_nodes(tree, islice(rows, node_count))
    except (TypeError, ValueError, struct.error):
        raise UnreadableSnapshot("a row that is no node's") from None
    if len(tree.nodes) != node_count:
        raise UnreadableSnapshot(f"{len(tree.nodes)} nodes instead of {node_count}")
    history = History(history_limit, history_bytes, start=index - event_count + 1)
    newest: dict[bytes, NodeView] = {}  # by key, of the events so far
    for row in islice(rows, event_count):
        event = _sharing(_event(row), newest, tree)
        newest[event.node.key] = event.node
        history.add(event)
    if history.newest != index:
        raise UnreadableSnapshot(f"events up to {history.newest} instead of {index}")
    if next(rows, None) is not None:
        raise UnreadableSnapshot("there is more than there should be")
    return index, tree, history


def _thaw_nodes(tree: Tree, rows: Iterator[Sequence[Any]]) -> None:
    put = tree.nodes.put
    directories: list[bytes] = []
    for key, value, created, modified, expiration in rows:
        if value is None:
            directories.append(key)
        if expiration is not None:
            tree.deadlines.add(key, expiration)
        put(key, packed(value, created, modified, expiration))
    try:
        tree.find_children(directories)
    except KeyError as problem:
        raise UnreadableSnapshot(f"{problem.args[0]!r} has children and is no directory") from None


def _sharing(event: Event, newest: dict[bytes, NodeView], tree: Tree) -> Event:
    """The event with the very values that the tree and the event before it hold, as before the snapshot: a large value
    would be held three times else."""
    node, previous = event.node, event.previous
    if node.value is not None and len(node.value) > PACKED_VALUE_BYTES:
        held = tree.nodes.get(node.key)
        if held is not None and held[0] == node.value:
            node = node._replace(value=held[0])
    if previous is not None and previous.value is not None and len(previous.value) > PACKED_VALUE_BYTES:
        before = newest.get(previous.key)
        if before is not None and before.value == previous.value:
            previous = previous._replace(value=before.value)
    return event if node is event.node and previous is event.previous else event._replace(node=node, previous=previous)


def _event_row(event: Event) -> Row:
    previous = event.previous
    return (
        ACTIONS.index(event.action),
        event.is_refresh,
        event.node[:7],
        None if previous is None else previous[:7],
    )


def _event(row: Sequence[Any]) -> Event:
    action, is_refresh, node_row, previous_row = row
    node = NodeView._make((*node_row, None))
    previous = None if previous_row is None else NodeView._make((*previous_row, None))
    return Event(ACTIONS[action], node, previous, node.modified, is_refresh)
