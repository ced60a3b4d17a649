"""Verifies a data folder that no server uses, and says what it holds. Only reads.

Unlike a start, it goes on after the first damage, so that an operator sees all of it at once.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from kvstore.levels import check_known, layout_of
from kvstore.raft.types import SnapshotMeta
from kvstore.storage.errors import Refused
from kvstore.storage.files import Files, OSFiles
from kvstore.storage.folder import (
    default_wal_folder,
    read_pins,
    snapshot_folder,
    unused,
    whose,
)
from kvstore.storage.layout import SegmentName
from kvstore.storage.records import Kind, UnreadablePayload, unpack_entries
from kvstore.storage.replay import Replayed, early_end, replay, segment_names
from kvstore.storage.scan import Scan, ending, scan
from kvstore.storage.snapshot_file import read_chunks, read_meta
from kvstore.storage.snapshots import snapshot_names, verify
from kvstore.wire import LaterVersion, WireError

_NAMES = {Kind.ENTRIES: "batches", Kind.HARD_STATE: "hard states", Kind.SNAPSHOT: "snapshot marks"}


class Report(NamedTuple):
    """`holds`: what was found, one line each. `damage`: file, offset, what is wrong and what to do, one line each."""

    holds: list[str]
    damage: list[str]

    @property
    def sound(self) -> bool:
        return not self.damage

    def format(self) -> list[str]:
        """All lines for the terminal, the verdict last."""
        if self.sound:
            return [*self.holds, "The data folder is sound."]
        return [*self.holds, *(f"DAMAGE {line}" for line in self.damage), f"Damage found: {len(self.damage)}."]


def check(data_dir: str, *, wal_folder: str = "", files: Files | None = None) -> Report:
    """Reads all of a data folder. FolderInUse if a server has it open; OSError."""
    files = files or OSFiles()
    report = Report([], [])
    if not files.exists(data_dir):
        report.damage.append(f"{data_dir}: there is no such folder. Name the folder that --data-dir gives the server.")
        return report
    with unused(files, data_dir):
        _Check(files, data_dir, wal_folder or default_wal_folder(data_dir), report).run()
    return report


class _Check:
    def __init__(self, files: Files, path: str, wal_folder: str, report: Report) -> None:
        self._files = files
        self._path = path
        self._wal_folder = wal_folder
        self._report = report
        self._cluster_id: int | None = None  # it cannot be read

    def run(self) -> None:
        try:
            identity = whose(self._files, self._path, self._wal_folder)
        except Refused as refusal:
            self._damage(refusal)
        else:
            if identity is None:
                self._report.damage.append(
                    f"{self._path}: no member was created here. Name the folder that --data-dir gives the server."
                )
                return
            self._cluster_id = identity.cluster_id
            cluster, member, incarnation = identity
            self._holds(f"member {member:x} of cluster {cluster:x}, incarnation {incarnation.hex()}")
        snapshot = self._check_snapshots()
        self._check_segments()
        try:
            self._tell(replay(self._files, self._wal_folder, snapshot))
        except Refused as refusal:
            self._damage(refusal)
        try:
            for member, pinned in sorted(read_pins(self._files, self._path).items()):
                self._holds(f"peer {member:x} was met under incarnation {pinned.hex()}")
        except Refused as refusal:
            self._damage(refusal)

    def _check_snapshots(self) -> SnapshotMeta | None:
        """The newest sound one."""
        newest = None
        folder = snapshot_folder(self._path)
        for _, name in snapshot_names(self._files, folder) if self._files.exists(folder) else ():
            try:
                newest, chunks, size = verify(self._files, f"{folder}/{name}", self._cluster_id)
                self._check_layout(f"{folder}/{name}")
                self._holds(
                    f"snapshot {name}: up to entry {newest.index} of term {newest.term}, {chunks} chunks, {size} bytes"
                )
            except Refused as refusal:
                self._damage(refusal)
        return newest

    def _check_layout(self, path: str) -> None:
        file = self._files.open(path)
        try:
            _, offset, chain = read_meta(file, path, self._cluster_id)
            layout_of(next(read_chunks(file, path, offset, chain), b""))
        except LaterVersion as problem:
            self._report.damage.append(f"{path}: {problem}. Nothing was changed.")
        except WireError:
            pass  # what its chunks mean is not looked at here
        finally:
            file.close()

    def _check_segments(self) -> None:
        """Each by itself; how they fit together is the replay's."""
        try:
            names = segment_names(self._files, self._wal_folder)
        except Refused as refusal:
            self._damage(refusal)
            names = []
        for position, name in enumerate(names):
            try:
                found = scan(self._files, self._wal_folder, name)
                self._holds(f"segment {name}: {_contents(found)}")
                self._check_end(found, names[position + 1 :])
            except Refused as refusal:
                self._damage(refusal)

    def _check_end(self, found: Scan, later: list[SegmentName]) -> None:
        if found.next_sequence:
            return
        if not later:
            ending(found)
        elif len(later) > 1 or not scan(self._files, self._wal_folder, later[0]).unused:
            raise early_end(found, later[0])

    def _tell(self, found: Replayed) -> None:
        recovered, tail = found.recovered, found.tail
        term, vote, commit = recovered.hard_state
        self._holds(f"hard state: term {term}, vote {vote:x}, commit at least {commit}")
        self._holds(
            f"log: entries {found.terms.base + 1} to {found.terms.last_index}, last term {found.terms.last_term}"
        )
        try:
            check_known(recovered.entries)
        except LaterVersion as problem:
            self._report.damage.append(f"{self._wal_folder}: {problem}. Nothing was changed.")
        durable = tail.watermark.durable
        self._holds(
            f"watermark: durable to offset {durable.offset} of {tail.birth.name}, entry {durable.last_index} of term "
            f"{durable.last_term}; the records end at offset {tail.end}: {found.ending.value}"
        )
        for mark in recovered.snapshots:
            self._holds(f"snapshot mark: entry {mark.index} of term {mark.term}")
        if found.leftover:
            self._holds(f"segment {found.leftover} was created and never used, a start removes it")
        if recovered.promised:
            term, index = recovered.promised
            self._report.damage.append(
                f"{tail.path} at offset {tail.end}: acknowledged records were cut away. Nothing was changed. The "
                f"member may start; it neither votes nor campaigns until it holds entry {index} of term {term} again."
            )
        for note in recovered.notes:
            self._holds(f"note: {note}")

    def _holds(self, line: str) -> None:
        self._report.holds.append(line)

    def _damage(self, refusal: Refused) -> None:
        if str(refusal) not in self._report.damage:
            self._report.damage.append(str(refusal))


def _contents(found: Scan) -> str:
    """How many records of each kind, and the range of their entries."""
    kinds: Counter[int] = Counter()
    indices: list[int] = []
    for record in found.records:
        kinds[record.kind] += 1
        if record.kind == Kind.ENTRIES:
            try:
                entries = unpack_entries(record.payload)
            except UnreadablePayload:
                continue  # the replay names it
            indices += (entries[0].index, entries[-1].index)
    counts = ", ".join(f"{name} {kinds[kind]}" for kind, name in _NAMES.items())
    span = f"entries {min(indices)} to {max(indices)}" if indices else "no entries"
    return f"{span}; {counts}; {found.end} of {found.birth.capacity} bytes used"
