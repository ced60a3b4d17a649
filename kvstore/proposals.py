"""Commands that wait for their outcome, from the client's request to the entry's apply.

A proposal is made for one term: the leader appends it in that term or never (raft/types.py, ProposeRequest). So
once an entry of a later term is applied here and the proposal is not, it can never be applied any more, and it is
proposed again: a client does not notice that a leader died. Where that cannot be known (the time is up, or a
snapshot jumped over the place where it may stand) the outcome is reported as not known.

It knows no raft and no log, no clock (time is ticks), and nothing of what a command does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

from kvstore.auth import AuthOutcome
from kvstore.store.events import Event
from kvstore.wire import Command, MembershipChange, Packed, joined, packed_bytes


class Unavailable(Exception):
    """The cluster did not answer; `message` is etcd's text for it. Whether the command happened is not known,
    except where a subclass says so."""

    def __init__(self, message: str = "etcdserver: request timed out") -> None:
        super().__init__(message)
        self.message = message


class Refused(Unavailable):
    """Certainly not done, and it may be asked again."""


class TooManyRequests(Refused):
    """This member has as much to do as it takes at a time: later, or another member."""

    def __init__(self, message: str = "etcdserver: too many requests") -> None:
        super().__init__(message)


class WritesRefused(TooManyRequests):
    """The log grows and no snapshot succeeds: nothing is accepted that would make it longer."""

    def __init__(self, why: str = "the leader cannot save a snapshot, its /health says why") -> None:
        super().__init__(f"etcdserver: writes are refused until a snapshot is saved: {why}")


class ChangePending(Refused):
    """Another change of members is still under way."""

    def __init__(self) -> None:
        super().__init__("etcdserver: too many configuration changes")


class UnknownToLeader(Refused):
    """The leader runs an earlier version, which does not know this command."""

    def __init__(self) -> None:
        super().__init__("etcdserver: the leader runs an earlier version of kvstored, which does not know this request")


#: What the command did (None: nothing to tell) or why not: StoreError, MembershipError, AuthError, Unavailable.
Outcome: TypeAlias = Event | AuthOutcome | Exception
Done: TypeAlias = Callable[[Outcome], None]


class Proposal:
    """One command on its way. `term` is 0 while it is not with a leader; `alone`: it shares no batch with others.

    `encoded` in parts holds the command's own long value, not a copy.
    """

    __slots__ = ("alone", "command", "deadline", "done", "encoded", "request", "settled", "size", "term")

    def __init__(
        self, request: int, command: Command | MembershipChange, encoded: Packed, done: Done, deadline: int
    ) -> None:
        self.request = request
        self.command = command
        self.encoded = encoded
        self.size = len(encoded) if type(encoded) is bytes else packed_bytes(encoded)
        self.done = done
        self.deadline = deadline
        self.term = 0
        self.alone = type(command) is MembershipChange
        self.settled = False


class Proposals:
    """All proposals of one member. At most `limit`, of `limit_bytes` in all, wait at a time: beyond that they are
    refused, not queued."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0  # of those that wait
        self._open: dict[int, Proposal] = {}  # by request id, oldest first
        self._by_index: dict[int, Proposal] = {}  # appended here, as the leader
        self._by_sequence: dict[int, list[Proposal]] = {}  # forwarded to the leader
        self.unsent: deque[Proposal] = deque()
        self.failed = 0  # refused for want of room, or given up on

    def __len__(self) -> int:
        return len(self._open)

    def add(self, proposal: Proposal, is_ours: bool = False) -> None:
        """Raises TooManyRequests when too many wait already. `is_ours`: the member's own, which no flood keeps out."""
        size = self._bytes + proposal.size
        if (len(self._open) >= self._limit or size > self._limit_bytes) and not is_ours:
            self.failed += 1
            raise TooManyRequests
        self._bytes = size
        self._open[proposal.request] = proposal
        self.unsent.append(proposal)

    def next_batch(self, limit: int) -> list[Proposal]:
        """The oldest that are not with a leader, together at most `limit` bytes (but at least one); a membership
        change goes alone. The caller sends them, puts them back or settles them."""
        batch: list[Proposal] = []
        size = 0
        while self.unsent:
            proposal = self.unsent[0]
            if not proposal.settled:
                alone = proposal.alone
                size += proposal.size
                if batch and (alone or size > limit):
                    break
                batch.append(proposal)
                if alone:
                    self.unsent.popleft()
                    break
            self.unsent.popleft()
        return batch

    def put_back(self, batch: list[Proposal]) -> None:
        """They could not be sent now: they keep their place at the head of the queue."""
        self.unsent.extendleft(reversed(batch))

    def appended(self, batch: Iterable[Proposal], term: int, first_index: int) -> None:
        """The leader, this member, holds `batch` from `first_index` on."""
        for index, proposal in enumerate(batch, first_index):
            proposal.term = term
            self._by_index[index] = proposal

    def forwarded(self, batch: list[Proposal], term: int, sequence: int) -> None:
        """`batch` is on its way to the leader of `term`."""
        for proposal in batch:
            proposal.term = term
        self._by_sequence[sequence] = batch

    def on_their_way(self, term: int) -> list[tuple[int, bool, list[bytes]]]:
        """Return what was forwarded in `term` and is not settled: sequence, whether it is a change of members, and the
        encoded commands; the oldest first.

        A batch of which one is settled is left out as a whole: the leader has it, or its time is up.
        """
        return [
            (sequence, type(batch[0].command) is MembershipChange, [joined(proposal.encoded) for proposal in batch])
            for sequence, batch in sorted(self._by_sequence.items())
            if batch[0].term == term and not any(proposal.settled for proposal in batch)
        ]

    def refused(self, sequence: int) -> list[Proposal]:
        """The leader did not append that batch; it is the caller's again (settled ones are left out)."""
        batch = [proposal for proposal in self._by_sequence.pop(sequence, ()) if not proposal.settled]
        for proposal in batch:
            proposal.term = 0
        return batch

    def at(self, index: int, term: int) -> Proposal | None:
        """The proposal that this member itself appended there, when the entry is still that one."""
        proposal = self._by_index.pop(index, None)
        return proposal if proposal is not None and proposal.term == term else None

    def of(self, request: int) -> Proposal | None:
        return self._open.get(request)

    def settle(self, proposal: Proposal, outcome: Outcome) -> None:
        """Answers it, once. A client that gave up before is not told again."""
        if not proposal.settled:
            proposal.settled = True
            del self._open[proposal.request]
            self._bytes -= proposal.size
            proposal.done(outcome)

    def term_began(self, term: int) -> None:
        """An entry of `term` is about to be applied: what was proposed for an earlier one and is still open was
        lost, and goes back to the head of the queue in its old order."""
        lost = [proposal for proposal in self._open.values() if 0 < proposal.term < term]
        for proposal in lost:
            proposal.term = 0
        self.unsent.extendleft(reversed(lost))
        self._forget_routes(term)

    def jumped(self, term: int) -> None:
        """A snapshot whose last entry is of `term` replaced the state: what was proposed up to then may be in
        it or not, and nobody can tell."""
        for proposal in [proposal for proposal in self._open.values() if 0 < proposal.term <= term]:
            self._give_up(proposal, Unavailable())
        self._forget_routes(term + 1)

    def _forget_routes(self, term: int) -> None:
        """Drops what was noted for terms before `term`."""
        self._by_index = {at: one for at, one in self._by_index.items() if one.term >= term}
        self._by_sequence = {at: batch for at, batch in self._by_sequence.items() if batch[0].term >= term}

    def expire(self, tick: int) -> None:
        """Gives up on those whose time is over; a late outcome of theirs is dropped."""
        while self._open:
            oldest = next(iter(self._open.values()))
            if oldest.deadline > tick:
                break
            self._give_up(oldest, Unavailable())
        while self.unsent and self.unsent[0].settled:
            self.unsent.popleft()
        self._by_sequence = {
            at: batch for at, batch in self._by_sequence.items() if not all(one.settled for one in batch)
        }

    def fail_all(self, outcome: Unavailable) -> None:
        for proposal in list(self._open.values()):
            self._give_up(proposal, outcome)

    def _give_up(self, proposal: Proposal, why: Unavailable) -> None:
        self.failed += 1
        self.settle(proposal, why)
