"""A driver on a disk and a network that do what a test says, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from kvstore.apply import FrozenMachine, StateMachine
from kvstore.levels import HIGHEST_LEVEL
from kvstore.membership import Member, Membership
from kvstore.node import Node, NodeOptions
from kvstore.proposals import Outcome
from kvstore.raft.config import Config
from kvstore.raft.core import Raft
from kvstore.raft.types import (
    AppendRequest,
    AppendResponse,
    Configuration,
    Entry,
    HeartbeatRequest,
    SnapshotMeta,
    VoteRequest,
    VoteResponse,
    Write,
)
from kvstore.replicated_clock import ReplicatedClock
from kvstore.store.operations import Set
from kvstore.store.store import Store
from kvstore.wire import (
    PeerMessage,
    SnapshotChunk,
)

ME, SECOND, THIRD = 1, 2, 3
SECOND_NS = 10**9


class SlowDisk:
    """Holds every write until the test lets it finish."""

    def __init__(self) -> None:
        self.writes: list[tuple[Write, Callable[[], None]]] = []
        self.saved: list[SnapshotMeta] = []
        self.save_problem = ""  # why no snapshot can be saved
        self.settled = 0

    def write(self, write: Write, done: Callable[[], None]) -> None:
        self.writes.append((write, done))

    def finish(self) -> Write:
        write, done = self.writes.pop(0)
        done()
        return write

    def settle(self) -> None:
        self.settled += 1

    def save_snapshot(
        self, meta: SnapshotMeta, frozen: FrozenMachine, done: Callable[[int], None], failed: Callable[[str], None]
    ) -> None:
        self.saved.append(meta)
        if self.save_problem:
            failed(self.save_problem)
        else:
            done(0)

    def load_snapshot(self, meta: SnapshotMeta, done: Callable[[StateMachine], None]) -> None:
        raise AssertionError("no snapshot here")

    def read_piece(
        self,
        meta: SnapshotMeta,
        offset: int,
        limit: int,
        done: Callable[[bytes, int], None],
        failed: Callable[[str], None],
    ) -> None:
        raise AssertionError("no snapshot here")

    def verify_snapshot(self, meta: SnapshotMeta, done: Callable[[str], None]) -> None:
        raise AssertionError("no snapshot here")

    def write_piece(self, chunk: SnapshotChunk, done: Callable[[], None], failed: Callable[[str], None]) -> None:
        raise AssertionError("no snapshot here")


class Wire:
    def __init__(self) -> None:
        self.sent: list[PeerMessage] = []
        self.known: dict[int, int] = {}

    def send(self, message: PeerMessage) -> None:
        self.sent.append(message)

    def flush(self) -> None:
        pass

    def levels(self) -> Mapping[int, int]:
        return self.known

    def members_changed(self, membership: Membership, configuration: Configuration) -> None:
        pass

    def take(self, kind: type) -> list[PeerMessage]:
        found = [message for message in self.sent if type(message) is kind]
        self.sent = [message for message in self.sent if type(message) is not kind]
        return found


class Bench:
    """A node between a disk and a wire that a test holds in its hands."""

    def __init__(
        self,
        members: int = 3,
        options: NodeOptions = NodeOptions(),  # noqa: B008
        knows_time: bool = True,
        level: int = HIGHEST_LEVEL,
    ) -> None:
        configuration = Configuration(voters=frozenset(range(1, members + 1)))
        meta = SnapshotMeta(1, 1, configuration)
        membership = Membership(Member(number, f"n{number}", ()) for number in configuration.voters)
        membership.level = level
        raft = Raft(Config(), ME, Random(1), configuration=configuration, snapshot=meta, applied=1)
        self.disk, self.wire = SlowDisk(), Wire()
        self.time = self.elapsed = 1_800_000_000 * SECOND_NS  # wall clock and monotonic one; `pass_time` moves both
        self.clock = ReplicatedClock(lambda: self.time, lambda: self.elapsed)
        if knows_time:
            self.clock.learned(self.time, self.clock.ask())
        self.node = Node(
            raft,
            StateMachine(Store(), membership),
            self.disk,
            self.wire,
            self.clock,
            Random(2),
            options,
            meta,
        )
        self.node.start()
        self.flush()

    def flush(self) -> None:
        while self.node.flush():
            pass

    def pass_time(self, seconds: float) -> None:
        self.time += round(seconds * SECOND_NS)
        self.elapsed += round(seconds * SECOND_NS)

    def settle_disk(self) -> None:
        while self.disk.writes:
            self.disk.finish()
            self.flush()

    def receive(self, message: PeerMessage) -> None:
        self.node.receive(message)
        self.flush()

    def lead(self) -> None:
        """Wins an election, and commits its first entry."""
        self.win()
        self.settle_disk()
        self.acknowledge()
        self.wire.sent.clear()

    def win(self) -> None:
        """Is elected with the second member's vote."""
        self.node.raft.campaign()
        self.flush()
        for pre in (True, False):
            self.settle_disk()
            (first, *_) = self.wire.take(VoteRequest)
            self.receive(VoteResponse(ME, SECOND, first.term, True, pre))
        assert self.node.raft.is_leader

    def acknowledge(self) -> None:
        """The second member holds everything that this one has."""
        self.receive(AppendResponse(ME, SECOND, self.node.raft.term, self.node.raft.last_index, False, 0, 0))

    def follow(self, term: int = 2) -> None:
        self.receive(HeartbeatRequest(ME, SECOND, term, 1, 0))
        self.settle_disk()
        self.wire.sent.clear()

    def propose(self, key: bytes = b"/a") -> list[Outcome]:
        outcomes: list[Outcome] = []
        self.node.propose(Set(key, b"v", False, None, False), outcomes.append)
        self.flush()
        return outcomes

    def tick(self, times: int) -> None:
        for _ in range(times):
            self.node.tick()
            self.flush()


def entries_of(messages: list[PeerMessage]) -> list[Entry]:
    return [entry for message in messages if isinstance(message, AppendRequest) for entry in message.entries]
