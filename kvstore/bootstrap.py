"""From settings and a data folder to a member that can start: opened, checked, restored.

Three ways lead here. A folder with a log goes by its log. A new cluster begins with the same first snapshot on every
member, made from `--initial-cluster` alone: index 1, term 1, nobody's keys, everybody votes. A member that joins an
existing cluster asks its peers who it is, and begins with nothing: the leader sends it a snapshot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from kvstore import logs
from kvstore.apply import StateMachine
from kvstore.levels import FIRST_LEVEL, HIGHEST_LEVEL, check_known
from kvstore.membership import Member, Membership, MembershipError, cluster_id
from kvstore.poison import CannotSkip, Skipped, check_skips
from kvstore.raft.config import Config
from kvstore.raft.configuration import enter_joint, leave_joint
from kvstore.raft.core import Raft, known_committed
from kvstore.raft.errors import ChangeRefused
from kvstore.raft.types import Configuration, Entry, EntryKind, HardState, SnapshotMeta
from kvstore.settings import DEFAULT_TOKEN, Settings, SettingsError
from kvstore.storage.files import Files
from kvstore.storage.folder import DataFolder
from kvstore.storage.founding import UNKNOWN_TOKEN, Founding
from kvstore.storage.layout import INCARNATION_BYTES, Identity
from kvstore.storage.skipped import read_skipped, write_skipped
from kvstore.storage.snapshots import Snapshots
from kvstore.storage.wal import SEGMENT_BYTES, WAL
from kvstore.store.history import HISTORY_BYTES
from kvstore.store.store import Store
from kvstore.wire import LaterVersion, WireError, unpack_change

if TYPE_CHECKING:
    from kvstore.joining import Ask
    from kvstore.tls.credentials import Credentials

#: Where the log of every new cluster begins.
GENESIS_INDEX = 1
GENESIS_TERM = 1

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
    skipped: Skipped = frozenset()

    @property
    def is_alone(self) -> bool:
        """Whether no other member votes, by what is known to be committed, and by what may be."""
        known = max(self.hard_state.commit, known_committed(self.entries))
        committed = [entry for entry in self.entries if entry.index <= known]
        alone = Configuration(voters=frozenset({self.identity.member_id}))
        return all(
            latest_configuration(self.machine.membership, self.configuration, entries) == alone
            for entries in (committed, self.entries)
        )

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
        return _skipping(settings, files, opened)
    try:
        settings.check_first_start()
        folder.founding = founding_of(settings)
        if settings.initial_cluster_state == "existing":
            identity, members = _ask_who_it_is(settings, tls, ask, random_bytes)
            joiner = join_member(files, folder, identity, members, _new_store(settings), segment_bytes)
            return _skipping(settings, files, joiner)
    except SettingsError as problem:
        raise StartError(str(problem)) from None
    machine = new_machine(_new_store(settings), _initial_membership(settings), settings.max_level)
    return create_member(files, folder, settings.name, machine, random_bytes(INCARNATION_BYTES), segment_bytes)


def _ask_who_it_is(
    settings: Settings, tls: Credentials | None, ask: Ask | None, random_bytes: Callable[[int], bytes]
) -> tuple[Identity, Iterable[Member]]:
    """The identity of a member that joins, and the members of its cluster. StartError, SettingsError."""
    from kvstore.joining import JoinError, join  # no other start needs an HTTP client, which takes long to load

    try:
        joined = join(settings, tls, ask)
    except JoinError as problem:
        raise StartError(str(problem)) from None
    return Identity(joined.cluster, joined.member, random_bytes(INCARNATION_BYTES)), joined.members


def new_machine(store: Store, membership: Membership, highest_level: int = HIGHEST_LEVEL) -> StateMachine:
    """The state that a new cluster begins with, the same on all its first members.

    A member that is alone founds it at the highest level. Several may be of different versions, so that they begin at
    the first level, and the first leader raises it.
    """
    machine = StateMachine(store, membership)
    if len(membership.members) == 1 and highest_level > FIRST_LEVEL:
        machine.found(highest_level)
    return machine


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
    wal = folder.create_wal(identity, segment_bytes=segment_bytes, version=machine.level)
    hard_state = HardState(meta.term, 0, meta.index)
    wal.mark_snapshot(meta)
    wal.append(hard_state, ())
    snapshot = meta if meta.index else None
    return Opened(identity, folder, wal, snapshots, machine, snapshot, hard_state, (), None, meta.configuration)


def latest_configuration(
    membership: Membership, configuration: Configuration, entries: Iterable[Entry]
) -> Configuration:
    """The configuration after `entries`, which follow the one that `membership` and `configuration` are of."""
    membership = Membership(membership.members.values(), membership.removed)
    for entry in entries:
        if entry.kind != EntryKind.CONFIGURATION:
            continue
        if not entry.payload:
            configuration = leave_joint(configuration)
            continue
        change = unpack_change(entry.payload)
        with suppress(MembershipError, ChangeRefused):  # refused when it was applied, too
            membership.check(change)
            configuration = enter_joint(configuration, change.changes)
            membership.apply_change(change)
    return configuration


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


def _skipping(settings: Settings, files: Files, opened: Opened) -> Opened:
    """Remembers what `--skip-entry` names, before any of it can be reached. StartError, StorageError."""
    path = opened.folder.path
    remembered = read_skipped(files, path)
    wanted = frozenset(settings.skip_entries) - remembered
    try:
        check_skips(wanted, opened.snapshot.index if opened.snapshot else 0, opened.entries)
    except CannotSkip as problem:
        raise StartError(str(problem)) from None
    skipped = remembered | wanted
    if wanted:
        write_skipped(files, path, skipped)
    for index, term in sorted(skipped):
        log.warning("skips an entry of the log, which all members must do alike", index=index, term=term)
    return opened._replace(skipped=skipped)


def _check_whole(opened: Opened) -> None:
    """Says so when the disk lost acknowledged entries; a member that is alone cannot get them back."""
    if opened.promised is None:
        return
    term, index = opened.promised
    if opened.is_alone:
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
    """Refuse a folder that is plainly of another member or another cluster, before anything is sent.

    What `--initial-cluster` names today does not tell: members move, come and go. A token never changes, so another one
    than the folder was founded with names another cluster.
    """
    identity = opened.identity
    ours = opened.machine.membership.members.get(identity.member_id)
    if ours is not None and ours.name and ours.name != settings.name:
        raise StartError(
            f"{opened.folder.path} belongs to member {ours.name!r} ({identity.member_id:x}), not to"
            f" {settings.name!r}; use the right --data-dir or --name"
        )
    founding, today = opened.folder.founding, founding_of(settings)
    if founding is None or founding == today:
        return
    was_given = settings.initial_cluster_token != DEFAULT_TOKEN
    if was_given and founding.token not in (today.token, UNKNOWN_TOKEN):
        raise StartError(
            f"{opened.folder.path} belongs to cluster {identity.cluster_id:x}, which was founded with another"
            f" --initial-cluster-token than {settings.initial_cluster_token!r}; use the right --data-dir, or leave the"
            " flag out: it counts at the first start alone"
        )
    log.info("goes by its log: --initial-cluster and --initial-cluster-token count at the first start alone")


def founding_of(settings: Settings) -> Founding:
    """What a member that starts for the first time is founded with, or joins with.

    A joiner asks its peers for the cluster and needs no token. Started without one, it does not know the token, and its
    later starts are not checked against any; started with one, it is held to that.
    """
    cluster = [(member.name, *map(str, member.peer_urls)) for member in settings.initial_cluster]
    token = settings.initial_cluster_token
    flags_digest, token_digest = sha256(repr((cluster, token)).encode()).digest(), sha256(token.encode()).digest()
    if settings.initial_cluster_state == "existing" and token == DEFAULT_TOKEN:
        token_digest = UNKNOWN_TOKEN
    return Founding(flags_digest, token_digest)


def _new_store(settings: Settings) -> Store:
    return Store(settings.event_history, settings.event_history_bytes)


def _initial_membership(settings: Settings) -> Membership:
    peers = {member.name: tuple(map(str, member.peer_urls)) for member in settings.initial_cluster}
    return Membership.initial(peers, settings.initial_cluster_token)
