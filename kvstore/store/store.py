"""The replicated state machine: applies operations from the log, answers reads, wakes watchers.

Deterministic: the same operations with the same times give the same state, index and events on every member. The
v2 semantics of docs/api-v2.md, *Keys*, live here, in one method for each operation; the tree below knows none
of them. It knows no log, no clock, no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from kvstore.store import frozen
from kvstore.store.counts import Counts
from kvstore.store.deadlines import EARLIEST, deadline
from kvstore.store.errors import (
    CompareFailed,
    DirectoryNotEmpty,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    RootReadOnly,
    StoreError,
)
from kvstore.store.events import (
    COMPARE_AND_DELETE,
    COMPARE_AND_SWAP,
    CREATE,
    DELETE,
    EXPIRE,
    SET,
    UPDATE,
    Deliver,
    Event,
    NodeView,
)
from kvstore.store.frozen_tree import FrozenTree
from kvstore.store.history import HISTORY_BYTES, History
from kvstore.store.nodes import Node
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
from kvstore.store.tree import ROOT, Tree, view
from kvstore.store.watchers import Watcher, Watchers

HISTORY_LIMIT = 10_000  # events; etcd keeps 1000
NO_LIMIT = 1 << 62

_new = tuple.__new__  # a NamedTuple made this way costs half, and every write makes three


class Store:
    """One tree with one index, which every successful write and every expiry raises by exactly one."""

    def __init__(self, history_limit: int = HISTORY_LIMIT, history_bytes: int = HISTORY_BYTES) -> None:
        self.index = 0
        self.is_founded = False  # index 1 is the founding of the cluster, which is no event; see `found`
        self._shown_empty = 1  # while the index is 0, see `shown_index`
        self.counts = Counts()
        self._tree = Tree()
        self._history = History(history_limit, history_bytes)
        self._watchers = Watchers(history_limit * 3 // 4)  # a watcher that is ended has the rest to ask again in

    @property
    def shown_index(self) -> int:
        """The index for clients: a watch from the index after it misses no write.

        While nothing was written, it is 1 as long as the founding of the cluster is expected to take index 1, so that
        no client sees a 0, which some take for "from now on". It is 0 once the first write is known to take index 1.
        """
        return self.index or self._shown_empty

    @property
    def watcher_count(self) -> int:
        return self._watchers.count

    @property
    def due_events(self) -> int:
        """Events on their way to watchers."""
        return self._watchers.due_count

    @property
    def oldest_due_seconds(self) -> float:
        """For how long the oldest of them has waited."""
        return self._watchers.oldest_due_seconds

    @property
    def watchers_ended(self) -> int:
        """Watchers that were ended because they were too far behind."""
        return self._watchers.ended

    @property
    def history_limit(self) -> int:
        return self._history.limit

    @property
    def next_deadline(self) -> int | None:
        """When the next node expires (ns since the epoch); None: no node ever does."""
        first = self._tree.deadlines.first()
        return None if first is None else first[0]

    def apply(self, operation: Operation, now: int) -> Event | None:
        """Carry out one operation at `now`, the time in its log entry (ns since the epoch); its event, for Expire
        None.

        Raises StoreError, and then nothing has changed. The one door for all writes, where they are counted.
        """
        kind = type(operation)
        try:
            event = _APPLIERS[kind](self, operation, now)
        except StoreError as error:
            self.counts.refused(kind, error)
            self.begin_unfounded()
            error.index = self.shown_index
            raise
        self.counts.succeeded[kind] += 1
        return event

    def get(self, key: bytes, recursive: bool, sort: bool, now: int) -> NodeView:
        """A file, or a directory with its children (`recursive`: its subtree); `now` only tells the ttl left.

        Raises KeyNotFound, NotADirectory. Unsorted children come in any order, as with etcd.
        """
        found = self.get_within(key, recursive, sort, now, NO_LIMIT, NO_LIMIT)
        assert found is not None
        return found

    def get_within(
        self, key: bytes, recursive: bool, sort: bool, now: int, max_nodes: int, max_bytes: int
    ) -> NodeView | None:
        """As `get`; None for a listing that has more nodes, or keys and values of more bytes."""
        self.counts.got(recursive)
        node = self._tree.nodes.get(key)
        if node is None:
            self.counts.gets_failed += 1
            raise self._missing(key)
        if node[0] is None:
            return self._tree.listing(key, recursive, sort, now, max_nodes, max_bytes)
        return view(key, node, now)

    def freeze_tree(self) -> FrozenTree:
        """All nodes as they are now, for a long listing; to be released. Copies no node."""
        return self._tree.freeze(self.index)

    def value(self, key: bytes) -> bytes | None:
        """What a file holds; None for a directory, and where there is nothing. Not counted as a read."""
        node = self._tree.nodes.get(key)
        return None if node is None else node[0]

    def is_directory(self, key: bytes) -> bool:
        return key in self._tree.children

    def watch(self, key: bytes, recursive: bool, stream: bool, since: int, deliver: Deliver) -> Watcher:
        """Wait for events of `key`, and with `recursive` of all below it, from the index `since` on (0: from now).

        An event that the history holds is delivered before this returns; the watcher then never gets another,
        even as a stream (docs/api-v2.md, *Watching*). Otherwise `deliver` is called from `apply`, or soon after it
        if there is much to deliver (see `pace_watchers`). A one-shot watch gets one call.
        `deliver` must not raise and must not call the store; it may cancel watchers.
        Raises HistoryCleared.
        """
        self.counts.watches += 1
        watcher = Watcher(key, recursive, stream, since or self.index + 1, deliver)
        event = self._history.find(key, recursive, watcher.since)
        if event is not None:
            deliver(event)
        else:
            self._watchers.add(watcher)
        return watcher

    def pace_watchers(
        self, later: Callable[[Callable[[], None]], object] | None, clock: Callable[[], float] | None = None
    ) -> None:
        """Make many or large deliveries in slices: `later` calls what it is given once, with other work in between.

        `clock` gives seconds, and bounds a slice by its time. Without `later`, and after None, each delivery is made
        before `apply` returns.
        """
        self._watchers.pace(later, clock)

    def found(self) -> None:
        """Begin at index 1, so that the first write is 2 as with etcd and 0 never stands for "nothing yet": to clients
        it means "from now on". A store that holds something already goes on as it is."""
        if self.index == 0:
            self.index = 1
            self.is_founded = True
            self._history.found()

    def begin_unfounded(self) -> None:
        """Expect the first write at index 1: commands are applied, and the cluster was not founded (see `found`), as in
        the release before. No effect on a store that holds something; `found` may still follow."""
        self._shown_empty = 0

    # --- snapshots ----------------------------------------------------------------------------------------------

    def freeze(self) -> frozen.Frozen:
        """A picture of this moment, history included, without the watchers. Copies no node."""
        history = self._history
        events = history.since(history.oldest)
        return frozen.Frozen(self.index, self._tree.nodes.freeze(), events, self.is_founded)

    @classmethod
    def restore(
        cls,
        chunks: Iterable[Sequence[Sequence[Any]]],
        history_limit: int = HISTORY_LIMIT,
        history_bytes: int = HISTORY_BYTES,
        is_founded: bool = False,
    ) -> Store:
        """The store that Frozen.chunks came from. Raises UnreadableSnapshot."""
        store = cls(history_limit, history_bytes)
        store.index, store._tree, store._history = frozen.thaw(chunks, history_limit, history_bytes)
        store.is_founded = is_founded
        if is_founded:
            store._history.found()
        return store

    def adopt(self, restored: Store) -> None:
        """Take over the state of `restored`, a later one; it must not be used afterwards. Watchers live on.

        They get what they would have got had the events in between been applied one by one, in order. Where the
        restored history does not reach back to this store's index, those that may have missed something are
        cut off: `deliver(None)` is their last call, and they have to ask again.
        """
        assert restored.index >= self.index, "applied state never goes back"
        missed = restored._history
        if missed.oldest > self.index + 1:
            self._watchers.cut_off(restored.index)
        elif self._watchers.count:
            for event in missed.since(self.index + 1):
                self._replay(event)
        self.index, self._tree, self._history = restored.index, restored._tree, missed
        self.is_founded = restored.is_founded
        self._shown_empty = restored._shown_empty

    def _replay(self, event: Event) -> None:
        """Let the tree follow an event far enough that the right watchers wake: which nodes there are."""
        node = event.node
        tree = self._tree
        if event.action in (DELETE, COMPARE_AND_DELETE, EXPIRE):
            self._watchers.notify_removed(event, tree.remove(node.key))
        else:
            old = tree.nodes.get(node.key)
            record = (node.value, node.created, node.modified, node.expiration)
            if old is None:
                tree.insert(node.key, record)
            else:
                tree.replace(node.key, old, record)
        if not event.is_refresh:
            self._watchers.notify(event)

    # --- operations ---------------------------------------------------------------------------------------------

    def _set(self, operation: Set, now: int) -> Event:
        key, value, is_dir, ttl, refresh = operation
        old = self._tree.nodes.get(key)
        if old is None:
            if refresh:
                raise self._missing(key)
            return self._insert(SET, key, value, is_dir, ttl, now)
        old_value = old[0]
        if old_value is None:
            raise self._not_a_file(key)
        # a replaced file is a new node: its createdIndex is new too (docs/api-v2.md, *Writing*)
        index = self.index + 1
        new_value = None if is_dir else old_value if refresh else value
        expiration = None if ttl is None else _deadline_of_new(now, ttl)
        node = (new_value, index, index, expiration)
        self._tree.replace(key, old, node)
        if expiration is None:
            shown = _new(NodeView, (key, new_value, is_dir, index, index, None, None, None))
        else:
            shown = view(key, node, now)
        return self._record(_new(Event, (SET, shown, view(key, old, now), index, refresh)))

    def _create(self, operation: Create, now: int) -> Event:
        key, value, is_dir, ttl = operation
        if key == ROOT:
            raise RootReadOnly(self.index)
        return self._insert(CREATE, key, value, is_dir, ttl, now)

    def _create_in_order(self, operation: CreateInOrder, now: int) -> Event:
        key, value, is_dir, ttl = operation
        directory = b"" if key == ROOT else key
        return self._insert(CREATE, b"%b/%020d" % (directory, self.index + 1), value, is_dir, ttl, now)

    def _insert(self, action: str, key: bytes, value: bytes, is_dir: bool, ttl: int | None, now: int) -> Event:
        tree = self._tree
        if key in tree.nodes:
            raise KeyExists(self.index, key)
        nearest = tree.nearest(key)
        if nearest not in tree.children:
            raise NotADirectory(self.index, nearest)
        index = self.index + 1
        expiration = None if ttl is None else _deadline_of_new(now, ttl)
        node = (None if is_dir else value, index, index, expiration)
        tree.insert(key, node)
        return self._record(_new(Event, (action, view(key, node, now), None, index, False)))

    def _update(self, operation: Update, now: int) -> Event:
        key, value, ttl, refresh = operation
        old = self._changeable(key)
        old_value, created, modified, _ = old
        index = self.index + 1
        if old_value is not None:
            node: Node = (old_value if refresh else value, created, index, _expiration(now, ttl))
            shown = view(key, node, now)
        elif value:
            raise NotAFile(self.index, key)
        else:
            # the answer has the new index, the directory keeps its old one (docs/api-v2.md, *Writing*)
            node = (None, created, modified, _expiration(now, ttl))
            shown = view(key, node, now)._replace(modified=index)
        self._tree.replace(key, old, node)
        return self._record(Event(UPDATE, shown, view(key, old, now), index, refresh))

    def _compare_and_swap(self, operation: CompareAndSwap, now: int) -> Event:
        key, value, previous_value, previous_index, ttl, refresh = operation
        old = self._changeable(key)
        old_value = self._compare(key, old, previous_value, previous_index)
        index = self.index + 1
        node = (old_value if refresh else value, old[1], index, _expiration(now, ttl))
        self._tree.replace(key, old, node)
        return self._record(Event(COMPARE_AND_SWAP, view(key, node, now), view(key, old, now), index, refresh))

    def _delete(self, operation: Delete, now: int) -> Event:
        key, is_dir, recursive = operation
        old = self._changeable(key)
        if old[0] is None and not recursive:
            if not is_dir:
                raise NotAFile(self.index, key)
            if self._tree.children[key]:
                raise DirectoryNotEmpty(self.index, key)
        return self._remove(DELETE, key, old, now)

    def _compare_and_delete(self, operation: CompareAndDelete, now: int) -> Event:
        key, previous_value, previous_index = operation
        old = self._tree.nodes.get(key)
        if old is None:
            raise self._missing(key)
        self._compare(key, old, previous_value, previous_index)  # refuses the root too, as NotAFile
        return self._remove(COMPARE_AND_DELETE, key, old, now)

    def _expire(self, operation: Expire, now: int) -> None:
        tree = self._tree
        self.begin_unfounded()
        for _ in range(operation.limit):
            first = tree.deadlines.first()
            if first is None or first[0] > now:
                return
            self._remove(EXPIRE, first[1], tree.nodes[first[1]], now)
            self.counts.expired += 1

    def _remove(self, action: str, key: bytes, old: Node, now: int) -> Event:
        index = self.index + 1
        node = NodeView(key, None, old[0] is None, old[1], index, None, None, None)
        event = Event(action, node, view(key, old, now), index, False)
        removed = self._tree.remove(key)
        if self._watchers.count:
            self._watchers.notify_removed(event, removed)
        return self._record(event)

    def _record(self, event: Event) -> Event:
        """The end of every successful write: the new index, the history, the watchers."""
        self.index = event.index
        self._history.add(event)
        if self._watchers.count and not event.is_refresh:
            self._watchers.notify(event)
        return event

    # --- conditions ---------------------------------------------------------------------------------------------

    def _missing(self, key: bytes) -> StoreError:
        """Why there is no node `key`: a file in the way, or the first component that is not there."""
        nearest = self._tree.nearest(key)
        if nearest not in self._tree.children:
            return NotADirectory(self.index, nearest)
        end = key.find(b"/", len(nearest) + 1 if nearest != ROOT else 1)
        return KeyNotFound(self.shown_index, key if end == -1 else key[:end])

    def _not_a_file(self, key: bytes) -> StoreError:
        return RootReadOnly(self.index) if key == ROOT else NotAFile(self.index, key)

    def _changeable(self, key: bytes) -> Node:
        if key == ROOT:
            raise RootReadOnly(self.index)
        node = self._tree.nodes.get(key)
        if node is None:
            raise self._missing(key)
        return node

    def _compare(self, key: bytes, node: Node, value: bytes | None, index: int) -> bytes:
        """The file's value if it meets the conditions; None or b"" and 0 are none."""
        actual, _, modified, _ = node
        if actual is None:
            raise NotAFile(self.index, key)
        values = (value, actual) if value and value != actual else None
        indices = (index, modified) if index and index != modified else None
        if values or indices:
            raise CompareFailed(self.index, key, values, indices)
        return actual


#: By class and not by instance: a table of bound methods would make a cycle of each store, and one that was adopted
#: would keep its tree until the collector runs, which never looks at what is frozen.
_APPLIERS: Final[dict[type[Operation], Callable[[Store, Any, int], Event | None]]] = {
    Set: Store._set,
    Create: Store._create,
    CreateInOrder: Store._create_in_order,
    Update: Store._update,
    CompareAndSwap: Store._compare_and_swap,
    Delete: Store._delete,
    CompareAndDelete: Store._compare_and_delete,
    Expire: Store._expire,
}


def _expiration(now: int, ttl: int | None) -> int | None:
    return None if ttl is None else deadline(now, ttl)


def _deadline_of_new(now: int, ttl: int) -> int | None:
    """The deadline of a set or create, or None for a permanent key: also where it lies before the year 2000.

    Update and compare-and-swap take such a deadline as it is (docs/api-v2.md, *Time to live*).
    """
    expiration = deadline(now, ttl)
    return expiration if expiration is None or expiration >= EARLIEST else None
