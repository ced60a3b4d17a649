"""Where mends are taken out again: a disk and a decoder that behave as before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from kvstore.apply import StateMachine
from kvstore.disk import NodeDisk
from kvstore.node import Disk
from kvstore.raft.types import EntryKind, ProposeRequest, SnapshotMeta
from kvstore.storage.snapshot_file import read_meta
from kvstore.store.store import Store
from kvstore.store.watchers import Watchers
from kvstore.wire import UNKNOWN_KIND, LaterVersion, PeerMessage, unpack_message
from tests.sim.planted import PlantedFault

if TYPE_CHECKING:
    from kvstore.storage.files import Files
    from tests.sim.life import Life

OF_THE_DISK = frozenset(
    (
        PlantedFault.INSTALL_LEAKS,
        PlantedFault.OWN_SNAPSHOT_TRUSTED,
        PlantedFault.WATCHERS_MISS_INSTALL,
        PlantedFault.STORE_REPLACED,
    )
)


def faulty(disk: NodeDisk, life: Life, planted: frozenset[str]) -> Disk:
    return cast(Disk, _FaultyDisk(disk, life, planted)) if planted & OF_THE_DISK else disk


class _FaultyDisk:
    def __init__(self, disk: NodeDisk, life: Life, planted: frozenset[str]) -> None:
        self._disk = disk
        self._life = life
        self._planted = planted
        self._kept: list[Store] = []

    def load_snapshot(self, meta: SnapshotMeta, done: Callable[[StateMachine], None]) -> None:
        def loaded(machine: StateMachine) -> None:
            ours = self._life.node.machine
            watchers = ours.store._watchers
            if PlantedFault.INSTALL_LEAKS in self._planted:
                self._kept.append(machine.store)
            if PlantedFault.STORE_REPLACED in self._planted:
                before = ours.freeze().chunks()
                self._life.replaced = StateMachine.restore(before, ours.store.history_limit).store
            if PlantedFault.WATCHERS_MISS_INSTALL in self._planted:
                ours.store._watchers = Watchers(ours.store.history_limit)
            done(machine)
            ours.store._watchers = watchers

        self._disk.load_snapshot(meta, loaded)

    def verify_snapshot(self, meta: SnapshotMeta, done: Callable[[str], None]) -> None:
        if PlantedFault.OWN_SNAPSHOT_TRUSTED not in self._planted:
            self._disk.verify_snapshot(meta, done)

    def __getattr__(self, name: str) -> object:
        return getattr(self._disk, name)


def command_taken(frame: bytes) -> PeerMessage:
    """`unpack_message`, without the refusal of commands that are not known."""
    message = unpack_message(frame)
    if type(message) is ProposeRequest and message.kind == UNKNOWN_KIND:
        return message._replace(kind=EntryKind.COMMAND)
    return message


def message_looked_up(frame: bytes) -> PeerMessage:
    """`unpack_message`, as if each tag stood in the table of messages."""
    try:
        return unpack_message(frame)
    except LaterVersion as problem:
        raise KeyError(str(problem)) from None


def head_alone(files: Files, path: str, cluster_id: int | None) -> tuple[SnapshotMeta, int, int]:
    """`verify`, which does not read what follows the head of a snapshot."""
    file = files.open(path)
    try:
        return read_meta(file, path, cluster_id)[0], 0, 0
    finally:
        file.close()
