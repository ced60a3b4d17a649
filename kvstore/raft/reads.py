"""ReadIndex: linearizable reads without the log (dissertation 6.4).

A round is one heartbeat to everyone, answered by a quorum: it proves that this leader still led after every read
of the round had been asked, so its commit index at the start of the round covers all that was acknowledged before.
While a round is under way, new reads gather for the next one.
"""

from __future__ import annotations

from .config import PlantedBug
from .replication import broadcast_heartbeat
from .state import State
from .types import NO_MEMBER, HeartbeatResponse, ReadRequest, ReadResponse, ReadState, Role


def read_index(state: State, context: int) -> bool:
    """False: not now, for there is no leader or too many are waiting."""
    if state.role is Role.LEADER:
        return _ask(state, state.member_id, context)
    if state.leader == NO_MEMBER:
        return False
    # An answer to an earlier life, which may have used the same context, must not be taken for one of ours.
    state.send(ReadRequest(state.leader, state.member_id, state.term, context ^ state.session))
    return True


def _ask(state: State, member: int, context: int) -> bool:
    if PlantedBug.STALE_READ in state.planted:
        _answer(state, member, context, state.commit)
        return True
    if len(state.waiting_reads) >= state.config.max_reads:
        return False
    state.waiting_reads.append((member, context))
    return True


def start_round(state: State) -> None:
    """Called when the driver takes the messages, so that all reads of one turn share a round.

    Before the first entry of its own term is committed a leader does not know what is (dissertation 6.4, step 1).
    """
    if not state.waiting_reads or state.round_reads or state.commit < state.term_start:
        return
    state.round += 1
    state.round_reads, state.waiting_reads = state.waiting_reads, []
    state.round_index = state.commit
    state.round_acks = {state.member_id}
    confirm(state)
    if state.round_reads:
        broadcast_heartbeat(state)


def confirm(state: State) -> None:
    """Ends the round under way, if a quorum has answered it."""
    if not state.quorum.reached_by(state.round_acks):
        return
    confirmed, state.round_reads = state.round_reads, []
    for member, context in confirmed:
        _answer(state, member, context, state.round_index)


def _answer(state: State, member: int, context: int, index: int) -> None:
    if member == state.member_id:
        state.reads.append(ReadState(context, index))
    else:
        state.send(ReadResponse(member, state.member_id, state.term, context, index))


def handle_heartbeat_response(state: State, message: HeartbeatResponse) -> None:
    if state.round_reads and message.round == state.round:
        state.round_acks.add(message.sender)
        confirm(state)


def handle_read_request(state: State, message: ReadRequest) -> None:
    """Anyone but the leader is silent; the asker asks again when it knows better."""
    if state.role is Role.LEADER:
        _ask(state, message.sender, message.context)


def handle_read_response(state: State, message: ReadResponse) -> None:
    if state.role is Role.FOLLOWER:
        state.reads.append(ReadState(message.context ^ state.session, message.index))
