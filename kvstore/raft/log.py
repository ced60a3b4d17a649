"""The replicated log of one member: every entry since the last compaction, in memory, and the cursors over it.

    start_index <= applied <= committed <= last_index      and      durable <= offered <= last_index

It knows terms and indices, not roles or messages; of the disk it knows only what was offered to it and what
came back as durable. While a snapshot that replaced the log waits for the disk, `applied` and `durable` are
below `start_index`, and nothing can be applied.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from .config import ENTRY_OVERHEAD
from .types import Entry, EntryKind, SnapshotMeta

_new = tuple.__new__  # a NamedTuple made this way costs half, and every command makes one

UNKNOWN_TERM = -1  # of an index that is compacted away or beyond the end; equals no term of any message


def size_of(entry: Entry) -> int:
    """What one entry counts for against every limit in bytes."""
    return len(entry.payload) + ENTRY_OVERHEAD


def _term_of(entry: Entry) -> int:
    return entry.term


class Log:
    __slots__ = (
        "_before",
        "_entries",
        "_sizes",
        "_writing",
        "applied",
        "committed",
        "durable",
        "last_index",
        "offered",
        "start_index",
        "start_term",
    )

    def __init__(self, start_index: int, start_term: int, entries: Sequence[Entry], committed: int, applied: int):
        """`entries` follow `start_index` without a gap and are durable. The cursors must fit them."""
        self.start_index = start_index  # the last index that is compacted away; its term is still known
        self.start_term = start_term
        self._entries: list[Entry] = []
        self._before = 0  # size of all that was compacted away
        self._sizes: list[int] = []  # _sizes[i]: `_before` and the sizes of _entries[0..i]; slices by bytes bisect it
        self.last_index = start_index
        self.append(entries)
        self.durable = self.offered = self._writing = self.last_index
        self.committed = committed
        self.applied = applied
        assert start_index <= applied <= committed <= self.last_index, "cursors out of order"

    # --- looking -----------------------------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        """The first index whose entry is still held (if there is one)."""
        return self.start_index + 1

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.start_term

    @property
    def uncommitted_bytes(self) -> int:
        return self.size_to(self.last_index) - self.size_to(self.committed)

    def term_at(self, index: int) -> int:
        """The term of the entry at `index`, or UNKNOWN_TERM."""
        offset = index - self.start_index
        if offset > 0:
            return self._entries[offset - 1].term if index <= self.last_index else UNKNOWN_TERM
        return self.start_term if offset == 0 else UNKNOWN_TERM

    def is_up_to_date(self, last_term: int, last_index: int) -> bool:
        """Whether a log that ends like this is at least as up to date as this one (paper 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def last_agreement(self, index: int, term: int) -> tuple[int, int]:
        """(index, term) of the last entry at or below `index` whose term is at or below `term`.

        Terms never fall along a log, so no later entry up to `index` can be common to this log and one that
        holds `term` at `index`: the whole conflicting suffix is skipped at once (paper 5.3, the optimisation).
        """
        held = min(index, self.last_index) - self.start_index
        if held <= 0:
            return self.start_index, self.start_term
        found = bisect_right(self._entries, term, 0, held, key=_term_of)
        agreed = self.start_index + found
        return agreed, self.term_at(agreed)

    def size_to(self, index: int) -> int:
        """The size of everything up to and including `index`, from a fixed but arbitrary zero."""
        offset = index - self.start_index
        return self._sizes[offset - 1] if offset > 0 else self._before

    def slice(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        """Entries from `first` to at most `last`, as many as fit in `max_bytes` but at least one if there is any."""
        assert first > self.start_index, "those entries are compacted away"
        low = first - self.start_index - 1
        high = min(last, self.last_index) - self.start_index
        if low >= high:
            return []
        fitting = bisect_right(self._sizes, self.size_to(first - 1) + max_bytes, low, high)
        return self._entries[low : max(fitting, low + 1)]

    def holds_configuration(self, first: int, last: int) -> bool:
        """Whether an entry from `first` to `last` changes the configuration."""
        low = max(first - self.start_index - 1, 0)
        looked_at = self._entries[low : last - self.start_index]
        return any(entry.kind == EntryKind.CONFIGURATION for entry in looked_at)

    def applicable(self, max_bytes: int) -> list[Entry]:
        """Committed and durable here, not yet applied."""
        last = self.committed if self.committed < self.durable else self.durable
        if last <= self.applied or self.applied < self.start_index:
            return []
        return self.slice(self.applied + 1, last, max_bytes)

    # --- growing -----------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Adds entries that follow the last one."""
        if not entries:
            return
        assert entries[0].index == self.last_index + 1, "a gap in the log"
        self._entries.extend(entries)
        self._grow(list(map(size_of, entries)))

    def append_payloads(self, term: int, kind: EntryKind, payloads: Sequence[bytes]) -> int:
        """The leader's own append; returns the index of the first."""
        assert term >= self.last_term, "terms never fall along the log"
        first = self.last_index + 1
        plain = int(kind)
        self._entries += [_new(Entry, (index, term, plain, payload)) for index, payload in enumerate(payloads, first)]
        self._grow([len(payload) + ENTRY_OVERHEAD for payload in payloads])
        return first

    def _grow(self, sizes: list[int]) -> None:
        total = accumulate(sizes, initial=self.size_to(self.last_index))
        next(total)  # the initial value belongs to the entry before
        self._sizes.extend(total)
        self.last_index += len(sizes)

    def merge(self, entries: Sequence[Entry]) -> None:
        """A follower's append (paper, figure 2, AppendEntries 3 and 4): entries that follow a common one.

        What is already held stays, from the first conflict on the log is replaced. Entries after the last one of
        `entries` stay too: they may be acknowledged news of the same leader that overtook this message.
        """
        for position, entry in enumerate(entries):
            if entry.index > self.last_index:
                self.append(entries[position:])
                return
            if self.term_at(entry.index) != entry.term:
                self._truncate(entry.index - 1)
                self.append(entries[position:])
                return

    def _truncate(self, last: int) -> None:
        assert last >= self.committed, "a committed entry would be lost"
        del self._entries[last - self.start_index :]
        del self._sizes[last - self.start_index :]
        self.last_index = last
        self.durable = min(self.durable, last)
        self.offered = min(self.offered, last)
        # A write under way ends with entries that are gone: its end says nothing about what replaces them.
        self._writing = min(self._writing, last)

    # --- cursors -----------------------------------------------------------------------------------------------

    def commit_to(self, index: int) -> bool:
        """Moves `committed` up, never down. Returns whether it moved."""
        if index <= self.committed:
            return False
        assert index <= self.last_index, "committed beyond the end of the log"
        self.committed = index
        return True

    def applied_to(self, index: int) -> None:
        assert self.applied <= index <= min(self.committed, self.durable), "applied what is not committed and durable"
        self.applied = index

    def take_unwritten(self) -> tuple[Entry, ...]:
        """Everything that was not yet offered to the disk; now it is."""
        unwritten = tuple(self._entries[self.offered - self.start_index :])
        self.offered = self._writing = self.last_index
        return unwritten

    def written(self) -> None:
        """What take_unwritten() gave last is durable, as far as it was not replaced meanwhile."""
        self.durable = max(self.durable, self._writing)

    # --- snapshots ---------------------------------------------------------------------------------------------

    def compact(self, index: int) -> None:
        """Forgets the entries up to `index`, which must be applied."""
        count = index - self.start_index
        if count <= 0:
            return
        assert index <= self.applied, "compacted what is not applied"
        self.start_term = self.term_at(index)
        self._before = self._sizes[count - 1]
        self.start_index = index
        del self._entries[:count]
        del self._sizes[:count]

    def restart_after(self, meta: SnapshotMeta) -> None:
        """Replaces the whole log by a snapshot of a later point; durable only once the disk has its mark."""
        assert meta.index > self.committed, "a snapshot of the past"
        self.durable = min(self.durable, self.committed)
        self._writing = 0
        self._entries.clear()
        self._sizes.clear()
        self.start_index = self.last_index = self.offered = self.committed = meta.index
        self.start_term = meta.term

    def snapshot_durable(self, index: int) -> None:
        """The mark of the snapshot at `index` is durable: the state machine stands there."""
        self.applied = max(self.applied, index)
