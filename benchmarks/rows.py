"""The table: every line that `make bench` measures, its goal, and how a figure is judged against it.

Knows nothing of how anything is measured; scenes.py does that and names these rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple


class Goal(NamedTuple):
    """What our median must reach: so many times etcd's, or a limit in the row's unit. More is better, or less is."""

    times: float | None = None
    limit: float | None = None
    more: bool = False

    def is_met(self, ours: float, theirs: float | None) -> bool | None:
        """None where it cannot be told, because etcd was not measured."""
        if self.limit is not None:
            return ours <= self.limit
        if self.times is None or theirs is None:
            return None
        wanted = self.times * theirs
        return ours >= wanted if self.more else ours <= wanted


class Row(NamedTuple):
    name: str  # for --only, and in the JSON
    what: str
    unit: str
    goal: Goal | None  # None: shown because another row is read with it

    def title(self, keys: int, watchers: int) -> str:
        return self.what.format(keys=f"{keys:,}", watchers=f"{watchers:,}")

    @property
    def wanted(self) -> str:
        """The goal in words."""
        if self.goal is None:
            return ""
        if self.goal.limit is not None:
            return f"at most {self.show(self.goal.limit)}"
        if self.goal.times == 1 and not self.goal.more:
            return "no worse"
        return f"at {'least' if self.goal.more else 'most'} {self.goal.times:g}x"

    def show(self, figure: float) -> str:
        places = max(0, 2 - math.floor(math.log10(abs(figure)))) if figure and self.unit in _SMALL else 0
        return f"{figure:,.{min(places, 3)}f}{'' if self.unit == '/s' else ' '}{self.unit}"


_SMALL = ("ms", "s", "KiB")  # units whose figures are shown with three digits; others are whole numbers

TWICE = Goal(times=2, more=True)
THREE_TIMES = Goal(times=3, more=True)
ONE_AND_A_HALF = Goal(times=1.5, more=True)
NO_WORSE = Goal(times=1)
HALF = Goal(times=0.5)

_CONNECTIONS = (64, 256)
_PLACES = (
    ("one", "one member"),
    ("leader", "three members, via the leader"),
    ("follower", "three members, via a follower"),
)


def _puts() -> Iterator[Row]:
    for place, where in _PLACES:
        for connections in _CONNECTIONS:
            name, what = f"put-{place}-{connections}", f"PUT, {connections} connections, {where}"
            yield Row(name, what, "/s", TWICE)
            yield Row(f"{name}-p99", f"{what}: p99", "ms", NO_WORSE)


ROWS: tuple[Row, ...] = (
    *_puts(),
    Row("get-64", "GET, 64 connections", "/s", TWICE),
    Row("get-256", "GET, 256 connections", "/s", TWICE),
    Row("quorum-one", "quorum GET, 64 connections, one member", "/s", THREE_TIMES),
    Row("quorum-leader", "quorum GET, 64 connections, three members, via the leader", "/s", THREE_TIMES),
    Row("quorum-follower", "quorum GET, 64 connections, three members, via a follower", "/s", THREE_TIMES),
    Row("mixed", "90 % GET and 10 % PUT, 64 connections", "/s", TWICE),
    Row("post", "in-order POST, 64 connections", "/s", TWICE),
    Row("list", "sorted listing of 100 keys, 64 connections", "/s", TWICE),
    Row("put-latency", "PUT on one connection: median latency", "us", NO_WORSE),
    Row("get-latency", "GET on one connection: median latency", "us", NO_WORSE),
    Row("tls-put", "PUT over TLS, 64 kept-alive connections", "/s", ONE_AND_A_HALF),
    Row("tls-get", "GET over TLS, 64 kept-alive connections", "/s", ONE_AND_A_HALF),
    Row("put-one-cpu", "CPU a PUT, one member", "us", HALF),
    Row("put-leader-cpu", "CPU a PUT, three members together", "us", HALF),
    Row("get-cpu", "CPU a GET, one member", "us", HALF),
    Row("memory-loaded", "memory a key, {keys} keys of 100 bytes, after the load", "bytes", HALF),
    Row("memory-restarted", "memory a key, {keys} keys of 100 bytes, after a restart", "bytes", HALF),
    Row("restart", "restart with {keys} keys, to the first quorum read", "s", NO_WORSE),
    Row("pause-usual", "longest request with {keys} keys, the usual without a snapshot", "ms", None),
    Row("pause", "longest request in a snapshot of {keys} keys, above the usual", "ms", Goal(limit=20)),
    Row("watcher-memory", "memory a watcher, {watchers} watchers", "KiB", HALF),
    Row("watcher-delivery", "from a write to its delivery to the last of {watchers} watchers", "s", HALF),
    Row("failover", "leader killed, to the next acknowledged write", "ms", Goal(limit=300)),
)
NAMES = tuple(row.name for row in ROWS)
