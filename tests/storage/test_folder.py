"""The data folder: one process, one member, one life; and who else was met."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from kvstore.storage.errors import DamagedFile, DiskFailed, EmptyWAL, FolderInUse, UnknownFormat, WrongIdentity
from kvstore.storage.files import OSFiles
from kvstore.storage.folder import DataFolder
from kvstore.storage.textfile import write_lines
from tests.sim.disk import SimCrash, SimFiles
from tests.storage.logs import IDENTITY, SMALL, entries

PATH = "/d"


def created(seed: int = 0) -> SimFiles:
    files = SimFiles(Random(seed))
    folder = DataFolder.open(files, PATH)
    folder.create_wal(IDENTITY, segment_bytes=SMALL).append(None, entries(1, 3))
    folder.close()
    files.crash()
    return files


def test_a_new_folder_is_nobodys_and_then_its_members() -> None:
    files = SimFiles(Random(0))
    folder = DataFolder.open(files, PATH)
    folder.expect(1, 2)
    assert folder.identity is None
    folder.create_wal(IDENTITY, segment_bytes=SMALL)
    assert folder.identity == IDENTITY
    files.crash()
    folder = DataFolder.open(files, PATH)
    assert folder.identity == IDENTITY
    folder.expect(IDENTITY.cluster_id, IDENTITY.member_id)
    wal, recovered = folder.open_wal(snapshot=None)
    assert recovered.identity == wal.identity == IDENTITY
    assert folder.open_snapshots().newest() is None
    assert sorted(files.list(f"{PATH}/member")) == ["identity", "lock", "snap", "wal"]


def test_another_member_or_cluster_is_refused_and_both_are_named() -> None:
    folder = DataFolder.open(created(), PATH)
    for cluster, member in ((0xC1, 0xB), (0xC2, 0xA)):
        with pytest.raises(
            WrongIdentity, match=f"member a of cluster c1, not to member {member:x} of cluster {cluster:x}"
        ):
            folder.expect(cluster, member)


def test_a_crash_at_every_step_of_the_creation() -> None:
    """Either nobody lives there yet, or the member does with all it needs."""
    lived = set()
    for seed in range(10):
        for at in range(1, 25):
            files = SimFiles(Random(seed * 100 + at))
            files.crash_in(at)
            with suppress(SimCrash):
                DataFolder.open(files, PATH).create_wal(IDENTITY, segment_bytes=SMALL)
            files.crash()
            folder = DataFolder.open(files, PATH)
            lived.add(folder.identity is not None)
            if folder.identity is None:
                folder.create_wal(IDENTITY, segment_bytes=SMALL)
            else:
                folder.open_wal(snapshot=None, segment_bytes=SMALL)
            files.crash()
            assert DataFolder.open(files, PATH).identity == IDENTITY
            assert files.exists(f"{PATH}/member/identity")
    assert lived == {True, False}


def test_a_log_that_vanished_is_noticed() -> None:
    files = created()
    for name in files.list(f"{PATH}/member/wal"):
        files.remove(f"{PATH}/member/wal/{name}")
    folder = DataFolder.open(files, PATH)
    assert folder.identity == IDENTITY
    with pytest.raises(EmptyWAL, match="there is no log here"):
        folder.open_wal(snapshot=None)


def test_another_members_log_is_refused_untouched() -> None:
    files = created()
    other = SimFiles(Random(1))
    DataFolder.open(other, PATH).create_wal(IDENTITY._replace(incarnation=b"z" * 16), segment_bytes=SMALL)
    name = f"{PATH}/member/wal/{other.list(f'{PATH}/member/wal')[0]}"
    files.content(name)[:] = other.content(name)
    with pytest.raises(WrongIdentity, match=r"the log belongs to member a of cluster c1 .*7a7a"):
        DataFolder.open(files, PATH)
    files.create(f"{PATH}/member/wal/junk").close()
    assert PATH + "/member/lock" not in files.locks, "a refused folder is let go"


def test_the_log_may_lie_elsewhere_and_is_locked_there_too() -> None:
    files = SimFiles(Random(0))
    folder = DataFolder.open(files, PATH, wal_folder="/fast/wal")
    folder.create_wal(IDENTITY, segment_bytes=SMALL)
    assert len(files.list("/fast/wal")) == 2
    with pytest.raises(FolderInUse, match="/fast/wal/lock"):
        DataFolder.open(files, "/other", wal_folder="/fast/wal")
    assert "/other/member/lock" not in files.locks
    folder.close()
    with pytest.raises(EmptyWAL):
        DataFolder.open(files, PATH).open_wal(snapshot=None)


def test_a_second_process_is_refused_by_the_pid_of_the_first(tmp_path: Path) -> None:
    files = OSFiles()
    folder = DataFolder.open(files, str(tmp_path / "d"))
    with pytest.raises(FolderInUse, match=f"in use by process {os.getpid()}. Stop it first"):
        DataFolder.open(files, str(tmp_path / "d"))
    folder.close()
    DataFolder.open(files, str(tmp_path / "d")).close()


def test_pins_are_durable_before_they_count() -> None:
    first, second = b"1" * 16, b"2" * 16
    for seed in range(10):
        files = created(seed)
        folder = DataFolder.open(files, PATH)
        assert folder.pin(7, first)
        assert folder.pin(7, first)
        assert not folder.pin(7, second)
        assert folder.pin(8, second)
        files.crash()
        folder = DataFolder.open(files, PATH)
        assert folder.pins == {7: first, 8: second}
        assert not folder.pin(7, second)
        folder.unpin(7)
        folder.unpin(9)
        files.crash()
        folder = DataFolder.open(files, PATH)
        assert folder.pins == {8: second}
        assert folder.pin(7, second)
        files.fail("datasync")
        with pytest.raises(DiskFailed, match="peers"):
            folder.pin(9, first)
        assert 9 not in folder.pins


@pytest.mark.parametrize("name", ["identity", "peers"])
def test_a_flipped_bit_in_the_small_files_is_refused(name: str) -> None:
    files = created()
    folder = DataFolder.open(files, PATH)
    folder.pin(7, b"1" * 16)
    folder.close()
    content = files.content(f"{PATH}/member/{name}")
    for offset in range(len(content)):
        content[offset] ^= 1
        with pytest.raises(DamagedFile, match=f"{name} at offset 0: the file fails its checksum. Nothing was changed"):
            DataFolder.open(files, PATH)
        content[offset] ^= 1


def test_small_files_that_make_no_sense_are_refused() -> None:
    files = created()
    write_lines(files, f"{PATH}/member/peers", ["member x"])
    with pytest.raises(DamagedFile, match="'member x' makes no sense"):
        DataFolder.open(files, PATH)
    write_lines(files, f"{PATH}/member/identity", ["something else"])
    with pytest.raises(DamagedFile, match="does not say whose"):
        DataFolder.open(files, PATH)
    write_lines(files, f"{PATH}/member/identity", ["kvstored data folder, format 3", "new"])
    with pytest.raises(UnknownFormat, match="format version 3"):
        DataFolder.open(files, PATH)


def test_a_disk_that_fails_is_named(tmp_path: Path) -> None:
    files = SimFiles(Random(0))
    files.fail("make_folder")
    with pytest.raises(DiskFailed, match="opening the data folder failed"):
        DataFolder.open(files, PATH)
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFailed, match="opening the data folder failed"):
        DataFolder.open(OSFiles(), str(tmp_path / "file"))
