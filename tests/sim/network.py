"""Messages between members: packed, delayed, lost, repeated, overtaken, and held up by partitions.

Every message travels as the bytes that the real transport would send. Like the real one, a member sends only to those
that it knows from the membership, and refuses those that were removed.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from kvstore.wire import PeerMessage, unpack_message
from tests.sim.scheduler import Scheduler


class Weather(NamedTuple):
    """How messages fare. Delays are microseconds."""

    shortest: int
    longest: int
    straggling: float  # probability of a delay ten times as long
    loss: float
    duplication: float
    ordered: bool  # one link's messages never overtake each other, as over TCP


class Network:
    """`deliver(to, message)` hands over what arrives."""

    def __init__(
        self, scheduler: Scheduler, random: Random, weather: Weather, deliver: Callable[[int, PeerMessage], None]
    ) -> None:
        self.weather = weather
        self.blocked: set[tuple[int, int]] = set()  # (sender, to)
        self.slow: dict[tuple[int, int], int] = {}  # extra microseconds
        self._scheduler = scheduler
        self._random = random
        self._deliver = deliver
        self._arrivals: dict[tuple[int, int], int] = {}

    def send(self, sender: int, to: int, frame: bytes) -> None:
        weather, random, link = self.weather, self._random, (sender, to)
        if link in self.blocked or random.random() < weather.loss:
            return
        for _ in range(2 if random.random() < weather.duplication else 1):
            delay = random.randint(weather.shortest, weather.longest) + self.slow.get(link, 0)
            if random.random() < weather.straggling:
                delay *= 10
            arrival = self._scheduler.now + delay
            if weather.ordered:
                arrival = self._arrivals[link] = max(arrival, self._arrivals.get(link, 0))
            self._scheduler.at(arrival, lambda: self._arrive(link, frame))

    def _arrive(self, link: tuple[int, int], frame: bytes) -> None:
        if link not in self.blocked:
            self._deliver(link[1], unpack_message(frame))

    def heal(self) -> None:
        """From now on every message arrives once, and soon."""
        self.blocked.clear()
        self.slow.clear()
        self.weather = Weather(200, 2_000, 0.0, 0.0, 0.0, self.weather.ordered)
