"""Raft's own promises, watched after every step of every member (paper, figure 3), and those of this implementation.

The checker knows all members from outside and remembers what none of them may forget: who led each term, every entry
that any log ever held, what was committed, what was promised to others. Each look costs what changed since the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha1
from typing import NamedTuple

from kvstore.bootstrap import GENESIS_INDEX, GENESIS_TERM, Opened
from kvstore.levels import FIRST_LEVEL, HIGHEST_LEVEL, level_of_entry
from kvstore.node import Node
from kvstore.raft.core import Raft
from kvstore.raft.types import AppendResponse, Entry, EntryKind, Role, VoteRequest, VoteResponse
from kvstore.wire import PeerMessage, time_of, unpack_command
from tests.sim.pace import Pace, WatchedClock
from tests.sim.trace import Trace, Violation

EVERYTHING = 1 << 40
DIGEST_EVERY = 8  # the state is compared at multiples of this index

ONE_LEADER = "election safety: one leader a term"
LOG_MATCHING = "log matching"
COMPLETENESS = "leader completeness"
STATE_MACHINE = "state machine safety"
MONOTONE = "terms and commits never go back"
ONE_VOTE = "one vote a term"
DURABLE = "what was acknowledged survives a crash"
ONCE = "a command is applied once"
LEVEL = "no member is given what it does not know"
TIME = "replicated time never goes back"


class Seen(NamedTuple):
    """An entry of some log: what stands before it, and what it says."""

    previous_term: int
    kind: int
    payload: bytes


class Committed(NamedTuple):
    term: int
    in_term: int  # the term of the leader that committed it


class View:
    """One life of a member, as last looked at."""

    def __init__(self, opened: Opened) -> None:
        self.glance: tuple[int, ...] = ()
        self.level = HIGHEST_LEVEL  # what it knows is of this level at most
        self.clock: WatchedClock | None = None
        self.term = opened.hard_state.term
        self.role = Role.FOLLOWER
        self.commit = self.applied = 0
        base = opened.snapshot
        self.last_index = base.index if base else 0
        self.terms: dict[int, int] = {base.index: base.term} if base else {0: 0}  # of the log's entries


class Promises:
    """What a member told others, through all its lives."""

    def __init__(self) -> None:
        self.term = 0
        self.log = (0, 0)  # (index, term) of the last entry that it acknowledged and was not told to replace


class Checker:
    def __init__(
        self, trace: Trace, others: Callable[[], Iterable[Raft]], true_time: Callable[[], int] = lambda: 0
    ) -> None:
        """`others` gives the cores that live, `true_time` nanoseconds."""
        self._pace = Pace(true_time)
        self.committed: dict[int, Committed] = {GENESIS_INDEX: Committed(GENESIS_TERM, GENESIS_TERM)}
        self.last_committed = GENESIS_INDEX
        self.written: dict[bytes, int] = {}  # unique value -> index of the committed entry that writes it
        self._trace = trace
        self._others = others
        self._leaders: dict[int, tuple[int, View]] = {}
        self._entries: dict[tuple[int, int], Seen] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._promises: dict[int, Promises] = {}
        self._requests: dict[int, int] = {}  # request -> index, of committed entries
        self._proposed: dict[int, tuple[int, int]] = {}  # request -> (index, term) where it was seen first
        self._time = 0
        self._foundings: dict[tuple[int, int], int] = {}  # (index, term) -> level
        self._founded_at = FIRST_LEVEL  # the level of the founding that is committed
        self._digests: dict[int, bytes] = {}

    # --- what members say -------------------------------------------------------------------------------------------

    def sends(self, raft: Raft, message: PeerMessage) -> None:
        """A promise leaves: from here on it must be kept."""
        if isinstance(message, VoteResponse):
            if message.granted and not message.pre:
                self._vote(message.sender, message.term, message.to)
        elif isinstance(message, VoteRequest):
            if not message.pre:
                self._vote(message.sender, message.term, message.sender)
        elif isinstance(message, AppendResponse) and not message.rejected:
            promises = self._promises.setdefault(message.sender, Promises())
            promises.term = max(promises.term, message.term)
            if message.index > promises.log[0] and message.index >= raft.log.start_index:
                promises.log = (message.index, raft.log.term_at(message.index))

    def _vote(self, voter: int, term: int, candidate: int) -> None:
        promises = self._promises.setdefault(voter, Promises())
        promises.term = max(promises.term, term)
        other = self._votes.setdefault((voter, term), candidate)
        if other != candidate:
            raise Violation(ONE_VOTE, f"member {voter:x} voted for {other:x} and {candidate:x} in term {term}")

    # --- lives ------------------------------------------------------------------------------------------------------

    def begins(self, member: int, opened: Opened) -> View:
        """A member comes up with what its disk gave back."""
        promises = self._promises.setdefault(member, Promises())
        index, term = promises.log
        base = opened.snapshot.index if opened.snapshot else 0
        held = {entry.index: entry.term for entry in opened.entries}
        if opened.hard_state.term < promises.term:
            raise Violation(
                MONOTONE, f"member {member:x} acted in term {promises.term}, now it knows {opened.hard_state.term}"
            )
        if index > base and held.get(index) != term and (opened.promised is None or opened.promised < (term, index)):
            raise Violation(
                DURABLE,
                f"member {member:x} acknowledged entry {index} of term {term}, now its log ends at "
                f"{max(held, default=base)} and it owes {opened.promised}",
            )
        if opened.promised is not None:
            last = opened.entries[-1] if opened.entries else None
            promises.log = (last.index, last.term) if last else (base, opened.snapshot.term if opened.snapshot else 0)
            self._trace.saw("lost promises")
        return View(opened)

    def forgives(self, member: int) -> None:
        """Its disk is lost: it keeps no promise any more, so nobody must count on it."""
        self._promises.pop(member, None)

    def observe(self, view: View, node: Node) -> None:
        """After every step of `node`."""
        raft = node.raft
        log = raft.log
        glance = (raft.term, raft.role, log.last_index, log.last_term, log.committed, log.applied, log.start_index)
        if glance == view.glance:
            return
        view.glance = glance
        if raft.term < view.term:
            raise Violation(MONOTONE, f"member {raft.member_id:x} went from term {view.term} to {raft.term}")
        view.term = raft.term
        if (log.last_index, log.last_term) != (view.last_index, view.terms.get(view.last_index)):
            self._follow_log(view, raft)
        if log.committed != view.commit:
            self._follow_commit(view, raft)
        if raft.role is Role.LEADER and view.role is not Role.LEADER:
            self._elected(view, raft)
        view.role = raft.role
        if log.applied != view.applied:
            self._follow_applied(view, node)

    # --- logs -------------------------------------------------------------------------------------------------------

    def _follow_log(self, view: View, raft: Raft) -> None:
        log = raft.log
        first = log.last_index
        while first > log.start_index and view.terms.get(first) != log.term_at(first):
            first -= 1
        replaced = [index for index in range(first + 1, view.last_index + 1) if view.terms.pop(index, None) is not None]
        if replaced:
            self._superseded(raft, replaced[0])
        if view.terms.get(log.start_index) != log.start_term:
            self._trace.saw("snapshots installed")
            view.terms = {log.start_index: log.start_term}
        for entry in log.slice(first + 1, log.last_index, EVERYTHING):
            previous_term = log.term_at(entry.index - 1)
            self._check_level(view, raft, entry, previous_term)
            self._register(raft, entry, previous_term)
            view.terms[entry.index] = entry.term
        view.last_index = log.last_index

    def _check_level(self, view: View, raft: Raft, entry: Entry, previous_term: int) -> None:
        """A founding does not wait for a member that starts late. A late member at a lower level gets the founding, and
        once that is committed, other entries of its level.

        An earlier program would be sent nothing. The simulated ones are of this version, with `--max-level`.
        """
        level = level_of_entry(entry)
        if FIRST_LEVEL < level <= HIGHEST_LEVEL and self._is_first(entry.index, previous_term):
            self._foundings[entry.index, entry.term] = level
        elif level > max(view.level, self._founded_at):
            raise Violation(LEVEL, f"member {raft.member_id:x}, of level {view.level}, holds {entry}")

    def _is_first(self, index: int, previous_term: int) -> bool:
        """Whether all entries before `index` are empty; `previous_term` is that of the last of them."""
        while (index := index - 1) > GENESIS_INDEX:
            before = self._entries.get((index, previous_term))
            if before is None or before.payload:
                return False
            previous_term = before.previous_term
        return True

    def _superseded(self, raft: Raft, index: int) -> None:
        """A leader replaced acknowledged entries by its own: the promise was for its predecessor."""
        self._trace.saw("conflicts truncated")
        promises = self._promises.setdefault(raft.member_id, Promises())
        if promises.log[0] >= index:
            kept = index - 1
            promises.log = (kept, raft.log.term_at(kept)) if kept > raft.log.start_index else (0, 0)

    def _register(self, raft: Raft, entry: Entry, previous_term: int) -> None:
        seen = Seen(previous_term, entry.kind, entry.payload)
        known = self._entries.setdefault((entry.index, entry.term), seen)
        if known is seen:
            self._pace.appended(entry.index, entry.term)
            if entry.kind == EntryKind.COMMAND and entry.payload:
                place = (entry.index, entry.term)
                if self._proposed.setdefault(unpack_command(entry.payload).request, place) != place:
                    self._trace.saw("re-proposals")
        elif known != seen:
            raise Violation(
                LOG_MATCHING, f"member {raft.member_id:x} holds {entry} after term {previous_term}, another one {known}"
            )

    # --- commits ----------------------------------------------------------------------------------------------------

    def _follow_commit(self, view: View, raft: Raft) -> None:
        log = raft.log
        if log.committed < view.commit:
            raise Violation(MONOTONE, f"member {raft.member_id:x} went from commit {view.commit} to {log.committed}")
        for index in range(max(view.commit + 1, log.start_index, 1), log.committed + 1):
            term = log.term_at(index)
            known = self.committed.get(index)
            if known is None:
                self._commit(raft, index, term)
            elif known.term != term:
                raise Violation(
                    STATE_MACHINE,
                    f"member {raft.member_id:x} committed entry {index} of term {term}, another one of {known.term}",
                )
        view.commit = log.committed

    def _commit(self, raft: Raft, index: int, term: int) -> None:
        """The first member that knows it is the leader that counted."""
        if index != self.last_committed + 1:
            raise Violation(
                STATE_MACHINE, f"member {raft.member_id:x} has entry {index}, committed is only {self.last_committed}"
            )
        self.committed[index] = Committed(term, raft.term)
        self.last_committed = index
        self._founded_at = max(self._founded_at, self._foundings.get((index, term), FIRST_LEVEL))
        self._trace.saw("commits")
        seen = self._entries[index, term]
        if seen.kind == EntryKind.COMMAND and seen.payload:
            self._command(index, seen.payload)
            leader = self._leaders.get(term)
            self._pace.committed(index, term, time_of(seen.payload), leader[1] if leader else None)
        elif seen.payload:
            self._trace.saw("configuration changes")
        for other in self._others():
            if other.role is Role.LEADER and other.term > raft.term:
                self._must_hold(other, index)

    def _command(self, index: int, payload: bytes) -> None:
        logged = unpack_command(payload)
        first = self._requests.setdefault(logged.request, index)
        value = getattr(logged.command, "value", None)
        if value:
            first = min(first, self.written.setdefault(value, index))
        if first != index:
            raise Violation(ONCE, f"{logged.command} stands at {first} and at {index}")
        if time_of(payload) < self._time:
            raise Violation(TIME, f"entry {index} was stamped {self._time - time_of(payload)} ns before the last one")
        self._time = time_of(payload)

    # --- leaders ----------------------------------------------------------------------------------------------------

    def _elected(self, view: View, raft: Raft) -> None:
        self._trace.saw("elections")
        leader = self._leaders.setdefault(raft.term, (raft.member_id, view))
        if leader != (raft.member_id, view):
            raise Violation(ONE_LEADER, f"{leader[0]:x} and {raft.member_id:x} both lead term {raft.term}")
        for index, committed in self.committed.items():
            if committed.in_term < raft.term:
                self._must_hold(raft, index)

    def _must_hold(self, leader: Raft, index: int) -> None:
        log = leader.log
        if index < log.start_index:
            return  # compacted away, so applied, and compared when that was
        if log.term_at(index) != self.committed[index].term:
            raise Violation(
                COMPLETENESS,
                f"entry {index} of term {self.committed[index].term} was committed in term "
                f"{self.committed[index].in_term}, but the leader of term {leader.term}, {leader.member_id:x}, "
                f"{'lacks it' if index > log.last_index else f'holds one of term {log.term_at(index)}'}",
            )

    # --- state machines ---------------------------------------------------------------------------------------------

    def _follow_applied(self, view: View, node: Node) -> None:
        applied = node.raft.applied
        if applied < view.applied:
            raise Violation(MONOTONE, f"member {node.raft.member_id:x} applied {view.applied}, then {applied}")
        if applied > self.last_committed:
            raise Violation(STATE_MACHINE, f"member {node.raft.member_id:x} applied {applied}, not committed")
        view.applied = applied
        if applied % DIGEST_EVERY == 0:
            self.compare(node)

    def compare(self, node: Node) -> None:
        """The state of members at the same index is the same, byte for byte."""
        applied = node.raft.applied
        digest = sha1(b"".join(node.machine.freeze().chunks())).digest()
        first = self._digests.setdefault(applied, digest)
        if first is not digest:
            self._trace.saw("states compared")
        if first != digest:
            raise Violation(STATE_MACHINE, f"at index {applied} member {node.raft.member_id:x} has a state of its own")
