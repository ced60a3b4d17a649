"""Names that a killed process left unsynced: the next one must not believe them before they are durable.

A process that dies between a rename and the sync of its folder leaves a name that only the page cache has. If the next
process builds on that name and then the power fails, what it built stands without its foundation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random

import pytest

from kvstore import bootstrap
from kvstore.apply import StateMachine
from kvstore.membership import Member, Membership
from kvstore.raft.types import Configuration, Entry, HardState, SnapshotMeta
from kvstore.storage.errors import DiskFailed, SnapshotFailed
from kvstore.storage.folder import DataFolder
from kvstore.storage.snapshots import Receiver, Snapshots
from kvstore.storage.textfile import read_lines, write_lines
from kvstore.store.operations import Set
from kvstore.store.store import Store
from tests.sim.disk import SimFiles
from tests.storage.logs import SMALL

HOME = "/srv/home"
SEEDS = range(12)  # each name is lost in half of the crashes
MEMBERS = tuple(Member(number, f"n{number}", (f"http://n{number}:1",)) for number in (1, 2, 3))
LATER = SnapshotMeta(24, 3, Configuration(voters=frozenset({1, 2, 3})))


class Killed(BaseException):
    """kill -9: no handler runs, the machine lives on."""


@contextmanager
def killed_at(files: SimFiles, folder: str) -> Iterator[None]:
    """The process is killed when it is about to sync `folder`; the machine goes on."""
    sync = files.sync_folder

    def kill(path: str) -> None:
        if path.rstrip("/") == folder:
            raise Killed
        sync(path)

    files.sync_folder = kill  # type: ignore[assignment,method-assign]
    with suppress(Killed):
        yield
        raise AssertionError(f"{folder} was never synced")
    files.sync_folder = sync  # type: ignore[method-assign]
    files.stop()


@contextmanager
def io_error_at(files: SimFiles, folder: str) -> Iterator[None]:
    """The sync of `folder` fails once, and the process ends after that."""
    files.fail("sync_folder", folder)
    with pytest.raises((SnapshotFailed, DiskFailed)):
        yield
    files.stop()


def machine() -> StateMachine:
    return StateMachine(Store(10), Membership(MEMBERS))


def member(files: SimFiles, wal_folder: str = "") -> bootstrap.Opened:
    folder = DataFolder.open(files, HOME, wal_folder=wal_folder)
    return bootstrap.create_member(files, folder, "n1", machine(), b"1" * 16, SMALL)


def received(snapshots: Snapshots) -> Receiver:
    """All of a later snapshot came in; it has no name yet."""
    other = SimFiles(Random(7))
    source = member(other)
    leader = machine()
    leader.apply(Set(b"/a", b"acknowledged", False, None, False), 1)
    source.snapshots.save(LATER, leader.freeze().chunks())
    receiver = snapshots.receive(LATER)
    receiver.write(0, source.snapshots.read(LATER, 0, 1 << 20))
    return receiver


@pytest.mark.parametrize("wal_folder", ["", "/fast/wal"])
@pytest.mark.parametrize("fault", [killed_at, io_error_at])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_snapshot_that_a_start_uses_is_still_there_after_a_power_cut(
    seed: int, fault: Callable[[SimFiles, str], object], wal_folder: str
) -> None:
    """The log begins after the snapshot that is in use, so without that snapshot it begins after a gap."""
    files = SimFiles(Random(seed))
    opened = member(files, wal_folder)
    opened.wal.append(HardState(2, 0, 1), [Entry(2, 2, 0, b"")])
    receiver = received(opened.snapshots)
    with fault(files, f"{HOME}/member/snap"):  # type: ignore[attr-defined]
        receiver.finish()
    used = bootstrap.reopen(DataFolder.open(files, HOME, wal_folder=wal_folder), 10, SMALL).snapshot
    files.crash()
    assert bootstrap.reopen(DataFolder.open(files, HOME, wal_folder=wal_folder), 10, SMALL).snapshot == used


def test_a_snapshot_that_could_not_be_published_leaves_no_name() -> None:
    files = SimFiles(Random(0))
    snapshots = member(files).snapshots
    before = files.list(f"{HOME}/member/snap")
    receiver = received(snapshots)
    files.fail("sync_folder", "snap")
    with pytest.raises(SnapshotFailed):
        receiver.finish()
    files.fail("sync_folder", "snap")
    with pytest.raises(SnapshotFailed):
        snapshots.save(LATER, machine().freeze().chunks())
    assert files.list(f"{HOME}/member/snap") == before


def test_a_snapshot_whose_name_cannot_be_taken_back_does_not_count() -> None:
    """An older one may go only when a newer one is durable."""
    files = SimFiles(Random(0))
    snapshots = member(files).snapshots
    before = files.list(f"{HOME}/member/snap")
    files.fail("sync_folder", "snap")
    files.fail("unlink", "snap")
    with pytest.raises(SnapshotFailed):
        snapshots.save(LATER, machine().freeze().chunks())
    assert len(files.list(f"{HOME}/member/snap")) == 2
    snapshots.purge(keep=1)
    assert set(before) <= set(files.list(f"{HOME}/member/snap"))


def test_a_second_copy_that_cannot_be_published_does_not_take_the_first_one_along() -> None:
    files = SimFiles(Random(0))
    opened = member(files)
    snapshots = opened.snapshots
    snapshots.save(LATER, machine().freeze().chunks())
    files.fail("sync_folder", "snap")
    with pytest.raises(SnapshotFailed):
        snapshots.save(LATER, machine().freeze().chunks())
    files.crash()
    newest = Snapshots(files, f"{HOME}/member/snap", opened.identity).newest()
    assert newest is not None
    assert newest[0] == LATER


@pytest.mark.parametrize("seed", SEEDS)
def test_a_peer_that_was_welcomed_is_known_after_a_power_cut(seed: int) -> None:
    files = SimFiles(Random(seed))
    member(files)
    files.stop()
    folder = DataFolder.open(files, HOME)
    with killed_at(files, f"{HOME}/member"):
        folder.pin(2, b"A" * 16)
    assert DataFolder.open(files, HOME).pin(2, b"A" * 16), "it is welcomed"
    files.crash()
    assert not DataFolder.open(files, HOME).pin(2, b"B" * 16), "it comes with an empty disk and was forgotten"


@pytest.mark.parametrize("wal_folder", ["", "/fast/deep/wal"])
@pytest.mark.parametrize("at", ["", "/srv", HOME, f"{HOME}/member", "/fast", "/fast/deep"])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_acknowledged_in_a_folder_survives_the_loss_of_its_first_start(
    seed: int, at: str, wal_folder: str
) -> None:
    """The first process is killed when it has made a folder and has not synced the one above it."""
    if at.startswith("/fast") and not wal_folder:
        return
    files = SimFiles(Random(seed))
    with killed_at(files, at):
        DataFolder.open(files, HOME, wal_folder=wal_folder)
    member(files, wal_folder).wal.append(HardState(2, 1, 2), [Entry(2, 2, 0, b"")])
    files.crash()
    folder = DataFolder.open(files, HOME, wal_folder=wal_folder)
    assert folder.identity is not None
    assert bootstrap.reopen(folder, 10, SMALL).entries == [Entry(2, 2, 0, b"")]


def test_a_first_text_file_that_could_not_be_published_leaves_no_name() -> None:
    files = SimFiles(Random(0))
    files.fail("sync_folder")
    with pytest.raises(OSError, match="EIO"):
        write_lines(files, "/text", ["line"])
    assert files.list("/") == []
    write_lines(files, "/text", ["line"])
    files.fail("sync_folder")
    with pytest.raises(OSError, match="EIO"):
        write_lines(files, "/text", ["another line"])
    assert read_lines(files, "/text") is not None, "one of the two must stay"
