"""`kvstored check`, second part: whether every entry of a stopped member's log can be applied. Only reads."""

from __future__ import annotations

from kvstore.apply import StateMachine
from kvstore.poison import ApplyFailed, rehearse
from kvstore.raft.types import SnapshotMeta
from kvstore.storage.errors import StorageError
from kvstore.storage.files import Files, OSFiles
from kvstore.storage.folder import default_wal_folder, snapshot_folder, unused, whose
from kvstore.storage.replay import replay
from kvstore.storage.skipped import read_skipped
from kvstore.storage.snapshot_file import read_chunks, read_meta
from kvstore.storage.snapshots import snapshot_names
from kvstore.wire import LaterVersion, WireError

_HISTORY = 1  # events; what a watch may ask for does not matter here


def poison(data_dir: str, *, wal_folder: str = "", files: Files | None = None) -> tuple[list[str], list[str]]:
    """Lines on what is skipped, and on what cannot be applied, of a folder that is sound otherwise.

    StorageError, OSError.
    """
    files = files or OSFiles()
    wal_folder = wal_folder or default_wal_folder(data_dir)
    with unused(files, data_dir):
        identity = whose(files, data_dir, wal_folder)
        if identity is None:
            return [], []
        skipped = read_skipped(files, data_dir)
        holds = [f"entry {index} of term {term} is skipped, as --skip-entry said" for index, term in sorted(skipped)]
        if not snapshot_names(files, snapshot_folder(data_dir)):
            return holds, []
        try:
            meta, machine = _newest(files, snapshot_folder(data_dir), identity.cluster_id)
            found = replay(files, wal_folder, meta if meta.index else None).recovered
            rehearse(machine, found.entries, skipped)
        except (ApplyFailed, LaterVersion, WireError, StorageError) as problem:
            return holds, [str(problem)]
    return holds, []


def _newest(files: Files, folder: str, cluster_id: int) -> tuple[SnapshotMeta, StateMachine]:
    path = f"{folder}/{snapshot_names(files, folder)[-1][1]}"
    file = files.open(path)
    try:
        meta, offset, chain = read_meta(file, path, cluster_id)
        return meta, StateMachine.restore(read_chunks(file, path, offset, chain), _HISTORY)
    finally:
        file.close()
