"""Snapshots that fail are tried again and reported, and writes are refused before the log fills everything."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kvstore.compaction import FIRST_RETRY_TICKS, LAST_RETRY_TICKS
from kvstore.node import NodeOptions
from kvstore.proposals import Outcome, TooManyRequests, WritesRefused
from kvstore.raft.types import ProposeRefusal, ProposeRequest, Refusal
from kvstore.store.events import Event
from kvstore.store.operations import Expire, Set
from kvstore.wire import Announce, Command, Publish, UpdateMember, pack_command
from tests.node_bench import ME, SECOND, Bench

OPTIONS = NodeOptions(snapshot_bytes=1_000, max_log_bytes=4_000, keep_entries=2)


def alone() -> Bench:
    bench = Bench(1, OPTIONS)
    bench.settle_disk()
    bench.disk.save_problem = "no space"
    return bench


def put(bench: Bench, number: int, ttl: int | None = None) -> list[Outcome]:
    outcomes: list[Outcome] = []
    bench.node.propose(Set(b"/%d" % number, bytes(100), False, ttl, False), outcomes.append)
    bench.flush()
    bench.settle_disk()
    return outcomes


def fill(bench: Bench) -> None:
    for number in range(100):
        put(bench, number)
        bench.tick(1)


def test_a_snapshot_that_fails_is_tried_again_after_longer_and_longer_times() -> None:
    bench = alone()
    for number in range(10):
        put(bench, number)
    attempts = []
    for tick in range(4 * LAST_RETRY_TICKS):
        before = len(bench.disk.saved)
        bench.tick(1)
        attempts += [tick] * (len(bench.disk.saved) - before)
    gaps = [after - before for before, after in pairwise(attempts)]
    assert gaps[0] == 2 * FIRST_RETRY_TICKS
    assert gaps[-1] == LAST_RETRY_TICKS
    assert len(attempts) < 12, "also the log line is as rare"
    assert bench.node.snapshots.failures == len(attempts) + 1
    assert bench.node.snapshots.failing == "no space"


def test_writes_are_refused_while_no_snapshot_succeeds_and_accepted_after_one() -> None:
    bench = alone()
    fill(bench)
    status = bench.node.snapshots
    assert "more than --max-log-bytes 4000: no space" in status.refusing
    assert 4_000 < status.log_bytes < 4_500, "it grows no further"
    (refusal,) = put(bench, 1)
    assert isinstance(refusal, TooManyRequests), "an answer that says: not done, come again"
    assert "--max-log-bytes" in refusal.message
    bench.disk.save_problem = ""
    bench.tick(LAST_RETRY_TICKS)
    status = bench.node.snapshots
    assert (status.refusing, status.failing) == ("", "")
    assert status.last == bench.time
    assert status.log_bytes < 1_000
    assert isinstance(put(bench, 1)[0], Event)


def test_what_makes_room_is_not_refused() -> None:
    bench = alone()
    put(bench, 1_000, ttl=1)
    fill(bench)
    bench.pass_time(2)
    while not bench.disk.writes:
        bench.tick(1)
    bench.settle_disk()
    assert bench.node.machine.store.counts.expired == 1
    assert isinstance(put(bench, 1)[0], TooManyRequests)


def refusing_leader() -> Bench:
    bench = Bench(options=OPTIONS)
    bench.lead()
    bench.disk.save_problem = "no space"
    while not bench.node.snapshots.refusing:
        bench.propose()
        bench.acknowledge()
        bench.settle_disk()
        bench.acknowledge()
        bench.tick(1)
    bench.wire.sent.clear()
    return bench


@pytest.mark.parametrize(
    "command",
    [
        Expire(),
        Publish(SECOND, "n2", ()),
        UpdateMember(SECOND, ("http://b:1",)),
        Announce(SECOND, "n2", (), b"i" * 16, "0.2.0", 2),
    ],
)
def test_a_leader_that_refuses_writes_appends_what_members_need_among_themselves(command: Command) -> None:
    bench = refusing_leader()
    last = bench.node.raft.last_index
    bench.receive(ProposeRequest(ME, SECOND, bench.node.raft.term, 5, 1, 0, (pack_command(7, command),)))
    assert bench.wire.take(ProposeRefusal) == []
    assert bench.node.raft.last_index == last + 1


def test_what_was_refused_is_not_appended_when_the_message_is_repeated() -> None:
    bench = refusing_leader()
    command = pack_command(7, Set(b"/a", b"v", False, None, False))
    request = ProposeRequest(ME, SECOND, bench.node.raft.term, 5, 1, 0, (command,))
    bench.receive(request)
    bench.disk.save_problem = ""
    while bench.node.snapshots.refusing:
        bench.tick(1)
        bench.acknowledge()
    last = bench.node.raft.last_index
    bench.receive(request)
    assert bench.node.raft.last_index == last
    bench.receive(request._replace(sequence=2))
    assert bench.node.raft.last_index == last + 1


def test_what_a_member_needs_goes_by_itself_when_it_was_refused_beside_a_client_s_write() -> None:
    asker = Bench()
    asker.follow()
    outcomes: list[Outcome] = []
    asker.node.propose(Set(b"/a", b"v", False, None, False), outcomes.append)
    asker.node.propose(Publish(ME, "n1", ()), outcomes.append)
    asker.flush()
    for expected in (2, 1):
        (request,) = asker.wire.take(ProposeRequest)
        assert isinstance(request, ProposeRequest)
        assert len(request.payloads) == expected
        refusal = ProposeRefusal(ME, SECOND, 2, request.session, request.sequence, Refusal.WRITES_REFUSED)
        asker.receive(refusal)
        asker.flush()
    assert asker.wire.take(ProposeRequest) == [], "a leader of the release before refuses it too"
    assert [type(outcome) for outcome in outcomes] == [WritesRefused, WritesRefused]


def test_a_leader_refuses_what_is_forwarded_and_the_asker_hears_it_immediately() -> None:
    bench = refusing_leader()
    last = bench.node.raft.last_index
    command = pack_command(7, Set(b"/a", b"v", False, None, False))
    bench.receive(ProposeRequest(ME, SECOND, bench.node.raft.term, 5, 1, 0, (command,)))
    (refusal,) = bench.wire.take(ProposeRefusal)
    assert isinstance(refusal, ProposeRefusal)
    assert refusal.reason == Refusal.WRITES_REFUSED
    assert bench.node.raft.last_index == last

    asker = Bench()
    asker.follow()
    outcomes = asker.propose()
    (request,) = asker.wire.take(ProposeRequest)
    assert isinstance(request, ProposeRequest)
    asker.receive(ProposeRefusal(ME, SECOND, 2, request.session, request.sequence, refusal.reason))
    (outcome,) = outcomes
    assert isinstance(outcome, TooManyRequests)
    assert "the leader cannot save a snapshot" in outcome.message


def test_a_snapshot_from_the_leader_counts_as_one() -> None:
    """Also for the bytes of log since then, or writes would be refused for what is not there any more."""
    bench = alone()
    fill(bench)
    raft = bench.node.raft
    raft.log.restart_after(raft.snapshot._replace(index=raft.last_index + 50))  # type: ignore[union-attr]
    bench.node._compaction.installed(raft.last_index)
    bench.tick(1)
    assert bench.node.snapshots.log_bytes == 0
    assert bench.node.snapshots.refusing == ""


def test_few_bytes_are_kept_where_no_follower_needs_them() -> None:
    for spare_bytes, kept in ((1_000, range(5, 8)), (100_000, range(20, 21))):
        bench = Bench(1, NodeOptions(snapshot_count=50, keep_entries=20, spare_bytes=spare_bytes))
        bench.settle_disk()
        for number in range(55):
            put(bench, number)
            bench.tick(1)
        (meta,) = bench.disk.saved
        assert meta.index - bench.node.raft.log.start_index in kept
