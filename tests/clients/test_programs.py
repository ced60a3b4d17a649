"""Client libraries that others wrote, each in a small application of its own (programs/), against kvstored.

Alone, and on three members whose leader is killed on the way: what was written before is there, the application goes
on with the same client object, and who waited hears. All four run as published on Python 3.11 and Node 20.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.clients.installed import node_modules_with, python_with
from tests.cluster import Cluster

PROGRAMS = Path(__file__).parent / "programs"
PROGRAM_SECONDS = 120.0

Command = tuple[list[str], Mapping[str, str]]


def python(client: str) -> Callable[[], Command]:
    program = PROGRAMS / f"use_{client.replace('-', '_')}.py"
    return lambda: ([str(python_with(client)), "-W", "ignore", str(program)], {})


def node() -> Command:
    return ["node", str(PROGRAMS / "use_node_etcd.js")], {"NODE_PATH": str(node_modules_with("node-etcd"))}


CLIENTS: dict[str, Callable[[], Command]] = {
    "python-etcd": python("python-etcd"),
    "k3etcd": python("k3etcd"),
    "aio-etcd": python("aio-etcd"),
    "node-etcd": node,
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("client", CLIENTS)
def test_an_application_cannot_tell(client: str, count: int, tmp_path: Path) -> None:
    command, environment = CLIENTS[client]()
    with Cluster.of(count, tmp_path) as cluster:
        cluster.leader()
        status, said, losses = play(command, environment, cluster)
        logs = "\n".join(member.last_lines() for member in cluster.members)
    assert losses == 1, said
    assert status == 0, f"{said}\n{logs}"


def play(command: list[str], environment: Mapping[str, str], cluster: Cluster) -> tuple[int, str, int]:
    """Runs the program, kills the leader when it asks for that; its exit status, its complaints, how often it asked."""
    endpoints = [f"{member.address}:{member.ports.client}" for member in cluster.members]
    losses = 0
    with (
        (cluster.members[0].folder.parent / "program.log").open("w+") as complaints,
        subprocess.Popen(
            [*command, *endpoints],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={**os.environ, **environment},
            text=True,
        ) as program,
    ):
        assert program.stdin is not None
        assert program.stdout is not None
        too_long = threading.Timer(PROGRAM_SECONDS, program.kill)
        too_long.start()
        try:
            for line in program.stdout:
                assert line == "lose the leader\n", line
                losses += 1
                if len(cluster.members) > 1:
                    cluster.leader().kill()
                program.stdin.write("lost\n")
                program.stdin.flush()
            status = program.wait()
        finally:
            too_long.cancel()
            program.kill()
        complaints.seek(0)
        return status, complaints.read()[-4000:], losses
