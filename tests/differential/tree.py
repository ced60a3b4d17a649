"""The model's state: nested dicts, a list of every event, and every watch asked about every event.

Each thing is done the slow and plain way, from docs/api-v2.md alone; nothing of the project is imported, so that no
mistake can be made on both sides. Nodes and events are shown as the plain values their JSON is made of, in etcd's
order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SECOND = 10**9
YEAR_2000 = 946_684_800 * SECOND
HISTORY = 1000  # events, of etcd

Json = dict[str, Any]
Names = tuple[bytes, ...]


class Refused(Exception):
    """An error of the key space. `index` None: the store was not asked."""

    def __init__(self, code: int, cause: bytes, index: int | None = None) -> None:
        super().__init__(code, cause, index)
        self.code = code
        self.cause = cause
        self.index = index


@dataclass
class Node:
    created: int
    modified: int
    deadline: int | None = None  # ns since the epoch
    value: bytes | None = None
    children: dict[bytes, Node] | None = None  # None: a file


@dataclass(frozen=True)
class Event:
    index: int
    action: str
    names: Names
    is_refresh: bool
    body: Json

    @property
    def removed_dir(self) -> bool:
        return self.action in ("delete", "expire") and "dir" in self.body["node"]


@dataclass
class Watch:
    names: Names
    recursive: bool
    stream: bool
    since: int
    begun_at: int  # the store's index when it began
    heard: list[Event] = field(default_factory=list)
    waits: bool = True


def join(names: Names) -> bytes:
    """The key as answers have it: nothing for the root."""
    return b"".join(b"/" + name for name in names)


class Tree:
    """Every method that writes raises Refused or gives the event. `now` is ns since the epoch."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.root = Node(0, 0, children={})
        self.events: list[Event] = []
        self.watches: list[Watch] = []

    # --- looking

    def get(self, names: Names) -> Node:
        node = self.root
        for depth, name in enumerate(names):
            if node.children is None:
                raise Refused(104, join(names[:depth]), self.index)
            if name not in node.children:
                raise Refused(100, join(names[: depth + 1]), self.index)
            node = node.children[name]
        return node

    def find(self, names: Names) -> Node | None:
        try:
            return self.get(names)
        except Refused:
            return None

    def show(self, names: Names, node: Node, now: int, levels: int = 0) -> Json:
        """The node with `levels` levels of children, in order of their names."""
        shown: Json = {"key": join(names)} if names else {}
        if node.value is not None:
            shown["value"] = node.value
        if node.children is not None:
            shown["dir"] = True
        if node.deadline is not None:
            shown["expiration"] = node.deadline
            left = max(-(2**63), min(2**63 - 1, node.deadline - now))
            ttl = -(-left // SECOND)  # rounded up: for what is over, towards zero
            if ttl:
                shown["ttl"] = ttl
        if node.children and levels:
            visible = sorted(name for name in node.children if not name.startswith(b"_"))
            if visible:
                shown["nodes"] = [self.show((*names, one), node.children[one], now, levels - 1) for one in visible]
        return shown | _indices(node.modified, node.created)

    def below(self, names: Names, node: Node) -> list[Names]:
        """The names of the node and of all in it."""
        inside = [one for name, child in (node.children or {}).items() for one in self.below((*names, name), child)]
        return [names, *inside]

    def first_due(self, at: int) -> tuple[int, Names] | None:
        """The earliest deadline up to `at`, and whose it is."""
        due = []
        for names in self.below((), self.root):
            deadline = self.get(names).deadline
            if deadline is not None and deadline <= at:
                due.append((deadline, names))
        return min(due, default=None)

    # --- writing

    def set(self, names: Names, value: bytes, is_dir: bool, ttl: int | None, refresh: bool, now: int) -> Event:
        self._not_the_root(names)
        if refresh:
            value = self.get(names).value or b""
        old = self.find(names)
        if old is None:
            return self._make("set", names, value, is_dir, ttl, refresh, now)
        if old.children is not None:
            raise Refused(102, join(names), self.index)
        previous = self.show(names, old, now)
        del self._siblings(names)[names[-1]]
        return self._make("set", names, value, is_dir, ttl, refresh, now, previous)

    def create(self, names: Names, value: bytes, is_dir: bool, ttl: int | None, now: int) -> Event:
        self._not_the_root(names)
        return self._make("create", names, value, is_dir, ttl, False, now)

    def create_in_order(self, names: Names, value: bytes, is_dir: bool, ttl: int | None, now: int) -> Event:
        return self.create((*names, b"%020d" % (self.index + 1)), value, is_dir, ttl, now)

    def update(self, names: Names, value: bytes, ttl: int | None, refresh: bool, now: int) -> Event:
        self._not_the_root(names)
        node = self.get(names)
        if node.children is not None and value:
            raise Refused(102, join(names), self.index)
        return self._change("update", names, node, value, ttl, refresh, now)

    def compare_and_swap(
        self, names: Names, value: bytes, old: bytes, index: int, ttl: int | None, refresh: bool, now: int
    ) -> Event:
        self._not_the_root(names)
        return self._change("compareAndSwap", names, self._compared(names, old, index), value, ttl, refresh, now)

    def delete(self, names: Names, is_dir: bool, recursive: bool, now: int) -> Event:
        self._not_the_root(names)
        node = self.get(names)
        if node.children is not None and not recursive:
            if not is_dir:
                raise Refused(102, join(names), self.index)
            if node.children:
                raise Refused(108, join(names), self.index)
        return self._remove("delete", names, node, now)

    def compare_and_delete(self, names: Names, old: bytes, index: int, now: int) -> Event:
        return self._remove("compareAndDelete", names, self._compared(names, old, index), now)

    def expire(self, names: Names, now: int) -> Event:
        return self._remove("expire", names, self.get(names), now)

    # --- watching

    def watch(self, names: Names, recursive: bool, stream: bool, since: int) -> Watch:
        watch = Watch(names, recursive, stream, since or self.index + 1, self.index)
        kept = self.events[-HISTORY:]
        if kept and watch.since < kept[0].index:
            oldest = b"the requested history has been cleared [%d/%d]" % (kept[0].index, watch.since)
            raise Refused(401, oldest, self.index)
        for event in kept:
            if event.index >= watch.since and self._looks_back_on(watch, event):
                watch.heard.append(event)
                watch.waits = False  # for ever, also a stream
                return watch
        self.watches.append(watch)
        return watch

    def cancel(self, watch: Watch) -> None:
        watch.waits = False
        if watch in self.watches:
            self.watches.remove(watch)

    @staticmethod
    def _looks_back_on(watch: Watch, event: Event) -> bool:
        if event.is_refresh:
            return False
        inside = event.names[: len(watch.names)] == watch.names
        if event.names == watch.names or (watch.recursive and inside):
            return True
        return event.removed_dir and join(watch.names).startswith(join(event.names))

    @staticmethod
    def _sees(watch: Watch, event: Event) -> bool:
        rest = event.names[len(watch.names) :]
        if event.names == watch.names:
            return True
        inside = event.names[: len(watch.names)] == watch.names
        return watch.recursive and inside and not any(name.startswith(b"_") for name in rest)

    def _happen(self, event: Event, removed: list[Names]) -> Event:
        self.index = event.index
        self.events.append(event)
        for watch in [] if event.is_refresh else list(self.watches):
            for hears in (watch.names in removed, self._sees(watch, event)):
                if hears and watch.waits and watch.since <= event.index:
                    watch.heard.append(event)
                    watch.waits = watch.stream
        return event

    # --- steps of a write

    def _not_the_root(self, names: Names) -> None:
        if not names:
            raise Refused(107, b"/", self.index)

    def _siblings(self, names: Names) -> dict[bytes, Node]:
        children = self.get(names[:-1]).children
        assert children is not None
        return children

    def _make(
        self,
        action: str,
        names: Names,
        value: bytes,
        is_dir: bool,
        ttl: int | None,
        refresh: bool,
        now: int,
        previous: Json | None = None,
    ) -> Event:
        self._check_free(names)
        index = self.index + 1
        parent = self.root
        for name in names[:-1]:
            assert parent.children is not None
            parent = parent.children.setdefault(name, Node(index, index, children={}))
        deadline = _deadline(ttl, now)
        if deadline is not None and deadline < YEAR_2000:
            deadline = None
        node = Node(index, index, deadline, None if is_dir else value, {} if is_dir else None)
        assert parent.children is not None
        parent.children[names[-1]] = node
        return self._happen(_event(action, names, self.show(names, node, now), previous, index, refresh), [])

    def _check_free(self, names: Names) -> None:
        node: Node | None = self.root
        for depth, name in enumerate(names):
            assert node is not None
            if node.children is None:
                raise Refused(104, join(names[:depth]), self.index)
            node = node.children.get(name)
            if node is None:
                return
        raise Refused(105, join(names), self.index)

    def _change(
        self, action: str, names: Names, node: Node, value: bytes, ttl: int | None, refresh: bool, now: int
    ) -> Event:
        previous = self.show(names, node, now)
        index = self.index + 1
        node.deadline = _deadline(ttl, now)
        if node.children is None:  # a directory shows its new modifiedIndex in the answer only
            node.modified = index
            node.value = node.value if refresh else value
        shown = self.show(names, node, now) | {"modifiedIndex": index}
        return self._happen(_event(action, names, shown, previous, index, refresh), [])

    def _compared(self, names: Names, old: bytes, index: int) -> Node:
        node = self.get(names)
        if node.value is None:
            raise Refused(102, join(names), self.index)
        values = b"" if old in (b"", node.value) else b"[%s != %s]" % (old, node.value)
        indices = b"" if index in (0, node.modified) else b"[%d != %d]" % (index, node.modified)
        if values or indices:
            raise Refused(101, b" ".join(part for part in (values, indices) if part), self.index)
        return node

    def _remove(self, action: str, names: Names, node: Node, now: int) -> Event:
        index = self.index + 1
        shown: Json = {"key": join(names)}
        if node.children is not None:
            shown["dir"] = True
        removed = self.below(names, node)
        previous = self.show(names, node, now)
        del self._siblings(names)[names[-1]]
        shown |= _indices(index, node.created)
        return self._happen(_event(action, names, shown, previous, index, False), removed)


def _indices(modified: int, created: int) -> Json:
    return {"modifiedIndex": modified, "createdIndex": created} if created else {}


def _event(action: str, names: Names, node: Json, previous: Json | None, index: int, refresh: bool) -> Event:
    body: Json = {"action": action, "node": node}
    if previous is not None:
        body["prevNode"] = previous
    return Event(index, action, names, refresh, body)


def _deadline(ttl: int | None, now: int) -> int | None:
    """Signed 64-bit nanoseconds, which wrap."""
    return None if ttl is None else _signed(now + _signed(ttl * SECOND))


def _signed(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63
