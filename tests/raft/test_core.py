"""What the core owes its driver, message by message where a scenario file would say too little."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.raft.config import Config
from kvstore.raft.core import Raft
from kvstore.raft.errors import ProposalRefused
from kvstore.raft.types import (
    AppendRequest,
    AppendResponse,
    Change,
    ChangeKind,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    ProposeRefusal,
    ProposeRequest,
    ReadRequest,
    ReadResponse,
    Refusal,
    Role,
    SnapshotMeta,
    SnapshotRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)

from .cluster import Cluster

CONFIG = Config(election_ticks=10, heartbeat_ticks=1, stagger_ticks=2)
THREE = Configuration(voters=frozenset({1, 2, 3}))


def member(member_id: int = 1, **kwargs: object) -> Raft:
    return Raft(CONFIG, member_id, Random(member_id), configuration=THREE, **kwargs)  # type: ignore[arg-type]


def alone(config: Config = CONFIG) -> Raft:
    """The leader of a cluster of one, its first entry committed."""
    raft = Raft(config, 1, Random(1), configuration=Configuration(voters=frozenset({1})))
    raft.campaign()
    for _ in range(2):
        write = raft.take_write()
        assert write is not None
        raft.written(write)
    assert raft.commit == 1
    return raft


def cluster_led_by_1() -> Cluster:
    cluster = Cluster([1, 2, 3], config=CONFIG)
    cluster[1].campaign()
    cluster.settle()
    assert cluster[1].is_leader
    return cluster


# --- no message hurts -------------------------------------------------------------------------------------------

small = st.integers(-1, 6)
numbers = st.one_of(small, small, st.sampled_from([1 << 62, 1 << 64, -(1 << 63)]))
booleans = st.booleans()
payloads = st.binary(max_size=3)
kinds = st.integers(0, 2)
entries = st.lists(st.builds(Entry, numbers, numbers, kinds, payloads), max_size=3).map(tuple)


@st.composite
def likely_entries(draw: st.DrawFn) -> tuple[int, int, tuple[Entry, ...]]:
    """An append that a leader might have sent."""
    prev, prev_term = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    terms = sorted(draw(st.lists(st.integers(prev_term, 4), max_size=3)))
    made = [Entry(index, term, draw(kinds), b"+4") for index, term in enumerate(terms, prev + 1)]
    return prev, prev_term, tuple(made)


voters = st.frozensets(small, max_size=3)
metas = st.builds(SnapshotMeta, numbers, numbers, st.builds(Configuration, voters, voters, voters, voters))
here, senders = st.sampled_from([1, 1, 1, 9]), st.sampled_from([2, 3, 2, 3, 4, 0, 1])
head = (here, senders, numbers)
messages = st.one_of(
    st.builds(AppendRequest, *head, numbers, numbers, entries, numbers),
    st.builds(lambda t, s, n, e, c: AppendRequest(t, s, n, e[0], e[1], e[2], c), *head, likely_entries(), small),
    st.builds(AppendResponse, *head, numbers, booleans, numbers, numbers),
    st.builds(VoteRequest, *head, numbers, numbers, booleans, booleans),
    st.builds(VoteResponse, *head, booleans, booleans),
    st.builds(HeartbeatRequest, *head, numbers, numbers),
    st.builds(HeartbeatResponse, *head, numbers),
    st.builds(SnapshotRequest, *head, metas),
    st.builds(ProposeRequest, *head, small, small, kinds, st.lists(payloads, max_size=2).map(tuple)),
    st.builds(ProposeRefusal, *head, small, small, numbers),
    st.builds(ReadRequest, *head, numbers),
    st.builds(ReadResponse, *head, numbers, numbers),
    st.builds(TimeoutNow, *head),
)


@settings(max_examples=400)
@given(st.lists(st.one_of(messages, messages, st.sampled_from(["tick", "campaign", "drive", "propose"])), max_size=40))
def test_no_message_raises(steps: list[Message | str]) -> None:
    raft = member()
    for step in steps:
        if step == "tick":
            for _ in range(5):
                raft.tick()
        elif step == "campaign":
            raft.campaign()
        elif step == "propose":
            try:
                raft.propose([b"x"])
                raft.read_index(1)
                raft.transfer_leadership()
            except ProposalRefused as refused:
                assert refused.reason in Refusal  # noqa: PT017 - either is fine
        elif step == "drive":
            raft.take_messages()
            write = raft.take_write()
            if write is not None:
                raft.written(write)
            applicable = raft.next_entries()
            if applicable:
                raft.applied_to(applicable[-1].index)
            raft.take_reads()
        else:
            assert not isinstance(step, str)
            raft.step(step)
        assert raft.applied <= raft.commit <= raft.last_index


# --- promises ---------------------------------------------------------------------------------------------------


def test_an_entry_is_acknowledged_with_the_write_that_holds_it() -> None:
    raft = member(2)
    raft.step(AppendRequest(2, 1, 1, 0, 0, (Entry(1, 1, 0, b""),), 0))
    assert raft.take_messages() == []
    write = raft.take_write()
    assert write is not None
    assert write.hard_state == HardState(1, 0, 0)
    assert write.promises == (AppendResponse(1, 2, 1, 1, False, 0, 0),)
    raft.written(write)
    assert raft.take_messages() == []
    assert raft.take_write() is None


def test_what_is_durable_already_is_acknowledged_at_once() -> None:
    raft = member(2)
    append = AppendRequest(2, 1, 1, 0, 0, (Entry(1, 1, 0, b""),), 0)
    raft.step(append)
    write = raft.take_write()
    assert write is not None
    raft.step(append)  # again, while the write is under way
    assert raft.take_messages() == []
    raft.written(write)
    assert raft.take_messages() == [AppendResponse(1, 2, 1, 1, False, 0, 0)]
    raft.step(append)
    assert raft.take_messages() == [AppendResponse(1, 2, 1, 1, False, 0, 0)]


def test_heartbeats_are_answered_while_the_disk_is_busy() -> None:
    raft = member(2)
    raft.step(HeartbeatRequest(2, 1, 1, 0, 7))
    assert raft.take_messages() == [HeartbeatResponse(1, 2, 1, 7)]


def test_promises_of_an_old_term_are_dropped() -> None:
    raft = member(2)
    raft.step(AppendRequest(2, 1, 1, 0, 0, (Entry(1, 1, 0, b""),), 0))
    raft.step(AppendRequest(2, 3, 2, 0, 0, (Entry(1, 2, 0, b""),), 0))
    write = raft.take_write()
    assert write is not None
    assert write.promises == (AppendResponse(3, 2, 2, 1, False, 0, 0),)


def test_only_one_write_at_a_time() -> None:
    raft = member(1)
    raft.campaign()
    raft.step(VoteResponse(1, 2, 1, True, True))
    write = raft.take_write()
    assert write is not None
    with pytest.raises(AssertionError):
        raft.take_write()
    raft.written(write)
    with pytest.raises(AssertionError):
        raft.written(write)


def test_a_leader_counts_itself_only_up_to_what_was_written() -> None:
    raft = alone()
    raft.propose([b"a"])
    write = raft.take_write()
    raft.propose([b"b"])
    assert write is not None
    raft.written(write)
    assert (raft.last_index, raft.commit) == (3, 2)


def test_nobody_leads_before_its_own_vote_is_durable() -> None:
    raft = Raft(CONFIG, 1, Random(1), configuration=Configuration(voters=frozenset({1, 2, 3, 4, 5})))
    raft.campaign()
    for voter in (2, 3):
        raft.step(VoteResponse(1, voter, 1, True, True))
    assert raft.role is Role.CANDIDATE
    write = raft.take_write()
    for voter in (2, 3, 4):
        raft.step(VoteResponse(1, voter, 1, True, False))
    assert raft.term == 1
    assert not raft.is_leader
    assert write is not None
    raft.written(write)
    assert raft.is_leader


# --- elections --------------------------------------------------------------------------------------------------


def test_a_late_answer_to_an_earlier_prevote_does_not_count() -> None:
    raft = member(hard_state=HardState(4, 0, 0))
    raft.campaign()
    raft.step(VoteResponse(1, 2, 4, True, True))  # it was asked about term 4, we ask about 5
    assert raft.role is Role.PRE_CANDIDATE
    raft.step(VoteResponse(1, 2, 5, True, True))
    assert (raft.role, raft.term) == (Role.CANDIDATE, 5)


# --- restarts ---------------------------------------------------------------------------------------------------


def test_a_lagging_commit_is_made_good_by_the_last_change_but_one() -> None:
    """Otherwise a member might campaign with a configuration two changes old (core._known_committed)."""
    kinds = [EntryKind.COMMAND, EntryKind.CONFIGURATION, EntryKind.CONFIGURATION]
    log = [Entry(index, 1, int(kind), b"") for index, kind in enumerate(kinds, 1)]
    raft = member(1, hard_state=HardState(1, 0, 0), entries=log)
    assert raft.commit == 2
    raft.campaign()
    assert raft.take_messages() == []
    raft.apply_configuration([Change(ChangeKind.ADD_VOTER, 4)])
    raft.applied_to(2)
    raft.campaign()
    assert raft.role is Role.PRE_CANDIDATE


def test_a_damaged_log_is_no_reason_to_fail() -> None:
    raft = member(1, hard_state=HardState(3, 0, 9), entries=[Entry(1, 1, 0, b"")], promised=(3, 9))
    assert raft.commit == 1
    assert raft.lost_promise
    raft.campaign()
    assert raft.role is Role.FOLLOWER


def test_a_heartbeat_commits_nothing_that_this_leader_has_not_confirmed() -> None:
    """Before its crash this member acknowledged other entries at 1 and 2, which its disk has lost again."""
    stale = [Entry(1, 1, 0, b"old"), Entry(2, 1, 0, b"old")]
    raft = member(2, hard_state=HardState(2, 0, 0), entries=stale, promised=(2, 2))
    raft.step(HeartbeatRequest(2, 1, 2, 2, 0))
    assert raft.commit == 0
    refusal, answer = raft.take_messages()
    assert refusal == AppendResponse(1, 2, 2, 2, True, 2, 1)
    assert answer == HeartbeatResponse(1, 2, 2, 0)
    raft.step(AppendRequest(2, 1, 2, 0, 0, (Entry(1, 2, 0, b"new"), Entry(2, 2, 0, b"new")), 0))
    raft.step(HeartbeatRequest(2, 1, 2, 2, 0))
    assert raft.commit == 2


def test_a_snapshot_taken_here_does_not_take_the_place_of_a_later_one_that_came_in() -> None:
    """Its writing may take longer. A leader would offer it for ever to members that need what comes after it."""
    raft = member(entries=[Entry(1, 1, EntryKind.COMMAND, b"a")], hard_state=HardState(1, 0, 1))
    raft.applied_to(1)
    later = SnapshotMeta(9, 2, THREE)
    raft.step(SnapshotRequest(1, 2, 2, later))
    write = raft.take_write()
    assert write is not None
    raft.written(write)
    raft.snapshot_taken(SnapshotMeta(1, 1, THREE), 0)
    assert raft.snapshot == later


def test_no_snapshot_is_sent_into_the_void() -> None:
    cluster = cluster_led_by_1()
    cluster.cuts |= {(1, 3), (3, 1)}
    cluster[1].propose([b"a"])
    cluster.settle()
    cluster.pass_time(CONFIG.election_ticks)
    cluster.members[1].compact(0)
    cluster[1].member_unreachable(3)
    assert SnapshotRequest not in {type(message) for message in cluster[1].take_messages()}
    cluster.cuts.clear()
    cluster.pass_time(2)
    assert cluster[3].applied == cluster[1].applied


# --- proposals --------------------------------------------------------------------------------------------------


def test_a_follower_refuses_what_it_certainly_never_appended() -> None:
    cluster = cluster_led_by_1()
    cluster[2].step(ProposeRequest(2, 3, 1, 5, 1, 0, (b"x",)))
    assert ProposeRefusal(3, 2, 1, 5, 1, Refusal.NO_LEADER) in cluster[2].take_messages()


def test_one_that_led_or_may_lead_this_term_is_silent() -> None:
    raft = member(1, hard_state=HardState(4, 1, 0))  # it voted for itself: it may have led before it crashed
    raft.step(ProposeRequest(1, 3, 4, 5, 1, 0, (b"x",)))
    assert raft.take_messages() == []


def test_proposals_of_one_turn_share_an_append() -> None:
    cluster = cluster_led_by_1()
    leader = cluster[1]
    first = leader.propose([b"a", b"b"])
    second = leader.propose([b"c"])
    assert (first.index, second.index) == (2, 4)
    appends = [message for message in leader.take_messages() if isinstance(message, AppendRequest)]
    assert [len(append.entries) for append in appends] == [3, 3]
    assert appends[0].entries is appends[1].entries  # encoded once for all


# --- reads ------------------------------------------------------------------------------------------------------


def test_an_answer_to_an_earlier_life_is_not_taken_for_ours() -> None:
    cluster = cluster_led_by_1()
    cluster.read(2, 7)
    cluster.members[2].crash()
    cluster.members[2].disk.hard_state = HardState(1, 1, 1)
    cluster.members[2].start()
    cluster.settle()
    cluster.pass_time(1)
    assert 7 not in [read.context for read in cluster.members[2].reads]


def test_an_answer_to_an_earlier_round_does_not_confirm_this_one() -> None:
    cluster = cluster_led_by_1()
    leader = cluster[1]
    cluster.read(1, 7)
    cluster.settle()
    assert [read.context for read in cluster.members[1].reads] == [7]
    leader.read_index(8)
    leader.take_messages()
    leader.step(HeartbeatResponse(1, 2, 1, leader.round - 1))
    assert leader.take_reads() == []
    leader.step(HeartbeatResponse(1, 2, 1, leader.round))
    assert [read.context for read in leader.take_reads()] == [8]


def test_a_round_ends_when_nobody_is_left_to_answer() -> None:
    cluster = Cluster([1, 2], config=CONFIG)
    cluster[1].campaign()
    cluster.settle()
    cluster[1].propose_configuration(b"-2")
    cluster.deliver_where(lambda message: True)
    cluster.deliver_where(lambda message: True)
    assert cluster[1].configuration.is_joint
    cluster.read(1, 7)
    cluster.pump()
    cluster.deliver_where(lambda message: isinstance(message, AppendRequest))
    cluster.deliver_where(lambda message: isinstance(message, AppendResponse))
    assert not cluster[1].configuration.is_joint
    assert [read.context for read in cluster.members[1].reads] == [7]


def test_reads_are_limited() -> None:
    raft = alone(Config(max_reads=2))
    assert [raft.read_index(context) for context in range(3)] == [True, True, False]
    assert [read.context for read in raft.take_reads()] == [0, 1]


def test_a_member_without_leader_cannot_read() -> None:
    assert not member().read_index(1)


# --- changes ----------------------------------------------------------------------------------------------------


def test_who_is_removed_hears_of_it_even_when_commit_and_apply_share_a_turn() -> None:
    cluster = Cluster([1, 2], config=CONFIG)
    cluster[1].campaign()
    cluster.settle()
    leader = cluster[1]
    cluster.members[1].slow_disk = True
    leader.propose_configuration(b"-2")
    cluster.settle()
    cluster.members[1].sync()
    cluster.settle()
    assert leader.configuration.is_joint
    assert leader.outstanding is not None
    assert leader.log.durable == 2  # 2 holds the entry that leaves, our own write of it is under way
    leader.written(leader.outstanding)
    cluster.members[1].apply()
    assert leader.configuration == Configuration(voters=frozenset({1}))
    (news,) = leader.take_messages()
    assert news == AppendRequest(2, 1, 1, 3, 1, (), 3)


# --- speed of a replacement ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_killed_leader_is_replaced_within_150_ms(seed: int) -> None:
    """Ticks of 10 ms, the default timings, a network and disks that are fast."""
    cluster = Cluster([1, 2, 3], config=Config(), seed=seed)
    cluster[1].campaign()
    cluster.settle()
    cluster.members[1].crash()
    for follower in (2, 3):
        cluster[follower].leader_unreachable(1)
    cluster.pass_time(15)
    assert [cluster[follower].role for follower in (2, 3)].count(Role.LEADER) == 1


# --- configuration of the limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"election_ticks": 10, "heartbeat_ticks": 10},
        {"max_inflight": 0},
        {"max_entry_bytes": 100, "max_uncommitted_bytes": 100},
        {"planted": frozenset({"no-such-bug"})},
    ],
)
def test_limits_that_make_no_sense_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must|unknown"):
        Config(**settings)  # type: ignore[arg-type]
