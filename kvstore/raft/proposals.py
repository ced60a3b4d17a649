"""Proposals: made here by the leader, sent on to it by everyone else, and refused when a limit is reached.

A proposal is for one term. The leader takes a forwarded one only in its own term and only with a higher sequence
than any before it in the same session, so it is appended at most once, however often the network repeats it. When
nothing is known of it any more, the asker waits until an entry of a higher term is applied: from then on it can
never be applied (types.Proposal says why), and it may be proposed again.
"""

from __future__ import annotations

from collections.abc import Sequence

from .config import ENTRY_OVERHEAD, PlantedBug
from .errors import ProposalRefused
from .replication import own_log_durable
from .state import State
from .types import NO_MEMBER, EntryKind, Proposal, ProposeRefusal, ProposeRequest, Refusal, Role


def propose(state: State, kind: EntryKind, payloads: Sequence[bytes]) -> Proposal:
    """All of `payloads` or, with ProposalRefused, none of them."""
    assert payloads, "nothing to propose"
    if state.role is not Role.LEADER:
        return _forward(state, kind, payloads)
    reason = _why_not(state, kind, payloads)
    if reason is not None:
        raise ProposalRefused(reason)
    return Proposal(state.term, _append(state, kind, payloads), state.session, 0)


def _forward(state: State, kind: EntryKind, payloads: Sequence[bytes]) -> Proposal:
    if state.leader == NO_MEMBER:
        raise ProposalRefused(Refusal.NO_LEADER)
    if _holds_too_large(state, payloads):
        raise ProposalRefused(Refusal.ENTRY_TOO_LARGE)
    state.sequence += 1
    state.send(
        ProposeRequest(
            state.leader, state.member_id, state.term, state.session, state.sequence, int(kind), tuple(payloads)
        )
    )
    return Proposal(state.term, 0, state.session, state.sequence)


def forward_again(state: State, sequence: int, kind: EntryKind, payloads: Sequence[bytes]) -> None:
    """Send a batch once more that was forwarded in this term to the leader that there is, under its first sequence.

    The leader appends it only if it has not seen that sequence nor a higher one, so what is sent again must leave
    before anything else is forwarded, the oldest batch first.
    """
    state.send(
        ProposeRequest(state.leader, state.member_id, state.term, state.session, sequence, int(kind), tuple(payloads))
    )


def take_back(state: State) -> None:
    """Forget forwarded batches that have not left: they would overtake those that are sent again."""
    state.messages = [message for message in state.messages if type(message) is not ProposeRequest]


def _append(state: State, kind: EntryKind, payloads: Sequence[bytes]) -> int:
    first = state.log.append_payloads(state.term, kind, payloads)
    if kind is EntryKind.CONFIGURATION:
        state.pending_change = first
    if PlantedBug.ACK_BEFORE_FSYNC in state.planted:
        own_log_durable(state)
    return first


# --- limits -----------------------------------------------------------------------------------------------------


def _holds_too_large(state: State, payloads: Sequence[bytes]) -> bool:
    return max(map(len, payloads), default=0) > state.config.max_entry_bytes


def _why_not(state: State, kind: EntryKind, payloads: Sequence[bytes]) -> Refusal | None:
    if state.transferee != NO_MEMBER or state.retires_at:
        return Refusal.TRANSFERRING
    if _holds_too_large(state, payloads):
        return Refusal.ENTRY_TOO_LARGE
    size = sum(map(len, payloads)) + ENTRY_OVERHEAD * len(payloads)
    if state.log.uncommitted_bytes + size > state.config.max_uncommitted_bytes:
        return Refusal.TAIL_FULL
    if kind is EntryKind.CONFIGURATION and not _may_change(state, payloads):
        return Refusal.CHANGE_PENDING
    return None


def _may_change(state: State, payloads: Sequence[bytes]) -> bool:
    """One change at a time: the last one is applied, and what is asked fits: a joint configuration is only left."""
    leaves = payloads[0] == b""
    return len(payloads) == 1 and state.pending_change <= state.applied and leaves == state.configuration.is_joint


# --- forwarded --------------------------------------------------------------------------------------------------


def handle_propose_request(state: State, message: ProposeRequest) -> None:
    if not message.payloads:
        return
    if state.role is not Role.LEADER:
        # Whoever led this term voted for itself in it. With our vote elsewhere, or given to no one (campaigning
        # means a new term), we have not led this term and never will: nothing was appended here, nothing will be.
        if state.vote != state.member_id:
            _refuse(state, message, Refusal.NO_LEADER)
        return
    session = (message.sender, message.session)
    if message.sequence <= state.proposals_seen.get(session, 0):
        return  # taken or refused before, or overtaken by a later one; silence, for only the log knows which
    # Forgotten with the term: one number for each life of a member.
    state.proposals_seen[session] = message.sequence
    if message.kind not in (EntryKind.COMMAND, EntryKind.CONFIGURATION):
        _refuse(state, message, Refusal.UNKNOWN)
        return
    kind = EntryKind(message.kind)
    reason = state.forwarded_refusal
    if reason is None:
        reason = _why_not(state, kind, message.payloads)
    if reason is None:
        _append(state, kind, message.payloads)
    else:
        _refuse(state, message, reason)


def _refuse(state: State, message: ProposeRequest, reason: Refusal) -> None:
    state.send(
        ProposeRefusal(message.sender, state.member_id, state.term, message.session, message.sequence, int(reason))
    )


def handle_propose_refusal(state: State, message: ProposeRefusal) -> None:
    if message.session == state.session:
        state.refusals.append(message)
