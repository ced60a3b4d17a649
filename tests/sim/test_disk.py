"""The simulated disk forgets what it may forget, and nothing else."""

from __future__ import annotations

import errno
from random import Random

import pytest

from tests.sim.disk import SimCrash, SimFiles


def outcomes(count: int = 200) -> set[bytes]:
    """What a crash can leave of two sectors: one synced and overwritten, one new."""
    seen = set()
    for seed in range(count):
        files = SimFiles(Random(seed))
        file = files.create("/a")
        file.pwrite(b"1" * 512, 0)
        file.allocate(1024)
        file.datasync()
        files.sync_folder("/")
        file.pwrite(b"2" * 1024, 0)
        file.pwrite(b"3" * 512, 512)
        files.crash()
        seen.add(b"".join(files.content("/a")[at : at + 1] for at in (0, 511, 512, 1023)))
    return seen


def test_each_sector_is_old_or_new_on_its_own() -> None:
    assert outcomes() == {first + second for first in (b"11", b"22") for second in (b"\0\0", b"22", b"33")}


def test_names_are_lost_unless_their_folder_was_synced() -> None:
    seen = set()
    for seed in range(50):
        files = SimFiles(Random(seed))
        files.make_folder("/f")
        files.create("/f/kept")
        files.create("/f/old")
        files.sync_folder("/f")
        files.create("/f/new")
        files.rename("/f/old", "/f/moved")
        files.unlink("/f/kept")
        files.crash()
        seen.add(tuple(files.list("/f")))
    assert seen == {
        (*sorted((*kept, *new, moved)),)
        for kept in ((), ("kept",))
        for new in ((), ("new",))
        for moved in ("moved", "old")
    }


def test_a_process_that_dies_loses_its_handles_and_locks_alone() -> None:
    files = SimFiles(Random(0))
    file = files.create("/a")
    file.pwrite(b"x", 0)
    files.lock("/lock", "me")
    files.stop()
    with pytest.raises(AssertionError, match="dead"):
        file.pread(1, 0)
    assert files.open("/a").pread(9, 0) == b"x"
    files.lock("/lock", "you")


def test_a_failing_sync_calls_the_pages_clean_all_the_same() -> None:
    lost = set()
    for seed in range(20):
        files = SimFiles(Random(seed))
        file = files.create("/a")
        file.allocate(512)
        file.datasync()
        files.sync_folder("/")
        file.pwrite(b"x", 0)
        files.fail("datasync", "/a")
        with pytest.raises(OSError, match="EIO"):
            file.datasync()
        file.datasync()
        assert file.pread(1, 0) == b"x", "the page cache still shows it"
        files.crash()
        lost.add(bytes(files.content("/a")[:1]))
    assert lost == {b"\0", b"x"}


def test_faults_room_and_crashes_on_demand() -> None:
    files = SimFiles(Random(0))
    file = files.create("/a")
    files.fail("pwrite", "/b")
    file.pwrite(b"1", 0)
    files.fail("pwrite", "/a", errno.ENOSPC)
    with pytest.raises(OSError, match="ENOSPC"):
        file.pwrite(b"2", 0)
    files.room = 5
    file.pwrite(b"12345", 1)
    with pytest.raises(OSError, match="No space"):
        file.pwrite(b"6", 6)
    files.room = None
    files.crash_in(2)
    file.pwrite(b"7", 0)
    with pytest.raises(SimCrash, match="datasync /a"):
        file.datasync()
    with pytest.raises(SimCrash, match="gone"):
        file.pread(1, 0)


def test_a_seed_tells_all() -> None:
    assert outcomes(1) == outcomes(1)
