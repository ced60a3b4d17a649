"""A dumb store to compare with: nested dicts, a list of every event, and every watcher asked about every event.

It does each thing the slow and plain way, straight from docs/api-v2.md, and shares only the values with the real one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvstore.store.errors import (
    CompareFailed,
    DirectoryNotEmpty,
    HistoryCleared,
    KeyExists,
    KeyNotFound,
    NotADirectory,
    NotAFile,
    RootReadOnly,
)
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

SECOND = 10**9
YEAR_2000 = 946_684_800 * SECOND


@dataclass
class ModelNode:
    created: int
    modified: int
    deadline: int | None = None
    value: bytes | None = None
    children: dict[bytes, ModelNode] | None = None


@dataclass
class ModelWatcher:
    key: bytes
    recursive: bool
    stream: bool
    since: int
    heard: list[Event] = field(default_factory=list)
    waiting: bool = True


def parts(key: bytes) -> list[bytes]:
    return [part for part in key.split(b"/") if part]


def join(names: list[bytes]) -> bytes:
    return b"/" + b"/".join(names)


def signed(number: int) -> int:
    number %= 2**64
    return number - 2**64 if number >= 2**63 else number


class Model:
    def __init__(self, history_limit: int) -> None:
        self.index = 0
        self.root = ModelNode(0, 0, children={})
        self.events: list[Event] = []
        self.history_limit = history_limit
        self.watchers: list[ModelWatcher] = []

    # --- looking

    def find(self, key: bytes) -> ModelNode | None:
        node = self.root
        for name in parts(key):
            if node.children is None or name not in node.children:
                return None
            node = node.children[name]
        return node

    def need(self, key: bytes) -> ModelNode:
        node = self.root
        names = parts(key)
        for depth, name in enumerate(names):
            if node.children is None:
                raise NotADirectory(self.index, join(names[:depth]))
            if name not in node.children:
                raise KeyNotFound(self.index, join(names[: depth + 1]))
            node = node.children[name]
        return node

    def view(self, key: bytes, node: ModelNode, now: int, depth: int = 0) -> NodeView:
        """`depth` levels of children, sorted."""
        ttl = None
        if node.deadline is not None:
            left = max(-(2**63), min(2**63 - 1, node.deadline - now))
            ttl = left // SECOND + (1 if left % SECOND else 0)
        nodes = None
        if node.children is not None and depth > 0:
            shown = sorted(name for name in node.children if not name.startswith(b"_"))
            nodes = tuple(
                self.view(key.rstrip(b"/") + b"/" + name, node.children[name], now, depth - 1) for name in shown
            )
        is_dir = node.children is not None
        return NodeView(key, node.value, is_dir, node.created, node.modified, node.deadline, ttl, nodes)

    def all_keys(self, key: bytes, node: ModelNode) -> list[bytes]:
        below = [
            k
            for name, child in (node.children or {}).items()
            for k in self.all_keys(key.rstrip(b"/") + b"/" + name, child)
        ]
        return [key, *below]

    def next_deadline(self) -> int | None:
        nodes = [self.find(key) for key in self.all_keys(b"/", self.root)]
        return min((n.deadline for n in nodes if n is not None and n.deadline is not None), default=None)

    # --- writing

    def apply(self, operation: Operation, now: int) -> Event | None:
        match operation:
            case Set(key, value, is_dir, ttl, refresh):
                return self.set(key, value, is_dir, ttl, refresh, now)
            case Create(key, value, is_dir, ttl):
                return self.make("create", key, value, is_dir, ttl, now)
            case CreateInOrder(key, value, is_dir, ttl):
                name = str(self.index + 1).zfill(20).encode()
                return self.make("create", join([*parts(key), name]), value, is_dir, ttl, now)
            case Update(key, value, ttl, refresh):
                self.refuse_root(key)
                node = self.need(key)
                if node.children is not None and value:
                    raise NotAFile(self.index, key)
                return self.change("update", key, node, value, ttl, refresh, now)
            case CompareAndSwap(key, value, previous_value, previous_index, ttl, refresh):
                self.refuse_root(key)
                node = self.compare(key, previous_value, previous_index)
                return self.change("compareAndSwap", key, node, value, ttl, refresh, now)
            case Delete(key, is_dir, recursive):
                self.refuse_root(key)
                node = self.need(key)
                if node.children is not None and not recursive:
                    if not is_dir:
                        raise NotAFile(self.index, key)
                    if node.children:
                        raise DirectoryNotEmpty(self.index, key)
                return self.remove("delete", key, now)
            case CompareAndDelete(key, previous_value, previous_index):
                self.compare(key, previous_value, previous_index)
                return self.remove("compareAndDelete", key, now)
            case Expire(limit):
                for _ in range(limit):
                    due = [
                        (one.deadline, key)
                        for key in self.all_keys(b"/", self.root)
                        if (one := self.find(key)) is not None and one.deadline is not None and one.deadline <= now
                    ]
                    if due:
                        self.remove("expire", min(due)[1], now)
        return None

    def refuse_root(self, key: bytes) -> None:
        if key == b"/":
            raise RootReadOnly(self.index)

    def deadline(self, ttl: int | None, now: int) -> int | None:
        return None if ttl is None else signed(now + signed(ttl * SECOND)) or None

    def set(self, key: bytes, value: bytes, is_dir: bool, ttl: int | None, refresh: bool, now: int) -> Event:
        self.refuse_root(key)
        if refresh:
            kept = self.need(key).value
            value = b"" if kept is None else kept
        old = self.find(key)
        if old is not None and old.children is not None:
            raise NotAFile(self.index, key)
        previous = None
        if old is not None:
            previous = self.view(key, old, now)
            parent = self.need(join(parts(key)[:-1]))
            assert parent.children is not None
            del parent.children[parts(key)[-1]]
        return self.make("set", key, value, is_dir, ttl, now, previous, refresh)

    def make(
        self,
        action: str,
        key: bytes,
        value: bytes,
        is_dir: bool,
        ttl: int | None,
        now: int,
        previous: NodeView | None = None,
        refresh: bool = False,
    ) -> Event:
        self.refuse_root(key)
        names = parts(key)
        node = self.root
        for depth in range(len(names)):
            if node.children is None:
                raise NotADirectory(self.index, join(names[:depth]))
            if names[depth] not in node.children:
                break
            node = node.children[names[depth]]
        else:
            raise KeyExists(self.index, key)
        index = self.index + 1
        for name in names[depth:-1]:
            assert node.children is not None
            node.children[name] = ModelNode(index, index, children={})
            node = node.children[name]
        deadline = self.deadline(ttl, now)
        if deadline is not None and deadline < YEAR_2000:
            deadline = None
        new = ModelNode(index, index, deadline, None if is_dir else value, {} if is_dir else None)
        assert node.children is not None
        node.children[names[-1]] = new
        return self.happen(Event(action, self.view(key, new, now), previous, index, refresh), [])

    def change(
        self, action: str, key: bytes, node: ModelNode, value: bytes, ttl: int | None, refresh: bool, now: int
    ) -> Event:
        previous = self.view(key, node, now)
        index = self.index + 1
        node.deadline = self.deadline(ttl, now)
        if node.children is None:
            node.modified = index
            node.value = node.value if refresh else value
        shown = self.view(key, node, now)._replace(modified=index)
        return self.happen(Event(action, shown, previous, index, refresh), [])

    def compare(self, key: bytes, value: bytes | None, index: int) -> ModelNode:
        node = self.need(key)
        if node.value is None:
            raise NotAFile(self.index, key)
        value_ok = not value or value == node.value
        index_ok = not index or index == node.modified
        if not (value_ok and index_ok):
            values = None if value_ok else (value or b"", node.value)
            raise CompareFailed(self.index, key, values, None if index_ok else (index, node.modified))
        return node

    def remove(self, action: str, key: bytes, now: int) -> Event:
        node = self.need(key)
        parent = self.need(join(parts(key)[:-1]))
        assert parent.children is not None
        is_dir = node.children is not None
        index = self.index + 1
        shown = NodeView(key, None, is_dir, node.created, index, None, None, None)
        removed = self.all_keys(key, node)
        del parent.children[parts(key)[-1]]
        return self.happen(Event(action, shown, self.view(key, node, now), index, False), removed)

    # --- watching

    def happen(self, event: Event, removed: list[bytes]) -> Event:
        self.index = event.index
        self.events.append(event)
        for watcher in self.watchers:
            for sees in (watcher.key in removed, self.sees(watcher, event)):
                if sees and watcher.waiting and watcher.since <= event.index:
                    watcher.heard.append(event)
                    watcher.waiting = watcher.stream
        return event

    def sees(self, watcher: ModelWatcher, event: Event) -> bool:
        if event.is_refresh:
            return False
        at, key = parts(watcher.key), parts(event.node.key)
        if at == key:
            return True
        inside = key[: len(at)] == at
        return watcher.recursive and inside and not any(n.startswith(b"_") for n in key[len(at) :])

    def watch(self, key: bytes, recursive: bool, stream: bool, since: int) -> ModelWatcher:
        watcher = ModelWatcher(key, recursive, stream, since or self.index + 1)
        kept = self.events[-self.history_limit :]
        if kept and 0 < watcher.since < kept[0].index:
            raise HistoryCleared(self.index, kept[0].index, watcher.since)
        for event in kept:
            if event.index >= watcher.since and self.matched(key, recursive, event):
                watcher.heard.append(event)
                watcher.waiting = False
                return watcher
        self.watchers.append(watcher)
        return watcher

    def matched(self, key: bytes, recursive: bool, event: Event) -> bool:
        if event.is_refresh:
            return False
        at, changed = parts(key), parts(event.node.key)
        if at == changed or (recursive and changed[: len(at)] == at):
            return True
        removed_dir = event.action in ("delete", "expire") and event.node.is_dir
        return removed_dir and key.startswith(event.node.key)
