"""Which disk is a member's: what it announced to the cluster, and not what one member happened to meet."""

from __future__ import annotations

from pathlib import Path

from kvstore.storage.files import OSFiles
from kvstore.storage.folder import peers_file, read_pins
from kvstore.storage.textfile import write_lines
from tests.system.load import ask, healthy
from tests.system.members import running, until


async def test_a_member_that_met_an_empty_disk_welcomes_the_true_one(tmp_path: Path) -> None:
    """As when it joined while the other was down, and the other came up empty first."""
    async with running(3, tmp_path) as cluster:
        first, _, third = cluster.members
        for member in cluster.members:
            await healthy(member)

        async def announced() -> bool:
            shown = (await ask(first, "GET /levels")).json
            return all(entry["announced"] for entry in shown["members"])

        await until(announced, "the first member knows each disk")
        await third.stop()
        await first.stop()
        path = str(first.folder)
        met = read_pins(OSFiles(), path)
        assert len(met) == 2
        empty = [f"member {member:016x} incarnation {b'e'.hex() * 16}" for member in met]
        write_lines(OSFiles(), peers_file(path), empty)
        await first.start()
        await third.start()
        for member in cluster.members:
            await healthy(member)
        assert third.is_running, third.log
        assert "disk" not in first.log
