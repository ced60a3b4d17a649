"""The body of a long listing in small pieces, byte for byte what `answers.answer_view` makes of the whole.

Each step between two pieces is short, whatever the tree looks like: a directory is sorted in runs that are merged
as they are read, a large value is escaped part by part. Some steps have nothing to give yet, and give an empty piece.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from kvstore.http.texts import quote
from kvstore.http.v2.answers import closing_of, encode_node, opening_of
from kvstore.store.events import NodeView
from kvstore.store.frozen_tree import FrozenTree
from kvstore.store.tree import ROOT, view

#: Bytes of a value that are escaped in one step.
VALUE_BYTES = 16 << 10
#: Children that are passed over, or sorted, in one step.
RUN = 1024

_LONGEST_CHARACTER = 4  # bytes in UTF-8


def parts_of(text: bytes, size: int = VALUE_BYTES) -> Iterator[bytes]:
    """`text` in parts of about `size` bytes that can be escaped one by one: none of them ends within a character."""
    at = 0
    while at < len(text):
        end = at + size
        if end < len(text):
            for back in range(_LONGEST_CHARACTER):
                if text[end - back] & 0xC0 != 0x80:  # a character, or a byte that belongs to none, begins here
                    end -= back
                    break
        yield text[at:end]
        at = end


def _children(tree: FrozenTree, directory: bytes, sort: bool) -> Iterator[bytes | None]:
    """The children that are not hidden. None: some were looked at, and there is nothing to give yet."""
    start = len(directory) + 1 if directory != ROOT else 1
    runs: list[list[bytes]] = []
    run: list[bytes] = []
    for number, child in enumerate(tree.children[directory], 1):
        if number % RUN == 0:
            yield None
        if child.startswith(b"_", start):
            continue
        if not sort:
            yield child
            continue
        run.append(child)
        if len(run) == RUN:
            run.sort()
            runs.append(run)
            run = []
    if sort:
        run.sort()
        yield from heapq.merge(*runs, run) if runs else run


class _Open:
    """A directory whose children are being written."""

    __slots__ = ("before", "children", "has_children", "view")

    def __init__(self, before: bytes, view: NodeView, children: Iterator[bytes | None]) -> None:
        self.before = before  # what has to come before it, while it is not known whether it has children
        self.view = view
        self.children = children
        self.has_children = False

    def next(self) -> bytes:
        """What comes before one more child."""
        if self.has_children:
            return b","
        self.has_children = True
        return b'%s{%s"nodes":[' % (self.before, opening_of(self.view))

    def end(self) -> bytes:
        if not self.has_children:
            return self.before + encode_node(self.view)
        closing = closing_of(self.view)
        return b"],%s}" % closing if closing else b"]}"


def pieces_of_listing(tree: FrozenTree, key: bytes, recursive: bool, sort: bool, now: int) -> Iterator[bytes]:
    """The directory `key` with its children, or its whole subtree, as it was in `tree`; `now` tells the ttl left."""
    nodes, directories = tree.nodes, tree.children
    top = view(key, nodes[key], now)
    opened = [_Open(b'{"action":"get","node":', top, _children(tree, key, sort))]
    while opened:
        directory = opened[-1]
        for child in directory.children:
            if child is None:
                yield b""
                continue
            before = directory.next()
            shown = view(child, nodes[child], now)
            if recursive and child in directories:
                opened.append(_Open(before, shown, _children(tree, child, sort)))
                break
            if shown.value is not None and len(shown.value) > VALUE_BYTES:
                yield from _large_file(before, shown, shown.value)
            else:
                yield before + encode_node(shown)
        else:
            opened.pop()
            yield directory.end()
    yield b"}\n"


def _large_file(before: bytes, shown: NodeView, value: bytes) -> Iterator[bytes]:
    # A quote within the key is escaped, so this can only be the field.
    head, field, tail = encode_node(shown._replace(value=b"")).partition(b'"value":"')
    yield before + head + field
    for part in parts_of(value):
        yield quote(part)
    yield tail
