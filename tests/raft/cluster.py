"""A cluster of cores with a disk that loses what was not written, a network in one's own hands, and no clock.

Nothing moves by itself: whoever uses it decides which message arrives, which write ends and who crashes. After every
step `check` holds the cluster against the four properties of the paper's figure 3 and against stale reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from kvstore.raft.config import Config
from kvstore.raft.core import Raft
from kvstore.raft.errors import ChangeRefused
from kvstore.raft.types import (
    Change,
    ChangeKind,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Message,
    ReadState,
    Role,
    SnapshotMeta,
    SnapshotRequest,
    Write,
)

_CHANGE_SIGNS = {"+": ChangeKind.ADD_VOTER, "~": ChangeKind.ADD_LEARNER, "-": ChangeKind.REMOVE}


class Violation(AssertionError):
    """The cluster did what Raft promises never happens."""


def decode_changes(payload: bytes) -> tuple[Change, ...]:
    """`+4 ~5 -1`: voter 4, learner 5, without 1."""
    return tuple(Change(_CHANGE_SIGNS[word[0]], int(word[1:])) for word in payload.decode().split())


@dataclass
class Disk:
    """What survives a crash."""

    hard_state: HardState = HardState()  # noqa: RUF009 - an immutable tuple
    snapshot: SnapshotMeta | None = None
    entries: list[Entry] = field(default_factory=list)

    def keep(self, write: Write) -> None:
        if write.snapshot is not None:
            self.snapshot = write.snapshot
            self.entries.clear()
        if write.entries:
            first = write.entries[0].index
            assert not self.entries or first <= self.entries[-1].index + 1, "a gap on the disk"
            self.entries = [entry for entry in self.entries if entry.index < first]
            self.entries.extend(write.entries)
        if write.hard_state is not None:
            self.hard_state = write.hard_state

    def cut(self, index: int) -> tuple[int, int]:
        """Loses everything after `index`; returns (term, index) of what was the last entry."""
        last = self.entries[-1]
        self.entries = [entry for entry in self.entries if entry.index <= index]
        return last.term, last.index


class Member:
    """One core with its disk. `core` is None while it is down."""

    def __init__(self, cluster: Cluster, member_id: int, configuration: Configuration, disk: Disk) -> None:
        self.cluster = cluster
        self.member_id = member_id
        self.initial = configuration
        self.disk = disk
        self.slow_disk = False
        self.core: Raft | None = None
        self.lives = 0
        self.reads: list[ReadState] = []
        self.refusals: list[str] = []
        self.applied: list[Entry] = []  # of this life
        self.start()

    @property
    def raft(self) -> Raft:
        assert self.core is not None, f"member {self.member_id} is down"
        return self.core

    def start(self, promised: tuple[int, int] | None = None) -> None:
        snapshot = self.disk.snapshot
        self.lives += 1
        self.applied = []
        self.core = Raft(
            self.cluster.config,
            self.member_id,
            Random(f"{self.cluster.seed} {self.member_id} {self.lives}"),
            configuration=snapshot.configuration if snapshot else self.initial,
            hard_state=self.disk.hard_state,
            snapshot=snapshot,
            entries=self.disk.entries,
            applied=snapshot.index if snapshot else 0,
            promised=promised,
        )

    def crash(self) -> None:
        self.core = None

    def pump(self) -> None:
        """Everything the driver does in one turn, the end of a slow write excepted."""
        if self.core is None:
            return
        raft = self.core
        while True:
            self.cluster.network.extend(raft.take_messages())
            if raft.outstanding is None and raft.take_write() is not None and not self.slow_disk:
                self.sync()
                continue
            if not self.apply():
                break
        self.reads.extend(raft.take_reads())
        self.refusals.extend(str(refusal.reason) for refusal in raft.take_refusals())

    def sync(self) -> None:
        """The write that is under way ends."""
        write = self.raft.outstanding
        if write is not None:
            self.disk.keep(write)
            self.cluster.network.extend(write.promises)
            self.raft.written(write)

    def apply(self) -> bool:
        raft = self.raft
        entries = raft.next_entries()
        for entry in entries:
            if entry.kind == EntryKind.CONFIGURATION:
                try:
                    raft.apply_configuration(decode_changes(entry.payload))
                except ChangeRefused:
                    self.refusals.append("REFUSED_AT_APPLY")
            self.applied.append(entry)
        if entries:
            raft.applied_to(entries[-1].index)
        return bool(entries)

    def compact(self, keep: int) -> None:
        raft = self.raft
        term = raft.log.term_at(raft.applied)
        meta = SnapshotMeta(raft.applied, term, raft.configuration)
        if raft.outstanding is not None or raft.configuration.is_joint or term < 1:
            return
        raft.snapshot_taken(meta, keep)
        self.disk.snapshot = meta
        self.disk.entries = [entry for entry in self.disk.entries if entry.index > meta.index]


class Cluster:
    def __init__(
        self,
        voters: Iterable[int],
        *,
        config: Config,
        learners: Iterable[int] = (),
        strangers: Iterable[int] = (),
        disks: dict[int, Disk] | None = None,
        seed: int = 0,
    ) -> None:
        """`strangers` run too, but nobody has voted them in; they start with an empty configuration's knowledge."""
        self.config = config
        self.seed = seed
        self.network: list[Message] = []
        self.cuts: set[tuple[int, int]] = set()
        configuration = Configuration(voters=frozenset(voters), learners=frozenset(learners))
        everyone = sorted(configuration.members | frozenset(strangers))
        self.members = {
            number: Member(self, number, configuration, (disks or {}).get(number, Disk())) for number in everyone
        }
        self._leaders: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        self._committed: dict[int, Entry] = {}
        self._asked: dict[tuple[int, int], int] = {}
        self._checked_logs: dict[int, tuple[int, int, int]] = {}

    def __getitem__(self, member_id: int) -> Raft:
        return self.members[member_id].raft

    @property
    def up(self) -> list[Member]:
        return [member for member in self.members.values() if member.core is not None]

    # --- time and network --------------------------------------------------------------------------------------

    def pump(self) -> None:
        for member in self.up:
            member.pump()
        self.check()

    def deliver(self, message: Message) -> None:
        """Hands one message over, wherever it was; nothing to a member that is down or behind a cut."""
        receiver = self.members.get(message.to)
        if receiver is None or receiver.core is None or (message.sender, message.to) in self.cuts:
            self.lose(message)
            return
        receiver.core.step(message)
        self._report_snapshot(message, True)
        receiver.pump()

    def lose(self, message: Message) -> None:
        self._report_snapshot(message, False)

    def _report_snapshot(self, message: Message, ok: bool) -> None:
        """A snapshot is streamed by the sender's driver, which always knows how that ended."""
        sender = self.members[message.sender]
        if isinstance(message, SnapshotRequest) and sender.core is not None:
            sender.core.snapshot_sent(message.to, ok)

    def deliver_where(self, wanted: Callable[[Message], bool]) -> int:
        """Delivers what is under way now and wanted, in order, but not what comes of it."""
        self.pump()
        chosen = [message for message in self.network if wanted(message)]
        self.network = [message for message in self.network if not wanted(message)]
        for message in chosen:
            self.deliver(message)
        self.pump()
        return len(chosen)

    def settle(self) -> None:
        """Delivers everything, and everything that comes of it."""
        for _ in range(10_000):
            if self.deliver_where(lambda message: True) == 0:
                return
        raise AssertionError("the cluster does not come to rest")

    def tick(self, members: Sequence[int], ticks: int) -> None:
        for member_id in members:
            for _ in range(ticks):
                self[member_id].tick()
        self.pump()

    def pass_time(self, ticks: int) -> None:
        """Time passes for all alike and the network is fast."""
        for _ in range(ticks):
            for member in self.up:
                member.raft.tick()
            self.settle()

    def read(self, member_id: int, context: int) -> bool:
        known = max(self._committed, default=0)
        asked = self[member_id].read_index(context)
        if asked:
            self._asked[member_id, context] = known
        return asked

    # --- the properties of figure 3 ------------------------------------------------------------------------------

    def check(self) -> None:
        for member in self.up:
            self._check_log_matching(member.raft)
            self._check_committed(member.raft)
        for member in self.up:
            self._check_leader(member.raft)
            self._check_reads(member)

    def _check_log_matching(self, raft: Raft) -> None:
        """The same index and term mean the same entry, and the same entry before it."""
        log = raft.log
        known = (log.start_index, log.last_index, log.last_term)
        if self._checked_logs.get(raft.member_id) == known:
            return
        self._checked_logs[raft.member_id] = known
        for entry in log.slice(log.first_index, log.last_index, 1 << 40):
            before = log.term_at(entry.index - 1)
            if self._entries.setdefault((entry.index, entry.term), (entry, before)) != (entry, before):
                raise Violation(f"log matching: {entry} at member {raft.member_id}")

    def _check_committed(self, raft: Raft) -> None:
        """State machine safety: what one member takes for committed, no other takes for anything else."""
        log = raft.log
        for index in range(log.committed, log.start_index, -1):
            (entry,) = log.slice(index, index, 1)
            known = self._committed.get(index)
            if known is None:
                self._committed[index] = entry
            elif known != entry:
                raise Violation(f"state machine safety: {entry} and {known} are both committed")
            elif index <= raft.applied:
                break

    def _check_leader(self, raft: Raft) -> None:
        if raft.role is not Role.LEADER:
            return
        first_seen = raft.term not in self._leaders
        if self._leaders.setdefault(raft.term, raft.member_id) != raft.member_id:
            raise Violation(f"election safety: two leaders in term {raft.term}")
        if not first_seen:
            return
        for index, entry in self._committed.items():
            if index > raft.log.start_index and entry.term < raft.term and raft.log.term_at(index) != entry.term:
                raise Violation(f"leader completeness: leader {raft.member_id} of {raft.term} lacks {entry}")

    def _check_reads(self, member: Member) -> None:
        for read in member.reads:
            if read.index < self._asked.get((member.member_id, read.context), 0):
                raise Violation(f"stale read {read} at member {member.member_id}")
