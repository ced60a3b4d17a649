"""Entries that a bug cannot apply: named with the way out, found offline, skipped on purpose and never by mistake."""

from __future__ import annotations

from random import Random

import pytest

from kvstore.apply import StateMachine
from kvstore.membership import Membership
from kvstore.poison import ApplyFailed, CannotSkip, check_skips, rehearse
from kvstore.raft.types import Entry
from kvstore.settings import SettingsError, parse_entries
from kvstore.storage.errors import DamagedFile
from kvstore.storage.skipped import read_skipped, skipped_file, write_skipped
from kvstore.store import store as store_module
from kvstore.store.operations import Create, Delete, Operation, Set
from kvstore.store.store import Store
from kvstore.wire import pack_command, stamp
from tests.node_bench import Bench
from tests.sim.disk import SimFiles


def entry(index: int, operation: Operation, term: int = 1) -> Entry:
    (payload,) = stamp(5, [pack_command(index, operation)])
    return Entry(index, term, 0, payload)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(store: Store, operation: Delete, now: int) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setitem(store_module._APPLIERS, Delete, broken)


@pytest.mark.usefixtures("planted")
def test_a_rehearsal_names_the_first_entry_that_cannot_be_applied() -> None:
    entries = [
        entry(2, Set(b"/a", b"1", False, None, False)),
        entry(3, Create(b"/a", b"2", False, None)),  # refused: an answer, and no bug
        entry(4, Delete(b"/a", False, False), term=7),
        entry(5, Set(b"/a", b"3", False, None, False)),
    ]
    machine = StateMachine(Store(10), Membership([]))
    with pytest.raises(ApplyFailed, match=r"entry 4 of term 7 .*planted.*--skip-entry 4:7, on ALL members"):
        rehearse(machine, entries, ())
    machine = StateMachine(Store(10), Membership([]))
    rehearse(machine, entries, {(4, 7)})
    assert machine.store.get(b"/a", False, False, 5).value == b"3"


@pytest.mark.usefixtures("planted")
def test_a_member_names_the_entry_that_stops_it() -> None:
    bench = Bench(1)
    bench.settle_disk()
    bench.node.propose(Delete(b"/a", False, False), lambda outcome: None)
    bench.flush()
    index, term = bench.node.raft.last_index, bench.node.raft.term
    with pytest.raises(ApplyFailed, match=f"--skip-entry {index}:{term}"):
        bench.settle_disk()


def test_what_was_applied_for_good_or_is_another_entry_cannot_be_skipped() -> None:
    entries = [entry(11, Delete(b"/a", False, False), term=2)]
    check_skips([(11, 2), (50, 9)], 10, entries)
    with pytest.raises(CannotSkip, match="the snapshot of this member, at 10, is past that entry"):
        check_skips([(10, 2)], 10, entries)
    with pytest.raises(CannotSkip, match="entry 11 of this log is of term 2"):
        check_skips([(11, 3)], 10, entries)


def test_skipped_entries_are_remembered_in_a_checked_file() -> None:
    files = SimFiles(Random(1))
    files.make_folder("/home/member")
    assert read_skipped(files, "/home") == frozenset()
    write_skipped(files, "/home", {(11, 2), (5, 1)})
    files.crash()
    assert read_skipped(files, "/home") == {(11, 2), (5, 1)}
    file = files.open(skipped_file("/home"), write=True)
    file.pwrite(b"X", 3)
    file.close()
    with pytest.raises(DamagedFile):
        read_skipped(files, "/home")


def test_the_flag_names_entries_by_index_and_term() -> None:
    assert parse_entries("--skip-entry", "4711:3, 12:1") == ((4711, 3), (12, 1))
    for text in ("", "4711", "4711:", ":3", "a:b", "1:2:3", "-1:2", "1:2,"):
        with pytest.raises(SettingsError, match=r"--skip-entry: .* must have the form INDEX:TERM"):
            parse_entries("--skip-entry", text)
