"""Whether members keep what they need no longer: the state of a snapshot that was installed, beside their own."""

from __future__ import annotations

import gc
from collections.abc import Iterable

from kvstore.node import Node
from kvstore.store.store import Store
from tests.sim.trace import Violation

MEMORY = "memory comes back"


def check_memory(nodes: Iterable[Node]) -> None:
    """The tree of each member is held by its own store alone: another one would live as long as the process."""
    gc.collect()  # what can go, goes; then what was frozen is looked at as well
    gc.unfreeze()
    for node in nodes:
        store = node.machine.store
        others = [one for one in gc.get_referrers(store._tree) if isinstance(one, Store) and one is not store]
        if others:
            raise Violation(MEMORY, f"{len(others)} more stores hold the tree of member {node.raft.member_id:x}")
