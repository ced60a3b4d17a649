"""What the tests of this floor share: a member's identity, entries, and a small log on a simulated disk."""

from __future__ import annotations

from random import Random

from kvstore.raft.types import Configuration, Entry, SnapshotMeta
from kvstore.storage.layout import RECORDS_AT, Identity
from kvstore.storage.replay import Recovered
from kvstore.storage.wal import WAL
from tests.sim.disk import SimFiles

IDENTITY = Identity(0xC1, 0xA, bytes(range(16)))
FOLDER = "/wal"
SMALL = RECORDS_AT + 2048
"""Bytes of a segment that is full after a few batches."""


def entries(first: int, count: int, term: int = 1, size: int = 20) -> list[Entry]:
    return [Entry(index, term, 0, b"%d" % index + b"x" * size) for index in range(first, first + count)]


def mark(index: int, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(index, term, Configuration(frozenset({1, 2, 3}), frozenset(), frozenset({4})))


def new_log(seed: int = 0, segment_bytes: int = SMALL) -> tuple[SimFiles, WAL]:
    files = SimFiles(Random(seed))
    return files, WAL.create(files, FOLDER, IDENTITY, segment_bytes=segment_bytes)


def reopen(files: SimFiles, snapshot: SnapshotMeta | None = None, segment_bytes: int = SMALL) -> tuple[WAL, Recovered]:
    """After the process died, unless that was said already."""
    files.stop()
    return WAL.open(files, FOLDER, snapshot=snapshot, segment_bytes=segment_bytes)


def last_segment(files: SimFiles) -> str:
    return f"{FOLDER}/{files.list(FOLDER)[-1]}"
