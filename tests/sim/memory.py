"""Whether members keep what they need no longer: the state of a snapshot that was installed, beside their own."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import cast

from kvstore.apply import StateMachine
from kvstore.disk import NodeDisk
from kvstore.node import Disk, Node
from kvstore.raft.types import SnapshotMeta
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


def leaking(disk: NodeDisk) -> Disk:
    """Planted: a disk that keeps what was read from a snapshot."""
    return cast(Disk, _LeakingDisk(disk))


class _LeakingDisk:
    def __init__(self, disk: NodeDisk) -> None:
        self._disk = disk
        self._kept: list[Store] = []

    def load_snapshot(self, meta: SnapshotMeta, done: Callable[[StateMachine], None]) -> None:
        def loaded(machine: StateMachine) -> None:
            self._kept.append(machine.store)
            done(machine)

        self._disk.load_snapshot(meta, loaded)

    def __getattr__(self, name: str) -> object:
        return getattr(self._disk, name)
