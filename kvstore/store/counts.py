"""How often the store was asked for what, and how it ended: etcd's own numbers, its oddities included.

Each member counts for itself, from its start; nothing here is replicated. Which refusals etcd counts as successes is
recorded in the conformance scenarios `stats` (docs/api-v2.md, *Other paths*). Knows neither names nor JSON.
"""

from __future__ import annotations

from kvstore.store.errors import CompareFailed, NotADirectory, NotAFile, RootReadOnly, StoreError
from kvstore.store.operations import (
    OPERATIONS,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Operation,
    Set,
    Update,
)

_COUNTED_AS_SUCCESS: dict[type[Operation], tuple[type[StoreError], ...]] = {
    Update: (RootReadOnly, NotAFile),
    CompareAndSwap: (RootReadOnly,),
    Delete: (RootReadOnly,),
    CompareAndDelete: (NotAFile, CompareFailed),
}


class Counts:
    """Plain numbers, changed in place by the store that they belong to."""

    __slots__ = ("expired", "failed", "gets", "gets_failed", "recursive_gets", "succeeded", "watches")

    def __init__(self) -> None:
        self.gets = 0  # all of them, recursive and failed ones too
        self.recursive_gets = 0
        self.gets_failed = 0
        self.expired = 0
        self.watches = 0  # that were ever asked for
        self.succeeded: dict[type[Operation], int] = dict.fromkeys(OPERATIONS, 0)
        self.failed: dict[type[Operation], int] = dict.fromkeys(OPERATIONS, 0)

    def got(self, recursive: bool) -> None:
        """A read, which may fail yet."""
        self.gets += 1
        if recursive:
            self.recursive_gets += 1

    def refused(self, kind: type[Operation], error: StoreError) -> None:
        """An operation that did nothing."""
        if isinstance(error, _COUNTED_AS_SUCCESS.get(kind, ())):
            self.succeeded[kind] += 1
            return
        self.failed[kind] += 1
        if kind in (Create, CreateInOrder) and isinstance(error, NotADirectory):
            self.failed[Set] += 1
