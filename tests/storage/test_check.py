"""`check` says what a folder holds, finds all damage there is, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from kvstore.raft.types import HardState
from kvstore.storage.check import Report, check
from kvstore.storage.errors import FolderInUse
from kvstore.storage.files import OSFiles
from kvstore.storage.folder import DataFolder
from kvstore.storage.layout import RECORDS_AT
from kvstore.storage.records import SECTOR
from tests.sim.disk import SimFiles
from tests.storage.logs import IDENTITY, SMALL, entries, mark

PATH = "/d"
WAL = f"{PATH}/member/wal"


def filled() -> SimFiles:
    files = SimFiles(Random(0))
    folder = DataFolder.open(files, PATH)
    wal = folder.create_wal(IDENTITY, segment_bytes=SMALL)
    for first in range(1, 141, 10):
        wal.append(HardState(4, 0xB, first), entries(first, 10, term=4))
    folder.open_snapshots().save(mark(50, 4), [b"abc"])
    wal.mark_snapshot(mark(50, 4))
    folder.pin(0xB, b"b" * 16)
    wal.close()
    folder.close()
    files.stop()
    return files


def examined(files: SimFiles) -> Report:
    before = files.steps
    report = check(PATH, files=files)
    assert files.steps == before, "only reads"
    return report


def test_a_sound_folder() -> None:
    files = filled()
    report = examined(files)
    assert report.damage == []
    segments = files.list(WAL)
    text = "\n".join(report.format())
    assert report.format()[-1] == "The data folder is sound."
    for line in (
        "member a of cluster c1, incarnation 000102030405060708090a0b0c0d0e0f",
        "snapshot 0000000000000004-0000000000000032.snap: up to entry 50 of term 4, 1 chunks, 3 bytes",
        f"segment {segments[0]}: entries 1 to ",
        f"segment {segments[-1]}: ",
        "to 140; ",
        "hard state: term 4, vote b, commit at least 131",
        "log: entries 1 to 140, last term 4",
        f" of {segments[-1]}, entry 140 of term 4; the records end at offset ",
        ": whole",
        "snapshot mark: entry 50 of term 4",
        "peer b was met under incarnation 62626262626262626262626262626262",
    ):
        assert line in text
    assert text.count("\nsegment ") == len(segments) > 2


def test_all_damage_is_found_at_once() -> None:
    files = filled()
    first, second, *_, last = (f"{WAL}/{name}" for name in files.list(WAL))
    files.content(first)[RECORDS_AT + 20] ^= 1
    files.content(second)[3] ^= 1
    files.content(last)[RECORDS_AT + 20] ^= 1
    files.content(f"{PATH}/member/snap/0000000000000004-0000000000000032.snap")[70] ^= 1
    files.content(f"{PATH}/member/peers")[3] ^= 1
    report = examined(files)
    for damaged in (
        f"{first} at offset {RECORDS_AT}: ",
        f"{second} at offset 0: ",
        last,
        ".snap at offset ",
        "/peers ",
    ):
        assert any(damaged in line for line in report.damage), damaged
    assert report.format()[-1] == f"Damage found: {len(report.damage)}."
    assert all("Nothing was changed" in line for line in report.damage)
    assert not report.sound


def test_a_lost_tail_a_torn_one_and_a_missing_segment() -> None:
    files = filled()
    last = f"{WAL}/{files.list(WAL)[-1]}"
    content = files.content(last)
    sound = bytes(content)
    content[RECORDS_AT + 60 :] = bytes(len(content) - RECORDS_AT - 60)
    report = examined(files)
    assert any("neither votes nor campaigns until it holds entry 140 of term 4" in line for line in report.damage)
    content[:] = sound
    end = len(sound.rstrip(b"\0"))
    sector = end // SECTOR + 1  # the one behind it arrived, the one with the record's header did not
    content[sector * SECTOR : (sector + 1) * SECTOR] = b"x" * SECTOR
    report = examined(files)
    assert report.damage == []
    assert any("note: " in line and "cut a torn write" in line for line in report.holds)
    files.remove(last)
    assert any("names as its next is missing" in line for line in examined(files).damage)


def test_a_folder_that_is_not_there_empty_in_use_or_without_its_log(tmp_path: Path) -> None:
    files = filled()
    assert "there is no such folder" in check("/none", files=files).damage[0]
    folder = DataFolder.open(files, PATH, holder="4711")
    with pytest.raises(FolderInUse, match="4711"):
        check(PATH, files=files)
    folder.close()
    for name in files.list(WAL):
        files.remove(f"{WAL}/{name}")
    assert any("there is no log here" in line for line in examined(files).damage)
    path = str(tmp_path / "d")
    DataFolder.open(OSFiles(), path).close()
    report = check(path)
    assert not report.sound, "a copy under a wrong path must not pass for a good one"
    assert "no member was created here" in report.damage[0]


def test_a_damaged_identity_is_damage_and_the_rest_is_still_read() -> None:
    files = filled()
    files.content(f"{PATH}/member/identity")[0] ^= 1
    report = examined(files)
    assert "identity at offset 0" in report.damage[0]
    assert not any("belongs to cluster" in line for line in report.damage), "nobody knows which cluster it is"
    assert any(line.startswith("log: entries 1 to 140") for line in report.holds)
