"""The nodes and directories of one index, for a reader that takes its time; later changes do not show in it.

Taking one copies a list of a thousand dicts, whatever the size of the tree. Afterwards a write copies the small dicts
that it is about to change, each once for each frozen tree.
"""

from __future__ import annotations

from collections.abc import Callable

from kvstore.store.nodes import FrozenNodes
from kvstore.store.spread import Growing


class FrozenTree:
    """Several readers share one. Each calls `release` once, so that writes no longer copy for it."""

    __slots__ = ("_released", "_users", "children", "index", "nodes")

    def __init__(
        self, index: int, nodes: FrozenNodes, children: Growing[Growing[None]], released: Callable[[], None]
    ) -> None:
        """`released` is called with the last `release`."""
        self.index = index
        self.nodes = nodes
        self.children = children  # full keys; an entry for each directory
        self._released = released
        self._users = 0

    @property
    def is_used(self) -> bool:
        return self._users > 0

    def use(self) -> None:
        self._users += 1

    def release(self) -> None:
        assert self._users > 0
        self._users -= 1
        if not self._users:
            self._released()
