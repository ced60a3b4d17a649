"""Configuration changes as one member lives them: applied with their entry, left by the leader, or left behind.

A configuration takes effect when its entry is applied, not when it is appended. That is safe because a leader
proposes one change at a time, only when the last one is applied; because joint decisions need both majorities;
and because nobody campaigns with a change unapplied that it knows to be committed (State.is_electable).
"""

from __future__ import annotations

from collections.abc import Sequence

from . import reads, replication, roles, transfer
from .configuration import enter_joint, leave_joint
from .state import State
from .types import NO_MEMBER, Change, Configuration, EntryKind, Role


def apply(state: State, changes: Sequence[Change]) -> Configuration:
    """Raises ChangeRefused, and then nothing is changed, on every member alike."""
    configuration = enter_joint(state.configuration, changes) if changes else leave_joint(state.configuration)
    if state.role is Role.LEADER:
        replication.fill(state)  # whoever is removed by this hears at least that it is committed
    roles.set_configuration(state, configuration)
    if state.role is Role.LEADER:
        if not state.has_vote and not state.retires_at:
            # Whoever acknowledges this entry has got it with a commit that covers the change, and has both on disk.
            state.retires_at = state.log.append_payloads(state.term, EntryKind.COMMAND, (b"",))
        replication.advance_commit(state)
        reads.confirm(state)  # fewer may be enough now
    return configuration


def retire_if_due(state: State) -> None:
    """A leader that has no vote any more steps down (dissertation 4.2.2), but not before a quorum of those that
    remain know that it has none: left alone with a change that they cannot know to be committed, they would go on
    asking for its vote. It takes no proposals meanwhile.
    """
    if state.role is Role.LEADER and 0 < state.retires_at <= state.applied:
        transfer.leave_to_furthest(state)
        roles.become_follower(state, state.term, NO_MEMBER)


def leave_if_due(state: State) -> None:
    """The leader ends a joint configuration as soon as it is in force, whoever proposed it."""
    if state.role is Role.LEADER and state.configuration.is_joint and state.pending_change <= state.applied:
        state.pending_change = state.log.append_payloads(state.term, EntryKind.CONFIGURATION, (b"",))
