"""A key, or a directory with all below it, as a value that can be compared and kept in a file."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any, NamedTuple

from kvstore.client import Node


class Tree(NamedTuple):
    """`value` is None for a directory. `children` are in the order of their keys."""

    key: str
    value: str | None
    children: tuple[Tree, ...] = ()

    @property
    def name(self) -> str:
        return self.key.rsplit("/", 1)[-1]

    def files(self) -> Iterator[tuple[str, str]]:
        """Keys with values, this one or those below, however deep."""
        if self.value is not None:
            yield self.key, self.value
        for child in self.children:
            yield from child.files()

    def find(self, key: str) -> Tree | None:
        if key == self.key:
            return self
        for child in self.children:
            if key == child.key or key.startswith(child.key + "/"):
                return child.find(key)
        return None


def clean(key: str) -> str:
    """As the server cleans it: /a/b, and / for the root."""
    return "/" + posixpath.normpath("/" + key).strip("/")


def tree(node: Node) -> Tree:
    children = sorted((tree(child) for child in node.nodes or ()), key=lambda child: child.key)
    return Tree(node.key or "/", None if node.is_dir else node.value, tuple(children))


def from_document(document: Any) -> Tree:
    """What JSON makes of a Tree. Raises ValueError, TypeError, RecursionError."""
    key, value, children = document
    if not isinstance(key, str) or not isinstance(value, str | None):
        raise TypeError
    return Tree(key, value, tuple(from_document(child) for child in children))
