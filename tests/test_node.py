"""The driver's one order: nothing is promised, applied or answered before it is durable."""

from __future__ import annotations

import pytest

from kvstore.membership import Membership
from kvstore.node import NodeOptions
from kvstore.proposals import Refused, TooManyRequests, Unavailable
from kvstore.raft.types import (
    AppendRequest,
    AppendResponse,
    Change,
    ChangeKind,
    Configuration,
    Entry,
    HeartbeatRequest,
    HeartbeatResponse,
    ProposeRequest,
    ReadRequest,
    ReadResponse,
    VoteRequest,
    VoteResponse,
)
from kvstore.store.events import Event
from kvstore.store.operations import Create, Expire, Set
from kvstore.wire import (
    MembershipChange,
    pack_change,
    pack_command,
    stamp,
    time_of,
    unpack_command,
)
from tests.node_bench import ME, SECOND, SECOND_NS, THIRD, Bench, entries_of


def test_alone_an_answer_waits_for_the_disk() -> None:
    bench = Bench(members=1)
    bench.settle_disk()
    outcomes = bench.propose()
    assert outcomes == []
    bench.settle_disk()
    (event,) = outcomes
    assert isinstance(event, Event)
    assert event.index == 1


def test_a_leader_sends_beside_its_own_write_and_counts_itself_after_it() -> None:
    bench = Bench()
    bench.lead()
    outcomes = bench.propose()
    assert len(entries_of(bench.wire.take(AppendRequest))) == 1  # while the disk still works
    assert len(bench.disk.writes) == 1
    bench.acknowledge()
    assert outcomes == []  # one of three holds it durably, and this one is not sure yet
    bench.settle_disk()
    assert len(outcomes) == 1


def test_what_comes_while_the_disk_is_busy_gathers_for_one_append_but_not_for_longer_than_a_tick() -> None:
    bench = Bench()
    bench.lead()
    bench.propose(b"/first")
    assert len(entries_of(bench.wire.take(AppendRequest))) == 1  # at once, to the one that is not probed
    for number in range(3):
        bench.propose(b"/k%d" % number)
    assert bench.wire.take(AppendRequest) == []
    bench.disk.finish()
    bench.flush()
    (gathered,) = bench.wire.take(AppendRequest)
    assert len(entries_of([gathered])) == 3
    bench.propose(b"/late")
    assert bench.wire.take(AppendRequest) == []
    bench.tick(1)
    assert len(entries_of(bench.wire.take(AppendRequest))) == 1
    assert len(bench.disk.writes) == 1


def test_what_a_follower_is_asked_gathers_for_one_forward_while_its_disk_is_busy() -> None:
    bench = Bench()
    bench.follow()
    (payload,) = stamp(5, [pack_command(9, Set(b"/a", b"v", False, None, False))])
    bench.receive(AppendRequest(ME, SECOND, 2, 1, 1, (Entry(2, 2, 0, payload),), 1))
    for number in range(3):
        bench.propose(b"/k%d" % number)
    assert bench.wire.take(ProposeRequest) == []
    bench.settle_disk()
    (forwarded,) = bench.wire.take(ProposeRequest)
    assert isinstance(forwarded, ProposeRequest)
    assert len(forwarded.payloads) == 3


def test_a_follower_acknowledges_only_what_is_durable() -> None:
    bench = Bench()
    bench.follow()
    (payload,) = stamp(5, [pack_command(9, Set(b"/a", b"v", False, None, False))])
    bench.receive(AppendRequest(ME, SECOND, 2, 1, 1, (Entry(2, 2, 0, payload),), 1))
    assert bench.wire.take(AppendResponse) == []
    bench.settle_disk()
    (answer,) = bench.wire.take(AppendResponse)
    assert isinstance(answer, AppendResponse)
    assert (answer.index, answer.rejected) == (2, False)


def test_a_vote_is_given_only_when_it_is_durable() -> None:
    bench = Bench()
    bench.receive(VoteRequest(ME, THIRD, 5, 1, 1, False, False))
    assert bench.wire.take(VoteResponse) == []
    write = bench.disk.finish()
    assert write.hard_state is not None
    assert (write.hard_state.term, write.hard_state.vote) == (5, THIRD)
    bench.flush()
    assert [answer.granted for answer in bench.wire.take(VoteResponse) if isinstance(answer, VoteResponse)] == [True]


def test_writes_that_come_while_the_disk_works_share_the_next_one() -> None:
    bench = Bench(members=1)
    bench.settle_disk()
    first = bench.propose()
    rest = [bench.propose(b"/k%d" % number) for number in range(50)]
    assert len(bench.disk.writes) == 1
    bench.disk.finish()
    bench.flush()
    assert len(first) == 1
    assert len(bench.disk.writes) == 1
    write = bench.disk.finish()
    assert len(write.entries) == 50
    bench.flush()
    assert all(len(outcomes) == 1 for outcomes in rest)


def test_a_proposal_that_a_later_term_overtook_is_proposed_again_and_applied_once() -> None:
    bench = Bench()
    bench.lead()
    outcomes = bench.propose()
    bench.settle_disk()
    lost = bench.node.raft.last_index
    bench.receive(AppendRequest(ME, THIRD, 9, lost - 1, bench.node.raft.term, (Entry(lost, 9, 0, b""),), lost))
    bench.settle_disk()
    assert outcomes == []
    (again,) = bench.wire.take(ProposeRequest)
    assert isinstance(again, ProposeRequest)
    assert (again.to, again.term) == (THIRD, 9)
    payload = stamp(7, again.payloads)[0]
    bench.receive(AppendRequest(ME, THIRD, 9, lost, 9, (Entry(lost + 1, 9, 0, payload),), lost + 1))
    bench.settle_disk()
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], Event)


def test_without_a_leader_a_proposal_waits_and_then_its_outcome_is_not_known() -> None:
    bench = Bench(options=NodeOptions(request_ticks=30))
    outcomes = bench.propose()
    bench.tick(29)
    assert outcomes == []
    bench.tick(1)
    assert isinstance(outcomes[0], Unavailable)


def test_a_command_over_the_limit_is_refused_at_once() -> None:
    bench = Bench(members=1, options=NodeOptions(max_command_bytes=10))
    (refusal,) = bench.propose(b"/much/too/long/for/that")
    assert isinstance(refusal, Refused)


def test_the_leader_stamps_what_a_follower_forwards_with_its_own_time() -> None:
    bench = Bench()
    bench.lead()
    command = pack_command(5, Create(b"/a", b"", False, 3))
    bench.receive(ProposeRequest(ME, SECOND, bench.node.raft.term, 1, 1, 0, (command,)))
    entry = entries_of(bench.wire.take(AppendRequest))[-1]
    assert unpack_command(entry.payload) == (bench.time, 5, Create(b"/a", b"", False, 3))


def test_replicated_time_goes_on_where_a_leader_with_a_faster_clock_left_it() -> None:
    bench = Bench()
    bench.follow()
    ahead = bench.time + 3600 * SECOND_NS
    (payload,) = stamp(ahead, [pack_command(9, Set(b"/a", b"v", False, 10, False))])
    bench.receive(AppendRequest(ME, SECOND, 2, 1, 1, (Entry(2, 2, 0, payload),), 2))
    bench.settle_disk()
    bench.tick(300)
    bench.lead()
    bench.pass_time(5)
    bench.propose(b"/b")
    entry = entries_of(bench.wire.take(AppendRequest))[-1]
    assert time_of(entry.payload) == ahead + 5 * SECOND_NS  # no key gets younger, and none waits an hour longer


def test_replicated_time_does_not_go_back_before_what_is_not_applied_yet() -> None:
    bench = Bench()
    bench.follow()
    ahead = bench.time + 3600 * SECOND_NS
    (payload,) = stamp(ahead, [pack_command(9, Set(b"/a", b"v", False, 10, False))])
    bench.receive(AppendRequest(ME, SECOND, 2, 1, 1, (Entry(2, 2, 0, payload), Entry(3, 2, 0, b"")), 1))
    bench.settle_disk()
    bench.tick(300)
    bench.win()
    bench.propose(b"/b")
    raft = bench.node.raft
    assert raft.applied == 1
    (entry,) = raft.log.slice(raft.last_index, raft.last_index, 1)
    assert time_of(entry.payload) == ahead


def test_the_leader_sweeps_what_has_expired_and_only_then() -> None:
    bench = Bench(members=1, options=NodeOptions(sweep_ticks=5))
    bench.settle_disk()
    bench.node.propose(Set(b"/a", b"v", False, 2, False), lambda outcome: None)
    bench.flush()
    bench.settle_disk()
    bench.tick(10)
    assert bench.disk.writes == []
    bench.pass_time(2)
    bench.tick(5)
    (write, _) = bench.disk.writes[0]
    assert isinstance(unpack_command(write.entries[-1].payload).command, Expire)
    bench.settle_disk()
    assert bench.node.machine.store.index == 2


def test_reads_on_the_leader_share_a_round_and_wait_for_a_quorum() -> None:
    bench = Bench()
    bench.lead()
    served: list[object] = []
    for _ in range(10):
        bench.node.read(served.append)
    bench.flush()
    rounds = {beat.round for beat in bench.wire.take(HeartbeatRequest) if isinstance(beat, HeartbeatRequest)}
    assert len(rounds) == 1
    assert served == []
    bench.receive(HeartbeatResponse(ME, SECOND, bench.node.raft.term, rounds.pop()))
    assert served == [None] * 10


def test_a_followers_read_waits_until_it_has_applied_what_the_leader_says() -> None:
    bench = Bench()
    bench.follow()
    served: list[object] = []
    bench.node.read(served.append)
    bench.flush()
    (asked,) = bench.wire.take(ReadRequest)
    assert isinstance(asked, ReadRequest)
    bench.receive(ReadResponse(ME, SECOND, 2, asked.context, 2))
    assert served == []
    (payload,) = stamp(5, [pack_command(9, Set(b"/a", b"v", False, None, False))])
    bench.receive(AppendRequest(ME, SECOND, 2, 1, 1, (Entry(2, 2, 0, payload),), 2))
    assert served == []
    bench.settle_disk()
    assert served == [None]


def test_a_read_that_gets_no_answer_is_asked_again_and_gives_up_in_time() -> None:
    bench = Bench(options=NodeOptions(request_ticks=90, read_retry_ticks=20))
    bench.follow()
    served: list[object] = []
    bench.node.read(served.append)
    bench.tick(60)
    assert len(bench.wire.take(ReadRequest)) == 3
    bench.tick(30)
    assert [type(outcome) for outcome in served] == [Unavailable]


def test_an_answer_that_takes_longer_than_the_next_asking_is_not_wasted() -> None:
    """Or reads would never come through where the leader is slow to reach."""
    bench = Bench(options=NodeOptions(read_retry_ticks=20))
    bench.follow()
    served: list[object] = []
    bench.node.read(served.append)
    bench.flush()
    (asked,) = bench.wire.take(ReadRequest)
    assert isinstance(asked, ReadRequest)
    bench.tick(20)
    bench.node.read(served.append)
    bench.flush()
    bench.receive(ReadResponse(ME, SECOND, 2, asked.context, 1))
    assert served == [None]  # the second was asked later: it needs an answer of its own
    (_, later) = bench.wire.take(ReadRequest)
    assert isinstance(later, ReadRequest)
    bench.receive(ReadResponse(ME, SECOND, 2, later.context, 1))
    assert served == [None, None]


def test_when_idle_the_disk_is_told_once_that_all_is_durable() -> None:
    bench = Bench(members=1)
    bench.settle_disk()
    bench.tick(10)
    assert bench.disk.settled == 1
    bench.propose()
    bench.tick(10)
    assert bench.disk.settled == 1  # the write is not done
    bench.settle_disk()
    bench.tick(10)
    assert bench.disk.settled == 2


def test_a_snapshot_is_taken_after_so_many_entries_and_the_log_is_cut() -> None:
    bench = Bench(members=1, options=NodeOptions(snapshot_count=10, keep_entries=3, compact_entries=8))
    bench.settle_disk()
    for number in range(30):
        bench.propose(b"/k%d" % number)
        bench.settle_disk()
    assert [meta.index for meta in bench.disk.saved] == [11, 21, 31]
    starts = []
    for _ in range(5):
        bench.tick(1)
        starts.append(bench.node.raft.log.start_index)
    assert starts == [9, 17, 25, 28, 28]  # not all at once


def test_a_snapshot_is_taken_after_so_many_bytes_too() -> None:
    bench = Bench(members=1, options=NodeOptions(snapshot_bytes=1000, keep_entries=3))
    bench.settle_disk()
    for number in range(8):
        bench.node.propose(Set(b"/k%d" % number, b"v" * 300, False, None, False), lambda outcome: None)
        bench.flush()
        bench.settle_disk()
    assert 2 <= len(bench.disk.saved) <= 3


@pytest.mark.parametrize(("keep_bytes", "is_kept"), [(1 << 20, True), (1000, False)])
def test_a_follower_that_lives_keeps_what_it_needs_within_bytes(keep_bytes: int, is_kept: bool) -> None:
    bench = Bench(options=NodeOptions(snapshot_count=10, keep_entries=1, keep_bytes=keep_bytes))
    bench.lead()
    behind = bench.node.raft.last_index
    bench.receive(AppendResponse(ME, THIRD, bench.node.raft.term, behind, False, 0, 0))
    for number in range(40):
        bench.propose(b"/k%d" % number)
        bench.settle_disk()
        bench.acknowledge()
    assert len(bench.disk.saved) == 4
    bench.tick(1)
    assert (bench.node.raft.log.start_index <= behind) == is_kept


def test_whoever_waits_when_the_member_stops_is_told() -> None:
    bench = Bench()
    bench.follow()
    outcomes = bench.propose()
    served: list[object] = []
    bench.node.read(served.append)
    bench.flush()
    bench.node.abandon()
    assert isinstance(outcomes[0], Unavailable)
    assert isinstance(served[0], Unavailable)


@pytest.mark.parametrize("lost", [SECOND, THIRD])
def test_only_the_leaders_broken_connection_makes_a_follower_ask_for_votes(lost: int) -> None:
    bench = Bench()
    bench.follow()
    bench.node.connection_lost(lost)
    bench.tick(20)
    assert bool(bench.wire.take(VoteRequest)) == (lost == SECOND)


def removal(member: int) -> MembershipChange:
    return MembershipChange(0, (Change(ChangeKind.REMOVE, member),), member, "", ())


def test_a_removed_follower_goes_on_while_the_joint_configuration_needs_its_vote() -> None:
    bench = Bench(members=2)
    bench.follow()
    bench.receive(AppendRequest(ME, SECOND, 2, 1, 1, (Entry(2, 2, 1, pack_change(removal(ME))),), 2))
    bench.settle_disk()
    assert ME in bench.node.machine.membership.removed
    assert not bench.node.removed
    bench.receive(AppendRequest(ME, SECOND, 2, 2, 2, (Entry(3, 2, 1, b""),), 3))
    bench.settle_disk()
    assert bench.node.removed


def test_a_removed_member_that_alone_knows_it_goes_on() -> None:
    """Those that remain may have to elect it, or one another with its vote, to find it out."""
    bench = Bench(members=2)
    bench.lead()
    bench.node.propose_change(removal(ME), lambda outcome: None)
    bench.flush()
    for _ in range(2):
        bench.settle_disk()
        bench.acknowledge()
    assert ME not in bench.node.raft.members
    bench.tick(250)  # it hears from nobody
    assert not bench.node.raft.is_leader
    assert not bench.node.removed
    term, last = bench.node.raft.term + 1, bench.node.raft.last_index
    begin = Entry(last + 1, term, 0, b"")
    bench.receive(AppendRequest(ME, SECOND, term, last, bench.node.raft.log.last_term, (begin,), 0))
    bench.settle_disk()
    assert not bench.node.removed  # whoever leads now knows it only when that is committed
    bench.receive(AppendRequest(ME, SECOND, term, last + 1, term, (), last + 1))
    bench.settle_disk()
    assert bench.node.removed


def test_a_leader_that_is_removed_leads_until_those_that_remain_know_it() -> None:
    bench = Bench(members=2)
    bench.lead()
    bench.node.propose_change(removal(ME), lambda outcome: None)
    bench.flush()
    for _ in range(2):  # the change, and the end of the joint configuration
        bench.settle_disk()
        assert not bench.node.removed
        bench.acknowledge()
    assert ME not in bench.node.raft.configuration.members
    bench.settle_disk()
    assert not bench.node.removed
    bench.acknowledge()
    assert bench.node.removed


def test_disk_and_other_members_do_not_wait_until_all_is_applied() -> None:
    bench = Bench(members=3)
    bench.lead()
    seen: list[tuple[bool, int]] = []  # whether the next write has begun, and how many flushes there were
    flushes: list[int] = []

    def note(outcome: object) -> None:
        seen.append((bench.node.raft.outstanding is not None, len(flushes)))

    bench.wire.flush = lambda: flushes.append(1)  # type: ignore[method-assign]
    bench.node.propose(Set(b"/a", b"1", False, None, False), note)
    bench.flush()
    bench.settle_disk()
    held = bench.node.raft.last_index
    bench.node.propose(Set(b"/b", b"2", False, None, False), lambda outcome: None)
    flushes.clear()
    bench.receive(AppendResponse(ME, SECOND, bench.node.raft.term, held, False, 0, 0))
    assert seen == [(True, 1)], "when /a is applied, the write of /b is under way and messages have left"


def test_who_goes_is_told_before_the_network_forgets_it() -> None:
    bench = Bench(members=3)
    bench.lead()
    bench.node.propose_change(removal(THIRD), lambda outcome: None)
    bench.flush()
    bench.settle_disk()
    bench.receive(AppendResponse(ME, THIRD, bench.node.raft.term, bench.node.raft.last_index, False, 0, 0))
    seen: list[tuple[bool, bool]] = []  # whether the third is a member of the configuration, and was told of the end
    changed = bench.wire.members_changed

    def members_changed(membership: Membership, configuration: Configuration) -> None:
        told = [message for message in bench.wire.sent if message.to == THIRD and isinstance(message, AppendRequest)]
        seen.append((THIRD in configuration.members, bool(told) and told[-1].commit == bench.node.raft.commit))
        changed(membership, configuration)

    bench.wire.members_changed = members_changed  # type: ignore[method-assign]
    bench.settle_disk()
    bench.receive(AppendResponse(ME, THIRD, bench.node.raft.term, bench.node.raft.last_index, False, 0, 0))
    bench.acknowledge()
    assert seen == [(False, True)]


def test_reads_beyond_the_limit_are_refused_and_not_queued() -> None:
    bench = Bench(options=NodeOptions(max_proposals=2))
    outcomes: list[Unavailable | None] = []
    for _ in range(3):
        bench.node.read(outcomes.append)
    assert [type(outcome) for outcome in outcomes] == [TooManyRequests]


def test_as_many_keys_expire_as_are_written() -> None:
    bench = Bench(1)
    bench.settle_disk()
    written = 0
    for tick in range(1_200):  # 12 seconds
        if tick < 1_000:
            for _ in range(50):  # 5,000 a second
                written += 1
                bench.node.propose(Set(b"/short/%d" % written, b"", False, 1, False), lambda outcome: None)
        bench.pass_time(0.01)
        bench.node.tick()
        bench.flush()
        bench.settle_disk()
        if tick % 100 == 99:
            held = len(bench.node.machine.store.get(b"/short", True, False, bench.time).nodes or ())
            assert held <= 9_000, "those of one second, and of the half second until the next sweep"
    assert held == 0


def test_what_expires_at_one_moment_goes_in_pieces_and_other_writes_pass_between_them() -> None:
    bench = Bench(1)
    bench.settle_disk()
    for number in range(10_000):
        bench.node.machine.apply(Set(b"/all/%d" % number, b"", False, 1, False), bench.time)
    bench.pass_time(2)
    while not bench.disk.writes:
        bench.tick(1)
    pieces = 0
    while bench.node.machine.store.counts.expired < 10_000:
        outcomes = bench.propose()
        before = bench.node.machine.store.counts.expired
        while not outcomes:
            bench.disk.finish()
            bench.flush()
        assert bench.node.machine.store.counts.expired - before <= 2_000
        pieces += 1
        assert pieces <= 10
