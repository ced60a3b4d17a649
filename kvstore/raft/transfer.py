"""The leader's side of handing leadership over (dissertation 3.10).

It takes no more proposals, brings the target up to date and tells it to campaign at once. If the target does not
take over within an election timeout, the leader goes on as before.
"""

from __future__ import annotations

from .progress import Progress, ProgressState
from .state import State
from .types import NO_MEMBER, Role, TimeoutNow


def begin(state: State, to: int) -> int:
    """Returns the target: `to`, or for NO_MEMBER the voter that is furthest; NO_MEMBER when there is no such voter."""
    if state.role is not Role.LEADER:
        return NO_MEMBER
    target = to if to != NO_MEMBER else _furthest_voter(state)
    if target == state.member_id or target not in state.configuration.voters:
        return NO_MEMBER
    state.transferee = target
    state.transfer_elapsed = 0
    continue_with(state, state.progress[target])
    return target


def _furthest_voter(state: State) -> int:
    return _furthest(state, state.now - state.config.election_ticks)


def _furthest(state: State, heard_after: int) -> int:
    """Of two that are as far, one that is probed may just have gone: the other one."""
    candidates = [
        (progress.match, progress.state is ProgressState.REPLICATE, member)
        for member, progress in state.progress.items()
        if member in state.configuration.voters and member != state.member_id and progress.heard > heard_after
    ]
    return max(candidates, default=(0, False, NO_MEMBER))[2]


def continue_with(state: State, progress: Progress) -> None:
    """Tells the target to campaign once it holds everything."""
    if progress.member == state.transferee and progress.match == state.last_index:
        state.send(TimeoutNow(progress.member, state.member_id, state.term))


def tick(state: State) -> None:
    if state.transferee == NO_MEMBER:
        return
    state.transfer_elapsed += 1
    if state.transfer_elapsed >= state.config.election_ticks:
        state.transferee = NO_MEMBER
    elif state.transfer_elapsed % state.config.heartbeat_ticks == 0:
        continue_with(state, state.progress[state.transferee])  # the word may have been lost


def leave_to_furthest(state: State) -> None:
    """The last word of a leader that is no voter any more (dissertation 4.2.2): someone else, at once."""
    target = _furthest_voter(state)
    if target != NO_MEMBER:
        state.send(TimeoutNow(target, state.member_id, state.term))


def leave_unheard(state: State) -> None:
    """The last word of a leader that hears from no quorum (dissertation 6.2). Perhaps it is only deaf: then whoever
    hears it need not first wait for its silence."""
    target = _furthest(state, -1)
    if target != NO_MEMBER:
        state.send(TimeoutNow(target, state.member_id, state.term))
