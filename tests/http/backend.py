"""A member without a cluster: the real store, applied at once, with switches for what a cluster can do wrong."""

from __future__ import annotations

import asyncio
import time

from kvstore.http.backend import Unavailable
from kvstore.store.errors import StoreError
from kvstore.store.events import Event
from kvstore.store.operations import Expire, Operation
from kvstore.store.store import Store

TIMED_OUT = "etcdserver: request timed out"


class LocalBackend:
    """Satisfies Backend. `is_stuck`: writes and barriers stay undone; `has_quorum` off: they fail at once."""

    def __init__(self, history_limit: int = 1000) -> None:
        self.cluster_id = 0xC0FFEE
        self.store = Store(history_limit)
        self.raft_index = 4
        self.raft_term = 2
        self.has_leader = True
        self.has_quorum = True
        self.is_stuck = False
        self.barriers = 0
        self.called = asyncio.Event()  # set by the first execute
        self.pending: list[asyncio.Future[Event]] = []

    def now(self) -> int:
        return time.time_ns()

    def apply(self, operation: Operation) -> Event | None:
        self.raft_index += 1
        return self.store.apply(operation, self.now())

    def execute(self, operation: Operation) -> asyncio.Future[Event]:
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self.called.set()
        if self.is_stuck:
            self.pending.append(future)
        elif not self.has_quorum:
            future.set_exception(Unavailable(TIMED_OUT))
        else:
            try:
                event = self.apply(operation)
                assert event is not None
                future.set_result(event)
            except StoreError as error:
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
