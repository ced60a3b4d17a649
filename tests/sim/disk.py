"""A disk in memory that forgets what was not synced, tears it, and fails on demand; all of it from one seed.

What a crash leaves:
- of each file, everything up to its last sync; of later writes, for each sector of 512 bytes on its own, the state
  after any number of them (writes to one sector keep their order);
- the size of each file as of its last sync, or as of now;
- of each folder, the names as of its last sync; each later creation, renaming or removal, alone, may be there or not.

`stop()` is a process that dies on a machine that lives on: nothing is lost, handles and locks are gone.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import TypeAlias

from kvstore.storage.files import Locked
from kvstore.storage.records import SECTOR


class SimCrash(Exception):
    """The machine lost power in the middle of an operation. Call `SimFiles.crash`."""


class SimKill(SimCrash):
    """The process was killed in the middle of an operation, and the machine lives on. Call `SimFiles.stop`."""


class _Inode:
    """A file's contents: what is durable, what readers see, and the writes between the two."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.view = bytearray()
        self.pending: list[tuple[int, bytes]] = []

    def write(self, chunk: bytes, offset: int) -> None:
        end = offset + len(chunk)
        if end > len(self.view):
            self.view.extend(bytes(end - len(self.view)))
        self.view[offset:end] = chunk
        self.pending.append((offset, bytes(chunk)))

    def resize(self, size: int) -> None:
        self.view.extend(bytes(max(0, size - len(self.view))))

    def sync(self) -> None:
        self.durable.extend(bytes(len(self.view) - len(self.durable)))
        for offset, chunk in self.pending:
            self.durable[offset : offset + len(chunk)] = chunk
        self.pending.clear()

    def lose(self, random: Random) -> None:
        """Keeps of each sector's unsynced writes the first few; how many is left to chance."""
        size = random.choice((len(self.durable), len(self.view)))
        self.durable.extend(bytes(size - len(self.durable)))
        sectors: dict[int, list[tuple[int, bytes]]] = {}
        for offset, chunk in self.pending:
            start = 0
            while start < len(chunk):
                sector = (offset + start) // SECTOR
                stop = min(len(chunk), (sector + 1) * SECTOR - offset)
                sectors.setdefault(sector, []).append((offset + start, chunk[start:stop]))
                start = stop
        mood = random.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for pieces in sectors.values():
            kept = len(pieces) if random.random() < mood else random.randrange(len(pieces))
            for offset, piece in pieces[:kept]:
                if offset + len(piece) <= size:
                    self.durable[offset : offset + len(piece)] = piece
        self.pending.clear()
        self.view = bytearray(self.durable)


class SimFile:
    def __init__(self, disk: SimFiles, path: str, inode: _Inode, life: int, writable: bool) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._life = life
        self._writable = writable

    def pread(self, length: int, offset: int) -> bytes:
        self._enter("pread")
        return bytes(self._inode.view[offset : offset + length])

    def pwrite(self, chunk: bytes, offset: int) -> None:
        assert self._writable, "the file was opened to be read"
        self._enter("pwrite", lambda: self._inode.write(chunk, offset))
        self._disk.take_room(self._path, max(0, offset + len(chunk) - len(self._inode.view)))
        self._inode.write(chunk, offset)

    def allocate(self, size: int) -> None:
        assert self._writable, "the file was opened to be read"
        self._enter("allocate", lambda: self._inode.resize(size))
        self._disk.take_room(self._path, max(0, size - len(self._inode.view)))
        self._inode.resize(size)

    def datasync(self) -> None:
        try:
            self._enter("datasync")
        except OSError:
            # As Linux does: the pages count as clean from here on, whether they reached the disk or not.
            view = bytes(self._inode.view)
            self._inode.lose(self._disk.random)
            self._inode.view[:] = view
            raise
        self._inode.sync()

    def size(self) -> int:
        self._enter("size")
        return len(self._inode.view)

    def data_end(self) -> int:
        self._enter("data_end")
        return len(self._inode.view.rstrip(b"\0"))

    def close(self) -> None:
        self._life = -1

    def _enter(self, operation: str, change: Callable[[], None] | None = None) -> None:
        assert self._life == self._disk.life, "the file is closed, or its process is dead"
        self._disk.enter(operation, self._path, change)


class SimLock:
    def __init__(self, disk: SimFiles, path: str) -> None:
        self._disk = disk
        self._path = path
        self._life = disk.life

    def release(self) -> None:
        if self._life == self._disk.life:
            self._disk.locks.pop(self._path, None)


_Name: TypeAlias = _Inode | None  # None: a folder
_Changes: TypeAlias = list[tuple[str, bool, _Name]]  # path, whether it is there now, what it names


class SimFiles:
    """A `Files` for one machine. `random` alone decides what a crash takes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.life = 0  # counts deaths, so that handles of an earlier life are noticed
        self.locks: dict[str, str] = {}
        self.steps = 0  # operations that changed something so far
        self.believes_names = False  # planted: the folder of snapshots is not synced
        self.room: int | None = None  # bytes that are left; None: no limit
        self._durable: dict[str, _Name] = {"": None}
        self._view: dict[str, _Name] = {"": None}
        self._pending: list[tuple[str, _Changes]] = []  # folder, its changes as one
        self._crash_in = 0
        self._kills = False  # the process alone, and not the power
        self._kill_at = ("", "")
        self._crashed = False
        self._faults: list[tuple[str, str, int]] = []

    # --- what a test does to it

    def fail(self, operation: str, path: str = "", number: int = errno.EIO) -> None:
        """The next `operation` (a method's name) on a path that holds `path` raises OSError(number)."""
        self._faults.append((operation, path, number))

    def crash_in(self, steps: int) -> None:
        """The power goes at the `steps`-th changing operation from now on raises SimCrash (1: the next, 0: none)."""
        self._crash_in = steps
        self._kills = False

    def kill_in(self, steps: int) -> None:
        """The process is killed at the `steps`-th changing operation from now on: raises SimKill (1: the next)."""
        self._crash_in = steps
        self._kills = True

    def kill_at(self, operation: str, path: str) -> None:
        """The process is killed before the next `operation` on a path that ends with `path`."""
        self._kill_at = (operation, path)

    def rot(self, path: str) -> bool:
        """One bit of a file changes, durably. False if the file is empty."""
        octets = self.content(path)
        if octets:
            octets[self.random.randrange(len(octets))] ^= 1 << self.random.randrange(8)
        return bool(octets)

    def crash(self) -> None:
        """The power goes now, and comes back."""
        for _, changes in self._pending:
            if self.random.random() < 0.5:
                for path, present, inode in changes:
                    if present:
                        self._durable[path] = inode
                    else:
                        self._durable.pop(path, None)
        self._pending.clear()
        self._view = {path: inode for path, inode in self._durable.items() if self._reachable(path)}
        self._durable = dict(self._view)
        for inode in self._view.values():
            if inode is not None:
                inode.lose(self.random)
        self.stop()

    def stop(self) -> None:
        """The process dies, the machine does not: nothing is lost but handles and locks."""
        self.life += 1
        self.believes_names = False
        self.locks.clear()
        self._faults.clear()
        self._kill_at = ("", "")
        self._crash_in = 0
        self._crashed = False

    def heal(self) -> None:
        """Whatever was to fail does not."""
        self._faults.clear()
        self._kill_at = ("", "")
        self._crash_in = 0
        self.room = None

    def content(self, path: str) -> bytearray:
        """A file's bytes, to be looked at or damaged in place, durably."""
        inode = self._view[self._norm(path)]
        assert inode is not None
        inode.sync()
        inode.view = inode.durable
        return inode.durable

    def read(self, path: str) -> bytes | None:
        """A file's bytes as they are; None if there is no such file."""
        inode = self._view.get(self._norm(path))
        return None if inode is None else bytes(inode.view)

    def remove(self, path: str) -> None:
        """Somebody deletes a file, durably."""
        self._view.pop(self._norm(path))
        self._durable.pop(self._norm(path), None)

    def copy(self) -> SimFiles:
        """A second disk with the same durable contents."""
        other = SimFiles(Random(self.random.random()))
        for path, inode in self._view.items():
            if inode is None:
                other._view[path] = None
            else:
                copied = other._view[path] = _Inode()
                copied.view, copied.durable = bytearray(inode.view), bytearray(inode.view)
        other._durable = dict(other._view)
        return other

    # --- what a program sees

    def open(self, path: str, *, write: bool = False) -> SimFile:
        path = self._norm(path)
        self.enter("open", path)
        inode = self._view.get(path)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", path)
        return SimFile(self, path, inode, self.life, write)

    def create(self, path: str) -> SimFile:
        path = self._norm(path)
        inode = _Inode()
        changes: _Changes = [(path, True, inode)]
        self._change("create", path, changes)
        return SimFile(self, path, inode, self.life, True)

    def make_folder(self, path: str) -> None:
        path = self._norm(path)
        parent = path.rpartition("/")[0]
        if path in self._view:
            self.sync_folder(parent)
            return
        self.make_folder(parent)
        self._change("make_folder", path, [(path, True, None)])
        self.sync_folder(parent)

    def exists(self, path: str) -> bool:
        return self._norm(path) in self._view

    def list(self, folder: str) -> list[str]:
        folder = self._norm(folder)
        self.enter("list", folder)
        if folder not in self._view:
            raise FileNotFoundError(errno.ENOENT, "No such folder", folder)
        return sorted(path[len(folder) + 1 :] for path in self._view if path and path.rpartition("/")[0] == folder)

    def rename(self, old: str, new: str) -> None:
        old, new = self._norm(old), self._norm(new)
        inode = self._existing(old)
        self._change("rename", old, [(old, False, None), (new, True, inode)])

    def unlink(self, path: str) -> None:
        path = self._norm(path)
        self._existing(path)
        self._change("unlink", path, [(path, False, None)])

    def sync_folder(self, folder: str) -> None:
        folder = self._norm(folder)
        if self.believes_names and folder.endswith("/snap"):
            return
        self.enter("sync_folder", folder)
        for where, changes in self._pending:
            if where == folder:
                for path, present, inode in changes:
                    if present:
                        self._durable[path] = inode
                    else:
                        self._durable.pop(path, None)
        self._pending = [(where, changes) for where, changes in self._pending if where != folder]

    def lock(self, path: str, holder: str) -> SimLock:
        path = self._norm(path)
        self.enter("lock", path)
        if path in self.locks:
            raise Locked(path, self.locks[path])
        if path not in self._view:
            self.create(path)
        self.locks[path] = holder
        return SimLock(self, path)

    def enter(self, operation: str, path: str, change: Callable[[], None] | None = None) -> None:
        """Each operation passes here first: it may fail, or the power may go before or after its `change`."""
        if self._crashed:
            raise SimCrash("the power is gone")
        for fault in self._faults:
            if fault[0] == operation and fault[1] in path:
                self._faults.remove(fault)
                raise OSError(fault[2], errno.errorcode[fault[2]], path)
        if operation in _READS:
            return
        if operation == self._kill_at[0] and path.endswith(self._kill_at[1]):
            self._crashed = True
            raise SimKill(f"killed at {operation} {path}")
        self.steps += 1
        if self._crash_in:
            self._crash_in -= 1
            if self._crash_in == 0:
                if change is not None and self.random.random() < 0.5:
                    change()
                self._crashed = True
                if self._kills:
                    raise SimKill(f"killed at {operation} {path}")
                raise SimCrash(f"the power went at {operation} {path}")

    def take_room(self, path: str, grown: int) -> None:
        if self.room is not None:
            if grown > self.room:
                raise OSError(errno.ENOSPC, "No space left on device", path)
            self.room -= grown

    def _change(self, operation: str, path: str, changes: _Changes) -> None:
        folder = path.rpartition("/")[0]
        if folder not in self._view:
            raise FileNotFoundError(errno.ENOENT, "No such folder", folder)

        def change() -> None:
            for name, present, inode in changes:
                if present:
                    self._view[name] = inode
                else:
                    self._view.pop(name, None)
            self._pending.append((folder, changes))

        self.enter(operation, path, change)
        change()

    def _existing(self, path: str) -> _Inode:
        inode = self._view.get(path)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", path)
        return inode

    def _reachable(self, path: str) -> bool:
        while path:
            path = path.rpartition("/")[0]
            if self._durable.get(path, self) is not None:  # a folder is there as None
                return False
        return True

    @staticmethod
    def _norm(path: str) -> str:
        return "/" + path.strip("/") if path.strip("/") else ""


_READS = frozenset({"pread", "open", "size", "data_end", "list", "exists", "lock"})
