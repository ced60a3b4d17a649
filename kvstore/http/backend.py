"""What the HTTP floor needs of the member it fronts: its state to read, and a way to write.

Knows nothing of Raft or disks: a Backend may be a member of a cluster or a test's store in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kvstore.auth import Auth
from kvstore.compaction import SnapshotStatus
from kvstore.membership import Membership
from kvstore.passwords import Passwords
from kvstore.proposals import Done, TooManyRequests, Unavailable
from kvstore.raft.types import Role
from kvstore.reconfiguration import Reconfiguration
from kvstore.statistics import Histogram, Turns
from kvstore.store.store import Store
from kvstore.traffic import Traffic
from kvstore.wire import Announce, Checked, Guarded, Publish

if TYPE_CHECKING:
    from kvstore.tls.material import Expiry

__all__ = ["Backend", "TooManyRequests", "Unavailable"]


class Numbers(NamedTuple):
    """What a member counts and times beside its store. Times of day are nanoseconds since the epoch."""

    name: str
    member: int
    role: Role
    started: int
    term: int
    leader: int  # 0: there is none
    last_leader: int  # who leads or led last; 0: there was none yet
    leader_since: int  # when it was first heard of
    leader_changes: int
    committed: int
    applied: int
    proposals_pending: int
    proposals_failed: int
    traffic: Traffic
    sync_seconds: Histogram  # of the log: fdatasync alone
    commit_seconds: Histogram  # of the log: a whole batch
    save_seconds: Histogram  # of a snapshot
    expiries: Mapping[str, Iterable[Expiry]] = MappingProxyType({})  # of what TLS goes by, by side
    snapshots: SnapshotStatus = SnapshotStatus()
    turns: Turns = Turns()  # of the event loop
    clock_differences: Mapping[int, float] = MappingProxyType({})  # seconds that a member's wall clock is ahead of ours
    level: int = 1  # of the cluster
    levels: Mapping[int, int] = MappingProxyType({})  # the highest of each member that is connected, and our own
    programs: Mapping[int, str] = MappingProxyType({})  # their versions


class Backend(Protocol):
    """One member. Every call is made on the event loop's thread.

    The futures belong to the caller, who may cancel them when its client goes away: that withdraws the interest
    in the answer, not the write.
    """

    @property
    def cluster_id(self) -> int: ...

    @property
    def store(self) -> Store:
        """This member's own applied state. A snapshot may replace it: never keep it across an await."""

    @property
    def raft_index(self) -> int:
        """The last applied index of the log."""

    @property
    def raft_term(self) -> int: ...

    @property
    def has_leader(self) -> bool: ...

    @property
    def leader(self) -> int:
        """Its id; 0: there is none."""

    @property
    def membership(self) -> Membership:
        """As this member knows it. A snapshot may replace it: never keep it across an await."""

    @property
    def announced(self) -> Publish | Announce:
        """What this member tells the cluster of itself, as soon as it can."""

    @property
    def reconfiguration(self) -> Reconfiguration: ...

    @property
    def commands_pending(self) -> int:
        """How many wait for their outcome."""

    def numbers(self) -> Numbers:
        """As they are now; put together for this call."""

    def now(self) -> int:
        """Wall clock, nanoseconds since the epoch."""

    @property
    def auth(self) -> Auth:
        """Users and roles, as this member knows them: one object for as long as it lives."""

    @property
    def passwords(self) -> Passwords: ...

    def execute(self, command: Checked | Guarded) -> asyncio.Future[Any]:
        """A replicated write: an Event, or what kvstore.auth says of its own commands.

        Fails with StoreError, AuthError, or Unavailable after the backend's own limit. AuthChanged: the permission
        to do it was given by users and roles that have changed since, so it has to be asked for again.
        """

    def read_barrier(self) -> asyncio.Future[None]:
        """Done once `store` holds all that was acknowledged before the call. Fails with Unavailable."""

    def propose(self, command: Checked, done: Done) -> None:
        """`execute` without a future: `done` is called once, with the outcome, perhaps before this returns. It must
        neither raise nor call back here."""

    def at_turn_end(self, callback: Callable[[], None], first: bool = False) -> None:
        """Calls `callback` once, when the member has done what is to be done now; `first`: before all others."""

    def read(self, done: Callable[[Unavailable | None], None]) -> None:
        """`read_barrier` without a future, like `propose`; None: now."""
