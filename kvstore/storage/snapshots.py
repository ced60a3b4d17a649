"""The snapshots of one member: one file each, written aside, checked, and only then given its name.

The name carries term and index, 16 hexadecimal digits each. A snapshot that cannot be written harms nothing, because
the log still holds all; so its failure is SnapshotFailed and not DiskFailed. What the chunks mean is the caller's.

`save` may run in another thread than the rest, one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import suppress
from typing import TypeVar

from kvstore.levels import layout_of
from kvstore.raft.types import SnapshotMeta
from kvstore.storage.errors import DamagedSnapshot, DiskFailed, Refused, SnapshotFailed, SnapshotGone
from kvstore.storage.files import File, Files
from kvstore.storage.layout import TEMPORARY, Identity
from kvstore.storage.snapshot_file import SnapshotWriter, read_chunks, read_meta

SUFFIX = ".snap"
SPARE_BYTES = 128 << 20
"""Of snapshots before the newest one, which serve only if that is damaged later. Each also holds on to the log from its
own index on."""
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")
_T = TypeVar("_T")


def snapshot_name(meta: SnapshotMeta) -> str:
    return f"{meta.term:016x}-{meta.index:016x}{SUFFIX}"


def snapshot_names(files: Files, folder: str) -> list[tuple[int, str]]:
    """Index and name of each snapshot, oldest first. OSError."""
    matches = filter(None, map(_NAME.fullmatch, files.list(folder)))
    return sorted((int(match[2], 16), match[0]) for match in matches)


def verify(files: Files, path: str, cluster_id: int | None) -> tuple[SnapshotMeta, int, int]:
    """Reads a whole file: its meta, the number of its chunks and of their bytes. `cluster_id` None: of any cluster.
    Refused or OSError."""
    file = files.open(path)
    try:
        meta, offset, chain = read_meta(file, path, cluster_id)
        if not path.endswith(TEMPORARY) and not path.endswith(snapshot_name(meta)):
            raise DamagedSnapshot(path, 0, f"the file was created under the name {snapshot_name(meta)}")
        sizes = [len(chunk) for chunk in read_chunks(file, path, offset, chain)]
    finally:
        file.close()
    return meta, len(sizes), sum(sizes)


class Snapshots:
    """The folder of snapshots. `notes` collects what the server should log."""

    def __init__(self, files: Files, folder: str, identity: Identity) -> None:
        """Makes the folder if need be and removes what an interrupted write left. DiskFailed."""
        self._files = files
        self._folder = folder
        self._cluster_id = identity.cluster_id
        self._unreadable: set[str] = set()
        self.notes: list[str] = []
        try:
            files.make_folder(folder)
            for name in files.list(folder):
                if name.endswith(SUFFIX + TEMPORARY):
                    files.unlink(f"{folder}/{name}")
                    self.notes.append(f"{folder}/{name}: removed, its writing was interrupted")
            files.sync_folder(folder)  # a process that was killed may have left a name that no disk has yet
        except OSError as error:
            raise DiskFailed(folder, "opening the snapshots", error) from error

    def save(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> int:
        """Writes a snapshot and returns its size in bytes; durable on return. With nothing left behind, SnapshotFailed
        if the disk refuses, and SnapshotTooLarge."""
        path = self._path(meta)
        temporary = f"{path[: -len(SUFFIX)]}.saved{SUFFIX}{TEMPORARY}"
        try:
            file = self._files.create(temporary)
            try:
                writer = SnapshotWriter(file, self._cluster_id, meta)
                for chunk in chunks:
                    writer.add(chunk)
                size = writer.finish()
            finally:
                file.close()
            self._publish(temporary, path)
        except OSError as error:
            self._remove(temporary)
            raise SnapshotFailed(path, error) from error
        except BaseException:
            self._remove(temporary)
            raise
        return size

    def newest(self) -> tuple[SnapshotMeta, str] | None:
        """The newest one that is whole, read from its first byte to its last, and its path; None if there is none.

        One that is damaged is passed over with a note. DiskFailed.
        """
        try:
            for _, name in reversed(snapshot_names(self._files, self._folder)):
                path = f"{self._folder}/{name}"
                try:
                    return verify(self._files, path, self._cluster_id)[0], path
                except Refused as refusal:
                    self._unreadable.add(name)
                    self.notes.append(f"passed over: {refusal}")
        except OSError as error:
            raise DiskFailed(self._folder, "reading the snapshots", error) from error
        return None

    def examine(self, meta: SnapshotMeta) -> str:
        """Reads the file from its first byte to its last: what is wrong with it, empty if it is sound, or gone.

        One that is damaged counts no more as a snapshot that is held.
        """
        path = self._path(meta)
        try:
            verify(self._files, path, self._cluster_id)
        except FileNotFoundError:
            return ""
        except (Refused, OSError) as problem:
            self._unreadable.add(snapshot_name(meta))
            return str(problem)
        return ""

    def load(self, meta: SnapshotMeta) -> Generator[bytes, None, None]:
        """The chunks, each checked before it is given out. Refused, SnapshotGone, DiskFailed."""
        path = self._path(meta)
        try:
            file = self._files.open(path)
            try:
                found, offset, chain = read_meta(file, path, self._cluster_id)
                if found != meta:
                    raise DamagedSnapshot(path, 0, "the file holds another snapshot than its name says")
                yield from read_chunks(file, path, offset, chain)
            finally:
                file.close()
        except FileNotFoundError:
            raise SnapshotGone(path) from None
        except OSError as error:
            raise DiskFailed(path, "reading a snapshot", error) from error

    def layout(self, meta: SnapshotMeta) -> int:
        """The layout of a snapshot, which is the level that it was taken at. As `load`, and WireError."""
        chunks = self.load(meta)
        try:
            return layout_of(next(chunks, b""))
        finally:
            chunks.close()

    def size(self, meta: SnapshotMeta) -> int:
        """Bytes of the file. SnapshotGone, DiskFailed."""
        return self._on_file(meta, lambda file: file.size())

    def read(self, meta: SnapshotMeta, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes of the file as it is, for another member's `receive`. SnapshotGone, DiskFailed."""
        return self._on_file(meta, lambda file: file.pread(limit, offset))

    def receive(self, meta: SnapshotMeta) -> Receiver:
        """Takes a file from another member in pieces. SnapshotFailed. One at a time for the same snapshot."""
        return Receiver(self, self._files, self._path(meta), meta, self._cluster_id)

    def purge(self, keep: int, needed: Collection[int] = (), spare_bytes: int = SPARE_BYTES) -> int:
        """Removes all but the newest readable one, up to `keep` - 1 before it that together take at most `spare_bytes`,
        and those whose index is `needed`.

        Returns the index of the oldest one that stays: the log must keep all entries behind it. 0 if there is none.
        DiskFailed.
        """
        try:
            names = snapshot_names(self._files, self._folder)
            readable = [index for index, name in names if name not in self._unreadable]
            if not readable:
                return 0
            oldest = min([self._oldest_to_keep(keep, spare_bytes), *(index for index in readable if index in needed)])
            gone = [name for index, name in names if index < oldest]
            for name in gone:
                self._files.unlink(f"{self._folder}/{name}")
            if gone:
                self._files.sync_folder(self._folder)
        except OSError as error:
            raise DiskFailed(self._folder, "removing old snapshots", error) from error
        return oldest

    def _oldest_to_keep(self, keep: int, spare_bytes: int) -> int:
        """The index of it. The newest one may be large, and a folder of several times the state's size is too much."""
        names = [entry for entry in snapshot_names(self._files, self._folder) if entry[1] not in self._unreadable]
        oldest = names.pop()[0]
        for index, name in reversed(names[-keep + 1 :] if keep > 1 else []):
            spare_bytes -= self._file_size(name)
            if spare_bytes < 0:
                break
            oldest = index
        return oldest

    def _file_size(self, name: str) -> int:
        file = self._files.open(f"{self._folder}/{name}")
        try:
            return file.size()
        finally:
            file.close()

    def _path(self, meta: SnapshotMeta) -> str:
        return f"{self._folder}/{snapshot_name(meta)}"

    def _publish(self, temporary: str, path: str) -> None:
        """Name a synced file. After an OSError the name is gone, or it does not count: the disk may not have it."""
        name = path.rpartition("/")[2]
        is_new = not self._files.exists(path)
        self._files.rename(temporary, path)
        try:
            self._files.sync_folder(self._folder)
        except OSError:
            if is_new:  # otherwise the disk has a whole file under this name, whichever of the two
                self._unreadable.add(name)
                self._remove(path)
            raise
        self._unreadable.discard(name)

    def _remove(self, path: str) -> None:
        with suppress(OSError):  # the next start removes what stays
            self._files.unlink(path)

    def _on_file(self, meta: SnapshotMeta, read: Callable[[File], _T]) -> _T:
        path = self._path(meta)
        try:
            file = self._files.open(path)
            try:
                return read(file)
            finally:
                file.close()
        except FileNotFoundError:
            raise SnapshotGone(path) from None
        except OSError as error:
            raise DiskFailed(path, "reading a snapshot", error) from error


class Receiver:
    """A snapshot on its way in. Ends with `finish` or `abort`."""

    def __init__(self, owner: Snapshots, files: Files, path: str, meta: SnapshotMeta, cluster_id: int) -> None:
        """Use `Snapshots.receive`."""
        self._owner = owner
        self._files = files
        self._path = path
        self._temporary = f"{path[: -len(SUFFIX)]}.received{SUFFIX}{TEMPORARY}"
        self._meta = meta
        self._cluster_id = cluster_id
        self.received = 0  # bytes so far
        try:
            self._file = files.create(self._temporary)
        except OSError as error:
            raise SnapshotFailed(path, error) from error

    def write(self, offset: int, chunk: bytes) -> int:
        """Takes the piece if it is the next one, and says which offset is wanted next. SnapshotFailed."""
        if offset == self.received:
            try:
                self._file.pwrite(chunk, offset)
            except OSError as error:
                self.abort()
                raise SnapshotFailed(self._path, error) from error
            self.received += len(chunk)
        return self.received

    def finish(self) -> None:
        """Checks all of it and gives it its name; durable on return.

        DamagedSnapshot, WrongIdentity, UnknownFormat or SnapshotFailed, with nothing left behind.
        """
        try:
            self._file.datasync()
            found, _, _ = verify(self._files, self._temporary, self._cluster_id)
            if found != self._meta:
                raise DamagedSnapshot(self._temporary, 0, "another snapshot came in than was announced")
            self._file.close()
            self._owner._publish(self._temporary, self._path)
        except OSError as error:
            self.abort()
            raise SnapshotFailed(self._path, error) from error
        except Refused:
            self.abort()
            raise

    def abort(self) -> None:
        with suppress(OSError):
            self._file.close()
        self._owner._remove(self._temporary)
