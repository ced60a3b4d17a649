"""Snapshots between members: whole and in order over a network that loses, repeats and reorders."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from kvstore.raft.types import Configuration, SnapshotMeta, SnapshotRequest
from kvstore.streams import (
    FIRST_BACKOFF_TICKS,
    LAST_BACKOFF_TICKS,
    MAX_RETRIES,
    RETRY_TICKS,
    SnapshotReceiver,
    SnapshotSender,
)
from kvstore.wire import PeerMessage, SnapshotAck, SnapshotChunk

META = SnapshotMeta(10, 2, Configuration())
LEADER, FOLLOWER = 1, 2


class Folder:
    """A disk with one snapshot file, which may refuse to read or write."""

    def __init__(self, held: bytes = b"") -> None:
        self.held = held
        self.written = bytearray()
        self.problem = ""
        self.damage = ""  # what is wrong with the file
        self.verified = 0

    def read_piece(
        self,
        meta: SnapshotMeta,
        offset: int,
        limit: int,
        done: Callable[[bytes, int], None],
        failed: Callable[[str], None],
    ) -> None:
        if self.problem:
            failed(self.problem)
        else:
            done(self.held[offset : offset + limit], len(self.held))

    def verify_snapshot(self, meta: SnapshotMeta, done: Callable[[str], None]) -> None:
        self.verified += 1
        done(self.damage)

    def write_piece(self, chunk: SnapshotChunk, done: Callable[[], None], failed: Callable[[str], None]) -> None:
        if self.problem:
            failed(self.problem)
            return
        if chunk.offset == 0:
            self.written.clear()
        assert chunk.offset == len(self.written), "a gap"
        self.written += chunk.data
        done()


class Pair:
    """A leader that streams to a follower; `wire` holds what is on its way."""

    def __init__(self, held: bytes) -> None:
        self.wire: list[PeerMessage] = []
        self.leader_disk, self.follower_disk = Folder(held), Folder()
        self.ended: list[tuple[int, bool]] = []
        self.received: list[SnapshotRequest] = []
        self.wanted: list[bool] = []  # asked for another snapshot
        send = self.wire.append
        self.sender = SnapshotSender(
            LEADER,
            self.leader_disk,
            send,
            lambda *end: self.ended.append(end),
            lambda: self.wanted.append(True),
            chunk_bytes=10,
        )
        self.receiver = SnapshotReceiver(FOLLOWER, self.follower_disk, send, self.received.append)

    def start(self, term: int = 3) -> None:
        self.sender.start(SnapshotRequest(FOLLOWER, LEADER, term, META))

    def pass_ticks(self, ticks: int) -> None:
        for _ in range(ticks):
            self.sender.tick()

    def fail_once(self, term: int = 3) -> int:
        """A whole attempt at a follower that refuses; the ticks until the failure is reported."""
        reported = len(self.ended)
        self.start(term)
        self.run()
        for ticks in range(LAST_BACKOFF_TICKS + 1):
            if len(self.ended) > reported:
                return ticks
            assert not self.wire, "nothing is sent meanwhile"
            self.start(term)  # raft may ask again
            self.sender.tick()
        raise AssertionError("it never ended")

    def deliver(self, message: PeerMessage) -> None:
        if isinstance(message, SnapshotChunk):
            self.receiver.receive(message)
        else:
            assert isinstance(message, SnapshotAck)
            self.sender.acknowledged(message)

    def run(self) -> None:
        while self.wire:
            self.deliver(self.wire.pop(0))


@pytest.mark.parametrize("size", [1, 9, 10, 11, 100, 105])
def test_all_bytes_arrive_and_both_sides_are_told(size: int) -> None:
    pair = Pair(bytes(range(size)))
    pair.start()
    pair.run()
    assert pair.follower_disk.written == bytes(range(size))
    assert pair.received == [SnapshotRequest(FOLLOWER, LEADER, 3, META)]
    assert pair.ended == [(FOLLOWER, True)]


@pytest.mark.parametrize("seed", range(20))
def test_a_bad_network_changes_nothing_but_the_time(seed: int) -> None:
    random = Random(seed)
    pair = Pair(random.randbytes(95))
    pair.start()
    for _ in range(100 * RETRY_TICKS):
        if pair.ended:
            break
        pair.sender.tick()
        if pair.wire and random.random() < 0.8:
            message = pair.wire.pop(random.randrange(len(pair.wire)))
            if random.random() < 0.8:  # else it is lost
                pair.deliver(message)
            if random.random() < 0.2:
                pair.wire.append(message)
    assert pair.ended == [(FOLLOWER, True)]
    assert pair.follower_disk.written == pair.leader_disk.held
    assert pair.received


def test_a_follower_that_never_answers_is_given_up() -> None:
    pair = Pair(b"x" * 20)
    pair.start()
    for _ in range(RETRY_TICKS * (MAX_RETRIES + 1)):
        pair.sender.tick()
    assert pair.ended == [(FOLLOWER, False)]


def test_a_follower_that_cannot_write_says_so_and_may_be_tried_again() -> None:
    pair = Pair(b"x" * 20)
    pair.follower_disk.problem = "no space"
    pair.start()
    pair.run()
    assert pair.ended == []
    pair.pass_ticks(FIRST_BACKOFF_TICKS)
    assert pair.ended == [(FOLLOWER, False)]
    pair.follower_disk.problem = ""
    pair.start()
    pair.run()
    assert pair.ended == [(FOLLOWER, False), (FOLLOWER, True)]
    assert pair.follower_disk.written == b"x" * 20


def test_a_snapshot_that_is_gone_ends_the_stream() -> None:
    pair = Pair(b"x" * 20)
    pair.leader_disk.problem = "no such file"
    pair.start()
    pair.pass_ticks(FIRST_BACKOFF_TICKS)
    assert pair.ended == [(FOLLOWER, False)]


def test_asked_for_again_a_running_stream_goes_on() -> None:
    pair = Pair(b"x" * 20)
    pair.start()
    pair.start()
    assert len(pair.wire) == 1


def test_a_new_leader_starts_over() -> None:
    pair = Pair(b"x" * 20)
    pair.start(term=3)
    pair.deliver(pair.wire.pop(0))
    pair.sender.stop()
    pair.wire.clear()
    pair.start(term=4)
    pair.run()
    assert pair.received == [SnapshotRequest(FOLLOWER, LEADER, 4, META)]


def test_a_follower_that_refuses_again_and_again_is_asked_less_and_less_often() -> None:
    pair = Pair(b"x" * 20)
    pair.follower_disk.problem = "no space"
    waits = [pair.fail_once() for _ in range(12)]
    assert waits[:3] == [FIRST_BACKOFF_TICKS, 2 * FIRST_BACKOFF_TICKS, 4 * FIRST_BACKOFF_TICKS]
    assert waits[-1] == LAST_BACKOFF_TICKS
    assert (pair.leader_disk.verified, pair.wanted) == (1, []), "our own file is looked at once, and is sound"
    pair.follower_disk.problem = ""
    pair.start()
    pair.run()
    assert pair.ended[-1] == (FOLLOWER, True)
    pair.follower_disk.problem = "no space"
    assert pair.fail_once(term=4) == FIRST_BACKOFF_TICKS, "a success forgets the failures before it"


def test_a_damaged_file_of_our_own_is_noticed_and_another_one_is_saved() -> None:
    pair = Pair(b"x" * 20)
    pair.follower_disk.problem = "a chunk fails its checksum"
    pair.leader_disk.damage = "a chunk fails its checksum"
    pair.fail_once()
    assert pair.wanted == [True]
    pair.leader_disk.damage = pair.follower_disk.problem = ""
    pair.start()
    pair.run()
    assert pair.ended[-1] == (FOLLOWER, True)
    assert pair.wanted == [True]
