"""The weather between machines: what is sent is delayed, lost, repeated, overtaken, and held up by partitions.

It knows no members and no connections: those are the matter of wires.py.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple, TypeAlias

from tests.sim.scheduler import Scheduler

Way: TypeAlias = tuple[int, int]  # (sender, to)


class Weather(NamedTuple):
    """How messages fare. Delays are microseconds."""

    shortest: int
    longest: int
    straggling: float  # probability of a delay ten times as long
    loss: float
    duplication: float
    ordered: bool  # one link's messages never overtake each other, as over TCP


class Network:
    def __init__(self, scheduler: Scheduler, random: Random, weather: Weather) -> None:
        self.weather = weather
        self.blocked: set[Way] = set()
        self.slow: dict[Way, int] = {}  # extra microseconds
        self._scheduler = scheduler
        self._random = random
        self._arrivals: dict[Way, int] = {}

    def is_open(self, way: Way) -> bool:
        """Whether a connection could be made: it needs both directions."""
        return way not in self.blocked and way[::-1] not in self.blocked

    def send(self, way: Way, arrive: Callable[[], None]) -> None:
        """A message: it may arrive once, twice or never."""
        weather, random = self.weather, self._random
        if way in self.blocked or random.random() < weather.loss:
            return
        for _ in range(2 if random.random() < weather.duplication else 1):
            arrival = self._scheduler.now + self.delay(way)
            if weather.ordered:
                arrival = self._arrivals[way] = max(arrival, self._arrivals.get(way, 0))
            self._scheduler.at(arrival, lambda: self._arrive(way, arrive))

    def delay(self, way: Way) -> int:
        delay = self._random.randint(self.weather.shortest, self.weather.longest) + self.slow.get(way, 0)
        return delay * 10 if self._random.random() < self.weather.straggling else delay

    def _arrive(self, way: Way, arrive: Callable[[], None]) -> None:
        if way not in self.blocked:
            arrive()

    def heal(self) -> None:
        """From now on every message arrives once, and soon."""
        self.blocked.clear()
        self.slow.clear()
        self.weather = Weather(200, 2_000, 0.0, 0.0, 0.0, self.weather.ordered)
