"""What a log entry can ask of the store: one class for each operation, values only.

All are tuples of bytes, int, bool and None, so that msgpack packs them in C. Nothing here knows how an
operation travels, who asked for it, or what the answer looks like.

Common fields:
- `key`: canonical: b"/" for the root, otherwise b"/a/b": no empty component, no trailing slash.
- `value`: any bytes; a directory ignores it.
- `ttl`: whole seconds, unsigned 64 bit, as the client gave them; None: permanent. The deadline is computed
  when the operation is applied, from the time in its log entry.
- `refresh`: keep the value that is there, change the ttl, and wake no watcher; `ttl` must then be given.
- `previous_value`, `previous_index`: conditions on the node as it is; None (or b"") and 0: no condition.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

EXPIRE_LIMIT = 1_000  # nodes that one Expire removes at most, so that no other write waits long behind it


class Set(NamedTuple):
    """PUT: create the key or replace the file that is there, by a file or by an empty directory."""

    key: bytes
    value: bytes
    is_dir: bool
    ttl: int | None
    refresh: bool


class Create(NamedTuple):
    """PUT prevExist=false: the key must not exist. No refresh: with it, etcd creates an empty key."""

    key: bytes
    value: bytes
    is_dir: bool
    ttl: int | None


class CreateInOrder(NamedTuple):
    """POST: create a child of the directory `key`, named by the index of the write in 20 digits."""

    key: bytes
    value: bytes
    is_dir: bool
    ttl: int | None


class Update(NamedTuple):
    """PUT prevExist=true: change value and ttl of a file, or the ttl of a directory (`value` empty)."""

    key: bytes
    value: bytes
    ttl: int | None
    refresh: bool


class CompareAndSwap(NamedTuple):
    """PUT prevValue/prevIndex: change value and ttl of a file that meets the conditions."""

    key: bytes
    value: bytes
    previous_value: bytes | None
    previous_index: int
    ttl: int | None
    refresh: bool


class Delete(NamedTuple):
    """DELETE: `is_dir` allows an empty directory, `recursive` a directory with all that is in it."""

    key: bytes
    is_dir: bool
    recursive: bool


class CompareAndDelete(NamedTuple):
    """DELETE prevValue/prevIndex: remove a file that meets the conditions."""

    key: bytes
    previous_value: bytes | None
    previous_index: int


class Expire(NamedTuple):
    """The leader's sweep: remove nodes whose deadline is not after the entry's time, at most `limit` of them.

    They go in order of deadline, one index and one event each. When more are due, `Store.next_deadline` still
    lies in the past and the leader sweeps again immediately.
    """

    limit: int = EXPIRE_LIMIT


Operation: TypeAlias = Set | Create | CreateInOrder | Update | CompareAndSwap | Delete | CompareAndDelete | Expire

# The position of a class is its tag in the log: append only, never reorder.
OPERATIONS: tuple[type[Operation], ...] = (
    Set,
    Create,
    CreateInOrder,
    Update,
    CompareAndSwap,
    Delete,
    CompareAndDelete,
    Expire,
)
