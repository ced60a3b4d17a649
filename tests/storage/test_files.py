"""The real disk behaves as `Files` says: the same expectations are put to the simulated one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from random import Random

import pytest

from kvstore.raft.types import HardState
from kvstore.storage.files import Files, Locked, OSFiles
from kvstore.storage.wal import WAL
from tests.sim.disk import SimFiles
from tests.storage.logs import IDENTITY, SMALL, entries


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Files, str]:
    if request.param == "real":
        return OSFiles(), str(tmp_path)
    files = SimFiles(Random(0))
    files.make_folder("/base")
    return files, "/base"


def test_files_are_written_read_and_grown(disk: tuple[Files, str]) -> None:
    files, base = disk
    file = files.create(f"{base}/one")
    file.pwrite(b"hello", 3)
    file.allocate(10)
    file.allocate(4)
    file.datasync()
    assert file.size() == 10
    assert file.pread(100, 0) == b"\0\0\0hello\0\0"
    assert file.pread(2, 4) == b"el"
    assert file.pread(5, 10) == b""
    file.close()
    file.close()
    again = files.open(f"{base}/one", write=True)
    again.pwrite(b"J", 3)
    assert again.pread(5, 3) == b"Jello"
    again.close()
    with pytest.raises(FileNotFoundError):
        files.open(f"{base}/two")


def test_nothing_but_zeros_follows_the_end_of_the_data(disk: tuple[Files, str]) -> None:
    files, base = disk
    file = files.create(f"{base}/one")
    assert file.data_end() == 0
    file.allocate(1 << 20)
    for offset in (300_000, 70_000, 0, (1 << 20) - 1):
        file.pwrite(b"x", offset)
        end = file.data_end()
        assert end <= file.size()
        assert not any(file.pread(1 << 20, end))
    file.close()


def test_names_come_and_go(disk: tuple[Files, str]) -> None:
    files, base = disk
    files.make_folder(f"{base}/deep/folder")
    files.make_folder(f"{base}/deep/folder")
    for name in ("b", "a"):
        files.create(f"{base}/deep/{name}").close()
    assert files.list(f"{base}/deep") == ["a", "b", "folder"]
    files.rename(f"{base}/deep/a", f"{base}/deep/c")
    files.unlink(f"{base}/deep/b")
    files.sync_folder(f"{base}/deep")
    assert files.list(f"{base}/deep") == ["c", "folder"]
    assert files.exists(f"{base}/deep/c")
    assert not files.exists(f"{base}/deep/a")
    with pytest.raises(FileNotFoundError):
        files.unlink(f"{base}/deep/b")
    with pytest.raises(FileNotFoundError):
        files.list(f"{base}/nowhere")
    with pytest.raises(FileNotFoundError):
        files.create(f"{base}/nowhere/file")


def test_a_lock_is_held_once_and_names_its_holder(disk: tuple[Files, str]) -> None:
    files, base = disk
    lock = files.lock(f"{base}/lock", "4711")
    for holder in ("4712", ""):
        with pytest.raises(Locked) as locked:
            files.lock(f"{base}/lock", holder)
        assert locked.value.holder == "4711"
    lock.release()
    lock.release()
    files.lock(f"{base}/lock", "").release()


def test_folders_and_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    files = OSFiles()
    files.make_folder(f"{tmp_path}/a/b")
    files.create(f"{tmp_path}/a/b/c").close()
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "a/b").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "a/b/c").st_mode) == 0o600


def test_a_log_on_the_real_disk(tmp_path: Path) -> None:
    folder = str(tmp_path / "wal")
    wal = WAL.create(OSFiles(), folder, IDENTITY, segment_bytes=SMALL)
    for first in range(1, 101, 10):
        wal.append(HardState(1, 2, first), entries(first, 10))
    wal.purge(30, keep=2)
    wal.close()
    wal, recovered = WAL.open(OSFiles(), folder, snapshot=None, segment_bytes=SMALL)
    assert recovered.entries == entries(1, 100)
    assert recovered.notes == []
    wal.close()
