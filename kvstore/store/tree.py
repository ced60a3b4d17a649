"""The tree: all nodes by full key, beside them the children of each directory.

It knows keys, directories and deadlines; it knows no index of its own, no events and no v2 semantics.
"""

from __future__ import annotations

from kvstore.store.deadlines import Deadlines, seconds_left
from kvstore.store.events import NodeView
from kvstore.store.nodes import Node, Nodes

ROOT = b"/"

_new = tuple.__new__  # a NamedTuple made this way costs half


def parent_of(key: bytes) -> bytes:
    return key[: key.rfind(b"/")] or ROOT


def view(key: bytes, node: Node, now: int, nodes: tuple[NodeView, ...] | None = None) -> NodeView:
    """The node as it looks at `now`; `nodes` are its children, where they were asked for."""
    value, created, modified, expiration = node
    ttl = None if expiration is None else seconds_left(expiration, now)
    return _new(NodeView, (key, value, value is None, created, modified, expiration, ttl, nodes))


class Tree:
    """Every node's parent is there and is a directory; the root is always there."""

    __slots__ = ("children", "deadlines", "nodes")

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.nodes[ROOT] = (None, 0, 0, None)
        self.children: dict[bytes, dict[bytes, None]] = {ROOT: {}}  # full keys; an entry for each directory
        self.deadlines = Deadlines()  # holds exactly the nodes with an expiration

    def nearest(self, key: bytes) -> bytes:
        """The deepest node that is a strict ancestor of `key`."""
        parent = parent_of(key)
        while parent not in self.nodes:
            parent = parent_of(parent)
        return parent

    def insert(self, key: bytes, node: Node) -> None:
        """Add a key that is not there; missing parents become permanent directories with the node's indices."""
        nearest = self.nearest(key)
        assert nearest in self.children, "a file has no children"
        end = len(nearest) if nearest != ROOT else 0
        parent = nearest
        while (end := key.find(b"/", end + 1)) != -1:
            directory = key[:end]
            self._add(parent, directory, (None, node[2], node[2], None))
            parent = directory
        self._add(parent, key, node)

    def _add(self, parent: bytes, key: bytes, node: Node) -> None:
        self.nodes[key] = node
        self.children[parent][key] = None
        if node[0] is None:
            self.children[key] = {}
        if node[3] is not None:
            self.deadlines.add(key, node[3])

    def replace(self, key: bytes, old: Node, node: Node) -> None:
        """Put `node` where `old` is. A directory stays one; a file may become an empty directory."""
        self.nodes[key] = node
        if node[0] is None:
            self.children.setdefault(key, {})
        if old[3] is not None:
            self.deadlines.remove(key, old[3])
        if node[3] is not None:
            self.deadlines.add(key, node[3])

    def remove(self, key: bytes) -> list[bytes]:
        """Take a node out with all that is in it; the removed keys, children after their parents."""
        del self.children[parent_of(key)][key]
        removed = [key]
        for gone in removed:  # grows while it is walked: no recursion, however deep the tree
            expiration = self.nodes.pop(gone)[3]
            if expiration is not None:
                self.deadlines.remove(gone, expiration)
            removed.extend(self.children.pop(gone, ()))
        return removed

    def listing(self, key: bytes, recursive: bool, sort: bool, now: int) -> NodeView:
        """The directory `key` with its children, or its whole subtree, without hidden nodes (API.md 3)."""
        directories = [key]
        members: list[list[bytes]] = []
        for directory in directories:  # grows while it is walked
            start = len(directory) + 1 if directory != ROOT else 1
            visible = [child for child in self.children[directory] if not child.startswith(b"_", start)]
            if sort:
                visible.sort()
            members.append(visible)
            if recursive:
                directories += [child for child in visible if child in self.children]
        nodes = self.nodes
        done: dict[bytes, NodeView] = {}
        while directories:  # from the deepest up, so that the views of children are there
            directory = directories.pop()
            shown = tuple([done.pop(c) if c in done else view(c, nodes[c], now) for c in members.pop()])
            top = done[directory] = view(directory, nodes[directory], now, shown)
        return top
