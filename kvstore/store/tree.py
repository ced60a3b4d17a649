"""The tree: all nodes by full key, beside them the children of each directory.

It knows keys, directories and deadlines; it knows no index of its own, no events and no v2 semantics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

from kvstore.store.deadlines import Deadlines, seconds_left
from kvstore.store.events import NodeView
from kvstore.store.frozen_tree import FrozenTree
from kvstore.store.nodes import Node, Nodes
from kvstore.store.spread import PARTS, Growing, fork, growing, let_others_run, outgrown, spread

ROOT = b"/"
_NO_CHILDREN: Growing[None] = {}

_new = tuple.__new__  # a NamedTuple made this way costs half


def parent_of(key: bytes) -> bytes:
    return key[: key.rfind(b"/")] or ROOT


def _ends(key: bytes) -> list[int]:
    """Where each strict ancestor of `key` but the root ends, the shortest first."""
    ends = []
    end = key.find(b"/", 1)
    while end != -1:
        ends.append(end)
        end = key.find(b"/", end + 1)
    return ends


def view(key: bytes, node: Node, now: int, nodes: tuple[NodeView, ...] | None = None) -> NodeView:
    """The node as it looks at `now`; `nodes` are its children, where they were asked for."""
    value, created, modified, expiration = node
    ttl = None if expiration is None else seconds_left(expiration, now)
    return _new(NodeView, (key, value, value is None, created, modified, expiration, ttl, nodes))


def _grown(members: dict[bytes, list[bytes]]) -> Iterator[tuple[bytes, Growing[None]]]:
    for directory, keys in members.items():
        yield directory, growing(zip(keys, repeat(None)), len(keys))


class Tree:
    """Every node's parent is there and is a directory; the root is always there."""

    __slots__ = ("_frozen", "_frozen_trees", "_own", "children", "deadlines", "nodes")

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.nodes.put(ROOT, (None, 0, 0, None))
        self.children: Growing[Growing[None]] = {ROOT: {}}  # full keys; an entry for each directory
        self.deadlines = Deadlines()  # holds exactly the nodes with an expiration
        self._frozen_trees = 0  # that are used
        self._frozen: FrozenTree | None = None  # the last of them
        self._own: set[bytes] = set()  # directories that have a list of children of their own since then

    def nearest(self, key: bytes) -> bytes:
        """The deepest node that is a strict ancestor of `key`.

        Each ancestor of a node is there too, so a binary search finds where they end: a key of n bytes and d
        components costs n * log(d), whether all of it is missing or only its end.
        """
        parent = parent_of(key)
        if parent in self.children:  # the usual case
            return parent
        ends = _ends(key)
        low, high = 0, len(ends)
        while low < high:
            middle = (low + high) // 2
            ancestor = key[: ends[middle]]
            if ancestor in self.children or ancestor in self.nodes:
                low = middle + 1
            else:
                high = middle
        return key[: ends[low - 1]] if low else ROOT

    def insert(self, key: bytes, node: Node) -> None:
        """Add a key that is not there; missing parents become permanent directories with the node's indices."""
        parent = parent_of(key)
        if parent not in self.children:
            self._make(parent, node[2])
        self._add(parent, key, node)

    def _make(self, key: bytes, index: int) -> None:
        parent = self.nearest(key)
        end = len(parent) if parent != ROOT else 0
        while parent != key:
            end = key.find(b"/", end + 1)
            directory = key if end == -1 else key[:end]
            self._add(parent, directory, (None, index, index, None))
            parent = directory

    def _add(self, parent: bytes, key: bytes, node: Node) -> None:
        self._add_child(parent, key)  # KeyError for a file, which has no children
        self.nodes.put(key, node)
        if node[0] is None:
            self._add_directory(key)
        if node[3] is not None:
            self.deadlines.add(key, node[3])

    def _add_child(self, parent: bytes, key: bytes) -> None:
        siblings = self.children[parent] if not self._frozen_trees else self._own_children(parent)
        siblings[key] = None
        if outgrown(siblings):
            self.children[parent] = spread(siblings)

    def _add_directory(self, key: bytes) -> None:
        self.children[key] = {}
        if outgrown(self.children):
            self.children = spread(self.children)

    def find_children(self, directories: Iterable[bytes]) -> None:
        """Puts `children` together anew, for nodes that were put one by one; `directories` are those among them.

        In the order of the nodes, not as they come: that is quicker, for keys of one directory come from everywhere.
        Raises KeyError where the parent of a node is no directory.
        """
        members: dict[bytes, list[bytes]] = {directory: [] for directory in directories}
        for number, key in enumerate(self.nodes):
            if number % PARTS == 0:  # it is done for millions, beside those who read
                let_others_run()
            if key != ROOT:
                members[parent_of(key)].append(key)
        if ROOT not in members:
            raise KeyError(ROOT)
        self.children = growing(_grown(members), len(members))

    def replace(self, key: bytes, old: Node, node: Node) -> None:
        """Put `node` where `old` is. A directory stays one; a file may become an empty directory."""
        self.nodes.put(key, node)
        if node[0] is None and old[0] is not None:
            self._add_directory(key)
        if old[3] is not None:
            self.deadlines.remove(key, old[3])
        if node[3] is not None:
            self.deadlines.add(key, node[3])

    def remove(self, key: bytes) -> list[bytes]:
        """Take a node out with all that is in it; the removed keys, children after their parents."""
        parent = parent_of(key)
        siblings = self.children[parent] if not self._frozen_trees else self._own_children(parent)
        del siblings[key]
        removed = [key]
        for gone in removed:  # grows while it is walked: no recursion, however deep the tree
            value, _, _, expiration = self.nodes.pop(gone)
            if expiration is not None:
                self.deadlines.remove(gone, expiration)
            if value is None:
                removed.extend(self.children.pop(gone, _NO_CHILDREN))
        return removed

    # --- what readers get ---------------------------------------------------------------------------------------

    def freeze(self, index: int) -> FrozenTree:
        """The tree as it is now, at `index` of the store; used until it is released. Copies no node."""
        frozen = self._frozen
        if frozen is None or frozen.index != index:
            frozen = self._frozen = FrozenTree(index, self.nodes.freeze(), self.children, self._released)
            self.children = fork(self.children)
            self._own = set()
        if not frozen.is_used:
            self._frozen_trees += 1
        frozen.use()
        return frozen

    def _released(self) -> None:
        self._frozen_trees -= 1
        if not self._frozen_trees:
            self._frozen = None
            self._own = set()

    def _own_children(self, directory: bytes) -> Growing[None]:
        """For a change: what a frozen tree has of them stays as it is."""
        children = self.children[directory]
        if directory not in self._own:
            children = fork(children)
            self.children[directory] = children
            self._own.add(directory)
        return children

    def listing(
        self, key: bytes, recursive: bool, sort: bool, now: int, max_nodes: int, max_bytes: int
    ) -> NodeView | None:
        """The directory `key` with its children, or its subtree, without hidden nodes (docs/api-v2.md, *Reading*).

        None where it has more than `max_nodes`, hidden ones among them, or keys and values of more than `max_bytes`;
        to find that out costs no more than these.
        """
        directories = [key]
        members: list[list[bytes]] = []
        for directory in directories:  # grows while it is walked
            start = len(directory) + 1 if directory != ROOT else 1
            children = self.children[directory]
            max_nodes -= len(children)
            if max_nodes < 0:
                return None
            visible = [child for child in children if not child.startswith(b"_", start)]
            if sort:
                visible.sort()
            members.append(visible)
            if recursive:
                directories += [child for child in visible if child in self.children]
        nodes = self.nodes
        done: dict[bytes, NodeView] = {}
        while True:  # from the deepest up, so that the views of children are there
            directory = directories.pop()
            shown: list[NodeView] = []
            for child in members.pop():
                max_bytes -= len(child)
                if child in done:
                    shown.append(done.pop(child))
                else:
                    node = nodes[child]
                    if value := node[0]:
                        max_bytes -= len(value)
                    shown.append(view(child, node, now))
            if max_bytes < 0:
                return None
            top = view(directory, nodes[directory], now, tuple(shown))
            if not directories:
                return top
            done[directory] = top
