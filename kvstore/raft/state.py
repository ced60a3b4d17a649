"""Everything one member knows, and its two ways out: messages that may leave at once, and promises that wait.

The other modules of this package are functions over this state, one module for each part of the protocol; `core.Raft`
is this state with the inputs and outputs that a driver calls. Role and term change in `roles` alone.
"""

from __future__ import annotations

from random import Random

from .config import Config, PlantedBug
from .log import Log
from .progress import Progress
from .quorum import Quorum
from .types import (
    NO_MEMBER,
    AppendResponse,
    Configuration,
    HardState,
    Message,
    ProposeRefusal,
    ReadState,
    Refusal,
    Role,
    SnapshotMeta,
    VoteRequest,
    VoteResponse,
    Write,
)

Promise = AppendResponse | VoteRequest | VoteResponse


class State:
    __slots__ = (
        "config",
        "configuration",
        "elapsed",
        "former_voter",
        "forwarded_refusal",
        "heartbeat_elapsed",
        "leader",
        "log",
        "member_id",
        "members",
        "messages",
        "now",
        "offered_hard_state",
        "outstanding",
        "pending_change",
        "pending_snapshot",
        "planted",
        "progress",
        "promised",
        "promises",
        "proposals_seen",
        "quick_left",
        "quorum",
        "random",
        "reads",
        "refusals",
        "retires_at",
        "role",
        "round",
        "round_acks",
        "round_index",
        "round_reads",
        "sequence",
        "session",
        "snapshot",
        "term",
        "term_start",
        "timeout",
        "transfer_elapsed",
        "transferee",
        "verified",
        "vote",
        "votes",
        "waiting_reads",
        "written_term",
        "written_vote",
    )

    def __init__(self, config: Config, member_id: int, random: Random, log: Log, hard_state: HardState) -> None:
        self.config = config
        self.planted = config.planted
        self.member_id = member_id
        self.random = random
        self.log = log

        # Who is who. A member that no one voted in keeps an empty configuration until its log tells it more.
        self.configuration = Configuration()
        self.members: frozenset[int] = frozenset()
        self.quorum = Quorum(self.configuration)
        self.role = Role.FOLLOWER
        self.leader = NO_MEMBER  # of this term, as far as known

        # It voted until the change applied last, and heard from no leader since; see `is_electable`.
        self.former_voter = False

        # Hard state; what was offered to the disk and what came back lag behind it, in this order.
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.offered_hard_state = hard_state
        self.written_term = hard_state.term
        self.written_vote = hard_state.vote

        # The disk: at most one write is under way.
        self.outstanding: Write | None = None
        self.snapshot: SnapshotMeta | None = None  # the latest, taken here or received
        self.pending_snapshot: SnapshotMeta | None = None  # received, its mark not yet offered to the disk
        # (term, index) that this member acknowledged and that its disk then lost; see `lost_promise`
        self.promised: tuple[int, int] | None = None

        # Ways out
        self.messages: list[Message] = []
        self.promises: list[Promise] = []
        self.reads: list[ReadState] = []
        self.refusals: list[ProposeRefusal] = []

        # Time, in ticks
        self.now = 0
        self.elapsed = 0  # since a leader was heard, a vote granted or an election begun
        self.timeout = 0  # `elapsed` at which the next election begins
        self.quick_left = 0  # elections that may still follow each other quickly; see election.leader_unreachable
        self.heartbeat_elapsed = 0

        # Follower: up to where this term's leader has confirmed our log. A heartbeat's commit counts up to here only.
        self.verified = 0
        # Candidate and pre-candidate
        self.votes: dict[int, bool] = {}

        # Leader
        self.progress: dict[int, Progress] = {}  # of every member, itself included; empty unless leader
        self.term_start = 0  # the no-op that opens this term; nothing may be read before it is committed
        self.pending_change = 0  # no change may be proposed before this index is applied
        self.retires_at = 0  # a leader without a vote: once this is applied, its successors know all they must
        self.proposals_seen: dict[tuple[int, int], int] = {}  # (sender, session): the last sequence taken
        self.forwarded_refusal: Refusal | None = None  # why the next forwarded proposal is rejected
        self.transferee = NO_MEMBER
        self.transfer_elapsed = 0
        self.waiting_reads: list[tuple[int, int]] = []  # (member, context), for the next round
        self.round = 0  # rises through all terms of this life, so that no answer is taken for a later round's
        self.round_reads: list[tuple[int, int]] = []  # served by the round under way; empty: there is none
        self.round_index = 0
        self.round_acks: set[int] = set()

        # Our own proposals and reads that travel to the leader. The session tells this life from earlier ones.
        self.session = random.getrandbits(62)  # nosec B311  # tells lives apart, and keeps no secret
        self.sequence = 0

    # --- what others may ask ---------------------------------------------------------------------------------

    @property
    def commit(self) -> int:
        return self.log.committed

    @property
    def applied(self) -> int:
        return self.log.applied

    @property
    def last_index(self) -> int:
        return self.log.last_index

    @property
    def is_leader(self) -> bool:
        return self.role is Role.LEADER

    @property
    def lost_promise(self) -> bool:
        """Whether the disk lost entries that this member had acknowledged, and they are not back yet.

        Until they are it gives no vote of any kind and does not campaign. That is safe: such an entry may be
        committed on the strength of this member's word, so some other member of that majority holds it. Every
        quorum that elects a leader without this member's vote contains one of those others (two majorities share
        a member, and it is not this one), and that one refuses whoever lacks the entry (paper 5.4.1). To the
        election this member is simply down. Acknowledging new entries is harmless: those it really holds.
        """
        return self.promised is not None

    @property
    def has_vote(self) -> bool:
        return self.member_id in self.configuration.voters or self.member_id in self.configuration.outgoing

    @property
    def is_electable(self) -> bool:
        """Whether this member may campaign at all: a voter, in possession of what it promised and of its snapshot.

        A member that has just lost its vote may still be needed (dissertation 4.2.2): it knows that the change is
        committed, those that remain may not, and its log may be the longer one. So it stands by until it hears from
        a leader, and if elected it leads just long enough to tell them (changes.retire_if_due).

        It must also have applied every configuration change that it knows to be committed: with a configuration
        two changes old its majority need not overlap with the present one.
        """
        log = self.log
        return (
            (self.has_vote or self.former_voter)
            and not self.lost_promise
            and log.applied >= log.start_index
            and not log.holds_configuration(log.applied + 1, log.committed)
        )

    @property
    def in_lease(self) -> bool:
        """Whether a leader is known to be well: it leads itself, or was heard within the shortest timeout."""
        if self.role is Role.LEADER:
            return True
        return self.leader != NO_MEMBER and self.elapsed < self.config.election_ticks

    # --- ways out ----------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """For what promises nothing that is not durable already."""
        self.messages.append(message)

    def send_when_durable(self, message: Promise, index: int = 0) -> None:
        """For what promises that the term, the vote and the log up to `index` survive a crash."""
        if self._is_durable(index) or self._breaks_promises(message):
            self.messages.append(message)
        else:
            self.promises.append(message)

    def _is_durable(self, index: int) -> bool:
        return (
            self.written_term == self.term
            and self.written_vote == self.vote
            and self.log.durable >= max(index, self.log.start_index)
        )

    def _breaks_promises(self, message: Promise) -> bool:
        if not self.planted:
            return False
        if isinstance(message, AppendResponse):
            return PlantedBug.ACK_BEFORE_FSYNC in self.planted
        return isinstance(message, VoteResponse) and PlantedBug.VOTE_NOT_PERSISTED in self.planted
