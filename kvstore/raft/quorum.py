"""The majority rule, over one set of voters or over both sets of a joint configuration (paper 5.2, 5.3, 6).

It knows sets and numbers only. In a joint configuration every decision needs both majorities.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum

from .types import Configuration


class Tally(IntEnum):
    PENDING = 0
    WON = 1
    LOST = 2


class Quorum:
    """The decisions of one configuration. With no voters nothing is ever decided."""

    __slots__ = ("_majorities",)

    def __init__(self, configuration: Configuration) -> None:
        sets = (configuration.voters, configuration.outgoing) if configuration.is_joint else (configuration.voters,)
        self._majorities = tuple(tuple(sorted(voters)) for voters in sets)

    def committed(self, match: Mapping[int, int]) -> int:
        """The highest index that a quorum holds; `match` says how far each member's durable log agrees."""
        lowest = -1
        for voters in self._majorities:
            held = sorted([match.get(voter, 0) for voter in voters])
            # All but the lowest `len(held) - majority` values lie at or above this one.
            agreed = held[(len(held) - 1) // 2] if held else 0
            if agreed < lowest or lowest < 0:
                lowest = agreed
        return lowest

    def tally(self, votes: Mapping[int, bool]) -> Tally:
        """An election: won with the votes of a quorum, lost once that cannot come any more."""
        result = Tally.WON
        for voters in self._majorities:
            majority = len(voters) // 2 + 1
            granted = sum(1 for voter in voters if votes.get(voter) is True)
            refused = sum(1 for voter in voters if votes.get(voter) is False)
            if len(voters) - refused < majority:
                return Tally.LOST
            if granted < majority:
                result = Tally.PENDING
        return result

    def reached_by(self, members: Collection[int]) -> bool:
        """Whether `members` contain a quorum."""
        return all(
            sum(1 for voter in voters if voter in members) >= len(voters) // 2 + 1 for voters in self._majorities
        )
