"""What a healthy cluster does for its clients, asked once all faults are over: keys with a TTL end when they should."""

from __future__ import annotations

import errno
from os import strerror
from random import Random
from typing import TYPE_CHECKING

from kvstore.proposals import Outcome
from kvstore.replicated_clock import FASTER_PART, SLOWER_PART
from kvstore.store.errors import KeyNotFound
from kvstore.store.events import Event
from kvstore.store.operations import Set
from tests.sim.plan import TICK
from tests.sim.scheduler import MILLISECOND, SECOND
from tests.sim.trace import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster
    from tests.sim.life import Life

TTL = "a key with a TTL ends in time"
SNAPSHOT = "a snapshot that is due is taken"
ANSWERS = "a healthy cluster answers"
SHORT, LONG = b"/probe/short", b"/probe/long"
ROT = b"/probe/rot"
LIVES = {SHORT: 1, LONG: 3}  # seconds
#: A write is answered within this time: a commit on slow disks, and no election.
SOON = SECOND
#: A snapshot that has rotted is found, another one is saved, and a member has all of it.
IN_TIME = 15 * SECOND


class Probe:
    """Steps of hours of wall clocks, of the leader's and of others', must not matter."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._random = Random(f"probe {cluster.seed}")

    def run(self) -> None:
        cluster = self._cluster
        leader = cluster.leader()
        assert leader is not None
        began = cluster.scheduler.now
        for key, seconds in LIVES.items():
            self._write(leader, key, seconds)
        self._wait(began + SOON)
        if not self._leads(leader):
            return
        if not all(self._is_there(leader, key) for key in LIVES):
            raise Violation(ANSWERS, f"writes to {leader.machine.name} are not done after {SOON} us")
        for machine in cluster.machines.values():
            if self._random.random() < 0.5:
                machine.clock_ns += self._random.choice((-24, -1, 1, 24)) * 3600 * 10**9
        sweeps = 2 * cluster.plan.options.sweep_ticks * TICK * 13 // 12
        for key, seconds in LIVES.items():
            life = seconds * SECOND
            self._wait(began + life - life // FASTER_PART - MILLISECOND)
            if self._leads(leader) and not self._is_there(leader, key):
                raise Violation(TTL, f"{key!r} lived less than {seconds} s")
            self._wait(began + SOON + life + life // SLOWER_PART + sweeps)
            if self._leads(leader) and self._is_there(leader, key):
                raise Violation(TTL, f"{key!r} is still there after {(cluster.scheduler.now - began) / SECOND} s")
            cluster.trace.saw("TTLs in time")

    def check_snapshots(self) -> None:
        """A snapshot that is due is taken, unless the disk refuses."""
        for life in self._cluster.lives():
            failing = life.node.snapshots.failing
            if failing and not any(strerror(number) in failing for number in (errno.EIO, errno.ENOSPC)):
                raise Violation(SNAPSHOT, f"{life.machine.name}: {failing}")

    def rot(self) -> None:
        """A bit of the leader's snapshot changes while a member needs it: a new one must be saved, without a write."""
        cluster = self._cluster
        leader = cluster.leader()
        assert leader is not None
        members = leader.node.raft.configuration.voters
        if not cluster.plan.lost_disks or len(members) < 3 or any(one.rotten for one in cluster.machines.values()):
            return
        behind = cluster.machines[self._random.choice(sorted(members - {leader.machine.id}))]
        assert behind.life is not None
        links = [(behind.id, one) for one in cluster.machines] + [(one, behind.id) for one in cluster.machines]
        cluster.network.blocked.update(links)
        end = cluster.scheduler.now + 30 * SECOND
        while leader.node.raft.log.start_index <= behind.life.node.raft.last_index:
            if not self._leads(leader) or cluster.scheduler.now > end:
                cluster.network.blocked.clear()
                return
            for _ in range(20):
                leader.ask(lambda: leader.node.propose(Set(ROT, b"", False, None, False), lambda _: None), lambda: None)
            self._wait(cluster.scheduler.now + 50 * MILLISECOND)
        self._wait(cluster.scheduler.now + SOON)
        if leader.machine.rot(newest=True):
            cluster.trace.saw("snapshots rotten when they are needed")
        cluster.network.blocked.clear()
        cluster.run_until(cluster.is_quiet, "a member does not get the snapshot that it needs", IN_TIME)

    def _leads(self, leader: Life) -> bool:
        return not leader.over and leader.node.raft.is_leader and self._cluster.leader() is leader

    def _is_there(self, leader: Life, key: bytes) -> bool:
        store = leader.node.machine.store
        try:
            store.get(key, recursive=False, sort=False, now=0)
        except KeyNotFound:
            return False
        return True

    def _write(self, leader: Life, key: bytes, seconds: int) -> None:
        def told(outcome: Outcome) -> None:
            if not isinstance(outcome, Event) and self._leads(leader):
                raise Violation(ANSWERS, f"a healthy leader answers {outcome!r}")

        command = Set(key, b"", False, seconds, False)
        leader.ask(lambda: leader.node.propose(command, told), lambda: None)

    def _wait(self, moment: int) -> None:
        self._cluster.scheduler.run_until(max(moment, self._cluster.scheduler.now))
