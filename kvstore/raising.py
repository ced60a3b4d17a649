"""When a leader raises the level of the cluster, and for how long a new cluster waits for that.

A leader appends `SetLevel(n)` only while every member of the configuration, learners too, is connected and takes part
in level n; so no member is left behind that could not read what follows. A new cluster is founded at the highest level
of its founders: its first leader holds clients' commands until it has met them all, or a short grace is over, and its
first command is the level that all those it met take part in, connected or not by then. It knows no log
and no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Decision(NamedTuple):
    """`level` is what to append now, 0: nothing. `holds`: clients' commands wait."""

    level: int
    holds: bool


NOTHING = Decision(0, False)


class Raising:
    """The decisions of one member while it leads."""

    def __init__(self, highest_level: int, grace_ticks: int) -> None:
        """`highest_level` is what this member takes part in; `grace_ticks` how long founders are waited for."""
        self.highest_level = highest_level
        self._grace_ticks = grace_ticks
        self._term = 0
        self._since = 0  # the tick in which this term was first led
        self._appended = 0  # the level that was appended in this term: it comes, or is lost with the term
        self._met: dict[int, int] = {}  # member -> its level when it was last connected

    def meet(self, known: Mapping[int, int]) -> None:
        """Remember the level of each connected member: a disconnected founder counts with its last level."""
        self._met.update(known)

    def decide(
        self, term: int, tick: int, level: int, others: Iterable[int], known: Mapping[int, int], is_new: bool
    ) -> Decision:
        """What to do at `tick` as the leader of `term` in a cluster at `level`.

        `others` are the other members, `known` the highest level of each that is connected. `is_new`: no command was
        ever applied here.
        """
        if term != self._term:
            self._term, self._since, self._appended = term, tick, 0
        if max(level, self._appended) >= self.highest_level:
            return NOTHING
        levels = [known.get(member, 0) for member in others]
        is_waiting = is_new and 0 in levels
        if is_waiting and tick - self._since < self._grace_ticks:
            return Decision(0, True)
        if is_waiting:
            levels = [one for member in others if (one := known.get(member) or self._met.get(member))]
        wanted = min([self.highest_level, *levels])
        if wanted <= max(level, self._appended):
            return NOTHING
        return Decision(wanted, False)

    def appended(self, level: int) -> None:
        """The leader holds `SetLevel(level)`."""
        self._appended = level


def held_back_by(level: int, members: Iterable[int], known: Mapping[int, int]) -> list[int]:
    """The members that keep the cluster from the level after `level`: not connected, or not taking part in it."""
    return [member for member in members if known.get(member, 0) <= level]
