"""Where a segment's bytes end: most of a preallocated one is zeros."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.raft.types import HardState
from kvstore.storage import scan
from kvstore.storage.files import OSFile, OSFiles
from kvstore.storage.layout import SegmentName
from kvstore.storage.wal import SEGMENT_BYTES, WAL
from tests.storage.logs import IDENTITY, entries


@given(st.lists(st.binary(max_size=40) | st.integers(0, 40).map(bytes)).map(b"".join), st.integers(0, 80))
def test_the_last_byte_that_is_not_zero_is_found_in_blocks_as_byte_by_byte(content: bytes, start: int) -> None:
    start = min(start, len(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_BLOCK_BYTES", 8)
        patch.setattr(scan, "_ZEROS", bytes(8))
        assert scan._filled_end(content, start) == start + len(content[start:].rstrip(b"\0"))


def test_of_a_preallocated_segment_only_what_was_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, name = OSFiles(), SegmentName(1, 1)
    folder = str(tmp_path)
    wal = WAL.create(files, folder, IDENTITY)
    wal.append(HardState(1, 0, 0), entries(1, 10))
    wal.close()
    file = files.open(f"{folder}/{name}")
    tracks_data = file.data_end() < SEGMENT_BYTES
    file.close()
    read: list[int] = []
    pread = OSFile.pread

    def watched(file: OSFile, length: int, offset: int) -> bytes:
        read.append(length)
        return pread(file, length, offset)

    with monkeypatch.context() as patch:
        patch.setattr(OSFile, "pread", watched)
        for _ in range(10):  # what one start reads must not be data to the next one
            read.clear()
            found = scan.scan(files, folder, name)
    assert found.size == SEGMENT_BYTES
    if tracks_data:
        assert sum(read) < SEGMENT_BYTES // 20
    # Whatever the file system says of it, what the watermark covers is read.
    for said in (0, SEGMENT_BYTES):
        monkeypatch.setattr(OSFile, "data_end", lambda file, said=said: said)
        again = scan.scan(files, folder, name)
        assert again._replace(buffer=found.buffer) == found
        assert again.buffer[: found.end] == found.buffer[: found.end]
