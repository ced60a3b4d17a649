"""A copy of a stopped member's folder that can start by itself, as the one member of a new cluster.

Nothing in the folder is changed. What its log holds is applied to its newest snapshot, all of it: an entry that was
acknowledged may stand behind the commit index that was last written, and one that was not acknowledged may happen or
not. The copy gets the result as its first snapshot, with users and roles, at the same index, and an identity of its
own, so that neither the old members nor their clients take it for what it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from kvstore.apply import REFUSALS, StateMachine
from kvstore.bootstrap import begin_member
from kvstore.membership import Member, Membership, cluster_id, member_id
from kvstore.raft.types import EntryKind, SnapshotMeta
from kvstore.settings import Settings
from kvstore.storage.files import Files, OSFiles
from kvstore.storage.folder import DataFolder, default_wal_folder, snapshot_folder, unused, whose
from kvstore.storage.layout import INCARNATION_BYTES, Identity
from kvstore.storage.replay import replay
from kvstore.storage.skipped import read_skipped
from kvstore.storage.snapshot_file import read_chunks, read_meta
from kvstore.storage.snapshots import snapshot_names, verify
from kvstore.wire import WireError, unpack_command

#: Entries between two reports of progress.
REPORT_EVERY = 1000

#: Told how many entries of how many are applied.
Progress = Callable[[int, int], None]


class BackupError(Exception):
    """There is nothing to back up, or no place for it; the text is one line for the operator."""


class Backup(NamedTuple):
    """What was copied: up to which entry of the log, how many of them behind the snapshot, and as whom.

    `missing`: the index up to which this member had acknowledged more than its log holds any more, 0 for none.
    """

    raft_index: int
    entries: int
    etcd_index: int
    member: int
    peer_urls: tuple[str, ...]
    missing: int


def backup(
    data_dir: str,
    wal_dir: str,
    backup_dir: str,
    backup_wal_dir: str,
    *,
    progress: Progress = lambda _done, _total: None,
    files: Files | None = None,
) -> Backup:
    """`wal_dir` and `backup_wal_dir` may be empty: below the folder itself. BackupError, StorageError, OSError."""
    files = files or OSFiles()
    if not files.exists(data_dir):
        raise BackupError(f"{data_dir}: there is no such folder")
    for target in filter(None, (backup_dir, backup_wal_dir)):
        for source in filter(None, (data_dir, wal_dir)):
            if _lies_in(target, source):
                raise BackupError(f"{target}: lies in {source}, which is only read")
    with unused(files, data_dir):
        identity = whose(files, data_dir, wal_dir or default_wal_folder(data_dir))
        if identity is None:
            raise BackupError(f"{data_dir}: no member was created here")
        meta, machine = _newest(files, data_dir, identity)
        found = replay(files, wal_dir or default_wal_folder(data_dir), meta if meta.index else None).recovered
        skipped = read_skipped(files, data_dir)
        for done, entry in enumerate(found.entries):
            if done % REPORT_EVERY == 0:
                progress(done, len(found.entries))
            if (entry.index, entry.term) in skipped:
                continue
            if entry.kind == EntryKind.COMMAND and entry.payload:
                _apply(machine, entry.payload)
    progress(len(found.entries), len(found.entries))
    last = found.entries[-1] if found.entries else None
    index, term = (last.index, last.term) if last else (meta.index, meta.term)
    if not index:
        raise BackupError(f"{data_dir}: member {identity.member_id:x} has not joined its cluster yet and holds nothing")
    member = _become_sole_member(machine, identity)
    _write(files, backup_dir, backup_wal_dir, machine, SnapshotMeta(index, term, machine.membership.configuration()))
    missing = found.promised[1] if found.promised else 0
    return Backup(index, len(found.entries), machine.store.index, member.id, member.peer_urls, missing)


def _lies_in(path: str, folder: str) -> bool:
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath((path, folder)) == folder


def _newest(files: Files, data_dir: str, identity: Identity) -> tuple[SnapshotMeta, StateMachine]:
    """The newest snapshot, which must be sound: with an older one, the log may not reach far enough back."""
    folder = snapshot_folder(data_dir)
    names = snapshot_names(files, folder) if files.exists(folder) else []
    if not names:
        raise BackupError(f"{folder}: there is no snapshot")
    path = f"{folder}/{names[-1][1]}"
    verify(files, path, identity.cluster_id)
    file = files.open(path)
    try:
        meta, offset, chain = read_meta(file, path, identity.cluster_id)
        chunks = read_chunks(file, path, offset, chain)
        return meta, StateMachine.restore(chunks, Settings().event_history)
    except WireError as problem:
        raise BackupError(f"{path}: {problem}; use the version of kvctl that belongs to the server") from None
    finally:
        file.close()


def _apply(machine: StateMachine, payload: bytes) -> None:
    logged = unpack_command(payload)
    with suppress(*REFUSALS):  # it was refused then, too
        machine.apply(logged.command, logged.time)


def _become_sole_member(machine: StateMachine, identity: Identity) -> Member:
    """Without a name, so that any --name will do; under the peer URLs that the member had."""
    known = machine.membership.members.get(identity.member_id)
    urls = known.peer_urls if known else ()
    member = Member(member_id(urls, os.urandom(16).hex()), "", urls)
    machine.membership = Membership([member], level=machine.level)
    return member


def _write(files: Files, path: str, wal_folder: str, machine: StateMachine, meta: SnapshotMeta) -> None:
    folder = DataFolder.open(files, path, wal_folder=wal_folder)
    try:
        if folder.identity is not None:
            raise BackupError(f"{path}: there is a member already; name a new folder")
        (member,) = machine.membership.members
        identity = Identity(cluster_id([member]), member, os.urandom(INCARNATION_BYTES))
        begin_member(files, folder, identity, machine, meta).wal.close()
    finally:
        folder.close()
