"""A member without a cluster: the real store, applied at once, with switches for what a cluster can do wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from kvstore.apply import REFUSALS, Applied, StateMachine
from kvstore.auth import Auth
from kvstore.compaction import SnapshotStatus
from kvstore.http.backend import Numbers, TooManyRequests, Unavailable
from kvstore.http.guard import forget_changed
from kvstore.membership import Member, Membership, MembershipError
from kvstore.passwords import Passwords
from kvstore.proposals import ChangePending, Done
from kvstore.raft.types import Role
from kvstore.reconfiguration import Reconfiguration
from kvstore.statistics import DISK_BUCKETS, Histogram
from kvstore.store.operations import Expire
from kvstore.store.store import Store
from kvstore.traffic import Traffic
from kvstore.wire import Checked, Command, Guarded, MembershipChange, Publish, UpdateMember

TIMED_OUT = "etcdserver: request timed out"


class LocalBackend:
    """Satisfies Backend. `is_stuck`: writes and barriers stay undone; `has_quorum` off: they fail at once; `too_many`:
    they are refused."""

    def __init__(self, history_limit: int = 1000) -> None:
        self.cluster_id = 0xC0FFEE
        self.member = 0xABC
        self.machine = StateMachine(
            Store(history_limit), Membership([Member(self.member, "n1", ("http://a:1",), ("http://a:2",))])
        )
        self.active = {self.member}
        self.reconfiguration = Reconfiguration(self, "token", lambda: self.active, 5.0, 0.001)
        self.traffic = Traffic()
        self.changes_pending = 0  # so many changes of members are told that another one is under way
        self.started = time.time_ns()
        self.passwords = Passwords(cost=4)
        self.auth.observe(lambda: forget_changed(self.auth, self.passwords))
        self.raft_index = 4
        self.raft_term = 2
        self.has_leader = True
        self.has_quorum = True
        self.is_stuck = False
        self.too_many = False
        self.snapshots = SnapshotStatus()
        self.barriers = 0
        self.called = asyncio.Event()  # set by the first execute
        self.pending: list[asyncio.Future[Any]] = []

    @property
    def commands_pending(self) -> int:
        return len(self.pending)

    @property
    def store(self) -> Store:
        return self.machine.store

    @property
    def auth(self) -> Auth:
        return self.machine.auth

    def now(self) -> int:
        return time.time_ns()

    def apply(self, command: Command) -> Applied:
        self.raft_index += 1
        return self.machine.apply(command, self.now())

    @property
    def membership(self) -> Membership:
        return self.machine.membership

    @property
    def announced(self) -> Publish:
        return Publish(self.member, "n1", ("http://a:2",))

    @property
    def leader(self) -> int:
        return self.member if self.has_leader else 0

    def numbers(self) -> Numbers:
        role = Role.LEADER if self.has_leader else Role.FOLLOWER
        unused = Histogram(DISK_BUCKETS)
        index = self.raft_index
        since = self.started if self.has_leader else 0
        return Numbers(
            *("n1", self.member, role, self.started, self.raft_term, self.leader, self.leader, since, 1),
            *(index, index, len(self.pending), 0, self.traffic, unused, unused, unused),
            snapshots=self.snapshots,
        )

    def propose_change(self, change: MembershipChange) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.is_stuck:
            self.pending.append(future)
        elif self.changes_pending:
            self.changes_pending -= 1
            future.set_exception(ChangePending())
        else:
            try:
                self.membership.apply_change(change)
                future.set_result(None)
            except MembershipError as error:
                future.set_exception(error)
        return future

    def execute(self, command: Checked | Guarded | UpdateMember) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.called.set()
        if self.is_stuck:
            self.pending.append(future)
        elif self.too_many:
            future.set_exception(TooManyRequests())
        elif not self.has_quorum:
            future.set_exception(Unavailable(TIMED_OUT))
        else:
            try:
                future.set_result(self.apply(command))
            except REFUSALS as error:
                future.set_exception(error)
        return future

    def read_barrier(self) -> asyncio.Future[None]:
        self.barriers += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.too_many:
            future.set_exception(TooManyRequests())
        elif not self.has_quorum:
            future.set_exception(Unavailable(TIMED_OUT))
        elif not self.is_stuck:
            future.set_result(None)
        return future

    def propose(self, command: Checked, done: Done) -> None:
        self.execute(command).add_done_callback(partial(_tell, done))

    def at_turn_end(self, callback: Callable[[], None], first: bool = False) -> None:
        asyncio.get_running_loop().call_soon(callback)

    def read(self, done: Callable[[Unavailable | None], None]) -> None:
        self.read_barrier().add_done_callback(partial(_tell, done))

    async def sweep(self, seconds: float = 0.5) -> None:
        """What a leader does: an Expire whenever a deadline has passed, looked at every half second."""
        while True:
            await asyncio.sleep(seconds)
            while (deadline := self.store.next_deadline) is not None and deadline <= self.now():
                self.apply(Expire())


def _tell(done: Callable[[Any], None], future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        done(future.exception() or future.result())
