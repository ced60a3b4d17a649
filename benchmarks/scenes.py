"""Where each row of the table is measured: the clusters, what is prepared in them, and the steps that give figures.

A scene is one fresh cluster of one system. Its steps run one after the other and each of them gives figures for some
rows. Knows nothing of goals, rounds or reports.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

from benchmarks import failover, pauses, watchers
from benchmarks.filling import FIRST_SMALL_KEY, fill_for_load, fill_with_small_keys
from benchmarks.load import h2load, wrk
from benchmarks.systems import CannotMeasure, cpu_seconds, resident_bytes, running, running_with_tls
from tests.cluster import Cluster, Member

RESTARTS = 3
RESTART_DEADLINE_SECONDS = 120.0
SETTLE_SECONDS = 1.0  # before memory is looked at
WARM_UP_SECONDS = 1.0
NEVER = "--snapshot-count=1000000000"


class Sizes(NamedTuple):
    """How much of everything."""

    rounds: int
    long_rounds: int  # of the scene with many keys
    seconds: float  # of one run of a load
    keys: int
    watchers: int
    kills: int  # a round


FULL = Sizes(rounds=5, long_rounds=3, seconds=4, keys=1_000_000, watchers=10_000, kills=3)
QUICK = Sizes(rounds=1, long_rounds=1, seconds=1, keys=50_000, watchers=1_000, kills=2)


class Stage(NamedTuple):
    """What a step finds."""

    cluster: Cluster
    sizes: Sizes
    tls_url: str = ""

    @property
    def only(self) -> Member:
        (member,) = self.cluster.members
        return member

    def member(self, place: str) -> Member:
        leader = self.cluster.leader()
        if place != "follower":
            return leader
        return next(member for member in self.cluster.members if member is not leader)


Figures = Mapping[str, float]


class Step(NamedTuple):
    rows: Mapping[str, str]  # names of rows, and which of the figures is theirs
    measure: Callable[[Stage], Figures]


class Scene(NamedTuple):
    name: str
    enter: Callable[[str, Sizes], AbstractContextManager[Stage]]
    steps: tuple[Step, ...]
    is_long: bool = False


# --- scenes -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _loaded(members: int, system: str, sizes: Sizes) -> Iterator[Stage]:
    """With the keys that the loads read, and warm."""
    with running(system, members) as cluster:
        stage = Stage(cluster, sizes)
        fill_for_load(stage.member("leader"))
        for kind in ("put", "get"):
            wrk(stage.member("leader").client_url, kind, 64, WARM_UP_SECONDS)
        yield stage


@contextlib.contextmanager
def _with_tls(system: str, sizes: Sizes) -> Iterator[Stage]:
    with running_with_tls(system) as (cluster, url):
        fill_for_load(cluster.members[0])
        yield Stage(cluster, sizes, url)


@contextlib.contextmanager
def _with_small_keys(system: str, sizes: Sizes) -> Iterator[Stage]:
    with running(system, 1) as cluster:
        fill_with_small_keys(cluster.members[0], sizes.keys)
        yield Stage(cluster, sizes)


@contextlib.contextmanager
def _empty(members: int, system: str, sizes: Sizes) -> Iterator[Stage]:
    with running(system, members) as cluster:
        yield Stage(cluster, sizes)


@contextlib.contextmanager
def _for_watchers(system: str, sizes: Sizes) -> Iterator[Stage]:
    watchers.raise_limit(sizes.watchers)
    with _empty(1, system, sizes) as stage:
        yield stage


# --- steps --------------------------------------------------------------------------------------------------------


def _load(kind: str, connections: int, place: str = "leader") -> Callable[[Stage], Figures]:
    """One run of wrk."""

    def measure(stage: Stage) -> Figures:
        member = stage.member(place)
        before = cpu_seconds(stage.cluster)
        load = wrk(member.client_url, kind, connections, stage.sizes.seconds)
        cpu = cpu_seconds(stage.cluster) - before
        return {
            "per_second": load.per_second,
            "p50_us": load.p50_us,
            "p99_ms": load.p99_us / 1000,
            "cpu_us": cpu * 1e6 / load.requests,
        }

    return measure


def _tls(verb: str) -> Callable[[Stage], Figures]:
    return lambda stage: {"per_second": h2load(stage.tls_url, verb, 64, stage.sizes.seconds)}


def _memory(stage: Stage) -> Figures:
    time.sleep(SETTLE_SECONDS)
    return {"bytes": resident_bytes(stage.only) / stage.sizes.keys}


def _restarts(stage: Stage) -> Figures:
    """Stopped and started in good order, several times."""
    seconds, resident = [], []
    for _ in range(RESTARTS):
        seconds.append(_restart(stage))
        time.sleep(SETTLE_SECONDS)
        resident.append(resident_bytes(stage.only))
    return {"seconds": statistics.median(seconds), "bytes": statistics.median(resident) / stage.sizes.keys}


def _restart(stage: Stage, *flags: str) -> float:
    """Seconds from the start of the process to its first linearizable answer."""
    member = stage.only
    if member.is_running:
        member.stop(signal.SIGTERM)
    before = member.command
    member.command = (*before, *flags)
    began = time.perf_counter()
    member.start(stage.cluster.initial_cluster)
    member.command = before
    while time.perf_counter() < began + RESTART_DEADLINE_SECONDS:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _ = member.get(f"{FIRST_SMALL_KEY}?quorum=true", RESTART_DEADLINE_SECONDS)
            if status == 200:
                return time.perf_counter() - began
        if not member.is_running:
            break
        time.sleep(0.002)
    raise CannotMeasure(f"does not come back: {member.last_lines(1)}")


def _pauses(stage: Stage) -> Figures:
    """The same load twice: where no snapshot is due, and where one follows the other."""
    _restart(stage, NEVER)
    usually = pauses.longest_usually(stage.only, 2 * stage.sizes.seconds)
    _restart(stage, f"--snapshot-count={pauses.SNAPSHOT_COUNT}")
    meanwhile = pauses.longest_meanwhile(stage.only)
    return {"usual_ms": usually * 1000, "more_ms": (meanwhile - usually) * 1000}


def _watchers(stage: Stage) -> Figures:
    measured = watchers.measure(stage.only, stage.sizes.watchers)
    return {"kib_each": measured.bytes_each / 1024, "seconds_to_all": measured.seconds_to_all}


def _failover(stage: Stage) -> Figures:
    pauses_ = [failover.seconds_without_writes(stage.cluster) for _ in range(stage.sizes.kills)]
    return {"ms": statistics.median(pauses_) * 1000}


def _put(place: str, connections: int, **more: str) -> Step:
    name = f"put-{place}-{connections}"
    via = "leader" if place == "one" else place
    return Step({name: "per_second", f"{name}-p99": "p99_ms", **more}, _load("put", connections, via))


SCENES: tuple[Scene, ...] = (
    Scene(
        "one member",
        partial(_loaded, 1),
        (
            _put("one", 64, **{"put-one-cpu": "cpu_us"}),
            _put("one", 256),
            Step({"get-64": "per_second", "get-cpu": "cpu_us"}, _load("get", 64)),
            Step({"get-256": "per_second"}, _load("get", 256)),
            Step({"quorum-one": "per_second"}, _load("quorum", 64)),
            Step({"mixed": "per_second"}, _load("mixed", 64)),
            Step({"list": "per_second"}, _load("list", 64)),
            Step({"put-latency": "p50_us"}, _load("put", 1)),
            Step({"get-latency": "p50_us"}, _load("get", 1)),
            Step({"post": "per_second"}, _load("post", 64)),
        ),
    ),
    Scene(
        "three members",
        partial(_loaded, 3),
        (
            _put("leader", 64, **{"put-leader-cpu": "cpu_us"}),
            _put("leader", 256),
            _put("follower", 64),
            _put("follower", 256),
            Step({"quorum-leader": "per_second"}, _load("quorum", 64)),
            Step({"quorum-follower": "per_second"}, _load("quorum", 64, "follower")),
        ),
    ),
    Scene(
        "TLS",
        _with_tls,
        (
            Step({"tls-put": "per_second"}, _tls("PUT")),
            Step({"tls-get": "per_second"}, _tls("GET")),
        ),
    ),
    Scene(
        "watchers",
        _for_watchers,
        (Step({"watcher-memory": "kib_each", "watcher-delivery": "seconds_to_all"}, _watchers),),
    ),
    Scene("failover", partial(_empty, 3), (Step({"failover": "ms"}, _failover),)),
    Scene(
        "many keys",
        _with_small_keys,
        (
            Step({"memory-loaded": "bytes"}, _memory),
            Step({"restart": "seconds", "memory-restarted": "bytes"}, _restarts),
            Step({"pause-usual": "usual_ms", "pause": "more_ms"}, _pauses),
        ),
        is_long=True,
    ),
)
