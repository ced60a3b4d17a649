"""The state machine that the log drives: the tree of keys and the members, applied, frozen and restored as one.

The same commands at the same times give the same state on every member, byte for byte. It knows no raft, no disk
and no waiting client.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvstore.membership import Membership
from kvstore.store.events import Event
from kvstore.store.frozen import Frozen
from kvstore.store.store import Store
from kvstore.wire import Command, Publish, UpdateMember, WireError, pack, unpack

#: The layout of a snapshot's chunks; a member refuses a snapshot of a layout that it does not know.
SNAPSHOT_VERSION = 1


class StateMachine:
    """`store` and `membership` may be read at any time, and changed by nobody else."""

    def __init__(self, store: Store, membership: Membership) -> None:
        self.store = store
        self.membership = membership

    def apply(self, command: Command, now: int) -> Event | None:
        """Applies what a COMMAND entry carries at its replicated time `now` (nanoseconds since the epoch).

        Raises StoreError or MembershipError, which are answers too: a refused command has changed nothing.
        """
        if isinstance(command, Publish | UpdateMember):
            self.membership.apply(command)
            return None
        return self.store.apply(command, now)

    def freeze(self) -> FrozenMachine:
        """A view that no later write changes; takes milliseconds even with a million keys."""
        return FrozenMachine(self.membership, self.store.freeze())

    @classmethod
    def restore(cls, chunks: Iterable[bytes], history_limit: int) -> StateMachine:
        """The inverse of `FrozenMachine.chunks`. Raises WireError."""
        rest = iter(chunks)
        head = unpack(next(rest, b""))
        if type(head) is not tuple or len(head) != 2:
            raise WireError("a snapshot does not begin with its version")
        if head[0] != SNAPSHOT_VERSION:
            raise WireError(f"a snapshot of layout {head[0]}; this version knows {SNAPSHOT_VERSION}")
        store = Store.restore((unpack(chunk) for chunk in rest), history_limit)
        return cls(store, Membership.restore(head[1]))

    def adopt(self, restored: StateMachine) -> None:
        """Goes on from a state that came from the leader; watchers live on (see Store.adopt)."""
        self.membership = restored.membership
        self.store.adopt(restored.store)


class FrozenMachine:
    """A state machine at one index, to be written out while the original goes on."""

    def __init__(self, membership: Membership, store: Frozen) -> None:
        self._membership = membership.freeze()
        self._store = store

    def chunks(self) -> Iterator[bytes]:
        """The state as msgpack chunks of bounded size; may run on another thread."""
        yield pack((SNAPSHOT_VERSION, self._membership))
        for chunk in self._store.chunks():
            yield pack(chunk)
