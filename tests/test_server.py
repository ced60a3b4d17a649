"""The composition root when something below it breaks: a member must not go on half alive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kvstore import bootstrap
from kvstore.bootstrap import StartError
from kvstore.proposals import WritesRefused
from kvstore.server import TICKS_PER_HEARTBEAT, Server, _connections_for
from kvstore.settings import Settings
from kvstore.storage.files import OSFiles
from kvstore.storage.folder import DataFolder
from kvstored.settings import gather
from tests.cluster import ROOT, environment, free_ports

SECONDS = 10.0
ADDRESS = "127.0.0.1"


def alone(folder: Path) -> Settings:
    client, peer = (f"http://{ADDRESS}:{port}" for port in free_ports(ADDRESS, 2))
    flags = {
        "data-dir": str(folder / "member"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    return gather(flags, {})[0]


async def test_a_long_turn_of_the_loop_is_seen(tmp_path: Path) -> None:
    settings = alone(tmp_path)
    with contextlib.closing(DataFolder.open(OSFiles(), str(settings.data_dir))) as folder:
        server = Server(settings, bootstrap.open_member(settings, OSFiles(), folder))
        await server.start()
        turns = server.numbers().turns
        async with asyncio.timeout(SECONDS):
            while not any(turns.counts):  # noqa: ASYNC110  # a tick tells nobody
                await asyncio.sleep(0.001)
            before = turns.longest
            time.sleep(before + 0.3)  # noqa: ASYNC251  # a turn that lasts
            while turns.longest < before + 0.28:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert turns.total >= turns.longest
        await server.stop_at_once()


async def test_a_driver_that_breaks_ends_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = alone(tmp_path)
    with contextlib.closing(DataFolder.open(OSFiles(), str(settings.data_dir))) as folder:
        server = Server(settings, bootstrap.open_member(settings, OSFiles(), folder))
        await server.start()

        class Broken:
            def flush(self) -> bool:
                raise AssertionError("the log has a hole")

            def __getattr__(self, name: str) -> Any:
                return getattr(driver, name)

        driver = server.node
        monkeypatch.setattr(server, "node", Broken())
        async with asyncio.timeout(SECONDS):
            assert "the log has a hole" in str(await server.stopping)
        await server.stop_at_once()


async def test_a_member_whose_announcement_is_refused_asks_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = alone(tmp_path)
    loop = asyncio.get_running_loop()
    asked: list[float] = []
    enough = asyncio.Event()

    def refuse(_: object) -> asyncio.Future[Any]:
        asked.append(loop.time())
        if len(asked) == 5:
            enough.set()
        refused: asyncio.Future[Any] = loop.create_future()
        refused.set_exception(WritesRefused())
        return refused

    with contextlib.closing(DataFolder.open(OSFiles(), str(settings.data_dir))) as folder:
        server = Server(settings, bootstrap.open_member(settings, OSFiles(), folder))
        monkeypatch.setattr(server, "execute", refuse)
        await server.start()
        async with asyncio.timeout(SECONDS):
            await enough.wait()
        await server.stop_at_once()
    tick = settings.heartbeat_interval_ms / 1000 / TICKS_PER_HEARTBEAT
    for number, (before, after) in enumerate(pairwise(asked), 1):
        assert after - before > tick * (2**number - 0.5)


def test_a_peer_that_speaks_no_http_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server((ADDRESS, 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        threading.Thread(target=answer).start()
        other = f"http://{ADDRESS}:{listener.getsockname()[1]}"
        ours = "http://127.0.0.1:1"
        flags = {"initial-cluster": f"default={ours},other={other}", "initial-cluster-state": "existing"}
        settings = gather(flags | {"data-dir": str(tmp_path), "initial-advertise-peer-urls": ours}, {})[0]
        with (
            contextlib.closing(DataFolder.open(OSFiles(), str(tmp_path))) as folder,
            pytest.raises(StartError, match=r"SSH-2\.0"),
        ):
            bootstrap.open_member(settings, OSFiles(), folder)


@pytest.mark.parametrize(
    ("files", "tls_ports", "connections"),
    [
        (1024, 0, 924),
        (1024, 2, 796),  # 32 handshakes on each, with two files
        (1 << 20, 0, (1 << 20) - 100),
        (1 << 20, 1, (1 << 20) - 612),
        (64, 2, 1),
    ],
)
def test_clients_leave_files_for_the_log_the_peers_and_handshakes(files: int, tls_ports: int, connections: int) -> None:
    assert _connections_for(files, tls_ports) == connections


@pytest.mark.parametrize("module", ["cryptography", "aiohttp", "http.client"])
def test_a_start_does_not_load_what_a_plain_member_does_not_need(module: str) -> None:
    """They cost it 50, 100 and 10 ms."""
    look = f"import sys, kvstore.server; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], env=environment(), check=False).returncode == 0


HOLDERS = """
import sys
from pathlib import Path
from kvstore.server import run
from kvstore.store.operations import Set
from tests.test_server import alone

holders = []

def started(server):
    entries = server.node.raft.log.slice(2, 10, 1 << 20)
    holders.append([sys.getrefcount(entry) for entry in entries])
    written = server.execute(Set(b"/k", b"v", False, None, False))
    written.add_done_callback(lambda _: server.terminate())

settings = alone(Path(sys.argv[1]))
statuses = [run(settings, started) for _ in range(2)]
print(statuses, min(holders[1]), max(holders[1]))
"""


def test_only_the_log_holds_what_was_read_back_of_it(tmp_path: Path) -> None:
    """The log, and here the slice of it, the loop over that and the question itself."""
    done = subprocess.run(
        [sys.executable, "-c", HOLDERS, str(tmp_path)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.stdout.splitlines()[-1:] == ["[0, 0] 4 4"], done.stderr
