"""The leader's side of replication: what to send to whom, what the answers mean, and when an entry is committed.

Appends are made only when the driver takes the messages (`fill`), so that everything proposed in one turn travels
in one append to each member, however many proposals that were.
"""

from __future__ import annotations

from . import transfer
from .config import PlantedBug
from .progress import Progress, ProgressState
from .state import State
from .types import (
    AppendRequest,
    AppendResponse,
    Entry,
    HeartbeatRequest,
    HeartbeatResponse,
    Role,
    SnapshotRequest,
)

# --- sending ----------------------------------------------------------------------------------------------------


def fill(state: State) -> None:
    """Appends for every member that may have one, and news of a higher commit for those with nothing else to get."""
    shared: dict[int, tuple[Entry, ...]] = {}  # by first index: members at the same point get the same tuple
    for member, progress in state.progress.items():
        if member == state.member_id or progress.paused or progress.state is ProgressState.SNAPSHOT:
            continue
        if progress.next <= state.log.start_index:
            _send_snapshot(state, progress)
        elif progress.state is ProgressState.PROBE:
            _send_append(state, progress, shared)
            progress.paused = True
        else:
            _stream(state, progress, shared)


def _stream(state: State, progress: Progress, shared: dict[int, tuple[Entry, ...]]) -> None:
    last_index = state.log.last_index
    while progress.next <= last_index and not progress.inflights.is_full:
        _send_append(state, progress, shared)
    if min(state.log.committed, progress.next - 1) > progress.sent_commit:
        _send_empty_append(state, progress)


def _send_append(state: State, progress: Progress, shared: dict[int, tuple[Entry, ...]]) -> None:
    log = state.log
    first = progress.next
    entries = shared.get(first)
    if entries is None:
        entries = shared[first] = tuple(log.slice(first, log.last_index, state.config.max_append_bytes))
    commit = log.committed
    prev = first - 1
    state.messages.append(
        AppendRequest(progress.member, state.member_id, state.term, prev, log.term_at(prev), entries, commit)
    )
    last = prev + len(entries)
    progress.sent_commit = min(commit, last)
    progress.sent = state.now
    if progress.state is ProgressState.REPLICATE:
        progress.next = last + 1
        progress.inflights.add(last, log.size_to(last) - log.size_to(prev))


def _send_empty_append(state: State, progress: Progress) -> None:
    log = state.log
    prev = progress.next - 1
    state.messages.append(
        AppendRequest(progress.member, state.member_id, state.term, prev, log.term_at(prev), (), log.committed)
    )
    progress.sent_commit = min(log.committed, prev)
    progress.sent = state.now


def _send_snapshot(state: State, progress: Progress) -> None:
    """Only to a member that lives: a snapshot is too much to send into the void."""
    if state.now - progress.heard >= state.config.election_ticks:
        return
    assert state.snapshot is not None, "compacted without a snapshot"
    progress.become_snapshot(state.snapshot.index)
    state.send(SnapshotRequest(progress.member, state.member_id, state.term, state.snapshot))


def broadcast_heartbeat(state: State) -> None:
    """Carries the read round that is under way, if any, so that a lost one is asked again."""
    number = state.round if state.round_reads else 0
    state.heartbeat_elapsed = 0
    for member, progress in state.progress.items():
        if member != state.member_id:
            commit = min(state.log.committed, progress.match)
            state.messages.append(HeartbeatRequest(member, state.member_id, state.term, commit, number))


# --- answers ----------------------------------------------------------------------------------------------------


def handle_append_response(state: State, message: AppendResponse) -> None:
    progress = state.progress.get(message.sender)
    log = state.log
    if progress is None or message.index < 0 or message.sender == state.member_id:
        return
    progress.heard = state.now
    if message.rejected:
        agreed, _ = log.last_agreement(message.hint_index, message.hint_term)
        if message.hint_index < log.start_index:
            agreed = max(message.hint_index, 0)  # we cannot look so far back: believe it, it gets a snapshot
        progress.rejected(message.index, agreed)
    elif message.index <= log.last_index:
        if progress.acked(message.index, log.start_index):
            advance_commit(state)
        transfer.continue_with(state, progress)


def handle_heartbeat_response(state: State, message: HeartbeatResponse) -> None:
    """A sign of life, and the moment to notice that an append or its answer was lost.

    Not at every sign: reads make many, and an answer that merely takes its time is no reason to send again.
    """
    progress = state.progress.get(message.sender)
    if progress is None or message.sender == state.member_id:
        return
    progress.heard = state.now
    if state.now - progress.sent < state.config.heartbeat_ticks:
        return
    progress.unanswered()
    if progress.state is ProgressState.REPLICATE and progress.match < progress.next - 1 == state.last_index:
        # All is sent and not all answered: an empty append after the last entry is refused if one was lost.
        _send_empty_append(state, progress)


def member_unreachable(state: State, member: int) -> None:
    """What is in flight to it is probably lost: find out again where it stands."""
    progress = state.progress.get(member)
    if progress is not None and member != state.member_id and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def snapshot_sent(state: State, member: int, ok: bool) -> None:
    """The driver is done with streaming. The next append waits for an answer, or else for a sign of life."""
    progress = state.progress.get(member)
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    if ok:
        progress.become_probe()
    else:
        progress.snapshot_failed()
    progress.paused = True
    progress.sent = state.now


# --- committing -------------------------------------------------------------------------------------------------


def own_log_durable(state: State) -> None:
    """A leader counts itself up to what its own disk holds, no further (dissertation 10.2.1)."""
    if state.role is not Role.LEADER:
        return
    held = state.log.last_index if PlantedBug.ACK_BEFORE_FSYNC in state.planted else state.log.durable
    if state.progress[state.member_id].acked(held, state.log.start_index):
        advance_commit(state)


def advance_commit(state: State) -> None:
    """Commits what a quorum holds, but by counting only entries of our own term (paper 5.4.2, figure 8)."""
    log = state.log
    index = state.quorum.committed({member: progress.match for member, progress in state.progress.items()})
    if index > log.committed and (log.term_at(index) == state.term or PlantedBug.COMMIT_OLD_TERM in state.planted):
        log.commit_to(index)
