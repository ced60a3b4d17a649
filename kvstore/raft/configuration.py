"""The rules by which one configuration follows another (paper 6, dissertation 4.3).

Every change, of one member or of many, takes the joint path: enter_joint() when its entry is applied, leave_joint()
when the leader's second, empty entry is. A change of a single voter could do with one entry (dissertation 4.1),
but then two rules would have to be right, and switching between them as well; changes are rare, so one rule it is.

It knows nothing of logs or leaders.
"""

from __future__ import annotations

from collections.abc import Iterable

from .errors import ChangeRefused
from .types import NO_MEMBER, Change, ChangeKind, Configuration


def enter_joint(configuration: Configuration, changes: Iterable[Change]) -> Configuration:
    """The joint configuration that leads to `changes`, each applied in turn.

    Raises ChangeRefused when already joint, for an impossible member or kind, and when no voter would be left.
    A change that changes nothing (removing a stranger, adding a voter again) is allowed.
    """
    if configuration.is_joint:
        raise ChangeRefused("another change is under way")
    voters, learners = set(configuration.voters), set(configuration.learners)
    for kind, member in changes:
        if member <= NO_MEMBER:
            raise ChangeRefused(f"{member} is not a member id")
        voters.discard(member)
        learners.discard(member)
        if kind == ChangeKind.ADD_VOTER:
            voters.add(member)
        elif kind == ChangeKind.ADD_LEARNER:
            learners.add(member)
        elif kind != ChangeKind.REMOVE:
            raise ChangeRefused(f"{kind} is not a kind of change")
    if not voters:
        raise ChangeRefused("no voter would be left")
    outgoing = configuration.voters
    # Who still votes in the outgoing half must not be a learner at the same time.
    return Configuration(
        voters=frozenset(voters),
        outgoing=outgoing,
        learners=frozenset(learners - outgoing),
        learners_next=frozenset(learners & outgoing),
    )


def leave_joint(configuration: Configuration) -> Configuration:
    """The incoming half alone; a configuration that is not joint stays as it is."""
    return Configuration(
        voters=configuration.voters,
        learners=configuration.learners | configuration.learners_next,
    )
