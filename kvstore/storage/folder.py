"""The data folder of one member: what lies where, whose it is, and who may open it.

    member/lock        held while a process uses the folder; holds its pid
    member/identity    cluster, member and incarnation; written once the log exists, so that a log that vanishes later
                       is noticed
    member/founding    what the first start was told of the cluster (founding.py)
    member/peers       the incarnation that each other member was met under
    member/wal/        the log, unless another folder was named for it
    member/snap/       the snapshots

A member that comes back with an empty disk under its old identity has a new incarnation. It forgot its votes and
acknowledgements, so the others, who have the old one pinned, refuse it. Nothing here knows what is in the log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from kvstore.raft.types import SnapshotMeta
from kvstore.storage.errors import DamagedFile, DiskFailed, FolderInUse, UnknownFormat, WrongIdentity
from kvstore.storage.files import Files, Lock, Locked
from kvstore.storage.founding import Founding, founding_file, read_founding, write_founding
from kvstore.storage.layout import FORMAT, FORMATS, INCARNATION_BYTES, SUFFIX, Birth, Identity
from kvstore.storage.records import SECTOR
from kvstore.storage.replay import Recovered, segment_names
from kvstore.storage.snapshots import Snapshots
from kvstore.storage.textfile import read_lines, write_lines
from kvstore.storage.wal import SEGMENT_BYTES, WAL

#: The folder has the format of its log (layout.py). That of level 2 differs in its number alone.
_TITLE = "kvstored data folder, format "
_VERSION = re.compile(_TITLE + r"(\d{1,9})")
_IDENTITY = re.compile(rf"{_TITLE}\d\ncluster ([0-9a-f]{{16}})\nmember ([0-9a-f]{{16}})\nincarnation ([0-9a-f]{{32}})")
_PIN = re.compile(r"member ([0-9a-f]{16}) incarnation ([0-9a-f]{32})")
_ELSEWHERE = (
    "Nothing was changed. Give each member a data folder of its own, and start it with the flags it was made with"
)


class DataFolder:
    """An open, locked data folder. Every method may raise DiskFailed."""

    def __init__(self, files: Files, path: str, wal_folder: str, locks: list[Lock]) -> None:
        """Use `open`."""
        self.path = path
        self.wal_folder = wal_folder
        self.snapshot_folder = snapshot_folder(path)
        self.identity: Identity | None = None  # None: no member was created here yet
        self.founding: Founding | None = None  # None: not known, or of a member that is to be created
        self.format = FORMATS[0]
        self._files = files
        self._locks = locks
        self._pins: dict[int, bytes] = {}

    @classmethod
    def open(cls, files: Files, path: str, *, wal_folder: str = "", holder: str = "") -> DataFolder:
        """Makes what is missing (mode 0700), takes the lock, syncs the names that are there, reads whose it is.

        `wal_folder`: where the log lies if not below `path`. `holder`: what the lock file tells others, by default
        our pid. FolderInUse, WrongIdentity (the log is another member's), Refused.
        """
        locks: list[Lock] = []
        folder = cls(files, path, wal_folder or default_wal_folder(path), locks)
        holder = holder or str(os.getpid())
        try:
            with _disk(path, "opening the data folder"):
                for place in dict.fromkeys((f"{path}/member", wal_folder or f"{path}/member")):
                    files.make_folder(place)
                    locks.append(_locked(files, f"{place}/lock", holder))
                for place in (folder.wal_folder, folder.snapshot_folder):
                    files.make_folder(place)
                # A process that was killed between a rename and its sync leaves names that the disk may not have yet.
                # Nothing here counts before it does.
                for place in dict.fromkeys((f"{path}/member", folder.wal_folder, folder.snapshot_folder)):
                    files.sync_folder(place)
                folder.identity = whose(files, path, folder.wal_folder)
                folder.format = format_of(files, path)
                folder._pins = read_pins(files, path)
                folder.founding = read_founding(files, path)
        except BaseException:
            folder.close()
            raise
        return folder

    def expect(self, cluster_id: int, member_id: int) -> None:
        """WrongIdentity if the folder belongs to another member or another cluster; an empty one is anybody's."""
        found = self.identity
        if found is not None and (found.cluster_id, found.member_id) != (cluster_id, member_id):
            raise WrongIdentity(
                identity_file(self.path),
                0,
                f"the folder belongs to member {found.member_id:x} of cluster {found.cluster_id:x}, "
                f"not to member {member_id:x} of cluster {cluster_id:x}",
                _ELSEWHERE,
            )

    def create_wal(self, identity: Identity, *, segment_bytes: int = SEGMENT_BYTES, version: int = FORMATS[0]) -> WAL:
        """The folder becomes this member's, with an empty log; durable on return. Nobody lived here before."""
        assert self.identity is None, "the folder belongs to a member already"
        assert len(identity.incarnation) == INCARNATION_BYTES
        with _disk(founding_file(self.path), "write"):  # before the log, which makes the folder this member's
            write_founding(self._files, self.path, self.founding)
        wal = WAL.create(self._files, self.wal_folder, identity, segment_bytes=segment_bytes, version=version)
        self.identity = identity
        self._write_format(version)
        wal.before_format = self._write_format
        return wal

    def open_wal(self, *, snapshot: SnapshotMeta | None, segment_bytes: int = SEGMENT_BYTES) -> tuple[WAL, Recovered]:
        """The log of the member that lives here; see WAL.open. EmptyWAL if it is gone."""
        assert self.identity is not None, "nobody lives here yet"
        wal, recovered = WAL.open(self._files, self.wal_folder, snapshot=snapshot, segment_bytes=segment_bytes)
        if not self._files.exists(identity_file(self.path)):  # a crash came between the two steps of create_wal
            self._write_format(wal.format)
        wal.before_format = self._write_format
        return wal, recovered

    def _write_format(self, version: int) -> None:
        """Says in the identity, too, which versions can read the log. DiskFailed."""
        assert self.identity is not None
        with _disk(identity_file(self.path), "write"):
            _write_identity(self._files, self.path, self.identity, version)
        self.format = version

    def open_snapshots(self) -> Snapshots:
        """The snapshots of the member that lives here."""
        assert self.identity is not None, "nobody lives here yet"
        return Snapshots(self._files, self.snapshot_folder, self.identity)

    @property
    def pins(self) -> Mapping[int, bytes]:
        """The incarnation of each member that was met."""
        return MappingProxyType(self._pins)

    def pin(self, member: int, incarnation: bytes) -> bool:
        """Remembers under which incarnation a member was met, durable on return; False if it was another one."""
        assert len(incarnation) == INCARNATION_BYTES
        known = self._pins.get(member)
        if known is None:
            self._write_pins({**self._pins, member: incarnation})
        return known is None or known == incarnation

    def unpin(self, member: int) -> None:
        """Forgets a member that was removed from the cluster."""
        if member in self._pins:
            self._write_pins({known: value for known, value in self._pins.items() if known != member})

    def close(self) -> None:
        """Lets go of the lock."""
        while self._locks:
            self._locks.pop().release()

    def _write_pins(self, pins: dict[int, bytes]) -> None:
        with _disk(peers_file(self.path), "write"):
            lines = [f"member {member:016x} incarnation {value.hex()}" for member, value in sorted(pins.items())]
            write_lines(self._files, peers_file(self.path), lines)
        self._pins = pins


def identity_file(path: str) -> str:
    return f"{path}/member/identity"


def peers_file(path: str) -> str:
    return f"{path}/member/peers"


def lock_file(path: str) -> str:
    return f"{path}/member/lock"


@contextmanager
def unused(files: Files, path: str) -> Iterator[None]:
    """Holds the lock of a folder that is only read, where it has one. FolderInUse."""
    lock = None
    if files.exists(lock_file(path)):
        try:
            lock = files.lock(lock_file(path), "")
        except Locked as locked:
            raise FolderInUse(lock_file(path), locked.holder) from None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def has_member(files: Files, path: str, wal_folder: str = "") -> bool:
    """Whether a member was created here: an identity or a log is there, sound or not. Only reads; OSError."""
    wal_folder = wal_folder or default_wal_folder(path)
    if files.exists(identity_file(path)):
        return True
    return files.exists(wal_folder) and any(name.endswith(SUFFIX) for name in files.list(wal_folder))


def default_wal_folder(path: str) -> str:
    return f"{path}/member/wal"


def snapshot_folder(path: str) -> str:
    return f"{path}/member/snap"


def whose(files: Files, path: str, wal_folder: str) -> Identity | None:
    """Whose folder it is; None if nobody was created here. Only reads.

    Refused (DamagedFile, UnknownFormat, WrongIdentity if the log is another's), OSError.
    """
    written = _read_identity(files, identity_file(path))
    if not files.exists(wal_folder) or not any(name.endswith(SUFFIX) for name in files.list(wal_folder)):
        return written
    oldest = f"{wal_folder}/{segment_names(files, wal_folder)[0]}"
    file = files.open(oldest)
    try:
        logged = Birth.unpack(oldest, file.pread(SECTOR, 0)).identity
    finally:
        file.close()
    if written is not None and logged != written:
        raise WrongIdentity(
            oldest,
            0,
            f"the log belongs to member {logged.member_id:x} of cluster {logged.cluster_id:x} (incarnation "
            f"{logged.incarnation.hex()}), the data folder to member {written.member_id:x} of cluster "
            f"{written.cluster_id:x} (incarnation {written.incarnation.hex()})",
            _ELSEWHERE,
        )
    return logged


def read_pins(files: Files, path: str) -> dict[int, bytes]:
    """DamagedFile, OSError."""
    pins = {}
    for line in read_lines(files, peers_file(path)) or []:
        match = _PIN.fullmatch(line)
        if match is None:
            raise DamagedFile(peers_file(path), 0, f"the line {line!r} makes no sense")
        pins[int(match[1], 16)] = bytes.fromhex(match[2])
    return pins


def _read_identity(files: Files, path: str) -> Identity | None:
    lines = read_lines(files, path)
    if lines is None:
        return None
    version = _VERSION.fullmatch(lines[0]) if lines else None
    if version is not None and int(version[1]) not in FORMATS:
        raise UnknownFormat(path, 0, int(version[1]), FORMAT)
    match = _IDENTITY.fullmatch("\n".join(lines))
    if match is None:
        raise DamagedFile(path, 0, "the file does not say whose folder this is")
    return Identity(int(match[1], 16), int(match[2], 16), bytes.fromhex(match[3]))


def format_of(files: Files, path: str) -> int:
    """Of a folder whose identity can be read; the first one where none was written. DamagedFile, OSError."""
    lines = read_lines(files, identity_file(path))
    version = _VERSION.fullmatch(lines[0]) if lines else None
    return int(version[1]) if version is not None else FORMATS[0]


def _write_identity(files: Files, path: str, identity: Identity, version: int) -> None:
    lines = [
        f"{_TITLE}{version}",
        f"cluster {identity.cluster_id:016x}",
        f"member {identity.member_id:016x}",
        f"incarnation {identity.incarnation.hex()}",
    ]
    write_lines(files, identity_file(path), lines)


def _locked(files: Files, path: str, holder: str) -> Lock:
    try:
        return files.lock(path, holder)
    except Locked as locked:
        raise FolderInUse(path, locked.holder) from None


@contextmanager
def _disk(path: str, operation: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskFailed(path, operation, error) from error
