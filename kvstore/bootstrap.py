"""From settings and a data folder to a member that can start: opened, checked, restored.

Three ways lead here. A folder with a log goes by its log. A new cluster begins with the same first snapshot on every
member, made from `--initial-cluster` alone: index 1, term 1, nobody's keys, everybody votes. A member that joins an
existing cluster asks its peers who it is, and begins with nothing: the leader sends it a snapshot.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kvstore import logs
from kvstore.apply import StateMachine
from kvstore.levels import check_known
from kvstore.membership import Member, Membership, cluster_id
from kvstore.raft.config import Config
from kvstore.raft.core import Raft
from kvstore.raft.types import Configuration, Entry, HardState, SnapshotMeta
from kvstore.settings import Settings, Url
from kvstore.storage.files import Files
from kvstore.storage.folder import DataFolder
from kvstore.storage.layout import INCARNATION_BYTES, Identity
from kvstore.storage.snapshots import Snapshots
from kvstore.storage.wal import SEGMENT_BYTES, WAL
from kvstore.store.history import HISTORY_BYTES
from kvstore.store.store import Store
from kvstore.tls.sides import Refused
from kvstore.wire import LaterVersion, WireError

if TYPE_CHECKING:
    from kvstore.tls.credentials import Credentials

#: Where the log of every new cluster begins.
GENESIS_INDEX = 1
GENESIS_TERM = 1

JOIN_SECONDS = 5.0

#: Returns the id of the cluster and its members, as the member at a URL knows them. OSError if it does not answer.
Ask: TypeAlias = Callable[[Url], tuple[int, list[Member]]]

log = logs.get("start")


class StartError(Exception):
    """The member cannot start; the text is one line for the operator."""


class Opened(NamedTuple):
    identity: Identity
    folder: DataFolder
    wal: WAL
    snapshots: Snapshots
    machine: StateMachine
    snapshot: SnapshotMeta | None
    hard_state: HardState
    entries: Sequence[Entry]
    promised: tuple[int, int] | None
    configuration: Configuration

    def raft(self, config: Config, random: Random) -> Raft:
        return Raft(
            config,
            self.identity.member_id,
            random,
            configuration=self.configuration,
            hard_state=self.hard_state,
            snapshot=self.snapshot,
            entries=self.entries,
            applied=self.snapshot.index if self.snapshot else 0,
            promised=self.promised,
        )


def open_member(
    settings: Settings,
    files: Files,
    folder: DataFolder,
    tls: Credentials | None = None,
    *,
    ask: Ask | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
    segment_bytes: int = SEGMENT_BYTES,
) -> Opened:
    """Raises StartError or StorageError; a folder that is refused is left as it was.

    `tls` is for asking members whose URL is https. `ask` replaces asking over the network.
    """
    if folder.identity is not None:
        opened = reopen(folder, settings.event_history, segment_bytes, settings.event_history_bytes)
        _check_belongs(settings, opened)
        _check_whole(opened)
        return opened
    if settings.initial_cluster_state == "existing":
        identity, members = _join(settings, ask or partial(_ask_members, tls=tls), random_bytes)
        return join_member(files, folder, identity, members, _new_store(settings), segment_bytes)
    machine = StateMachine(_new_store(settings), _initial_membership(settings))
    return create_member(files, folder, settings.name, machine, random_bytes(INCARNATION_BYTES), segment_bytes)


def create_member(
    files: Files,
    folder: DataFolder,
    name: str,
    machine: StateMachine,
    incarnation: bytes,
    segment_bytes: int = SEGMENT_BYTES,
) -> Opened:
    """The member `name` of a new cluster, on an empty folder; `machine` knows the first members and no keys."""
    membership = machine.membership
    member = next(one for one in membership.members.values() if one.name == name)
    identity = Identity(cluster_id(membership.members), member.id, incarnation)
    meta = SnapshotMeta(GENESIS_INDEX, GENESIS_TERM, membership.configuration())
    return begin_member(files, folder, identity, machine, meta, segment_bytes)


def join_member(
    files: Files,
    folder: DataFolder,
    identity: Identity,
    members: Iterable[Member],
    store: Store,
    segment_bytes: int = SEGMENT_BYTES,
) -> Opened:
    """A member of a cluster that exists, on an empty folder. It knows `members`, so that it can answer them, and
    nothing else: no one voted it in yet, as far as it can tell."""
    machine = StateMachine(store, Membership(members))
    return begin_member(files, folder, identity, machine, SnapshotMeta(0, 0, Configuration()), segment_bytes)


def begin_member(
    files: Files,
    folder: DataFolder,
    identity: Identity,
    machine: StateMachine,
    meta: SnapshotMeta,
    segment_bytes: int = SEGMENT_BYTES,
) -> Opened:
    """The log is created last: a folder without one is still new, whatever a crash left in it."""
    snapshots = Snapshots(files, folder.snapshot_folder, identity)
    snapshots.save(meta, machine.freeze().chunks())
    wal = folder.create_wal(identity, segment_bytes=segment_bytes)
    hard_state = HardState(meta.term, 0, meta.index)
    wal.mark_snapshot(meta)
    wal.append(hard_state, ())
    snapshot = meta if meta.index else None
    return Opened(identity, folder, wal, snapshots, machine, snapshot, hard_state, (), None, meta.configuration)


def reopen(
    folder: DataFolder,
    event_history: int,
    segment_bytes: int = SEGMENT_BYTES,
    history_bytes: int = HISTORY_BYTES,
) -> Opened:
    """A member that has run before. Raises StartError or StorageError."""
    identity = folder.identity
    assert identity is not None, "nobody lives here yet"
    snapshots = folder.open_snapshots()
    newest = snapshots.newest()
    for note in snapshots.notes:
        log.warning(note)
    if newest is None:
        raise StartError(
            f"{folder.path}: there is a log but no snapshot that can be read; run `kvstored check --data-dir"
            f" {folder.path}`, then restore the folder from a copy or remove this member and add it again"
        )
    meta = newest[0]
    snapshot = meta if meta.index else None
    try:
        machine = StateMachine.restore(snapshots.load(meta), event_history, history_bytes)
    except LaterVersion as problem:
        raise StartError(f"{newest[1]}: {problem}; nothing was changed") from None
    except WireError as problem:
        raise StartError(
            f"{newest[1]}: {problem}; nothing was changed, start the version of kvstored that wrote this folder"
        ) from None
    wal, recovered = folder.open_wal(snapshot=snapshot, segment_bytes=segment_bytes)
    try:
        check_known(recovered.entries)
    except LaterVersion as problem:
        wal.close()
        raise StartError(f"{folder.path}: {problem}; nothing was applied") from None
    for note in recovered.notes:
        log.warning(note)
    return Opened(
        identity,
        folder,
        wal,
        snapshots,
        machine,
        snapshot,
        recovered.hard_state,
        recovered.entries,
        recovered.promised,
        meta.configuration,
    )


def _check_whole(opened: Opened) -> None:
    """Says so when the disk lost acknowledged entries; a member that is alone cannot get them back."""
    if opened.promised is None:
        return
    term, index = opened.promised
    if opened.configuration.voters == {opened.identity.member_id}:
        raise StartError(
            f"{opened.folder.path}: acknowledged entries up to index {index} (term {term}) are gone from the end of the"
            " log, and this member is alone, so nobody can give them back; restore the folder from a copy"
        )
    log.error(
        "acknowledged entries are gone from the end of the log; this member neither votes nor campaigns until the"
        " leader has given them back",
        up_to=index,
        term=term,
    )


def _check_belongs(settings: Settings, opened: Opened) -> None:
    """A folder that is plainly another member's or another cluster's is refused, before anything is sent."""
    identity = opened.identity
    ours = opened.machine.membership.members.get(identity.member_id)
    if ours is not None and ours.name and ours.name != settings.name:
        raise StartError(
            f"{opened.folder.path} belongs to member {ours.name!r} ({identity.member_id:x}), not to"
            f" {settings.name!r}; use the right --data-dir or --name"
        )
    wanted = _initial_membership(settings)
    members = opened.machine.membership.members
    same_urls = {m.peer_urls for m in wanted.members.values()} == {m.peer_urls for m in members.values()}
    # Once members were added or removed, their ids tell no more which --initial-cluster they began with.
    founders = cluster_id(members) == identity.cluster_id
    if founders and same_urls and identity.member_id not in wanted.members and len(wanted.members) > 1:
        raise StartError(
            f"{opened.folder.path} belongs to cluster {identity.cluster_id:x}, but --initial-cluster and"
            f" --initial-cluster-token {settings.initial_cluster_token!r} describe cluster"
            f" {cluster_id(wanted.members):x}; use the right --data-dir or token"
        )


def _new_store(settings: Settings) -> Store:
    return Store(settings.event_history, settings.event_history_bytes)


def _initial_membership(settings: Settings) -> Membership:
    peers = {member.name: tuple(map(str, member.peer_urls)) for member in settings.initial_cluster}
    return Membership.initial(peers, settings.initial_cluster_token)


# --- joining ------------------------------------------------------------------------------------------------------


def _join(settings: Settings, ask: Ask, random_bytes: Callable[[int], bytes]) -> tuple[Identity, list[Member]]:
    """Asks the other members of `--initial-cluster`, one after the other, for the members that there are, until one
    of them knows us: some may be behind."""
    ours = tuple(sorted(map(str, settings.initial_advertise_peer_urls)))
    others = [url for member in settings.initial_cluster if member.name != settings.name for url in member.peer_urls]
    problems = []
    for url in others:
        try:
            cluster, members = ask(url)
        except (OSError, http.client.HTTPException, Refused, ValueError, KeyError, TypeError) as problem:
            problems.append(f"{url}: {problem}")
            continue
        for member in members:
            if tuple(sorted(member.peer_urls)) == ours:
                return Identity(cluster, member.id, random_bytes(INCARNATION_BYTES)), members
    if len(problems) == len(others):
        raise StartError(f"no member of the existing cluster answers ({'; '.join(problems) or 'none is named'})")
    raise StartError(
        f"the cluster has no member with the peer URLs {','.join(ours)}; add it first (POST /v2/members), then start"
        " it with --initial-cluster-state existing"
    )


def _ask_members(url: Url, tls: Credentials | None) -> tuple[int, list[Member]]:
    """The id of the cluster and its members, as one of them knows them."""
    connection = http.client.HTTPConnection(url.host, url.port, timeout=JOIN_SECONDS)
    if url.scheme == "https":
        assert tls is not None, "settings see to it"
        connection = http.client.HTTPSConnection(
            url.host, url.port, timeout=JOIN_SECONDS, context=tls.material.dialling
        )
    with contextlib.closing(connection):
        connection.connect()
        if tls is not None and isinstance(connection.sock, ssl.SSLSocket):
            tls.examine(connection.sock)
        connection.request("GET", "/members")
        answer = connection.getresponse()
        if answer.status != 200:
            raise http.client.HTTPException(f"status {answer.status}")
        cluster = int(answer.headers["X-Etcd-Cluster-Id"], 16)
        listed = json.loads(answer.read(1 << 20))
    return cluster, [
        Member(int(one["id"], 16), one["name"], tuple(one["peerURLs"]), tuple(one["clientURLs"])) for one in listed
    ]
