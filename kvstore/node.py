"""The driver: it alone owns the raft core, the order of disk and answers, and the state machine.

Safety rests on one order, and `flush` with `_written` is the one place that keeps it: take what raft wants written
-> write and fdatasync it -> send the messages that promise it -> apply what is committed -> answer who waits.
Messages that promise nothing (a leader's appends, heartbeats) leave at once, beside the leader's own fsync
(dissertation 10.2.1); an entry is applied here only when it is committed and also durable here.

Synchronous and deterministic: no asyncio, no threads, no sockets, no clock of its own. Whatever drives it (the
server's event loop, or the simulator) calls `tick`, `receive`, `propose`, `read` and the like, and after any number
of those `flush`. Disk jobs run elsewhere and call back on the driver's thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from operator import itemgetter
from random import Random
from typing import NamedTuple, Protocol

from kvstore import logs
from kvstore.apply import REFUSALS, StateMachine
from kvstore.compaction import Compaction, CompactionLimits, SavingDisk, SnapshotStatus
from kvstore.forwarded import REFUSABLE, has_key_too_long, has_refusable
from kvstore.levels import FIRST_LEVEL, HIGHEST_LEVEL
from kvstore.membership import Membership, MembershipError
from kvstore.poison import ApplyFailed, Skipped
from kvstore.proposals import (
    ChangePending,
    Done,
    Outcome,
    Proposal,
    Proposals,
    Refused,
    TooManyRequests,
    Unavailable,
    UnknownToLeader,
    WritesRefused,
)
from kvstore.raft.core import Raft
from kvstore.raft.errors import ChangeRefused, ProposalRefused
from kvstore.raft.types import (
    NO_MEMBER,
    AppendRequest,
    Configuration,
    Entry,
    EntryKind,
    ProposeRequest,
    Refusal,
    SnapshotMeta,
    SnapshotRequest,
    Write,
)
from kvstore.raising import Raising
from kvstore.replicated_clock import ReplicatedClock
from kvstore.store.operations import Expire
from kvstore.streams import CHUNK_BYTES, SnapshotDisk, SnapshotReceiver, SnapshotSender
from kvstore.wire import (
    LONG_BYTES,
    Command,
    Guarded,
    LaterVersion,
    MembershipChange,
    Packed,
    PeerMessage,
    SetLevel,
    SnapshotAck,
    SnapshotChunk,
    UpdateMember,
    joined,
    pack_change,
    pack_command,
    pack_long_command,
    stamp,
    time_of,
    unpack_change,
    unpack_command,
)

CLOCK_TICKS = 10  # between two looks at the wall clocks
#: How many election timeouts the first leader of a new cluster waits for the other founders.
FOUNDING_ELECTIONS = 2
#: Commands that concern connections to other members.
_OF_THE_NETWORK = frozenset((UpdateMember, SetLevel))
_CONFIGURATION = int(EntryKind.CONFIGURATION)  # a plain int compares in a fraction of the time

log = logs.get("raft")

MAX_ABSURD = 16  # senders of absurd terms that get a line in the log


class NodeOptions(NamedTuple):
    """Limits and intervals; a tick is what the caller makes it (the server: 10 ms)."""

    request_ticks: int = 700  # how long a client waits for an outcome: etcd's 5 s and two election timeouts
    sweep_ticks: int = 50  # between two looks for expired keys
    read_retry_ticks: int = 20  # until an unanswered read index is asked for again
    snapshot_count: int = 100_000  # entries between two snapshots
    snapshot_bytes: int = 256 << 20  # of entries between two snapshots: whichever comes first
    keep_entries: int = 5_000  # entries kept after a snapshot, for a follower that may fall behind
    spare_bytes: int = 32 << 20  # of those entries
    keep_bytes: int = 256 << 20  # of entries kept after a snapshot for followers that are behind
    max_log_bytes: int = 1 << 30  # since the last snapshot; beyond it writes are refused
    compact_entries: int = 2_000  # that are forgotten in one tick
    max_proposals: int = 10_000  # that wait for their outcome at a time, and as many reads
    max_proposal_bytes: int = 256 << 20  # of those proposals
    max_command_bytes: int = 16 << 20
    batch_bytes: int = 1 << 20  # commands that are proposed, or applied, in one go
    event_history: int = 10_000
    chunk_bytes: int = CHUNK_BYTES  # of a snapshot, in one message
    highest_level: int = HIGHEST_LEVEL  # that the cluster is raised to


class Disk(SnapshotDisk, SavingDisk, Protocol):
    """What the driver asks of the disk. Jobs of one kind run in the order they were given; callbacks come on the
    driver's thread, never from inside the call. A failed write is the end of the process: nobody is called back."""

    def write(self, write: Write, done: Callable[[], None]) -> None:
        """Makes hard state, entries and snapshot mark durable."""

    def settle(self) -> None:
        """Notes that all writes so far are durable."""

    def load_snapshot(self, meta: SnapshotMeta, done: Callable[[StateMachine], None]) -> None:
        """Reads back a snapshot that is on the disk."""


class Network(Protocol):
    def send(self, message: PeerMessage) -> None:
        """Sends with the next `flush`, or drops; never blocks, never fails."""

    def flush(self) -> None:
        """What was to be sent leaves now; also called at the end of each turn."""

    def levels(self) -> Mapping[int, int]:
        """The highest level of each member that is connected both ways."""

    def members_changed(self, membership: Membership, configuration: Configuration) -> None:
        """Called for each change of the membership, the level included. Connections to new members are wanted, those
        to removed ones no longer once `configuration` is without
        them: until then their votes are needed."""


class Node:
    """One member. `machine` and `raft` are for others to read."""

    def __init__(
        self,
        raft: Raft,
        machine: StateMachine,
        disk: Disk,
        network: Network,
        clock: ReplicatedClock,
        random: Random,
        options: NodeOptions = NodeOptions(),  # noqa: B008  it is immutable
        snapshot: SnapshotMeta | None = None,
        skipped: Skipped = frozenset(),
    ) -> None:
        """`snapshot` is what `machine` was restored from; `skipped` are entries that are not applied."""
        self.raft = raft
        self.machine = machine
        self.ticks = 0
        self._disk = disk
        self._network = network
        self._clock = clock
        self._options = options
        self._proposals = Proposals(options.max_proposals, options.max_proposal_bytes)
        self._next_request = random.getrandbits(63)  # nosec B311  # numbers our requests, and keeps no secret
        self._skipped = skipped
        self._applied_term = snapshot.term if snapshot else 0
        snapshot_index = snapshot.index if snapshot else 0
        self._compaction = Compaction(raft, disk, _compaction_limits(options), clock.wall, snapshot_index)
        self._writing = False
        self._left = snapshot_index  # where the configuration last became what it is, as far as we know
        self._known_elsewhere = 0  # another member, too, knows that everything up to here is committed
        self._members_stale = False  # whether the network has not yet heard of the last change of members
        self._unsettled = False  # whether the disk has not yet been told that the last write is durable
        self._write_tick = 0  # when the write that is under way began
        self._written_tick = 0
        self._sweeping = False
        self._reconnected: set[int] = set()  # members that may lack what we forwarded before
        self._absurd: set[int] = set()  # senders of absurd terms that the log has named
        self._learning = False
        self._led_term = 0  # the last term that this member has stamped for
        clock.passed(machine.time)
        self._seen = (0, NO_MEMBER)  # term and leader, as last logged
        self.last_leader = NO_MEMBER  # who leads, or led last
        self.leader_changes = 0  # seen since the start
        self.leader_since = 0  # ns since the epoch, by our clock; of the leader that there is, or was last
        self._reads: list[tuple[int, Callable[[Unavailable | None], None]]] = []  # deadline, done: for the next round
        self._round: list[tuple[int, Callable[[Unavailable | None], None]]] = []  # those that a round is under way for
        self._round_context = 0
        self._round_tick = 0
        self._readable: deque[tuple[int, list[tuple[int, Callable[[Unavailable | None], None]]]]] = deque()
        self._sender = SnapshotSender(
            raft.member_id, disk, network.send, raft.snapshot_sent, self._compaction.want, options.chunk_bytes
        )
        self._raising = Raising(options.highest_level, FOUNDING_ELECTIONS * raft.config.election_ticks)
        #: While no command is known to be in any log: the first one may have to be the level; see `_holds_commands`.
        self._may_found = machine.time == 0 and machine.level < options.highest_level
        if options.highest_level == FIRST_LEVEL:
            machine.store.begin_unfounded()
        self._released_term = 0  # led by this member, who knows that no level comes before clients' commands
        self._receiver = SnapshotReceiver(raft.member_id, disk, network.send, self._snapshot_received)

    # --- what others may ask ------------------------------------------------------------------------------------

    @property
    def has_leader(self) -> bool:
        return self.raft.leader != NO_MEMBER

    @property
    def proposals_pending(self) -> int:
        return len(self._proposals)

    @property
    def snapshots(self) -> SnapshotStatus:
        return self._compaction.status

    @property
    def proposals_failed(self) -> int:
        return self._proposals.failed

    @property
    def removed(self) -> bool:
        """Whether this member was removed and may stop. Not before: in a joint configuration its vote still counts
        (two members that become one would never commit anything again). And somebody else must know that it is left:
        those that remain might need this member's vote to find it out (dissertation 4.2.2)."""
        raft = self.raft
        if raft.member_id not in self.machine.membership.removed:
            return False
        return raft.member_id not in raft.members and not raft.is_leader and self._known_elsewhere >= self._left

    def now(self) -> int:
        """This member's view of replicated time, for what a reader is shown."""
        return self._clock.shown()

    def start(self) -> None:
        """Once, before the first tick. A member that is alone need not wait for anybody."""
        self._members_changed()
        if self.raft.configuration.voters == {self.raft.member_id}:
            self.raft.campaign()

    # --- inputs -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        self.ticks += 1
        self.raft.tick()
        self._sender.tick()
        self._proposals.expire(self.ticks)
        self._expire_reads()
        self._compaction.tick()
        if self._compaction.is_due():  # one that failed, or whose file was damaged
            self._save_snapshot()
        if self._unsettled and not self._writing and self.ticks > self._written_tick + 1:
            self._unsettled = False
            self._disk.settle()
        if self.ticks % CLOCK_TICKS == 0:
            self._clock.tick()
        if self.ticks % self._options.sweep_ticks == 0:
            if self.raft.is_leader:
                self._sweep()
            elif not self._clock.is_set and self.has_leader:
                self._learn_time()
        if self._may_found:
            known = self._network.levels()
            self._raising.meet(known)
            if FIRST_LEVEL in known.values():
                self.machine.store.begin_unfounded()  # the level may stay where it is
        if self.machine.level < self._options.highest_level:
            self._raise_level()

    def receive(self, message: PeerMessage) -> None:
        """A message from another member."""
        if self.raft.is_absurd(message.term):
            self._refuse_term(message)
            return
        if type(message) is AppendRequest:
            self._known_elsewhere = max(self._known_elsewhere, message.commit)
        elif type(message) is ProposeRequest:
            if self.raft.is_leader:
                message = self._judge_forwarded(message)
        elif isinstance(message, SnapshotChunk):
            if message.term >= self.raft.term:
                self._receiver.receive(message)
            return
        elif isinstance(message, SnapshotAck):
            self._sender.acknowledged(message)
            return
        self.raft.step(message)

    def _judge_forwarded(self, request: ProposeRequest) -> ProposeRequest:
        """As the leader: hand raft the refusal, if any, and stamp commands that it may append."""
        refusal: Refusal | None = None
        if self._holds_commands():
            refusal = Refusal.TRANSFERRING  # it comes again
        elif request.kind == EntryKind.COMMAND:
            if has_key_too_long(request.payloads):
                refusal = Refusal.ENTRY_TOO_LARGE
            elif self._compaction.refusing and has_refusable(request.payloads):
                refusal = Refusal.WRITES_REFUSED
        self.raft.judge_forwarded(refusal)
        if refusal is not None or request.kind != EntryKind.COMMAND:
            return request
        return request._replace(payloads=stamp(self._time(), request.payloads))

    def _refuse_term(self, message: PeerMessage) -> None:
        """Nothing moves; one line for each sender, and for the first few alone."""
        if message.sender not in self._absurd and len(self._absurd) < MAX_ABSURD:
            self._absurd.add(message.sender)
            log.warning(
                "refused a message with an absurd term",
                sender=f"{message.sender:x}",
                term=message.term,
                own_term=self.raft.term,
                remedy="if that member belongs to this cluster, remove it and add it again with an empty folder",
            )

    def propose(self, command: Command, done: Done) -> None:
        """Replicates a command and applies it; `done` gets its outcome: in a later flush or tick, or from
        inside this call when it is refused at once."""
        self._next_request = request = self._next_request + 1
        pack: Callable[[int, Command], Packed] = pack_command
        for field in command.command if type(command) is Guarded else command:
            if type(field) is bytes and len(field) > LONG_BYTES:
                pack = pack_long_command
        encoded = pack(request, command)
        self._add(request, command, encoded, done, type(command) is Expire)

    def propose_change(self, change: MembershipChange, done: Done) -> None:
        """Adds or removes members; `change.request` is filled in here."""
        self._next_request += 1
        change = change._replace(request=self._next_request)
        self._add(change.request, change, pack_change(change), done, is_ours=False)

    def read(self, done: Callable[[Unavailable | None], None]) -> None:
        """`done(None)` once this member's state holds everything that was acknowledged before this call
        (ReadIndex, dissertation 6.4). Refused at once where too many wait."""
        if len(self._reads) + len(self._round) + sum(len(readers) for _, readers in self._readable) >= (
            self._options.max_proposals
        ):
            done(TooManyRequests())
            return
        self._reads.append((self.ticks + self._options.request_ticks, done))

    def connection_made(self, member: int) -> None:
        """Messages to the member are delivered from now on: a hint only."""
        self.raft.voter_reachable(member)

    def connected(self, member: int) -> None:
        """Messages to `member` reach it from now on; what was sent before may be lost."""
        self._reconnected.add(member)

    def connection_lost(self, member: int) -> None:
        """The connection to or from a member broke: a hint only, and safe to be wrong about."""
        self._reconnected.discard(member)
        self.raft.leader_unreachable(member)
        self.raft.member_unreachable(member)

    def hand_over(self) -> bool:
        """Asks another member to lead, and the next one when that does not answer. False: this member does not lead,
        or nobody else can."""
        return self.raft.transferee != NO_MEMBER or self.raft.transfer_leadership() != NO_MEMBER

    def flush(self) -> bool:
        """Everything that can be done now, in the order that safety rests on. True: call again soon, there is more
        to apply than one turn should."""
        if self._reconnected and self.raft.leader in self._reconnected:
            self._forward_again()
        self._submit()
        self._ask_for_reads()
        self._take_refusals()
        self._send()
        self._start_write()
        self._network.flush()  # neither the disk nor other members wait until all is applied here
        more = self._apply()
        self._ask_for_reads()  # those that gathered during a round that ended now
        self._send()
        if self._members_stale:  # now that whoever goes was told so
            self._members_changed()
        self._start_write()
        self._observe()
        return more

    def abandon(self) -> None:
        """The member stops: whoever still waits is told that the outcome is not known."""
        self._proposals.fail_all(Unavailable("etcdserver: server stopped"))
        for reads in (self._reads, self._round, *[waiting for _, waiting in self._readable]):
            for _, done in reads:
                done(Unavailable("etcdserver: server stopped"))
            reads.clear()
        self._readable.clear()

    # --- proposals ----------------------------------------------------------------------------------------------

    def _add(
        self, request: int, command: Command | MembershipChange, encoded: Packed, done: Done, is_ours: bool
    ) -> None:
        proposal = Proposal(request, command, encoded, done, self.ticks + self._options.request_ticks)
        if proposal.size > self._options.max_command_bytes:
            done(Refused("etcdserver: request is too large"))
            return
        if self._compaction.refusing and type(command) in REFUSABLE:
            done(WritesRefused(self._compaction.refusing))
            return
        try:
            self._proposals.add(proposal, is_ours)
        except TooManyRequests as refusal:
            done(refusal)

    def _submit(self) -> None:
        """Hands what waits to raft, in batches. Without a leader it goes on waiting, until its time is up."""
        if self._holds_commands() or (self._gathers and not self.raft.is_leader):
            return
        while self.has_leader and (batch := self._proposals.next_batch(self._options.batch_bytes)):
            commands = [proposal.encoded for proposal in batch]
            try:
                if isinstance(batch[0].command, MembershipChange):
                    placed = self.raft.propose_configuration(joined(commands[0]))
                elif self.raft.is_leader:
                    placed = self.raft.propose(stamp(self._time(), commands))
                else:
                    placed = self.raft.propose(tuple([joined(command) for command in commands]))
            except ProposalRefused as refusal:
                if self._settle_refused(batch, refusal.reason):
                    return
                continue
            if placed.index:
                self._proposals.appended(batch, placed.term, placed.index)
            else:
                self._proposals.forwarded(batch, placed.term, placed.sequence)

    def _forward_again(self) -> None:
        """The leader may lack what was forwarded over a connection that broke: a client need not wait for that until
        its time is up. The sequence of each batch makes the leader take it once (raft/proposals.py)."""
        self._reconnected.discard(self.raft.leader)
        if lost := self._proposals.on_their_way(self.raft.term):
            self.raft.forward_again(lost)

    def _take_refusals(self) -> None:
        for refusal in self.raft.take_refusals():
            self._settle_refused(self._proposals.refused(refusal.sequence), refusal.reason)

    def _settle_refused(self, batch: list[Proposal], reason: int) -> bool:
        """What was certainly not appended waits for a better moment (True), or cannot be done at all."""
        refused: Refused
        if reason == Refusal.ENTRY_TOO_LARGE:
            refused = Refused("etcdserver: request is too large")
        elif reason == Refusal.CHANGE_PENDING:
            refused = ChangePending()
        elif reason == Refusal.WRITES_REFUSED:
            refused = WritesRefused()
            batch = self._keep_ours(batch)
        elif reason == Refusal.UNKNOWN and len(batch) == 1:
            refused = UnknownToLeader()
        else:
            if reason == Refusal.UNKNOWN:  # one of them: which one, shows when each goes by itself
                for proposal in batch:
                    proposal.alone = True
            self._proposals.put_back(batch)
            return True
        for proposal in batch:
            self._proposals.settle(proposal, refused)
        return False

    def _keep_ours(self, batch: list[Proposal]) -> list[Proposal]:
        """Return the clients' writes of a batch that the leader refused. Members' own commands were refused because of
        them, and are sent by themselves: only once more, because a leader of an earlier version refuses them too."""
        kept = [one for one in batch if len(batch) > 1 and type(one.command) not in REFUSABLE]
        for proposal in kept:
            proposal.alone = True
        self._proposals.put_back(kept)
        return [one for one in batch if one not in kept]

    def _raise_level(self) -> None:
        """Appends the next level once every member takes part in it. It does so as the leader itself, and never
        forwards it: another leader may have met an earlier version meanwhile."""
        raft = self.raft
        if not raft.is_leader or raft.applied < raft.term_start:
            return
        others = raft.configuration.members - {raft.member_id}
        decision = self._raising.decide(
            raft.term, self.ticks, self.machine.level, others, self._network.levels(), self._last_stamp() == 0
        )
        if decision.level:
            self._next_request += 1
            command = pack_command(self._next_request, SetLevel(decision.level))
            try:
                raft.propose(stamp(self._time(), [command]))
            except ProposalRefused:
                return  # the next tick is as good
            self._raising.appended(decision.level)
            log.info("raises the level of the cluster", to=decision.level)
        if not decision.holds:
            self._released_term = raft.term

    def _holds_commands(self) -> bool:
        """Whether this leader takes no command yet, because its level may have to be the first one of a new cluster.

        A cluster is new to a leader whose log holds no command, applied or not: a command in the log precedes every
        command that this leader appends, and if it is the level, then commands need not wait until it is applied.
        Otherwise they wait until this leader has decided (`_raise_level`). A later leader decides again.
        """
        if not self._may_found:
            return False
        if self.machine.time or self.machine.level >= self._options.highest_level:
            self._may_found = False
            return False
        raft = self.raft
        return raft.is_leader and raft.term != self._released_term and self._last_stamp() == 0

    # --- replicated time ----------------------------------------------------------------------------------------

    def _time(self) -> int:
        """The time that this leader stamps. It begins a term with what its log says: a message says nothing, for raft
        may refuse it, nor does an entry that was replaced since."""
        if self._led_term != self.raft.term:
            self._led_term = self.raft.term
            self._clock.begin_term(self._last_stamp())
        return self._clock.now()

    def _last_stamp(self) -> int:
        """The time of the last command in the log, applied or not."""
        log = self.raft.log
        for index in range(log.last_index, log.applied, -1):
            (entry,) = log.slice(index, index, 1)
            if entry.kind == EntryKind.COMMAND and entry.payload:
                return time_of(entry.payload)
        return self.machine.time

    def _learn_time(self) -> None:
        """Once a life: a member that has started does not know how long ago the last stamp in its log was made. Any
        command would tell; a sweep is right at any time."""
        if self._learning:
            return
        self._learning = True
        asked = self._clock.ask()

        def learned(outcome: Outcome) -> None:
            self._learning = False
            if not isinstance(outcome, Exception):
                self._clock.learned(self.machine.time, asked)

        self.propose(Expire(), learned)

    def _sweep(self) -> None:
        """Removes expired keys; the entry's own time says which (etcd: SYNC)."""
        deadline = self.machine.store.next_deadline
        if deadline is None or self._sweeping or deadline > self._time():
            return
        self._sweeping = True
        self.propose(Expire(), self._swept)

    def _swept(self, outcome: Outcome) -> None:
        """More may be due than one entry removes: the next one follows immediately, and requests between them."""
        self._sweeping = False
        if not isinstance(outcome, Exception) and self.raft.is_leader:
            self._sweep()

    # --- disk ---------------------------------------------------------------------------------------------------

    def _start_write(self) -> None:
        if self._writing:
            return
        write = self.raft.take_write()
        if write is None:
            return
        self._writing = True
        self._write_tick = self.ticks
        if write.snapshot is None:
            self._disk.write(write, lambda: self._written(write))
        else:
            meta = write.snapshot
            self._disk.write(
                write, lambda: self._disk.load_snapshot(meta, lambda machine: self._installed(write, meta, machine))
            )

    def _written(self, write: Write) -> None:
        """All of `write` is durable: now, and not before, it may be promised."""
        for message in write.promises:
            self._network.send(message)
        self.raft.written(write)
        self._writing = False
        self._unsettled = True
        self._written_tick = self.ticks

    def _installed(self, write: Write, meta: SnapshotMeta, machine: StateMachine) -> None:
        log.info("installed a snapshot", index=meta.index, term=meta.term)
        self.machine.adopt(machine)
        self._clock.passed(machine.time)
        self._applied_term = meta.term
        self._left = self._known_elsewhere = meta.index
        self._proposals.jumped(meta.term)
        self._written(write)
        self._compaction.installed(meta.index)
        self._members_changed()

    def _snapshot_received(self, request: SnapshotRequest) -> None:
        self.raft.step(request)

    def _save_snapshot(self) -> None:
        self._compaction.save(self.machine.freeze(), self._applied_term)

    # --- messages -----------------------------------------------------------------------------------------------

    @property
    def _gathers(self) -> bool:
        """Whether what is for other members waits for more of its kind. While our own disk is busy, requests gather
        for its next write, and so they may for one append to each follower, or one forward to the leader: at half the
        load, three members then do twice as much. Never longer than a tick, for another member's disk may be quicker.
        """
        return self._writing and self._write_tick == self.ticks

    def _send(self) -> None:
        for message in self.raft.take_messages(appends=not self._gathers):
            if type(message) is SnapshotRequest:
                self._sender.start(message)
            else:
                self._network.send(message)

    # --- apply --------------------------------------------------------------------------------------------------

    def _apply(self) -> bool:
        entries = self.raft.next_entries(self._options.batch_bytes)
        if not entries:
            self._finish_reads()
            return False
        for entry in entries:
            index, term, kind, payload = entry
            if term != self._applied_term:
                self._applied_term = term
                self._proposals.term_began(term)
            if self._skipped and (index, term) in self._skipped:
                self._skip(index, term)
                continue
            try:
                if kind == _CONFIGURATION:
                    self._apply_change(entry)
                elif payload:
                    self._apply_command(index, term, payload)
            except LaterVersion:
                raise
            except Exception as bug:
                raise ApplyFailed(index, term, bug) from bug
        led = self.raft.is_leader
        if not led:
            self._clock.passed(self.machine.time)
        self.raft.applied_to(entries[-1].index)
        if led and not self.raft.is_leader:  # it retired: those that remain know that it has no vote
            self._known_elsewhere = self.raft.applied
        self._finish_reads()
        if self._compaction.is_due():
            self._save_snapshot()
        return True

    def _skip(self, index: int, term: int) -> None:
        log.error("skipped an entry of the log, as --skip-entry says", index=index, term=term)
        proposal = self._proposals.at(index, term)
        if proposal is not None:
            self._proposals.settle(proposal, Unavailable())

    def _apply_command(self, index: int, term: int, payload: bytes) -> None:
        proposal = self._proposals.at(index, term)
        if proposal is not None:  # appended here: no need to decode what we hold
            command: Command = proposal.command  # type: ignore[assignment]  # a change is no COMMAND
            now = time_of(payload)
        else:
            try:
                now, request, command = unpack_command(payload)
            except LaterVersion:
                raise LaterVersion(f"entry {index} of the log") from None
            proposal = self._proposals.of(request)
        outcome: Outcome
        try:
            outcome = self.machine.apply(command, now)
        except REFUSALS as refusal:
            outcome = refusal
        if type(command) in _OF_THE_NETWORK:
            self._members_changed()
        if proposal is not None:
            self._proposals.settle(proposal, outcome)

    def _apply_change(self, entry: Entry) -> None:
        if not entry.payload:
            self.raft.apply_configuration(())
            self._left = entry.index
            self._members_stale = True
            return
        try:
            change = unpack_change(entry.payload)
        except LaterVersion:
            raise LaterVersion(f"entry {entry.index} of the log") from None
        outcome: Exception | None = None
        try:
            self.machine.membership.check(change)
            self.raft.apply_configuration(change.changes)
            self.machine.membership.apply_change(change)
        except (MembershipError, ChangeRefused) as refusal:  # the same on every member
            outcome = refusal
        else:
            self._members_stale = True
        proposal = self._proposals.at(entry.index, entry.term) or self._proposals.of(change.request)
        if proposal is not None:
            self._proposals.settle(proposal, outcome)

    def _members_changed(self) -> None:
        self._members_stale = False
        self._network.members_changed(self.machine.membership, self.raft.configuration)

    # --- reads --------------------------------------------------------------------------------------------------

    def _ask_for_reads(self) -> None:
        """One round at a time; what comes meanwhile shares the next one."""
        if not self._reads or self._round:
            return
        self._round_context += 1
        if self.raft.read_index(self._round_context):
            self._round, self._reads = self._reads, []
            self._round_tick = self.ticks

    def _finish_reads(self) -> None:
        for context, index in self.raft.take_reads():
            if context == self._round_context and self._round:
                self._readable.append((index, self._round))
                self._round = []
        while self._readable and self._readable[0][0] <= self.raft.applied:
            for _, done in self._readable.popleft()[1]:
                done(None)

    def _expire_reads(self) -> None:
        """An answer that does not come is asked for again; a reader whose time is up is told so."""
        if self._round and self.ticks - self._round_tick >= self._options.read_retry_ticks:
            self._round_tick = self.ticks
            # With the same context: an answer that merely takes its time is as good as the one to come.
            if not self.raft.read_index(self._round_context):
                self._reads = self._round + self._reads
                self._round = []
        for waiting in (self._reads, self._round, *[readers for _, readers in self._readable]):
            late = bisect_right(waiting, self.ticks, key=itemgetter(0))
            expired, waiting[:late] = waiting[:late], []
            for _, done in expired:
                done(Unavailable())

    # --- what an operator wants to know ---------------------------------------------------------------------------

    def _observe(self) -> None:
        seen = (self.raft.term, self.raft.leader)
        if seen == self._seen:
            return
        term, leader = self._seen = seen
        if leader not in (NO_MEMBER, self.last_leader):
            self.last_leader = leader
            self.leader_changes += 1
            self.leader_since = self._clock.wall()
        member = f"{self.raft.member_id:x}"
        if leader == self.raft.member_id:
            self._time()  # from here on replicated time runs by our clock
            log.info("became leader", term=term, member=member)
        elif leader != NO_MEMBER:
            log.info("follows a leader", term=term, leader=f"{leader:x}", member=member)
        else:
            log.warning("has no leader", term=term, member=member)
        if leader != self.raft.member_id:
            self._sender.stop()


def _compaction_limits(options: NodeOptions) -> CompactionLimits:
    return CompactionLimits(
        options.snapshot_count,
        options.snapshot_bytes,
        options.keep_entries,
        options.spare_bytes,
        options.keep_bytes,
        options.compact_entries,
        options.max_log_bytes,
    )
