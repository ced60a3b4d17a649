"""Elections: timeouts, PreVote, votes, the leader's lease, and quick elections after a start or a broken connection.

Paper 5.2 and 5.4.1; dissertation 9.6 (PreVote) and 6.4.1 and 4.2.3 (the lease: who heard from a leader within the
shortest election timeout helps no one to replace it). The lease has one hole on purpose: the leader itself may
ask for votes, for if it campaigns it leads no more.
"""

from __future__ import annotations

from . import roles, transfer
from .config import PlantedBug
from .quorum import Tally
from .state import State
from .types import NO_MEMBER, Role, TimeoutNow, VoteRequest, VoteResponse

# --- time -------------------------------------------------------------------------------------------------------


def tick(state: State) -> None:
    """One tick of a member that does not lead."""
    state.elapsed += 1
    if state.elapsed < state.timeout:
        return
    if state.is_electable:
        campaign(state)
        return
    # It cannot lead, but it must not go on believing in a leader that it does not hear.
    roles.become_follower(state, state.term, NO_MEMBER)


def check_quorum(state: State) -> None:
    """A leader that did not hear from a quorum for an election timeout leads no one: it steps down."""
    horizon = state.now - state.config.election_ticks
    heard = {member for member, progress in state.progress.items() if progress.heard > horizon}
    heard.add(state.member_id)
    if not state.quorum.reached_by(heard):
        transfer.leave_unheard(state)
        roles.become_follower(state, state.term, NO_MEMBER)


def started(state: State) -> None:
    """A new life, in which no leader was heard yet: perhaps all members were down together.

    Such a member need not wait for a whole election timeout, unlike one that has just heard a leader. It gives a leader
    the time of one heartbeat and then asks, in turn (see `leader_unreachable`) and with a PreVote, which the others
    refuse while they hear a leader. So a member that restarts costs a healthy leader nothing.
    """
    if state.has_vote:
        state.quick_left = state.config.quick_retries
        roles.set_quick_timeout(state, state.config.heartbeat_ticks + _turn(state, NO_MEMBER))


def voter_reachable(state: State, voter: int) -> None:
    """A connection to `voter` has come about. Whatever we asked it for before was lost: without a leader, ask soon."""
    waits = state.role is Role.FOLLOWER or state.role is Role.PRE_CANDIDATE
    if waits and state.leader == NO_MEMBER and state.has_vote and voter in _other_voters(state):
        state.quick_left = state.config.quick_retries
        wait = state.config.heartbeat_ticks + _turn(state, NO_MEMBER)
        if wait < state.timeout - state.elapsed:
            roles.set_quick_timeout(state, wait)


def _turn(state: State, leader: int) -> int:
    """How many ticks this voter waits so that the others, but for `leader`, can be asked one after the other."""
    others = sorted((state.configuration.voters | state.configuration.outgoing) - {leader})
    return 1 + others.index(state.member_id) * state.config.stagger_ticks + state.random.randrange(2)


def leader_unreachable(state: State, leader: int) -> None:
    """The connection to `leader` broke. If it leads us, its lease is void and an election may begin soon.

    The voters wait one after the other, each `stagger_ticks` longer than the one before, so that normally one is
    elected before the next begins: the first may lack entries, the next then has them. If the leader lives, its
    next message ends this, and until then the others' leases and its own refuse the PreVote.
    """
    if state.role is not Role.FOLLOWER or leader == NO_MEMBER or state.leader != leader:
        return
    state.leader = NO_MEMBER
    if state.has_vote:
        state.quick_left = state.config.quick_retries
        roles.set_quick_timeout(state, _turn(state, leader))


def _set_retry_timeout(state: State) -> None:
    """When to try again if this election does not end: soon a few times, for there may be no leader, then as usual."""
    if state.quick_left > 0:
        state.quick_left -= 1
        least = 2 * state.config.stagger_ticks
        roles.set_quick_timeout(state, least + state.random.randrange(2 * least))
    else:
        roles.set_timeout(state)


# --- campaigning ------------------------------------------------------------------------------------------------


def campaign(state: State) -> None:
    """Begins with a PreVote, if this member may lead."""
    if state.role is Role.LEADER or not state.is_electable:
        return
    roles.become_pre_candidate(state)
    _set_retry_timeout(state)
    for voter in _other_voters(state):
        state.send(_vote_request(state, voter, state.term + 1, pre=True, forced=False))
    if state.quorum.tally(state.votes) is Tally.WON:
        _stand(state, forced=False)


def _stand(state: State, *, forced: bool) -> None:
    """The election proper. Our own vote counts when it is durable, and the requests leave with it."""
    roles.become_candidate(state)
    _set_retry_timeout(state)
    for voter in _other_voters(state):
        state.send_when_durable(_vote_request(state, voter, state.term, pre=False, forced=forced))


def _other_voters(state: State) -> list[int]:
    return sorted((state.configuration.voters | state.configuration.outgoing) - {state.member_id})


def _vote_request(state: State, to: int, term: int, *, pre: bool, forced: bool) -> VoteRequest:
    log = state.log
    return VoteRequest(to, state.member_id, term, log.last_index, log.last_term, pre, forced)


def own_vote_durable(state: State) -> None:
    """The disk has term and vote."""
    if state.role is Role.CANDIDATE and state.vote == state.member_id:
        _count(state, state.member_id, granted=True)


def handle_vote_response(state: State, message: VoteResponse) -> None:
    expected = Role.PRE_CANDIDATE if message.pre else Role.CANDIDATE
    late = message.pre and message.granted and message.term != state.term + 1
    if state.role is expected and not late:
        _count(state, message.sender, message.granted)


def _count(state: State, voter: int, granted: bool) -> None:
    state.votes.setdefault(voter, granted)
    tally = state.quorum.tally(state.votes)
    if tally is Tally.WON:
        if state.role is Role.PRE_CANDIDATE:
            _stand(state, forced=False)
        elif state.member_id in state.votes:
            # Nobody leads on a vote of its own that a crash could take back.
            roles.become_leader(state)
    elif tally is Tally.LOST:
        quick, remaining = state.quick_left, state.timeout - state.elapsed
        roles.become_follower(state, state.term, NO_MEMBER)
        if quick > 0:
            # Waiting out the quick timeout that began with the election, not a whole new one.
            roles.set_quick_timeout(state, remaining)


def handle_timeout_now(state: State, message: TimeoutNow) -> None:
    """The leader hands over (dissertation 3.10): no PreVote, and no lease stands in the way."""
    if state.role is Role.FOLLOWER and state.leader == message.sender and state.is_electable:
        state.quick_left = 1
        _stand(state, forced=True)


# --- voting -----------------------------------------------------------------------------------------------------


def refuses_unheard(state: State, message: VoteRequest) -> bool:
    """Whether the lease forbids even to look at this request: it must not raise our term (dissertation 4.2.3)."""
    return state.in_lease and not message.forced and message.sender != state.leader


def refuse(state: State, message: VoteRequest) -> None:
    """Says no in our own term, which frees a candidate that is behind."""
    response = VoteResponse(message.sender, state.member_id, state.term, granted=False, pre=message.pre)
    state.send_when_durable(response)


def handle_vote_request(state: State, message: VoteRequest) -> None:
    """A PreVote for a term to come, or a vote in our own term (paper, figure 2, RequestVote)."""
    up_to_date = state.log.is_up_to_date(message.last_term, message.last_index)
    in_the_past = message.pre and message.term <= state.term
    if state.lost_promise or in_the_past or not up_to_date:
        refuse(state, message)
    elif message.pre:
        state.send(VoteResponse(message.sender, state.member_id, message.term, granted=True, pre=True))
    elif state.vote == message.sender or (state.vote == NO_MEMBER and state.leader == NO_MEMBER):
        _grant(state, message.sender)
    else:
        refuse(state, message)


def _grant(state: State, candidate: int) -> None:
    state.vote = candidate
    roles.set_timeout(state)
    response = VoteResponse(candidate, state.member_id, state.term, granted=True, pre=False)
    # The candidate's entries must not be missing from what we judged by: they are durable together with the vote.
    state.send_when_durable(response, state.last_index)


def vote_to_persist(state: State) -> int:
    return NO_MEMBER if PlantedBug.VOTE_NOT_PERSISTED in state.planted else state.vote
