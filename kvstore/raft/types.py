"""The values that go into and come out of the Raft core: entries, terms, configurations, messages.

All are immutable tuples, so that msgpack packs them in C and a test compares them with `==`. Nothing here knows
how a message travels or how an entry is stored. Member ids are unsigned 64-bit numbers, 0 means "no member"
(`NO_MEMBER`). Indices and terms start at 1; 0 is "before the log". (A field called `index` hides the method of
tuples, which nobody misses here; mypy wants to be told.)
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

NO_MEMBER = 0


class EntryKind(IntEnum):
    """What an entry's payload means to the core; the core never looks into a COMMAND."""

    COMMAND = 0  # payload is the state machine's; empty: the no-op that opens a leader's term (paper 8)
    CONFIGURATION = 1  # payload is an encoded change; empty: leave the joint configuration


class Role(IntEnum):
    FOLLOWER = 0
    PRE_CANDIDATE = 1  # asks whether it could win, in the term that it has (dissertation 9.6)
    CANDIDATE = 2
    LEADER = 3


class Entry(NamedTuple):
    """One slot of the replicated log."""

    index: int  # type: ignore[assignment]
    term: int
    kind: int  # an EntryKind; a plain int because entries come straight out of msgpack
    payload: bytes


class HardState(NamedTuple):
    """What a member must have on disk before it answers (paper, figure 2, "persistent state")."""

    term: int = 0
    vote: int = NO_MEMBER
    commit: int = 0  # may lag behind: it is a hint for the restart, never a promise


class Configuration(NamedTuple):
    """Who votes and who only listens. Joint (paper 6) while `outgoing` is not empty.

    In a joint configuration every decision needs a majority of `voters` and a majority of `outgoing`.
    A voter of `outgoing` that becomes a learner waits in `learners_next` until the joint phase ends.
    """

    voters: frozenset[int] = frozenset()
    outgoing: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()
    learners_next: frozenset[int] = frozenset()

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def members(self) -> frozenset[int]:
        return self.voters | self.outgoing | self.learners | self.learners_next


class ChangeKind(IntEnum):
    ADD_VOTER = 0  # also promotes a learner
    ADD_LEARNER = 1  # also demotes a voter
    REMOVE = 2


class Change(NamedTuple):
    """One step of a configuration change; an entry carries one or several of them."""

    kind: int  # a ChangeKind
    member: int


class SnapshotMeta(NamedTuple):
    """Where in the log a snapshot stands, and the configuration at that point."""

    index: int  # type: ignore[assignment]
    term: int
    configuration: Configuration


# --- messages -------------------------------------------------------------------------------------------------
# The first three fields of each are the same: to, sender, term (the sender's own term, except where said).


class AppendRequest(NamedTuple):
    """AppendEntries (paper, figure 2). Empty `entries`: a probe, or news of a higher commit."""

    to: int
    sender: int
    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int


class AppendResponse(NamedTuple):
    """`index` is the last index that matches and is durable; when rejected, the prev_index that did not match.

    `hint_index`/`hint_term` (rejected only): the follower's best guess at the last point of agreement: its last
    index at or below prev_index whose term is at or below the refused prev_term.
    """

    to: int
    sender: int
    term: int
    index: int  # type: ignore[assignment]
    rejected: bool
    hint_index: int
    hint_term: int


class VoteRequest(NamedTuple):
    """RequestVote; with `pre` a PreVote (dissertation 9.6), whose `term` is the term it would campaign in."""

    to: int
    sender: int
    term: int
    last_index: int
    last_term: int
    pre: bool
    forced: bool  # from a leadership transfer: a voter in lease does not refuse it


class VoteResponse(NamedTuple):
    """Granted PreVotes answer with the term that was asked for, everything else with the voter's own."""

    to: int
    sender: int
    term: int
    granted: bool
    pre: bool


class HeartbeatRequest(NamedTuple):
    """Keeps the lease; `round` counts ReadIndex rounds and comes back in the response (0: none)."""

    to: int
    sender: int
    term: int
    commit: int
    round: int


class HeartbeatResponse(NamedTuple):
    to: int
    sender: int
    term: int
    round: int


class SnapshotRequest(NamedTuple):
    """InstallSnapshot without its bytes.

    From the leader's core to its driver it says "stream the snapshot `meta` to this member"; the receiving driver
    steps it into its own core once all bytes are on its disk and checked.
    """

    to: int
    sender: int
    term: int
    meta: SnapshotMeta


class ProposeRequest(NamedTuple):
    """Commands from a follower, valid for `term` alone.

    A leader takes it only in its own term and each (sender, session, sequence) at most once with a rising
    sequence, so a repeated or late message can never append twice.
    """

    to: int
    sender: int
    term: int
    session: int
    sequence: int
    kind: int
    payloads: tuple[bytes, ...]


class ProposeRefusal(NamedTuple):
    """The leader did not append; `reason` is a Refusal."""

    to: int
    sender: int
    term: int
    session: int
    sequence: int
    reason: int


class ReadRequest(NamedTuple):
    """A follower asks for a read index (dissertation 6.4); `context` is the asker's own number."""

    to: int
    sender: int
    term: int
    context: int


class ReadResponse(NamedTuple):
    to: int
    sender: int
    term: int
    context: int
    index: int  # type: ignore[assignment]


class TimeoutNow(NamedTuple):
    """The leader hands over: campaign at once (dissertation 3.10)."""

    to: int
    sender: int
    term: int


Message: TypeAlias = (
    AppendRequest
    | AppendResponse
    | VoteRequest
    | VoteResponse
    | HeartbeatRequest
    | HeartbeatResponse
    | SnapshotRequest
    | ProposeRequest
    | ProposeRefusal
    | ReadRequest
    | ReadResponse
    | TimeoutNow
)


# --- what the core hands to its driver --------------------------------------------------------------------------


class Write(NamedTuple):
    """What must become durable, together, in this order: snapshot mark, entries, hard state.

    `promises` may leave only once all of it is durable; they are empty promises before that.
    """

    hard_state: HardState | None  # None: unchanged
    entries: tuple[Entry, ...]  # replace whatever the disk holds from entries[0].index on
    snapshot: SnapshotMeta | None  # the log begins anew after this snapshot
    promises: tuple[Message, ...]


class Proposal(NamedTuple):
    """What became of a propose(): appended here at `index` (the first of the batch), or forwarded (`index` 0).

    It is for `term` alone. Entries carry the term of the leader that appended them, and terms never fall along
    the log; so once any entry of a higher term is applied, a proposal of `term` that was not applied before it
    never will be, and may safely be proposed again.
    """

    term: int
    index: int  # type: ignore[assignment]
    session: int
    sequence: int  # 0 when appended here


class ReadState(NamedTuple):
    """A read that was asked for with `context` may be served once `index` is applied."""

    context: int
    index: int  # type: ignore[assignment]


class Refusal(IntEnum):
    """Why a proposal was certainly not appended."""

    NO_LEADER = 1
    TRANSFERRING = 2  # leadership is being handed over
    ENTRY_TOO_LARGE = 3
    TAIL_FULL = 4  # the uncommitted tail is at its limit
    CHANGE_PENDING = 5  # a configuration change is still under way
    UNKNOWN = 6  # the leader does not know what this is: it runs an earlier version
    WRITES_REFUSED = 7  # the leader's driver accepts no commands now
