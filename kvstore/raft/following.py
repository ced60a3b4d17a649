"""A follower's side of replication: appends, heartbeats and snapshots from the leader of its own term.

By the time these are called, the term of the message is our own (see core.step), so its sender is the one leader
of this term (election safety, paper 5.2).
"""

from __future__ import annotations

from . import roles
from .state import State
from .types import (
    AppendRequest,
    AppendResponse,
    Entry,
    HeartbeatRequest,
    HeartbeatResponse,
    Role,
    SnapshotMeta,
    SnapshotRequest,
)


def _heard_leader(state: State, leader: int) -> bool:
    """Renews the lease. False when this very member leads the term: then the message is nonsense."""
    if state.role is Role.LEADER:
        return False
    if state.role is Role.FOLLOWER and state.leader == leader:
        state.elapsed = 0
    else:
        roles.become_follower(state, state.term, leader)
    return True


# --- appends ----------------------------------------------------------------------------------------------------


def handle_append_request(state: State, message: AppendRequest) -> None:
    """Paper, figure 2, AppendEntries; refusals carry a hint that skips a whole conflicting term."""
    log = state.log
    prev_index, prev_term, entries = message.prev_index, message.prev_term, message.entries
    if not _are_plausible(prev_index, prev_term, entries, message.term) or not _heard_leader(state, message.sender):
        return
    if prev_index < log.committed:
        # The leader holds all that is committed (leader completeness, paper 5.4), so up to there we agree.
        state.verified = max(state.verified, log.committed)
        _accept(state, message.sender, log.committed)
    elif log.term_at(prev_index) == prev_term:
        log.merge(entries)
        matching = prev_index + len(entries)
        state.verified = max(state.verified, matching)
        log.commit_to(min(message.commit, matching))
        _accept(state, message.sender, matching)
    else:
        _reject(state, message.sender, prev_index, prev_term)


def _are_plausible(prev_index: int, prev_term: int, entries: tuple[Entry, ...], term: int) -> bool:
    """Whether indices rise by one and terms never fall; a leader sends nothing else, so anything else is noise."""
    if prev_index < 0 or prev_term < 0:
        return False
    index, highest = prev_index, prev_term
    for entry in entries:
        index += 1
        if entry.index != index or entry.term < highest:
            return False
        highest = entry.term
    return highest <= term


def _accept(state: State, leader: int, index: int) -> None:
    """Promises that everything up to `index` is on our disk."""
    response = AppendResponse(leader, state.member_id, state.term, index, False, 0, 0)
    state.send_when_durable(response, index)


def _reject(state: State, leader: int, index: int, term: int) -> None:
    hint_index, hint_term = state.log.last_agreement(index, term)
    response = AppendResponse(leader, state.member_id, state.term, index, True, hint_index, hint_term)
    state.send_when_durable(response)


# --- heartbeats -------------------------------------------------------------------------------------------------


def handle_heartbeat_request(state: State, message: HeartbeatRequest) -> None:
    """Commits only what this leader's appends have confirmed since this member started.

    The leader says no more than what we acknowledged. If that is beyond what was confirmed, we acknowledged it in
    an earlier life, and the disk may not have kept it: ask for an append by refusing one.
    """
    if not _heard_leader(state, message.sender):
        return
    state.log.commit_to(min(message.commit, state.verified))
    if message.commit > max(state.log.committed, state.verified):
        _reject(state, message.sender, message.commit, message.term)
    answer_heartbeat(state, message.sender, message.round)


def answer_heartbeat(state: State, to: int, number: int) -> None:
    """Says only that we live and in which term; a crash takes nothing of it back that anyone relies on."""
    state.send(HeartbeatResponse(to, state.member_id, state.term, number))


# --- snapshots --------------------------------------------------------------------------------------------------


def handle_snapshot_request(state: State, message: SnapshotRequest) -> None:
    """All bytes of the snapshot are on our disk (paper 7)."""
    meta, log = message.meta, state.log
    if not _is_plausible(meta, message.term) or not _heard_leader(state, message.sender):
        return
    if meta.index > log.committed:
        if log.term_at(meta.index) == meta.term:
            log.commit_to(meta.index)  # we hold what it covers: the entries serve as well
        else:
            log.restart_after(meta)
            state.snapshot = state.pending_snapshot = meta
            roles.set_configuration(state, meta.configuration)
    state.verified = max(state.verified, log.committed)
    _accept(state, message.sender, log.committed)


def _is_plausible(meta: SnapshotMeta, term: int) -> bool:
    return meta.index > 0 and 0 < meta.term <= term and len(meta.configuration.voters) > 0
