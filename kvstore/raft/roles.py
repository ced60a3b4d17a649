"""Every change of role, term and configuration: nothing else in the package changes them.

It sends nothing; what a new role has to say is said by the modules that know how.
"""

from __future__ import annotations

from .progress import Inflights, Progress
from .quorum import Quorum
from .state import State
from .types import NO_MEMBER, Configuration, EntryKind, Role


def set_timeout(state: State) -> None:
    """Draws a fresh election timeout from [election, 2 * election) ticks and starts it (paper 5.2)."""
    state.elapsed = 0
    state.timeout = state.config.election_ticks + state.random.randrange(state.config.election_ticks)


def set_quick_timeout(state: State, ticks: int) -> None:
    """Starts an election timeout of `ticks`, as a broken connection to the leader calls for."""
    state.elapsed = 0
    state.timeout = max(ticks, 1)


def become_follower(state: State, term: int, leader: int) -> None:
    """Of `leader`, or of no one yet. A new term forgets the vote and whatever the old one was about to promise."""
    assert term >= state.term, "terms never fall"
    if term > state.term:
        state.term = term
        state.vote = NO_MEMBER
        state.verified = 0
        # Answers and requests of the old term are worth nothing any more, and their entries may yet be replaced.
        state.promises.clear()
    if state.role is Role.LEADER:
        _lay_down_leadership(state)
    state.role = Role.FOLLOWER
    state.leader = leader
    state.votes.clear()
    if leader != NO_MEMBER:
        state.quick_left = 0
        state.former_voter = False
    set_timeout(state)


def _lay_down_leadership(state: State) -> None:
    state.progress = {}
    state.transferee = NO_MEMBER
    state.retires_at = 0
    state.proposals_seen.clear()
    # Whoever asked for these asks again: nobody can confirm them in this term any more.
    state.waiting_reads.clear()
    state.round_reads.clear()


def become_pre_candidate(state: State) -> None:
    """Asks without consequences: neither term nor vote changes (dissertation 9.6)."""
    assert state.role is not Role.LEADER
    assert state.is_electable
    state.role = Role.PRE_CANDIDATE
    state.leader = NO_MEMBER
    state.votes = {state.member_id: True}


def become_candidate(state: State) -> None:
    """A new term, with the vote given to itself; it counts once it is durable (see core.written)."""
    assert state.role is not Role.LEADER
    assert state.is_electable
    state.promises.clear()
    state.role = Role.CANDIDATE
    state.leader = NO_MEMBER
    state.term += 1
    state.vote = state.member_id
    state.verified = 0
    state.votes = {}


def become_leader(state: State) -> None:
    """Opens its term with an empty entry: entries of earlier terms are committed only with it (paper 5.4.2, 8)."""
    assert state.role is Role.CANDIDATE
    assert state.written_term == state.term, "elected by a vote that a crash could take back"
    state.role = Role.LEADER
    state.leader = state.member_id
    state.quick_left = 0
    state.elapsed = state.heartbeat_elapsed = 0
    state.term_start = state.log.append_payloads(state.term, EntryKind.COMMAND, (b"",))
    # The log may hold a change of an earlier leader: it is settled once this term's own entry is applied.
    state.pending_change = state.term_start
    if not state.has_vote:
        state.retires_at = state.term_start
    _follow_members(state)


def set_configuration(state: State, configuration: Configuration) -> None:
    had_vote = state.has_vote
    state.configuration = configuration
    state.former_voter = had_vote and not state.has_vote
    state.members = configuration.members
    state.quorum = Quorum(configuration)
    if state.role is Role.LEADER:
        _follow_members(state)
        if state.transferee not in configuration.voters:
            state.transferee = NO_MEMBER


def _follow_members(state: State) -> None:
    """Keeps the progress of exactly the members, and of itself as long as it leads."""
    config = state.config
    kept = {}
    for member in sorted(state.members | {state.member_id}):
        progress = state.progress.get(member)
        if progress is None:
            window = Inflights(config.max_inflight, config.max_inflight_bytes)
            progress = Progress(member, state.term_start, state.now, window)
        kept[member] = progress
    own = kept[state.member_id]
    own.match = state.log.durable
    own.become_replicate()
    state.progress = kept
