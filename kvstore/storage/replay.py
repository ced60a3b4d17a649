"""Reads a whole log back: all its segments in order, each record's meaning, and what was lost.

Only reads; `WAL.open` carries the repairs out, and `check` prints what was found.

How segments follow each other: when a segment is full, its successor is created first (temporary name, fsync, rename,
folder fsync), born with the hard state and the last snapshot mark so that older segments can go. Only then is the
record that names the successor written to the full one and synced, and only then is the successor used. So after a
crash the last segment may be a successor that nobody names and that holds nothing: it is left over and goes away. Any
other break in the chain of names, checksums and indices is damage.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from kvstore.raft.types import NO_MEMBER, Entry, HardState, SnapshotMeta
from kvstore.storage.errors import RESTORE, DamagedWAL, EmptyWAL, LaterRecord, MissingSegment, WrongIdentity
from kvstore.storage.files import Files
from kvstore.storage.layout import SUFFIX, Identity, Point, SegmentName
from kvstore.storage.records import Kind, Record, UnreadablePayload, unpack_entries, unpack_hard_state, unpack_meta
from kvstore.storage.scan import Ending, Scan, ending, scan
from kvstore.storage.terms import Terms


class Recovered(NamedTuple):
    """What a log holds.

    `entries` are those behind the snapshot in use. `hard_state.commit` lies between that snapshot and the last
    entry. `promised`, if set, is the (term, index) of the last entry that this member acknowledged and lost: until
    its log is at least as far (in that order), it must neither vote nor campaign. The index is 0 where an entry of
    that term, or of a later one, is all that can be asked for.
    """

    identity: Identity
    hard_state: HardState
    entries: list[Entry]
    snapshots: list[SnapshotMeta]  # the marks, in the order they were written
    promised: tuple[int, int] | None
    notes: list[str]  # for the server's log: what was repaired or passed over


class Replayed(NamedTuple):
    """What was recovered, and what the writer needs to go on from there."""

    recovered: Recovered
    names: list[SegmentName]  # the segments in use, oldest first
    before: Scan | None  # the segment before the tail
    tail: Scan  # the segment that is written next; its records are applied already
    ending: Ending
    leftover: SegmentName | None  # a successor that was created and never used
    terms: Terms
    restarted: bool  # the log was restarted behind the snapshot in use, which no mark says yet


def segment_names(files: Files, folder: str) -> list[SegmentName]:
    """In order, without a gap in their numbers: EmptyWAL, MissingSegment, DamagedWAL for a name that is none."""
    names = []
    for name in files.list(folder):
        if name.endswith(SUFFIX):
            parsed = SegmentName.parse(name)
            if parsed is None:
                raise DamagedWAL(f"{folder}/{name}", 0, "this is no name of a segment")
            names.append(parsed)
    if not names:
        raise EmptyWAL(folder, 0, "there is no log here")
    for before, after in pairwise(names):
        if after.sequence != before.sequence + 1:
            raise MissingSegment(_expected(folder, before.sequence + 1), 0, f"the segment before {after} is missing")
    return names


def replay(files: Files, folder: str, snapshot: SnapshotMeta | None) -> Replayed:
    """Reads all segments. `snapshot` is the one in use; the log must go on from it. Refused or OSError."""
    names = segment_names(files, folder)
    state = _Replay(folder, snapshot)
    leftover = None
    before = last = None
    for name in names:
        found = scan(files, folder, name)
        if last is not None and not last.next_sequence:
            if name != names[-1] or not found.unused:
                raise early_end(last, name)
            leftover = name
            break
        state.follow(last, found)
        before, last = last, found._replace(records=[])  # one segment's records in memory at a time
        for record in found.records:
            state.apply(found.path, record)
    assert last is not None
    if last.next_sequence:
        raise MissingSegment(
            _expected(folder, last.next_sequence), 0, f"the segment that {last.birth.name} names as its next is missing"
        )
    kept = names[:-1] if leftover else names
    how = ending(last)
    recovered, restarted = state.finish(last, how)
    return Replayed(recovered, kept, before, last, how, leftover, state.terms, restarted)


def early_end(found: Scan, following: SegmentName) -> DamagedWAL:
    """What is wrong with a segment whose records end although another one goes on from it."""
    try:
        ending(found)
    except DamagedWAL as damage:
        return damage
    return DamagedWAL(found.path, found.end, f"records are missing here, {following} goes on from later ones")


def _expected(folder: str, sequence: int) -> str:
    return f"{folder}/{sequence:016x}-*{SUFFIX}"


class _Replay:
    """The log as the records build it up."""

    def __init__(self, folder: str, snapshot: SnapshotMeta | None) -> None:
        self._folder = folder
        self._snapshot = snapshot
        self._from = snapshot.index if snapshot else 0
        self._hard_state = HardState()
        self._entries: list[Entry] = []  # consecutive; those behind the snapshot in use
        self._marks: list[SnapshotMeta] = []
        self._notes: list[str] = []
        self.terms = Terms()

    def follow(self, last: Scan | None, found: Scan) -> None:
        """The next segment must go on where the last one ended."""
        birth = found.birth
        if last is None:
            self.terms = Terms(birth.name.first_index - 1, birth.base_term)
        elif birth.identity != last.birth.identity:
            raise WrongIdentity(found.path, 0, "the segment belongs to another log than the one before it")
        elif birth.chain != last.chain or last.next_sequence != birth.name.sequence:
            raise DamagedWAL(found.path, 0, f"the segment does not go on from the end of {last.birth.name}")
        self._notes += found.notes

    def apply(self, path: str, record: Record) -> None:
        try:
            match record.kind:
                case Kind.ENTRIES:
                    self._append(path, record.offset, unpack_entries(record.payload))
                case Kind.HARD_STATE:
                    self._hard_state = unpack_hard_state(record.payload)
                case Kind.SNAPSHOT:
                    self._mark(unpack_meta(record.payload))
                case Kind.NEXT:
                    pass
                case _:
                    raise LaterRecord(path, record.offset, record.kind)
        except UnreadablePayload as error:
            raise DamagedWAL(path, record.offset, str(error)) from None

    def _append(self, path: str, offset: int, entries: list[Entry]) -> None:
        first = entries[0].index
        if first > self.terms.last_index + 1:
            raise DamagedWAL(path, offset, f"a gap: entry {first} follows entry {self.terms.last_index}")
        self.terms.append(entries)
        if self._entries and first <= self._entries[-1].index:
            del self._entries[max(0, first - self._entries[0].index) :]
        self._entries += entries[max(0, self._from + 1 - first) :]

    def _mark(self, meta: SnapshotMeta) -> None:
        if meta not in self._marks:
            self._marks.append(meta)
        if restarts(self.terms, meta):
            self.terms.restart(meta.index, meta.term)
            self._entries.clear()

    def finish(self, last: Scan, how: Ending) -> tuple[Recovered, bool]:
        restarted = self._rest_on_snapshot(last)
        watermark = last.watermark
        owed = (watermark.owed_term, watermark.owed_index)
        self._raise_hard_state(watermark.durable)
        if how is Ending.LOST:
            self._raise_hard_state(watermark.intended)
            owed = max(owed, self._lost(watermark.intended))
            self._notes.append(
                f"{last.path} at offset {last.end}: records that were durable were cut away; this member held "
                f"entry {watermark.intended.last_index} of term {watermark.intended.last_term}, and holds "
                f"{self.terms.last_index} of term {self.terms.last_term} now"
            )
        elif how is Ending.TORN:
            self._notes.append(f"{last.path} at offset {last.end}: cut a torn write of {last.filled - last.end} bytes")
        promised = owed if owed > (self.terms.last_term, self.terms.last_index) else None
        term, vote, commit = self._hard_state
        if self.terms.last_term > term:  # a snapshot, or entries, that came in before their term was written
            term, vote = self.terms.last_term, NO_MEMBER
        commit = min(max(commit, self._from), self.terms.last_index)
        state = HardState(term, vote, commit)
        recovered = Recovered(last.birth.identity, state, self._entries, self._marks, promised, self._notes)
        return recovered, restarted

    def _lost(self, point: Point) -> tuple[int, int]:
        """What the log must hold again, once it went as far as `point` and does not any more.

        Normally its last entry. But what was cut away may have replaced entries of a higher term, by older ones of the
        leader: those are back now, and make the log look further than it ever rightly was. Then nothing will do but an
        entry of the last leader's own, or of a later one (such entries are of a lower term than the one it replaced
        them in), for it comes with all that was committed before (paper 5.4).
        """
        term, index = point.last_term, point.last_index
        misleading = (term, index) <= (self.terms.last_term, self.terms.last_index)
        if misleading and self.terms.at(index) not in (term, 0):
            return point.term, 0
        return term, index

    def _raise_hard_state(self, point: Point) -> None:
        term, vote, commit = self._hard_state
        if (point.term, point.vote != NO_MEMBER) > (term, vote != NO_MEMBER):
            self._hard_state = HardState(point.term, point.vote, commit)

    def _rest_on_snapshot(self, last: Scan) -> bool:
        """Whether the log had to begin anew, because it does not hold the snapshot's last entry."""
        if self.terms.base > self._from:
            raise DamagedWAL(
                last.path,
                0,
                f"the log goes on from entry {self.terms.base}, the snapshot in use ends at entry {self._from}",
                "Nothing was changed. Put back the newest snapshot file. " + RESTORE,
            )
        if self._snapshot is None or not restarts(self.terms, self._snapshot):
            return False
        self.terms.restart(self._snapshot.index, self._snapshot.term)
        self._entries.clear()
        return True


def restarts(terms: Terms, meta: SnapshotMeta) -> bool:
    """Whether the log begins anew at a snapshot: it ends before it, or holds another entry in its place."""
    if meta.index < terms.base:
        return False
    known = terms.at(meta.index)
    return known is None or (known != meta.term and known != 0)
