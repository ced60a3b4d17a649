"""Which level bytes are of, and what becomes of those that only a later version knows."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from kvstore import bootstrap, wire
from kvstore.apply import StateMachine
from kvstore.bootstrap import StartError
from kvstore.levels import (
    HIGHEST_LEVEL,
    LATER_LEVEL,
    announced_disks,
    check_known,
    is_understood,
    level_of,
    level_of_entry,
)
from kvstore.membership import Member, Membership
from kvstore.proposals import UnknownToLeader
from kvstore.raft.types import AppendRequest, Entry, EntryKind, ProposeRefusal, ProposeRequest, Refusal
from kvstore.storage.check import check
from kvstore.storage.errors import LaterRecord
from kvstore.storage.folder import DataFolder
from kvstore.storage.segment import _framed
from kvstore.store.operations import Delete, Set
from kvstore.store.store import Store
from kvstore.wire import Announce, Command, Guarded, LaterVersion, Publish, SetLevel, pack_command, stamp
from tests.node_bench import ME, SECOND, Bench
from tests.sim.disk import SimFiles

PATH = "/d"
SEGMENT = 1 << 16


def payload_of(command: Command) -> bytes:
    (payload,) = stamp(5, [pack_command(7, command)])
    return payload


#: Entries that no version up to this one can apply.
LATER_ENTRIES = {
    "a command": Entry(2, 1, 0, b"\0" * 8 + wire.pack((99, 1, b"/a"))),
    "a command with a long tag": Entry(2, 1, 0, b"\0" * 8 + wire.pack((300, 1, b"/a"))),
    "a command with many fields": Entry(2, 1, 0, b"\0" * 8 + wire.pack((99, *range(20)))),
    "a guarded command": Entry(2, 1, 0, b"\0" * 8 + wire.pack((wire.GUARDED, 1, 5, False, 99, (b"/a",)))),
    "a level": Entry(2, 1, 0, payload_of(SetLevel(HIGHEST_LEVEL + 1))),
    "a change": Entry(2, 1, 1, wire.pack((1, ((0, 1),), 1, "n", (), "more"))),
    "a kind of entry": Entry(2, 1, 2, b"whatever"),
}


@pytest.mark.parametrize(
    ("command", "level"),
    [
        (Set(b"/a", b"v", False, None, False), 1),
        (Delete(b"/a", False, False), 1),
        (Publish(1, "n", ("http://a:1",)), 1),
        (Guarded(1, False, Delete(b"/a", False, False)), 1),
        (SetLevel(2), 2),
        (SetLevel(300), 300),
        (Announce(1, "n", ("http://a:1",), b"i" * 16, "0.2.0", 2), 2),
    ],
)
def test_a_command_is_of_the_level_that_it_came_with(command: Command, level: int) -> None:
    assert level_of(payload_of(command)) == level
    assert level_of(pack_command(7, command), 0) == level


@pytest.mark.parametrize("entry", LATER_ENTRIES.values(), ids=LATER_ENTRIES)
def test_an_entry_of_a_later_version_is_recognized(entry: Entry) -> None:
    assert level_of_entry(entry) >= LATER_LEVEL
    with pytest.raises(LaterVersion, match="entry 2 of the log was written by a later version of kvstored; start that"):
        check_known([Entry(1, 1, 0, b""), entry])


def test_what_is_of_this_version_is_known_and_not_to_the_version_before() -> None:
    entries = [Entry(1, 1, 0, b""), Entry(2, 1, 0, payload_of(SetLevel(2)))]
    check_known(entries)
    with pytest.raises(LaterVersion, match="entry 2"):
        check_known(entries, known=1)


def test_a_message_is_understood_by_the_version_that_knows_all_in_it() -> None:
    append = AppendRequest(2, 1, 1, 0, 0, (Entry(1, 1, 0, payload_of(SetLevel(2))),), 0)
    proposal = ProposeRequest(2, 1, 1, 1, 1, EntryKind.COMMAND, (pack_command(1, Announce(1, "", (), b"", "", 2)),))
    for message in (append, proposal):
        assert not is_understood(message, 1)
        assert is_understood(message, 2)
    assert is_understood(append._replace(entries=()), 1)
    assert is_understood(proposal._replace(payloads=(pack_command(1, Delete(b"/a", False, False)),)), 1)


# --- on the disk --------------------------------------------------------------------------------------------------


def folder_with(entries: Sequence[Entry], level: int = 1) -> SimFiles:
    """A stopped member's folder whose log ends with these entries."""
    files = SimFiles(Random(0))
    folder = DataFolder.open(files, PATH)
    machine = StateMachine(Store(100), Membership([Member(1, "n1", ("http://a:1",))]))
    opened = bootstrap.create_member(files, folder, "n1", machine, b"i" * 16, SEGMENT)
    opened.wal.append(None, entries)
    opened.wal.close()
    folder.close()
    return files


@pytest.mark.parametrize("entry", LATER_ENTRIES.values(), ids=LATER_ENTRIES)
def test_a_log_of_a_later_version_is_refused_before_anything_is_applied(entry: Entry) -> None:
    files = folder_with([entry])
    folder = DataFolder.open(files, PATH)
    with pytest.raises(StartError, match="entry 2 of the log was written by a later version of kvstored; start that"):
        bootstrap.reopen(folder, 100, SEGMENT)
    folder.close()
    (line,) = check(PATH, files=files).damage
    assert "entry 2 of the log was written by a later version of kvstored; start that one" in line


def test_a_record_of_a_later_version_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.storage.segment._framed", lambda batch, chain=0: _framed([(9, b"new")], chain))
    files = folder_with([Entry(2, 1, 0, b"")])
    monkeypatch.undo()
    folder = DataFolder.open(files, PATH)
    with pytest.raises(LaterRecord, match="of the kind 9 was written by a later version of kvstored; start that one"):
        bootstrap.reopen(folder, 100, SEGMENT)
    folder.close()
    (line,) = check(PATH, files=files).damage
    assert "a record of the kind 9 was written by a later version of kvstored" in line


def test_a_snapshot_of_a_later_version_is_named_as_such() -> None:
    files = folder_with([])
    folder = DataFolder.open(files, PATH)
    newest = folder.open_snapshots().newest()
    assert newest is not None
    folder.open_snapshots().save(newest[0], [wire.pack((HIGHEST_LEVEL + 1, "whatever"))])
    with pytest.raises(StartError, match="layout 3 was written by a later version of kvstored; start that one"):
        bootstrap.reopen(folder, 100, SEGMENT)
    folder.close()
    (line,) = check(PATH, files=files).damage
    assert "a snapshot of layout 3 was written by a later version of kvstored; start that one" in line


# --- between members ----------------------------------------------------------------------------------------------


def test_a_committed_entry_of_a_later_version_stops_with_its_name() -> None:
    bench = Bench()
    bench.follow()
    entry = LATER_ENTRIES["a command"]._replace(term=2)
    bench.node.receive(AppendRequest(ME, SECOND, 2, 1, 1, (entry,), 2))
    bench.flush()
    bench.disk.finish()
    with pytest.raises(LaterVersion, match="entry 2 of the log was written by a later version"):
        bench.node.flush()


def refuse(bench: Bench) -> int:
    """Refuses the proposal that was just forwarded, as a leader of an earlier version does; how many it held."""
    (proposal,) = bench.wire.take(ProposeRequest)
    assert isinstance(proposal, ProposeRequest)
    bench.node.receive(ProposeRefusal(ME, SECOND, proposal.term, proposal.session, proposal.sequence, Refusal.UNKNOWN))
    bench.flush()
    return len(proposal.payloads)


def test_a_leader_that_does_not_know_one_command_refuses_that_one_alone() -> None:
    bench = Bench()
    bench.follow()
    outcomes: list[object] = []
    for number in range(3):
        bench.node.propose(Set(b"/%d" % number, b"v", False, None, False), outcomes.append)
    bench.flush()
    assert refuse(bench) == 3, "they were one batch"
    bench.flush()  # they go out with the next turn
    sent = bench.wire.take(ProposeRequest)
    assert [len(one.payloads) for one in sent if isinstance(one, ProposeRequest)] == [1, 1, 1]
    assert outcomes == []
    second = sent[1]
    assert isinstance(second, ProposeRequest)
    bench.node.receive(ProposeRefusal(ME, SECOND, second.term, second.session, second.sequence, Refusal.UNKNOWN))
    bench.flush()
    (outcome,) = outcomes
    assert isinstance(outcome, UnknownToLeader)
    assert bench.node.proposals_pending == 2


def test_an_unknown_proposal_is_refused_and_the_next_one_is_taken() -> None:
    bench = Bench()
    bench.lead()
    (payload,) = [pack_command(1, Set(b"/a", b"v", False, None, False))]
    unknown = ProposeRequest(ME, SECOND, bench.node.raft.term, 9, 1, wire.UNKNOWN_KIND, (b"whatever",))
    before = bench.node.raft.last_index
    bench.node.receive(unknown)
    bench.node.flush()
    (refusal,) = bench.wire.take(ProposeRefusal)
    assert isinstance(refusal, ProposeRefusal)
    assert (refusal.sequence, refusal.reason) == (1, Refusal.UNKNOWN)
    assert bench.node.raft.last_index == before
    bench.node.receive(unknown._replace(sequence=2, kind=EntryKind.COMMAND, payloads=(payload,)))
    bench.node.flush()
    assert bench.node.raft.last_index == before + 1


def test_the_disk_that_a_member_announced_first_is_found_in_the_log() -> None:
    first, later = bytes(16), b"\xff" * 16
    commands: list[Command] = [
        Set(b"/C", b"C", False, None, False),
        Announce(7, "n7", (), first, "0.2.0", 2),
        Announce(7, "n7", (), later, "0.2.0", 2),
        Announce(8, "n8", (), later, "0.2.0", 2),
    ]
    payloads = stamp(1, [pack_command(request, command) for request, command in enumerate(commands)])
    entries = [Entry(index, 1, int(EntryKind.COMMAND), payload) for index, payload in enumerate(payloads, 1)]
    assert announced_disks([Entry(9, 1, int(EntryKind.COMMAND), b""), *entries]) == {7: first, 8: later}
