"""The Raft core of one member: what a driver may tell it, and what it must do in return.

Theory of operation. The core does nothing by itself. The driver tells it that time passed (`tick`), that a message
came (`step`), that somebody wants something (`propose`, `read_index`, ...), and then takes what came of it:

    take_messages()   may leave at once; a leader's appends go out while its own disk still works
    take_write()      must become durable as a whole; then its promises are sent and `written()` is called
    next_entries()    are committed and durable here: apply them and call `applied_to()`
    take_reads(), take_refusals()

Nothing that this member promises (a vote, an acknowledged entry) leaves before it is durable; everything else
never waits for the disk. `step` raises for no message of the right types: what makes no sense is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from . import changes as configuration_changes
from . import election, following, proposals, reads, replication, roles, transfer
from .config import MIB, Config
from .log import Log
from .state import State
from .types import (
    NO_MEMBER,
    AppendRequest,
    AppendResponse,
    Change,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    Proposal,
    ProposeRefusal,
    ProposeRequest,
    ReadRequest,
    ReadResponse,
    ReadState,
    Refusal,
    Role,
    SnapshotMeta,
    SnapshotRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
    Write,
)

MAX_TERM = 1 << 62  # a term beyond this is noise: nobody gets there by elections
MAX_TERM_JUMP = 1 << 32  # nor so far ahead of a member that has a term of its own


class Raft(State):
    """One member. The attributes of State may be read; only the methods here change them."""

    __slots__ = ()

    def __init__(
        self,
        config: Config,
        member_id: int,
        random: Random,
        *,
        configuration: Configuration,
        hard_state: HardState = HardState(),  # noqa: B008 - an immutable tuple
        snapshot: SnapshotMeta | None = None,
        entries: Sequence[Entry] = (),
        applied: int = 0,
        promised: tuple[int, int] | None = None,
    ) -> None:
        """A member as its disk knows it: follower, of no leader yet.

        `configuration` is the one in force at `applied`; `entries` are contiguous and reach back at least to the
        snapshot (or to 1); `applied` is where the state machine stands, not below the snapshot. `promised` is the
        (term, index) of the last entry that the disk once held and lost, None if it lost nothing.
        """
        assert member_id != NO_MEMBER
        start_index, start_term = (snapshot.index, snapshot.term) if snapshot else (0, 0)
        kept = [entry for entry in entries if entry.index > start_index]
        last_index = kept[-1].index if kept else start_index
        applied = max(applied, start_index)
        committed = max(min(hard_state.commit, last_index), applied, known_committed(kept))
        super().__init__(config, member_id, random, Log(start_index, start_term, kept, committed, applied), hard_state)
        self.snapshot = snapshot
        self.promised = promised
        roles.set_configuration(self, configuration)
        roles.set_timeout(self)
        election.started(self)
        self._check_promise()

    # --- inputs ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """One tick passed."""
        self.now += 1
        if self.role is not Role.LEADER:
            election.tick(self)
            return
        transfer.tick(self)
        self.heartbeat_elapsed += 1
        if self.heartbeat_elapsed >= self.config.heartbeat_ticks:
            replication.broadcast_heartbeat(self)
            election.check_quorum(self)

    def step(self, message: Message) -> None:
        """A message came, perhaps late, twice or never asked for."""
        if message.to != self.member_id or message.sender in (NO_MEMBER, self.member_id):
            return
        kind = type(message)
        if kind not in _FROM_ANYONE and message.sender not in self.members and message.sender != self.leader:
            return
        if message.term == self.term or self._settle_term(message):
            _HANDLERS[kind](self, message)

    def is_absurd(self, term: int) -> bool:
        """Whether `term` is further ahead of ours than elections can lead. One that joins has no term yet, and takes
        that of its cluster."""
        return self.term > 0 and term - self.term > MAX_TERM_JUMP

    def _settle_term(self, message: Message) -> bool:
        """Brings message and member into the same term. False: there is nothing more to do about it (paper 5.1)."""
        if not 0 < message.term <= MAX_TERM or self.is_absurd(message.term):
            return False
        if isinstance(message, VoteRequest):
            return self._settle_vote_request(message)
        if message.term > self.term:
            if isinstance(message, VoteResponse) and message.pre and message.granted:
                return message.term == self.term + 1  # an answer in the term that we asked about
            from_leader = isinstance(message, (AppendRequest, HeartbeatRequest, SnapshotRequest, TimeoutNow))
            led = self.role is Role.LEADER and self.transferee == NO_MEMBER  # the higher term may be the transferee's
            roles.become_follower(self, message.term, message.sender if from_leader else NO_MEMBER)
            if led and not from_leader:
                # Someone is stuck in a higher term. Only an election brings it back, and we had better win it
                # soon; the others' lease is no obstacle, for it is ours.
                election.campaign(self)
            return True
        if isinstance(message, (AppendRequest, HeartbeatRequest, SnapshotRequest)):
            # A leader of the past, or one that we are ahead of after a lost election: it must learn our term.
            following.answer_heartbeat(self, message.sender, 0)
        # A refusal from behind is still a refusal.
        return isinstance(message, VoteResponse) and message.pre and not message.granted

    def _settle_vote_request(self, message: VoteRequest) -> bool:
        if message.term < self.term or election.refuses_unheard(self, message):
            election.refuse(self, message)
            return False
        if not message.pre and message.term > self.term:
            roles.become_follower(self, message.term, NO_MEMBER)
        return True

    def judge_forwarded(self, reason: Refusal | None) -> None:
        """Refuse the proposal that is stepped next, as the leader, for `reason`; None: raft alone judges it.

        The refusal is given here and not by the driver, so that a repeated message cannot be appended afterwards.
        """
        self.forwarded_refusal = reason

    def propose(self, payloads: Sequence[bytes]) -> Proposal:
        """Commands, in this order and next to each other. Leader: appended. Otherwise: forwarded to the leader.

        Raises ProposalRefused when certainly none of them was or will be appended.
        """
        return proposals.propose(self, EntryKind.COMMAND, payloads)

    def propose_configuration(self, payload: bytes) -> Proposal:
        """One encoded change; empty: leave the joint configuration, which the leader does by itself.

        Raises ProposalRefused, with CHANGE_PENDING while the last change is not complete.
        """
        return proposals.propose(self, EntryKind.CONFIGURATION, (payload,))

    def forward_again(self, batches: Sequence[tuple[int, bool, Sequence[bytes]]]) -> None:
        """Send once more what may be lost with a connection that is back in the term in which it was forwarded.

        Each batch is (sequence, whether it is a change of members, payloads), the oldest first. No effect on a leader.
        """
        if self.role is Role.LEADER or self.leader == NO_MEMBER:
            return
        proposals.take_back(self)
        for sequence, is_change, payloads in batches:
            kind = EntryKind.CONFIGURATION if is_change else EntryKind.COMMAND
            proposals.forward_again(self, sequence, kind, payloads)

    def read_index(self, context: int) -> bool:
        """Asks from which index on a read is linearizable; take_reads() answers with the same `context`.

        `context` is from 0 to 2**62 - 1. False: no leader is known, or too many wait. There may never be an
        answer (leadership changed, a message was lost): the driver asks again.
        """
        return reads.read_index(self, context)

    def transfer_leadership(self, to: int = NO_MEMBER) -> int:
        """Hands over to `to`, or to the voter that is furthest; returns whom, NO_MEMBER if that cannot be."""
        return transfer.begin(self, to)

    def leader_unreachable(self, leader: int) -> None:
        """A hint: the connection to `leader` broke."""
        election.leader_unreachable(self, leader)

    def voter_reachable(self, voter: int) -> None:
        """A hint: messages to `voter` are delivered from now on."""
        election.voter_reachable(self, voter)

    def member_unreachable(self, member: int) -> None:
        """A hint: messages to `member` are probably lost."""
        replication.member_unreachable(self, member)

    def snapshot_sent(self, member: int, ok: bool) -> None:
        """The driver has streamed the snapshot that a SnapshotRequest asked for, or has given up."""
        replication.snapshot_sent(self, member, ok)

    def campaign(self) -> None:
        """Starts an election now, if this member may lead."""
        election.campaign(self)

    # --- outputs -----------------------------------------------------------------------------------------------

    def take_messages(self, *, appends: bool = True) -> list[Message]:
        """What may leave at once, whatever the disk does. Without `appends` those of a leader are not made yet, so that
        what is still to come travels along."""
        if self.role is Role.LEADER:
            reads.start_round(self)
            if appends:
                replication.fill(self)
        taken, self.messages = self.messages, []
        return taken

    def take_write(self) -> Write | None:
        """What must become durable next; None: nothing. Only one at a time, until `written` is called for it."""
        assert self.outstanding is None, "one write at a time"
        log, offered = self.log, self.offered_hard_state
        changed = self.term != offered.term or self.vote != offered.vote
        if log.offered == log.last_index and not changed and self.pending_snapshot is None:
            return None
        entries = log.take_unwritten()
        hard_state = None
        if changed or log.committed != offered.commit:
            # A higher commit alone is not worth a write, but it travels with one: a restart then knows more.
            hard_state = HardState(self.term, election.vote_to_persist(self), log.committed)
            self.offered_hard_state = HardState(self.term, self.vote, log.committed)
        self.outstanding = Write(hard_state, entries, self.pending_snapshot, tuple(self.promises))
        self.pending_snapshot = None
        self.promises.clear()
        return self.outstanding

    def written(self, write: Write) -> None:
        """All of `write`, which take_write() gave, is durable."""
        assert write is self.outstanding, "written what was not taken"
        self.outstanding = None
        self.log.written()
        if write.snapshot is not None:
            self.log.snapshot_durable(write.snapshot.index)
        if write.hard_state is not None:
            self.written_term, self.written_vote = self.offered_hard_state.term, self.offered_hard_state.vote
        self._check_promise()
        if self.written_term == self.term and self.written_vote == self.vote:
            election.own_vote_durable(self)
        replication.own_log_durable(self)
        if self.promises and self._has_nothing_to_write():
            self.messages.extend(self.promises)
            self.promises.clear()

    def _has_nothing_to_write(self) -> bool:
        return (
            self.pending_snapshot is None
            and self.log.durable == self.log.last_index
            and self.written_term == self.term
            and self.written_vote == self.vote
        )

    def _check_promise(self) -> None:
        log = self.log
        if self.promised is None or log.durable < log.start_index:
            return
        if (log.term_at(log.durable), log.durable) >= self.promised:
            self.promised = None

    def take_reads(self) -> list[ReadState]:
        """Reads that may be served once their index is applied."""
        if self.waiting_reads and self.quorum.reached_by((self.member_id,)):
            reads.start_round(self)  # alone: there is no one to ask
        taken, self.reads = self.reads, []
        return taken

    def take_refusals(self) -> list[ProposeRefusal]:
        """Our forwarded proposals that certainly were not appended."""
        taken, self.refusals = self.refusals, []
        return taken

    def next_entries(self, limit_bytes: int = 4 * MIB) -> Sequence[Entry]:
        """Committed, durable here and not applied, in order; at least one if there is any, else about `limit_bytes`."""
        return self.log.applicable(limit_bytes)

    def applied_to(self, index: int) -> None:
        """The state machine holds everything up to `index`."""
        self.log.applied_to(index)
        configuration_changes.leave_if_due(self)
        configuration_changes.retire_if_due(self)

    def apply_configuration(self, changes: Sequence[Change]) -> Configuration:
        """Called while a CONFIGURATION entry is applied, before applied_to() for it; () leaves the joint one.

        Raises ChangeRefused for a change that leads nowhere: the same on every member, and nothing is changed.
        """
        return configuration_changes.apply(self, changes)

    def snapshot_taken(self, meta: SnapshotMeta, keep: int) -> None:
        """A snapshot of the state machine at `meta.index` is on disk; all but the last `keep` entries before it go."""
        assert meta.index <= self.applied, "a snapshot of what is not applied"
        if self.snapshot is None or self.snapshot.index < meta.index:  # a later one may have come in meanwhile
            self.snapshot = meta
        self.compact(meta.index - keep)

    def compact(self, index: int) -> None:
        """Forgets the entries up to `index`, not beyond the last snapshot taken."""
        assert self.snapshot is not None
        assert index <= self.snapshot.index, "compacted what no snapshot holds"
        self.log.compact(index)


def known_committed(entries: Sequence[Entry]) -> int:
    """The index of the last configuration change but one.

    A leader proposes a change only when the one before is applied, so the log itself proves that one committed,
    even if the hard state on disk lags behind. Campaigning without having applied it would be unsafe.
    """
    indices = [entry.index for entry in entries if entry.kind == EntryKind.CONFIGURATION]
    return indices[-2] if len(indices) > 1 else 0


def _handle_heartbeat_response(state: State, message: HeartbeatResponse) -> None:
    if state.role is Role.LEADER:
        replication.handle_heartbeat_response(state, message)
        reads.handle_heartbeat_response(state, message)


# Whom a configuration does not name may yet be right: the configuration that names it may not have reached us
# (dissertation 4.2.2). The lease keeps removed members from doing harm.
_FROM_ANYONE = frozenset({AppendRequest, HeartbeatRequest, SnapshotRequest, VoteRequest, TimeoutNow})

_HANDLERS: dict[type[Message], Callable[[State, Any], None]] = {
    AppendRequest: following.handle_append_request,
    AppendResponse: replication.handle_append_response,
    HeartbeatRequest: following.handle_heartbeat_request,
    HeartbeatResponse: _handle_heartbeat_response,
    SnapshotRequest: following.handle_snapshot_request,
    VoteRequest: election.handle_vote_request,
    VoteResponse: election.handle_vote_response,
    ProposeRequest: proposals.handle_propose_request,
    ProposeRefusal: proposals.handle_propose_refusal,
    ReadRequest: reads.handle_read_request,
    ReadResponse: reads.handle_read_response,
    TimeoutNow: election.handle_timeout_now,
}
