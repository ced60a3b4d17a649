"""The state machine that the log drives: the tree of keys, the members and who may do what, as one.

Applied, frozen and restored. The same commands at the same times give the same state on every member, byte for
byte. It knows no raft, no disk and no waiting client.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias, cast, get_args

from kvstore.auth import Auth, AuthChanged, AuthCommand, AuthError, AuthOutcome, DirectoryNotAllowed
from kvstore.levels import FIRST_LEVEL, layout_of
from kvstore.membership import Membership, MembershipError
from kvstore.store.errors import StoreError, UnreadableSnapshot
from kvstore.store.events import Event
from kvstore.store.frozen import Frozen
from kvstore.store.history import HISTORY_BYTES
from kvstore.store.operations import OPERATIONS, Expire, Operation, Update
from kvstore.store.store import Store
from kvstore.wire import (
    Announce,
    Command,
    Guarded,
    Publish,
    SetLevel,
    UpdateMember,
    WireError,
    check_flag,
    check_number,
    pack,
    unpack,
)

#: Why a command was not carried out: answers like any other, and the same on every member.
REFUSALS = (StoreError, MembershipError, AuthError)
Applied: TypeAlias = Event | AuthOutcome
_OPERATIONS = frozenset(OPERATIONS)
_AUTH_COMMANDS = frozenset(get_args(AuthCommand))
_OURS = frozenset(
    (Expire, Publish, UpdateMember, SetLevel, Announce)
)  # what members themselves propose, whoever their clients are


class StateMachine:
    """`store`, `membership` and `auth` may be read at any time, and changed by nobody else.

    `time` is the replicated time of the last command, in nanoseconds since the epoch. It is part of the state: a
    leader whose log begins behind a snapshot goes on from it.
    """

    def __init__(self, store: Store, membership: Membership, auth: Auth | None = None, time: int = 0) -> None:
        self.store = store
        self.membership = membership
        self.auth = auth or Auth()
        self.time = time

    def apply(self, command: Command, now: int) -> Applied:
        """Applies what a COMMAND entry carries at its replicated time `now` (nanoseconds since the epoch).

        Raises one of REFUSALS, which are answers too: a refused command has changed nothing. While auth is on, a
        client's command counts only if it was allowed by the users and roles as they are at its place in the log:
        a member that is behind cannot let anybody through (AuthChanged).
        """
        self.time = now
        kind = type(command)
        if kind in _OPERATIONS and not self.auth.enabled:  # the usual, at once
            return self.store.apply(command, now)  # type: ignore[arg-type]  # a cast is a call, on each write
        if kind is Guarded:
            command = self._admit(cast(Guarded, command))
            kind = type(command)
        elif self.auth.enabled and kind not in _OURS:
            raise AuthChanged("auth was switched on")
        if kind in _OPERATIONS:
            return self.store.apply(cast(Operation, command), now)
        if kind is not SetLevel:
            self.store.begin_unfounded()
        if kind in _AUTH_COMMANDS:
            return self.auth.apply(cast(AuthCommand, command))
        self.membership.apply(cast(Publish | UpdateMember | SetLevel | Announce, command))
        if kind is SetLevel:
            self.found(self.level)
        return None

    def found(self, level: int) -> None:
        """Begin at this level, where nothing was written yet; a store that holds something only gets the level."""
        self.membership.level = level
        if level > FIRST_LEVEL:
            self.store.found()

    @property
    def level(self) -> int:
        """What the members may write, see levels.py."""
        return self.membership.level

    def _admit(self, guarded: Guarded) -> Command:
        revision, no_directory, command = guarded
        if not self.auth.enabled or revision != self.auth.revision:
            raise AuthChanged("users or roles have changed")
        if no_directory and self.store.is_directory(cast(Update, command).key):
            raise DirectoryNotAllowed("what is in the directory was not asked for")
        return command

    def freeze(self) -> FrozenMachine:
        """A view that no later write changes; takes milliseconds even with a million keys."""
        return FrozenMachine(self.membership, self.auth, self.time, self.store.freeze())

    @classmethod
    def restore(cls, chunks: Iterable[bytes], history_limit: int, history_bytes: int = HISTORY_BYTES) -> StateMachine:
        """The inverse of `FrozenMachine.chunks`. Raises WireError."""
        try:
            return cls._restore(iter(chunks), history_limit, history_bytes)
        except UnreadableSnapshot as problem:
            raise WireError(f"a snapshot: {problem}") from None
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as problem:
            # Its checksums hold and its contents do not: what exactly is wrong with them, helps nobody.
            raise WireError(f"a snapshot that holds something else: {type(problem).__name__}: {problem}") from None

    @classmethod
    def _restore(cls, rest: Iterator[bytes], history_limit: int, history_bytes: int) -> StateMachine:
        first = next(rest, b"")
        layout = layout_of(first)
        level, is_founded, *parts = unpack(first)[1:] if layout > FIRST_LEVEL else (layout, False, *unpack(first)[1:])
        if len(parts) != 3 or check_number(level) != layout:
            raise WireError(f"a snapshot of layout {layout} that does not begin like one")
        membership, auth, time = parts
        store = Store.restore(map(unpack, rest), history_limit, history_bytes, check_flag(is_founded))
        if time:
            store.begin_unfounded()
        return cls(store, Membership.restore(membership, level), Auth.restore(auth), check_number(time))

    def adopt(self, restored: StateMachine) -> None:
        """Goes on from a state that came from the leader; watchers live on (see Store.adopt)."""
        self.membership = restored.membership
        self.auth.adopt(restored.auth)  # first: whose grant is gone must not hear what the store has to tell
        self.store.adopt(restored.store)
        self.time = restored.time


class FrozenMachine:
    """A state machine at one index, to be written out while the original goes on."""

    def __init__(self, membership: Membership, auth: Auth, time: int, store: Frozen) -> None:
        self._level = membership.level
        self._membership = membership.freeze()
        self._auth = auth.freeze()
        self._time = time
        self._store = store

    def chunks(self) -> Iterator[bytes]:
        """The state as msgpack chunks of bounded size; may run on another thread."""
        parts = (self._membership, self._auth, self._time)
        since_level_2 = () if self._level == FIRST_LEVEL else (self._level, self._store.is_founded)
        yield pack((self._level, *since_level_2, *parts))
        for chunk in self._store.chunks():
            yield pack(chunk)
