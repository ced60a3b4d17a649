"""The level of a cluster: when it rises, what it changes in the state, and what must be on the disk before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from random import Random
from typing import TypeVar

import pytest

from kvstore import bootstrap
from kvstore.apply import StateMachine
from kvstore.disk import NodeDisk
from kvstore.lanes import Lanes
from kvstore.levels import HIGHEST_LEVEL, layout_of
from kvstore.membership import AnotherDisk, Member, Membership
from kvstore.node import FOUNDING_ELECTIONS, NodeOptions
from kvstore.raft.types import (
    AppendRequest,
    AppendResponse,
    Change,
    ChangeKind,
    Entry,
    EntryKind,
    HardState,
    ProposeRefusal,
    ProposeRequest,
    Refusal,
    Write,
)
from kvstore.raising import NOTHING, Decision, Raising, held_back_by
from kvstore.storage.folder import DataFolder, identity_file
from kvstore.storage.layout import Birth
from kvstore.storage.records import SECTOR
from kvstore.storage.segment import Staged
from kvstore.store.errors import KeyNotFound
from kvstore.store.events import Event
from kvstore.store.operations import Expire, Set, Update
from kvstore.store.store import Store
from kvstore.wire import (
    Announce,
    Command,
    CreateRole,
    MembershipChange,
    Publish,
    SetLevel,
    pack_command,
    stamp,
    unpack_command,
)
from tests.node_bench import ME, SECOND, THIRD, Bench, entries_of
from tests.sim.disk import SimCrash, SimFiles

T = TypeVar("T")
NOW = 1_800_000_000 * 10**9
PATH = "/d"
SEGMENT = 1 << 16


# --- when -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({2: 2, 3: 2}, Decision(2, False)),
        ({2: 2, 3: 1}, NOTHING),
        ({2: 2}, NOTHING),  # one is not connected
        ({}, NOTHING),
        ({2: 9, 3: 9}, Decision(2, False)),  # not beyond what this member knows
    ],
)
def test_the_level_rises_when_every_member_takes_part(known: dict[int, int], expected: Decision) -> None:
    assert Raising(2, 10).decide(1, 0, 1, (2, 3), known, is_new=False) == expected


def test_it_never_falls_and_is_appended_once_in_a_term() -> None:
    raising = Raising(2, 10)
    assert raising.decide(1, 0, 2, (2,), {2: 1}, is_new=False) == NOTHING
    assert raising.decide(1, 0, 1, (2,), {2: 2}, is_new=False).level == 2
    raising.appended(2)
    assert raising.decide(1, 1, 1, (2,), {2: 2}, is_new=False) == NOTHING
    assert raising.decide(2, 2, 1, (2,), {2: 2}, is_new=False).level == 2, "it was lost with the term"


def test_a_member_can_hold_it_back() -> None:
    assert Raising(1, 10).decide(1, 0, 1, (2,), {2: 2}, is_new=False) == NOTHING
    assert held_back_by(1, (1, 2, 3), {1: 2, 2: 1}) == [2, 3]


def test_a_new_cluster_waits_for_its_founders_but_not_for_long() -> None:
    raising = Raising(2, 10)
    assert raising.decide(1, 100, 1, (2, 3), {2: 2}, is_new=True) == Decision(0, True)
    assert raising.decide(1, 109, 1, (2, 3), {2: 2}, is_new=True) == Decision(0, True)
    assert raising.decide(1, 110, 1, (2, 3), {2: 2}, is_new=True) == Decision(2, False)
    assert Raising(2, 10).decide(1, 0, 1, (2, 3), {2: 2, 3: 1}, is_new=True) == NOTHING, "all are met"


def test_a_founder_that_was_met_counts_also_when_it_is_away() -> None:
    raising = Raising(2, 10)
    raising.meet({3: 1})
    assert raising.decide(1, 0, 1, (2, 3), {2: 2}, is_new=True) == Decision(0, True)
    assert raising.decide(1, 10, 1, (2, 3), {2: 2}, is_new=True) == NOTHING
    raising.meet({2: 2, 3: 2})
    assert raising.decide(1, 11, 1, (2, 3), {2: 2}, is_new=True) == Decision(2, False), "it was replaced meanwhile"
    raising = Raising(2, 10)
    raising.meet({4: 1})
    assert raising.decide(1, 10, 1, (2, 3), {2: 2}, is_new=True) == Decision(0, True)
    assert raising.decide(1, 20, 1, (2, 3), {2: 2}, is_new=True) == Decision(2, False), "4 is no member any more"


# --- the driver -----------------------------------------------------------------------------------------------------


def founders() -> Bench:
    bench = Bench(level=1)
    bench.lead()
    return bench


def commands(bench: Bench) -> list[object]:
    sent = {entry.index: entry for entry in entries_of(bench.wire.sent) if entry.kind == 0 and entry.payload}
    return [unpack_command(entry.payload).command for entry in sent.values()]


def test_the_first_command_of_a_new_cluster_is_its_level() -> None:
    bench = founders()
    bench.tick(1)
    outcomes = bench.propose()
    assert commands(bench) == [], "it has not met the others yet"
    bench.wire.known = {SECOND: 2, THIRD: 2}
    bench.tick(1)
    assert commands(bench) == [SetLevel(2), Set(b"/a", b"v", False, None, False)]
    bench.settle_disk()
    bench.acknowledge()
    (event,) = outcomes
    assert isinstance(event, Event)
    assert event.index == 2
    assert (bench.node.machine.level, bench.node.machine.store.index) == (2, 2)


def test_what_clients_asked_before_the_election_comes_after_the_level() -> None:
    """The leader may be elected and flushed many times before its next tick."""
    bench = Bench(level=1)
    outcomes = bench.propose()
    bench.lead()
    assert commands(bench) == [], "not before it has decided about the level"
    request = ProposeRequest(
        ME,
        SECOND,
        bench.node.raft.term,
        9,
        1,
        EntryKind.COMMAND,
        (pack_command(1, Set(b"/b", b"v", False, None, False)),),
    )
    bench.receive(request)
    (refusal,) = bench.wire.take(ProposeRefusal)
    assert isinstance(refusal, ProposeRefusal)
    assert refusal.reason == Refusal.TRANSFERRING
    bench.wire.known = {SECOND: 2, THIRD: 2}
    bench.tick(1)
    bench.settle_disk()
    bench.acknowledge()
    assert commands(bench) == [SetLevel(2), Set(b"/a", b"v", False, None, False)]
    (event,) = outcomes
    assert isinstance(event, Event)
    assert event.index == 2


def test_they_wait_while_the_entry_that_opens_the_term_is_not_applied() -> None:
    bench = Bench(level=1)
    bench.win()
    bench.wire.known = {SECOND: 2, THIRD: 2}
    bench.propose()
    bench.tick(3)
    bench.settle_disk()
    assert commands(bench) == []
    bench.acknowledge()
    bench.tick(1)
    bench.settle_disk()
    assert [type(one) for one in commands(bench)] == [SetLevel, Set]


@pytest.mark.parametrize("command", [SetLevel(2), Publish(SECOND, "n2", ())])
def test_a_command_of_an_earlier_leader_that_is_not_applied_precedes_all_others(command: Command) -> None:
    """So they need not wait for it: neither for the level, nor in a cluster that was not founded now."""
    bench = Bench(level=1)
    bench.follow()
    (payload,) = stamp(NOW, [pack_command(7, command)])
    bench.receive(AppendRequest(ME, SECOND, 2, 1, 1, (Entry(2, 2, 0, payload),), 1))
    bench.settle_disk()
    bench.win()
    bench.propose()
    log = bench.node.raft.log
    assert bench.node.machine.time == 0, "it is not applied yet"
    payloads = [entry.payload for entry in log.slice(2, log.last_index, 1 << 20) if entry.payload]
    assert [type(unpack_command(one).command) for one in payloads] == [type(command), Set]


def test_a_command_that_is_on_its_way_ends_the_founding() -> None:
    """A founder that goes away afterwards makes no one wait."""
    bench = founders()
    bench.wire.known = {SECOND: 2, THIRD: 1}
    bench.tick(1)
    bench.propose()
    bench.settle_disk()
    bench.wire.known = {SECOND: 2}
    bench.tick(1)
    bench.propose(b"/b")
    bench.settle_disk()
    assert [type(one) for one in commands(bench)] == [Set, Set]


def test_a_founder_of_the_release_before_is_not_left_out_while_it_is_away() -> None:
    """The leader met it before it was elected."""
    bench = Bench(level=1)
    bench.wire.known = {SECOND: 2, THIRD: 1}
    bench.tick(1)
    bench.wire.known = {SECOND: 2}
    bench.lead()
    bench.propose()
    bench.tick(1)
    assert commands(bench) == [], "it may come back with this release"
    for _ in range(FOUNDING_ELECTIONS * bench.node.raft.config.election_ticks):
        bench.acknowledge()
        bench.tick(1)
    bench.settle_disk()
    assert commands(bench) == [Set(b"/a", b"v", False, None, False)]


def test_what_others_forward_waits_with_it() -> None:
    bench = founders()
    bench.tick(1)
    payload = pack_command(1, Set(b"/b", b"v", False, None, False))
    request = ProposeRequest(ME, SECOND, bench.node.raft.term, 9, 1, EntryKind.COMMAND, (payload,))
    bench.receive(request)
    (refusal,) = bench.wire.take(ProposeRefusal)
    assert isinstance(refusal, ProposeRefusal)
    assert refusal.reason == Refusal.TRANSFERRING
    bench.wire.known = {SECOND: 2, THIRD: 2}
    bench.tick(1)
    bench.receive(request)
    assert bench.wire.take(ProposeRefusal) == []
    assert [type(one) for one in commands(bench)] == [SetLevel], "a repeated message is none that may be appended"
    bench.receive(request._replace(sequence=2))
    bench.settle_disk()
    assert [type(one) for one in commands(bench)] == [SetLevel, Set]


def test_a_cluster_with_a_founder_of_the_release_before_stays_at_level_1() -> None:
    bench = founders()
    bench.wire.known = {SECOND: 2, THIRD: 1}
    bench.tick(1)
    bench.propose()
    assert commands(bench) == [Set(b"/a", b"v", False, None, False)]
    bench.settle_disk()
    bench.acknowledge()
    assert (bench.node.machine.level, bench.node.machine.store.index) == (1, 1)
    bench.wire.known = {SECOND: 2, THIRD: 2}
    bench.wire.sent.clear()
    bench.tick(1)
    assert commands(bench) == [SetLevel(2)], "it was replaced by this release"
    bench.settle_disk()
    bench.acknowledge()
    assert (bench.node.machine.level, bench.node.machine.store.index) == (2, 1), "its index goes on"


def test_the_removal_of_the_member_that_holds_the_level_back_releases_it() -> None:
    bench = founders()
    bench.wire.known = {SECOND: 2, THIRD: 1}
    bench.tick(1)
    bench.propose()
    bench.settle_disk()
    bench.acknowledge()
    bench.node.propose_change(MembershipChange(0, (Change(ChangeKind.REMOVE, THIRD),), THIRD, "", ()), lambda _: None)
    for _ in range(4):  # into the joint configuration and out of it
        bench.flush()
        bench.settle_disk()
        bench.acknowledge()
        bench.receive(AppendResponse(ME, THIRD, bench.node.raft.term, bench.node.raft.last_index, False, 0, 0))
    assert THIRD not in bench.node.raft.configuration.members
    bench.wire.sent.clear()
    bench.tick(1)
    bench.settle_disk()
    bench.acknowledge()
    assert bench.node.machine.level == 2


def test_a_member_that_holds_the_level_back_does_not_raise_it() -> None:
    bench = Bench(options=NodeOptions(highest_level=1), level=1)
    bench.lead()
    bench.wire.known = {SECOND: 2, THIRD: 2}
    bench.tick(1)
    bench.propose()
    assert commands(bench) == [Set(b"/a", b"v", False, None, False)]


# --- the state --------------------------------------------------------------------------------------------------------


def state(level: int = 1) -> StateMachine:
    return StateMachine(Store(100), Membership([Member(1, "n1", ("http://a:1",))], level=level))


def test_the_layout_of_a_snapshot_is_that_of_the_level() -> None:
    """So a member of the release before can be sent one as long as it may be one of the cluster."""
    machine = state()
    machine.apply(Set(b"/a", b"v", False, None, False), NOW)
    first = list(machine.freeze().chunks())
    assert layout_of(first[0]) == 1
    assert StateMachine.restore(first, 100).level == 1
    machine.apply(SetLevel(2), NOW)
    machine.apply(Announce(1, "n1", ("http://c:1",), b"i" * 16, "0.2.0", 2), NOW)
    second = list(machine.freeze().chunks())
    assert layout_of(second[0]) == 2
    restored = StateMachine.restore(second, 100)
    assert restored.level == 2
    assert restored.membership.members == machine.membership.members
    assert list(restored.freeze().chunks()) == second


def test_the_first_disk_that_a_member_announces_is_its_disk() -> None:
    machine = state(level=2)
    announced = Announce(1, "n1", ("http://c:1",), b"i" * 16, "0.2.0", 2)
    machine.apply(announced, NOW)
    with pytest.raises(AnotherDisk):
        machine.apply(announced._replace(incarnation=b"j" * 16), NOW)
    machine.apply(announced._replace(version="0.3.0", client_urls=()), NOW)
    machine.apply(Publish(1, "n1", ("http://d:1",)), NOW)
    member = machine.membership.members[1]
    assert (member.incarnation, member.version, member.client_urls) == (b"i" * 16, "0.3.0", ("http://d:1",))


@pytest.mark.parametrize("writes", [0, 1, 5])
def test_a_cluster_that_is_founded_at_index_1_can_be_watched_from_its_beginning(writes: int) -> None:
    machine = bootstrap.new_machine(Store(100), Membership([Member(1, "n1", ())]))
    assert (machine.level, machine.store.index) == (HIGHEST_LEVEL, 1)
    for number in range(writes):
        machine.apply(Set(b"/%d" % number, b"v", False, None, False), NOW)
    restored = StateMachine.restore(machine.freeze().chunks(), 100)
    for store in (machine.store, restored.store):
        assert store.index == writes + 1
        events: list[Event | None] = []
        for since in (1, 2):
            store.watch(b"/", True, False, since, events.append)
        store.apply(Set(b"/last", b"v", False, None, False), NOW)
        assert [event.index for event in events if event] == [2, 2]


REFUSED = Update(b"/missing", b"v", None, False)


@pytest.mark.parametrize("first", [Publish(1, "n1", ()), Expire(), REFUSED, CreateRole(b"r", None, None)])
def test_what_an_empty_store_of_level_1_shows_is_the_index_before_its_first_write(first: Command) -> None:
    """The release before applies the same commands, so the first write takes index 1, whatever is shown."""
    machine = state()
    assert machine.store.shown_index == 1, "its founding is expected to take the index"
    if first == REFUSED:
        with pytest.raises(KeyNotFound) as refused:
            machine.apply(first, NOW)
        assert refused.value.index == 0
    else:
        machine.apply(first, NOW)
    for store in (machine.store, StateMachine.restore(machine.freeze().chunks(), 100).store):
        assert store.shown_index == 0
        with pytest.raises(KeyNotFound) as missing:
            store.get(b"/a", False, False, NOW)
        assert missing.value.index == 0
        events: list[Event | None] = []
        store.watch(b"/", True, False, store.shown_index + 1, events.append)
        store.apply(Set(b"/a", b"v", False, None, False), NOW)
        assert [event.index for event in events if event] == [1]


def test_a_store_that_shows_0_shows_1_once_it_is_founded() -> None:
    machine = state()
    machine.apply(Publish(1, "n1", ()), NOW)
    events: list[Event | None] = []
    machine.store.watch(b"/", True, False, 1, events.append)
    machine.apply(SetLevel(2), NOW)
    assert machine.store.shown_index == 1
    machine.apply(Set(b"/a", b"v", False, None, False), NOW)
    assert [event.index for event in events if event] == [2]


def test_a_member_that_holds_the_level_back_shows_what_level_1_shows() -> None:
    bench = Bench(options=NodeOptions(highest_level=1), level=1)
    assert bench.node.machine.store.shown_index == 0


def test_a_member_that_met_one_of_the_release_before_expects_no_founding() -> None:
    bench = Bench(level=1)
    assert bench.node.machine.store.shown_index == 1
    bench.wire.known = {SECOND: 2}
    bench.tick(1)
    assert bench.node.machine.store.shown_index == 1
    bench.wire.known = {SECOND: 2, THIRD: 1}
    bench.tick(1)
    assert bench.node.machine.store.shown_index == 0


def test_several_founders_begin_as_the_release_before_does() -> None:
    members = [Member(1, "n1", ("http://a:1",)), Member(2, "n2", ("http://b:1",))]
    machine = bootstrap.new_machine(Store(100), Membership(members))
    assert (machine.level, machine.store.index) == (1, 0)
    assert layout_of(next(machine.freeze().chunks())) == 1


# --- on the disk --------------------------------------------------------------------------------------------------


(RAISE,) = stamp(NOW, [pack_command(7, SetLevel(2))])
(PLAIN,) = stamp(NOW, [pack_command(8, Set(b"/a", b"v", False, None, False))])


class Now(Lanes):
    """Does each job immediately."""

    def log(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        done(job())

    def bulk(self, job: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        done(job())

    def commit(self, staged: Staged, done: Callable[[float], None]) -> None:
        done(staged.write())


def begun(files: SimFiles) -> tuple[DataFolder, bootstrap.Opened]:
    folder = DataFolder.open(files, PATH)
    members = [Member(1, "n1", ("http://a:1",)), Member(2, "n2", ("http://b:1",))]
    machine = bootstrap.new_machine(Store(100), Membership(members))
    return folder, bootstrap.create_member(files, folder, "n1", machine, b"i" * 16, SEGMENT)


def write(opened: bootstrap.Opened, payloads: Sequence[bytes], acknowledged: list[int]) -> None:
    """Writes entries after index 1, as the driver does, and notes what is durable."""
    disk = NodeDisk(opened.wal, opened.snapshots, Now(), 100, 0, 0)
    for payload in payloads:
        entry = Entry(opened.wal.last_index + 1, 1, 0, payload)
        disk.write(Write(HardState(1, 0, 1), (entry,), None, ()), partial(acknowledged.append, entry.index))


def formats(files: SimFiles) -> tuple[str, list[int]]:
    identity = files.content(identity_file(PATH)).decode().partition("\n")[0]
    folder = f"{PATH}/member/wal"
    segments = [name for name in sorted(files.list(folder)) if name.endswith(".wal")]
    return identity[-1], [
        Birth.unpack("", bytes(files.content(f"{folder}/{name}")[:SECTOR])).format for name in segments
    ]


def test_the_folder_says_so_before_the_first_entry_of_the_level_is_acknowledged() -> None:
    files = SimFiles(Random(0))
    _, opened = begun(files)
    acknowledged: list[int] = []
    write(opened, [PLAIN], acknowledged)
    assert formats(files) == ("1", [1]), "until then the release before can go on with it"
    write(opened, [RAISE, PLAIN], acknowledged)
    assert formats(files) == ("2", [1, 2])
    assert acknowledged == [2, 3, 4]


def test_a_cluster_of_one_has_the_format_from_the_beginning() -> None:
    files = SimFiles(Random(0))
    folder = DataFolder.open(files, PATH)
    machine = bootstrap.new_machine(Store(100), Membership([Member(1, "n1", ("http://a:1",))]))
    bootstrap.create_member(files, folder, "n1", machine, b"i" * 16, SEGMENT)
    assert formats(files) == ("2", [2])


def test_a_crash_at_each_step_leaves_no_entry_of_the_level_to_the_release_before() -> None:
    """And this release opens the folder, with all that was acknowledged, and goes on."""
    for step in count(1):
        files = SimFiles(Random(step))
        folder, opened = begun(files)
        acknowledged: list[int] = []
        write(opened, [PLAIN], acknowledged)
        files.crash_in(step)
        try:
            write(opened, [RAISE, PLAIN], acknowledged)
        except SimCrash:
            files.crash()
        else:
            break
        identity, segments = formats(files)
        folder = DataFolder.open(files, PATH)
        found = bootstrap.reopen(folder, 100, SEGMENT)
        indices = [entry.index for entry in found.entries]
        assert indices[: len(acknowledged)] == acknowledged
        if any(entry.payload == RAISE for entry in found.entries):
            assert (identity, segments[-1]) == ("2", 2)
        assert identity == "2" or 2 not in segments, "a reader of the folder looks there first"
        write(found, [RAISE], acknowledged)
        assert formats(files)[0] == "2"
        assert formats(files)[1][-1] == 2
        folder.close()
    assert step > 8, "there were steps to crash at"


def test_an_entry_of_the_level_is_durable_with_the_format_whatever_is_applied() -> None:
    bench = Bench(level=1)
    bench.follow()
    bench.receive(AppendRequest(ME, SECOND, 2, 1, 1, (Entry(2, 2, 0, RAISE),), 2))
    bench.settle_disk()
    assert bench.node.machine.level == 2
