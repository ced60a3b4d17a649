"""When a member takes a snapshot, how much of the log stays in memory after it, and what happens while none succeeds.

A snapshot that fails is tried again after a second, then after twice as long each time, up to a minute. Meanwhile the
log grows in memory and on the disk, so this also says when the member has to refuse writes. Knows raft's log and the
disk; no clients, no clock of its own (time is ticks), and nothing of what the state holds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple, Protocol

from kvstore import logs
from kvstore.apply import FrozenMachine
from kvstore.raft.core import Raft
from kvstore.raft.types import SnapshotMeta

#: Ticks from a failed attempt to the next one: doubled with each failure in a row.
FIRST_RETRY_TICKS = 100
LAST_RETRY_TICKS = 6_000

log = logs.get("snapshot")


class SavingDisk(Protocol):
    def save_snapshot(
        self, meta: SnapshotMeta, frozen: FrozenMachine, done: Callable[[int], None], failed: Callable[[str], None]
    ) -> None:
        """Makes a snapshot durable and drops older files that nothing needs; `done(bytes of the file)`."""


class CompactionLimits(NamedTuple):
    """Entries and bytes of log. A snapshot is due when either has gathered since the last one. Where that was large,
    a quarter of its size instead of `snapshot_bytes`."""

    snapshot_count: int
    snapshot_bytes: int
    keep_entries: int  # kept after a snapshot for a member that may fall behind
    spare_bytes: int  # of those entries
    keep_bytes: int  # of entries kept for a member that is behind; or as many as the last snapshot has
    compact_entries: int  # forgotten in one tick
    max_log_bytes: int  # since the last snapshot that succeeded; beyond it writes are refused


class SnapshotStatus(NamedTuple):
    """What an operator wants to know. `last` is in nanoseconds since the epoch, 0 for none since the start."""

    failures: int = 0  # attempts, since the start
    failing: str = ""  # why the last attempt failed; empty if it succeeded
    last: int = 0
    log_bytes: int = 0  # since the last snapshot that succeeded
    refusing: str = ""  # why writes are refused; empty while they are accepted


class Compaction:
    """`refusing` is the reason why this member refuses writes, empty while it accepts them."""

    def __init__(
        self, raft: Raft, disk: SavingDisk, limits: CompactionLimits, clock: Callable[[], int], snapshot_index: int
    ) -> None:
        self.refusing = ""
        self._raft = raft
        self._disk = disk
        self._limits = limits
        self._clock = clock
        self._index = snapshot_index  # of the last snapshot
        self._size = raft.log.size_to(snapshot_index)  # of all entries up to it, from the log's own zero
        self._file_bytes = 0  # of the last one that was saved here
        self._is_saving = False
        self._is_wanted = False  # whether one was asked for, due or not
        self._superfluous = 0  # up to here entries are to be forgotten, a few in each tick
        self._retry_tick = 0  # not before this one
        self._retry_ticks = 0  # what the last failure has to wait; 0: the last attempt succeeded
        self._failures = 0
        self._failing = ""
        self._last = 0

    @property
    def status(self) -> SnapshotStatus:
        return SnapshotStatus(self._failures, self._failing, self._last, self._log_bytes(), self.refusing)

    @property
    def _due_bytes(self) -> int:
        """Of log since the last snapshot: less often where a snapshot is large, for all of it is written each time."""
        limits = self._limits
        return max(limits.snapshot_bytes, min(self._file_bytes // 4, limits.max_log_bytes // 4))

    def is_due(self) -> bool:
        raft, limits = self._raft, self._limits
        if self._is_saving or raft.now < self._retry_tick or raft.applied < raft.log.start_index:
            return False
        return (
            self._is_wanted
            or raft.applied - self._index >= limits.snapshot_count
            or raft.log.size_to(raft.applied) - self._size >= self._due_bytes
        )

    def want(self) -> None:
        """The last snapshot cannot be used: another one is due now."""
        self._is_wanted = True

    def save(self, frozen: FrozenMachine, applied_term: int) -> None:
        """Saves `frozen`, which is the state at raft.applied."""
        raft = self._raft
        meta = SnapshotMeta(raft.applied, applied_term, raft.configuration)
        size = raft.log.size_to(meta.index)
        self._is_saving, self._is_wanted = True, False

        def saved(file_bytes: int) -> None:
            self._is_saving = False
            if self._failing:
                log.info("saved a snapshot again", index=meta.index, failures=self._failures)
            self._retry_ticks, self._failing = 0, ""
            self._last = self._clock()
            self._file_bytes = file_bytes
            if meta.index >= self._index:  # else a later one was installed meanwhile
                self._index, self._size = meta.index, size
            raft.snapshot_taken(meta, keep=meta.index - raft.log.start_index)
            self._superfluous = meta.index - self._entries_to_keep(meta)
            self._judge()

        def failed(why: str) -> None:
            self._is_saving = False
            self._failures += 1
            self._failing = why
            self._retry_ticks = min(2 * self._retry_ticks or FIRST_RETRY_TICKS, LAST_RETRY_TICKS)
            self._retry_tick = raft.now + self._retry_ticks
            self._is_wanted = True  # also where no write comes any more
            log.error(
                "cannot save a snapshot; the log goes on growing",
                index=meta.index,
                why=why,
                log_bytes=self._log_bytes(),
                failures=self._failures,
            )

        self._disk.save_snapshot(meta, frozen, saved, failed)

    def installed(self, index: int) -> None:
        """The state came from the leader, as a snapshot at `index`."""
        self._index = index
        self._size = self._raft.log.size_to(index)

    def tick(self) -> None:
        """Not all entries in one tick: to give a hundred thousand back takes tens of milliseconds."""
        start_index = self._raft.log.start_index
        if start_index < self._superfluous:
            self._raft.compact(min(self._superfluous, start_index + self._limits.compact_entries))
        self._judge()

    def _log_bytes(self) -> int:
        entries = self._raft.log
        return max(0, entries.size_to(entries.last_index) - self._size)

    def _judge(self) -> None:
        limit = self._limits.max_log_bytes
        gathered = self._log_bytes()
        if gathered <= limit:
            if self.refusing:
                self.refusing = ""
                log.warning("accepts writes again", log_bytes=gathered)
        elif not self.refusing:
            self.refusing = (
                f"{gathered} bytes of log have gathered since the last snapshot, more than --max-log-bytes {limit}: "
                + (self._failing or "the one that is being saved takes too long")
            )
            log.error("refuses writes until a snapshot is saved", why=self.refusing)

    def _entries_to_keep(self, meta: SnapshotMeta) -> int:
        """How many entries stay in memory after a snapshot.

        A few in any case, for a member that may fall behind. A follower that lives, and is catching up or taking an
        older snapshot, gets to keep what it needs next: else it would be sent one snapshot after the other. As many
        bytes as a snapshot has are kept for it, for that is how long it takes one.
        """
        raft, limits = self._raft, self._limits
        spare = max(meta.index - limits.keep_entries, self._affordable(meta.index, limits.spare_bytes))
        needed = spare
        for member, progress in raft.progress.items():
            if member != raft.member_id and raft.now - progress.heard < raft.config.election_ticks:
                held = progress.snapshot_index or (progress.next - 1 if progress.match == 0 else progress.match)
                needed = min(needed, held)
        return meta.index - max(needed, self._affordable(meta.index, max(limits.keep_bytes, self._file_bytes)))

    def _affordable(self, index: int, size: int) -> int:
        """The first index after which the entries up to `index` take at most `size` bytes."""
        entries, first = self._raft.log, self._raft.log.start_index
        return first + bisect_left(range(first, index), entries.size_to(index) - size, key=entries.size_to)
