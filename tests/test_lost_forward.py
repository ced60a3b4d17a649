"""What was forwarded over a connection that broke: sent again when it is back, and applied once."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from kvstore.raft.types import AppendRequest, Entry, EntryKind, HeartbeatRequest, ProposeRequest
from tests.node_bench import ME, SECOND, THIRD, Bench, entries_of


def forwarded(bench: Bench) -> list[ProposeRequest]:
    return [cast(ProposeRequest, message) for message in bench.wire.take(ProposeRequest)]


def breaks(bench: Bench) -> None:
    """The connection to the leader ends; the leader lives, and its next heartbeat shows it."""
    bench.node.connection_lost(SECOND)
    bench.flush()


def beats(bench: Bench, term: int = 2, leader: int = SECOND) -> None:
    bench.receive(HeartbeatRequest(ME, leader, term, 1, 0))
    bench.settle_disk()


def test_what_was_lost_with_its_connection_is_sent_again_once_the_leader_is_back() -> None:
    bench = Bench()
    bench.follow()
    outcomes = [bench.propose(b"/a"), bench.propose(b"/b")]
    first = forwarded(bench)
    assert len(first) == 2
    breaks(bench)
    bench.node.connected(SECOND)
    bench.flush()
    assert forwarded(bench) == []  # no leader is known yet
    outcomes.append(bench.propose(b"/c"))
    beats(bench)
    again = forwarded(bench)
    assert again[:2] == first  # same sequences, the oldest first, before what is new
    assert [message.sequence for message in again] == [1, 2, 3]
    beats(bench)
    assert forwarded(bench) == []  # once for each connection
    payloads = [payload for message in again for payload in message.payloads]
    entries = tuple(Entry(2 + at, 2, EntryKind.COMMAND, bytes(8) + payload) for at, payload in enumerate(payloads))
    bench.receive(AppendRequest(ME, SECOND, 2, 1, 1, entries, 4))
    bench.settle_disk()
    assert [len(one) for one in outcomes] == [1, 1, 1]
    breaks(bench)
    bench.node.connected(SECOND)
    beats(bench)
    assert forwarded(bench) == []  # all are settled


def test_what_was_not_sent_yet_does_not_overtake_what_is_sent_again() -> None:
    bench = Bench()
    bench.follow()
    bench.propose(b"/a")
    forwarded(bench)
    bench.node.connected(SECOND)
    bench.propose(b"/b")  # the same turn in which the connection is back
    assert [message.sequence for message in forwarded(bench)] == [1, 2]


def test_another_leader_gets_nothing_of_an_earlier_term() -> None:
    bench = Bench()
    bench.follow()
    bench.propose(b"/a")
    forwarded(bench)
    bench.node.connected(THIRD)
    beats(bench, term=3, leader=THIRD)
    assert forwarded(bench) == []  # the log decides what became of it


@given(st.lists(st.sampled_from(["propose", "lose", "arrive", "break"]), max_size=30), st.booleans())
def test_the_leader_takes_each_once_whatever_is_lost_and_repeated(steps: list[str], late: bool) -> None:
    """A leader and a follower that are real, and a connection that ends with some of what it carried."""
    leader, follower = Bench(), Bench()
    leader.lead()
    term = leader.node.raft.term
    follower.receive(HeartbeatRequest(ME, SECOND, term, 1, 0))
    follower.settle_disk()
    under_way: list[ProposeRequest] = []
    old: list[ProposeRequest] = []
    proposed = 0

    def arrive(message: ProposeRequest) -> None:
        leader.receive(message._replace(to=ME, sender=SECOND))

    def mend() -> None:
        nonlocal under_way
        old.extend(under_way)
        follower.node.connection_lost(SECOND)
        follower.flush()
        forwarded(follower)
        follower.node.connected(SECOND)
        follower.receive(HeartbeatRequest(ME, SECOND, term, 1, 0))
        follower.settle_disk()
        under_way = forwarded(follower)

    for step in steps:
        if step == "propose":
            follower.propose(b"/%d" % proposed)
            proposed += 1
            under_way += forwarded(follower)
        elif step == "arrive" and under_way:
            arrive(under_way.pop(0))
        elif step == "lose":
            under_way, lost = [], under_way  # with the connection, which is noticed later
            old.extend(lost[: len(lost) if late else 0])
            mend()
        elif step == "break":
            mend()
    mend()
    for message in under_way:
        arrive(message)
    for message in old:
        arrive(message)  # bytes of a connection that was given up
    leader.settle_disk()
    leader.acknowledge()
    log = leader.node.raft.log
    appended = [
        entry.payload[8:]
        for entry in log.slice(2, log.last_index, 1 << 30)
        if entry.kind == EntryKind.COMMAND and entry.payload
    ]
    assert len(appended) == len(set(appended)) == proposed
    assert entries_of(follower.wire.sent) == []
