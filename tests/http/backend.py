"""A member without a cluster: the real store, applied at once, with switches for what a cluster can do wrong."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from kvstore.apply import REFUSALS, Applied, StateMachine
from kvstore.auth import Auth
from kvstore.http.backend import Unavailable
from kvstore.http.guard import forget_changed
from kvstore.membership import Membership
from kvstore.passwords import Passwords
from kvstore.store.operations import Expire
from kvstore.store.store import Store
from kvstore.wire import Checked, Command, Guarded

TIMED_OUT = "etcdserver: request timed out"


class LocalBackend:
    """Satisfies Backend. `is_stuck`: writes and barriers stay undone; `has_quorum` off: they fail at once."""

    def __init__(self, history_limit: int = 1000) -> None:
        self.cluster_id = 0xC0FFEE
        self.machine = StateMachine(Store(history_limit), Membership())
        self.passwords = Passwords(cost=4)
        self.auth.observe(lambda: forget_changed(self.auth, self.passwords))
        self.raft_index = 4
        self.raft_term = 2
        self.has_leader = True
        self.has_quorum = True
        self.is_stuck = False
        self.barriers = 0
        self.called = asyncio.Event()  # set by the first execute
        self.pending: list[asyncio.Future[Any]] = []

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

    def execute(self, command: Checked | Guarded) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.called.set()
        if self.is_stuck:
            self.pending.append(future)
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
        if not self.has_quorum:
            future.set_exception(Unavailable(TIMED_OUT))
        elif not self.is_stuck:
            future.set_result(None)
        return future

    async def sweep(self, seconds: float = 0.5) -> None:
        """What a leader does: an Expire whenever a deadline has passed, looked at every half second."""
        while True:
            await asyncio.sleep(seconds)
            while (deadline := self.store.next_deadline) is not None and deadline <= self.now():
                self.apply(Expire())
