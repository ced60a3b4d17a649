"""What earlier releases wrote is read as they read it: folders, commands, messages and hellos."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kvstore import bootstrap
from kvstore.apply import REFUSALS
from kvstore.hello import PREAMBLE, FrameSplitter, Hello, HelloReader, pack_hello
from kvstore.levels import check_known
from kvstore.raft.types import AppendRequest, EntryKind
from kvstore.storage.check import check
from kvstore.storage.files import OSFiles
from kvstore.storage.folder import DataFolder
from kvstore.wire import MessagePacker, pack_change, pack_command, stamp, unpack_change, unpack_command, unpack_message

GOLDEN = Path(__file__).parent / "golden"
LINES = [line.split(" ", 2) for line in (GOLDEN / "0.1-frames.txt").read_text().splitlines()]


def recorded(kind: str) -> list[Any]:
    return [pytest.param(bytes.fromhex(line[1]), *line[2:], id=line[2][:60]) for line in LINES if line[0] == kind]


@pytest.mark.parametrize(("octets", "meaning"), recorded("command"))
def test_a_command(octets: bytes, meaning: str) -> None:
    logged = unpack_command(octets)
    assert repr(logged) == meaning
    assert stamp(logged.time, [pack_command(logged.request, logged.command)]) == (octets,)


@pytest.mark.parametrize(("octets", "meaning"), recorded("change"))
def test_a_change_of_members(octets: bytes, meaning: str) -> None:
    assert repr(unpack_change(octets)) == meaning
    assert pack_change(unpack_change(octets)) == octets


@pytest.mark.parametrize(("octets", "meaning"), recorded("message"))
def test_a_message(octets: bytes, meaning: str) -> None:
    message = unpack_message(octets)
    assert repr(message) == meaning
    assert MessagePacker().pack(message) == octets
    if isinstance(message, AppendRequest):
        check_known(message.entries, known=1)


def test_a_hello() -> None:
    (octets,) = [bytes.fromhex(line[1]) for line in LINES if line[0] == "hello"]
    (payload,) = FrameSplitter().feed(octets[len(PREAMBLE) :])
    hello = HelloReader().take(payload)
    assert hello == Hello(1, 77, 1, 2, b"i" * 16, ("http://p:1",))
    assert pack_hello(hello) == octets


def leaves(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not node.get("dir"):
        yield node
    for child in node.get("nodes", ()):
        yield from leaves(child)


def test_a_folder(tmp_path: Path) -> None:
    with tarfile.open(GOLDEN / "0.1-folder.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    path = str(tmp_path / "n1")
    assert check(path).damage == []
    folder = DataFolder.open(OSFiles(), path)
    opened = bootstrap.reopen(folder, 1000)
    machine = opened.machine
    assert opened.snapshot is not None
    assert opened.entries, "it holds a snapshot, and a log that goes on from it"
    for entry in opened.entries:
        if entry.kind == EntryKind.COMMAND and entry.payload:
            logged = unpack_command(entry.payload)
            with suppress(*REFUSALS):
                machine.apply(logged.command, logged.time)
    expected = list(leaves(json.loads((GOLDEN / "0.1-keys.json").read_bytes())["node"]))
    assert len(expected) > 30
    for node in expected:
        found = machine.store.get(node["key"].encode(), False, False, machine.time)
        assert (found.value, found.created, found.modified) == (
            node["value"].encode(),
            node["createdIndex"],
            node["modifiedIndex"],
        )
    assert machine.store.index == max(node["modifiedIndex"] for node in expected), "its index goes on"
    assert (machine.level, folder.format, opened.wal.format) == (1, 1, 1)
    assert [user.name for user in machine.auth.users()] == [b"root"]
    opened.wal.close()
    folder.close()
