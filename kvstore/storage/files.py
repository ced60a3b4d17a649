"""The few operations on a disk that this floor uses, and the real disk.

`Files` is all that the rest of the floor sees, so that a simulated disk can stand in for the real one and lose what
was not synced. Every operation may raise `OSError`; what that means is decided by the caller. Paths are plain
strings joined with "/".
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import Protocol

FOLDER_MODE = 0o700
FILE_MODE = 0o600
#: Where the folder above cannot be opened or synced at all, none of our processes has made a name in it.
_NOT_OURS = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL))


class Locked(OSError):
    """Somebody else holds the lock; `holder` is what they wrote into the file."""

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(f"{path} is locked")
        self.holder = holder


class File(Protocol):
    """An open file. Writes are durable after `datasync`, not before."""

    def pread(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""

    def pwrite(self, chunk: bytes, offset: int) -> None:
        """All of `chunk`, or an OSError."""

    def allocate(self, size: int) -> None:
        """Make the file at least `size` bytes long with its space reserved; new bytes are zero."""

    def datasync(self) -> None:
        """The contents and the size are on the disk when this returns."""

    def size(self) -> int: ...

    def data_end(self) -> int:
        """An offset from which on all bytes are zero, as far as the file system knows: at most the size. Of a file that
        was allocated and never written, it is 0 where the system keeps track of that. Then nothing is read ahead."""

    def close(self) -> None: ...


class Lock(Protocol):
    def release(self) -> None: ...


class Files(Protocol):
    """A file system."""

    def open(self, path: str, *, write: bool = False) -> File:
        """An existing file."""

    def create(self, path: str) -> File:
        """A new, empty file, readable and writable; one that was there is emptied."""

    def make_folder(self, path: str) -> None:
        """With its parents, readable by the owner alone. Durable on return, also where it was there before: the process
        that made it may have been killed before it synced the name."""

    def exists(self, path: str) -> bool: ...

    def list(self, folder: str) -> list[str]:
        """The sorted names in a folder."""

    def rename(self, old: str, new: str) -> None:
        """Durable after `sync_folder`, like every new or removed name."""

    def unlink(self, path: str) -> None: ...

    def sync_folder(self, folder: str) -> None: ...

    def lock(self, path: str, holder: str) -> Lock:
        """Take the lock or raise `Locked` at once. Writes `holder` into the file unless it is empty."""


class OSFile:
    """A file of the operating system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def pread(self, length: int, offset: int) -> bytes:
        chunk = os.pread(self._descriptor, length, offset)
        if len(chunk) == length or not chunk:
            return chunk
        parts = [chunk]  # the system reads at most 2 GiB at once, and a signal may cut a read short
        have = len(chunk)
        while have < length and (chunk := os.pread(self._descriptor, length - have, offset + have)):
            parts.append(chunk)
            have += len(chunk)
        return b"".join(parts)

    def pwrite(self, chunk: bytes, offset: int) -> None:
        written = os.pwrite(self._descriptor, chunk, offset)
        while written < len(chunk):
            written += os.pwrite(self._descriptor, memoryview(chunk)[written:], offset + written)

    def allocate(self, size: int) -> None:
        if size > self.size():
            os.posix_fallocate(self._descriptor, 0, size)

    def datasync(self) -> None:
        os.fdatasync(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def data_end(self) -> int:
        size = self.size()
        end = 0
        # Linux counts the pages of an allocated part as data once they were read, also those that it reads ahead: this
        # file would seem to hold more with each start.
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        try:
            while end < size:
                end = os.lseek(self._descriptor, os.lseek(self._descriptor, end, os.SEEK_DATA), os.SEEK_HOLE)
        except OSError as error:
            # ENXIO: there is no data after `end`. Any other error: this file system does not report it.
            return min(end, size) if error.errno == errno.ENXIO else size
        return min(end, size)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class OSLock:
    """flock: it goes away with the process, however that ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class OSFiles:
    """The real disk."""

    def open(self, path: str, *, write: bool = False) -> OSFile:
        return OSFile(os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC))

    def create(self, path: str) -> OSFile:
        return OSFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE))

    def make_folder(self, path: str) -> None:
        parent = os.path.dirname(path.rstrip("/")) or "."
        if os.path.isdir(path):
            try:
                self.sync_folder(parent)
            except OSError as error:
                if error.errno not in _NOT_OURS:
                    raise
            return
        self.make_folder(parent)
        os.mkdir(path, FOLDER_MODE)
        self.sync_folder(parent)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def list(self, folder: str) -> list[str]:
        return sorted(os.listdir(folder))

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def sync_folder(self, folder: str) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: str, holder: str) -> OSLock:
        flags = os.O_RDWR | os.O_CREAT if holder else os.O_RDONLY
        descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if holder:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder.encode(), 0)
        except BlockingIOError:
            found = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise Locked(path, found) from None
        except BaseException:
            os.close(descriptor)
            raise
        return OSLock(descriptor)
