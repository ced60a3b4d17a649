"""PostgreSQL nodes under Patroni, as an operator would run them: a process each, asked and told over its REST API.

Everything runs as a user that PostgreSQL accepts: ourselves, or Debian's `postgres` when we are root. Knows Patroni and
PostgreSQL, nothing of kvstored but its URLs.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients.installed import python_with
from tests.cluster import free_ports

PASSWORD = "secret"
WAIT_SECONDS = 90.0  # a failover waits for the leader key's ttl
TTL_SECONDS = 20  # Patroni accepts no less
LOOP_SECONDS = 1
RETRY_SECONDS = 5


class Node:
    """One PostgreSQL server and the Patroni that looks after it."""

    def __init__(self, name: str, folder: Path, address: str, python: Path, binaries: Path) -> None:
        self.name = name
        self.folder = folder
        self.address = address
        self.rest_port, self.sql_port = free_ports(address, 2)
        self._command = [str(python), "-m", "patroni", str(folder / f"{name}.yml")]
        self._binaries = binaries
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, endpoints: Sequence[str]) -> None:
        """`endpoints`: host:port of each etcd."""
        rest, sql = f"{self.address}:{self.rest_port}", f"{self.address}:{self.sql_port}"
        document = {
            "scope": "kvstored",
            "name": self.name,
            "restapi": {"listen": rest, "connect_address": rest},
            "etcd": {"hosts": list(endpoints)},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_SECONDS,
                    "loop_wait": LOOP_SECONDS,
                    "retry_timeout": RETRY_SECONDS,
                    "postgresql": {"use_pg_rewind": True},
                },
                "initdb": ["data-checksums", {"encoding": "UTF8"}],
            },
            "postgresql": {
                "listen": sql,
                "connect_address": sql,
                "data_dir": str(self.folder / self.name),
                "bin_dir": str(self._binaries),
                "pgpass": str(self.folder / f"{self.name}.pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": PASSWORD},
                    "replication": {"username": "replicator", "password": PASSWORD},
                    "rewind": {"username": "rewinder", "password": PASSWORD},
                },
                "pg_hba": [f"host {what} 127.0.0.0/8 scram-sha-256" for what in ("all all", "replication replicator")],
                "parameters": {"unix_socket_directories": "", "shared_buffers": "16MB", "max_connections": 20},
            },
        }
        (self.folder / f"{self.name}.yml").write_text(yaml.safe_dump(document))

    def start(self) -> None:
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self.folder, **as_user(postgres_user())
            )

    def kill(self) -> None:
        """The machine loses power: Patroni and PostgreSQL are gone on return, and neither said anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for line in self._postmaster_file()[:1]:
            with suppress(ProcessLookupError):
                os.kill(int(line), signal.SIGKILL)
                self._until_gone(int(line))

    def cluster(self) -> dict[str, Any]:
        """The members by name as this Patroni sees them: role, state, timeline, lag. Empty while it says nothing."""
        with suppress(OSError, http.client.HTTPException):
            status, body = self._call("GET", "/cluster")
            if status == 200:
                return {member["name"]: member for member in json.loads(body)["members"]}
        return {}

    def heard_from_etcd(self) -> float:
        """When its last answer came from there; seconds since the epoch."""
        with suppress(OSError, http.client.HTTPException):
            return float(json.loads(self._call("GET", "/patroni")[1])["dcs_last_seen"])
        return 0.0

    def switch_over_to(self, candidate: str) -> None:
        status, body = self._call("POST", "/switchover", {"leader": self.name, "candidate": candidate})
        assert status == 200, body

    def sql(self, statement: str) -> list[str]:
        """The lines of the answer. CalledProcessError when it is refused, also by a replica asked to write."""
        connection = f"host={self.address} port={self.sql_port} user=postgres dbname=postgres connect_timeout=5"
        done = subprocess.run(
            [str(self._binaries / "psql"), "--no-psqlrc", "-At", "-c", statement, connection],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout.splitlines()

    @property
    def last_lines(self) -> str:
        log = self.folder / f"{self.name}.log"
        return "\n".join(f"{self.name} | {line}" for line in log.read_text().splitlines()[-15:]) if log.exists() else ""

    def _call(self, method: str, path: str, document: object = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.address, self.rest_port, timeout=WAIT_SECONDS)
        try:
            connection.request(method, path, json.dumps(document) if document else None)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def _postmaster_file(self) -> list[str]:
        file = self.folder / self.name / "postmaster.pid"
        return file.read_text().splitlines() if file.exists() else []

    @staticmethod
    def _until_gone(pid: int) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return
            time.sleep(0.05)
        raise AssertionError(f"process {pid} does not end")


def until(condition: Callable[[], bool], what: str, nodes: Sequence[Node]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(node.last_lines for node in nodes)
            raise AssertionError(f"after {WAIT_SECONDS} s not yet so: {what}\n{logs}")
        time.sleep(0.1)


@contextmanager
def nodes_of(endpoints: Sequence[str], address: str, names: Sequence[str]) -> Iterator[list[Node]]:
    """Nodes that are configured but not started; killed at the end. Skips the test where they cannot run."""
    binaries = postgres_binaries()
    user = postgres_user()
    python = python_with("patroni", readable_python(user))
    if not is_reachable(python, user):
        pytest.skip(f"the user {user.pw_name} may not read this checkout")
    with tempfile.TemporaryDirectory(prefix="kvstored-patroni-") as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        nodes = [Node(name, Path(folder), address, python, binaries) for name in names]
        try:
            for node in nodes:
                node.configure(endpoints)
            yield nodes
        finally:
            for node in nodes:
                node.kill()


def postgres_binaries() -> Path:
    """The folder of the newest PostgreSQL server that Debian installed, or of the one on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    if found or on_path:
        return (found[-1] if found else Path(on_path or "").resolve()).parent
    pytest.skip("PostgreSQL is not installed (postgresql)")


def postgres_user() -> pwd.struct_passwd:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")


def as_user(user: pwd.struct_passwd) -> dict[str, Any]:
    if os.getuid() != 0:
        return {}
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}


def readable_python(user: pwd.struct_passwd) -> str:
    """An interpreter that this user may run: ours may live in a home folder that is closed to others."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        base = Path(candidate).resolve()
        if base.exists() and is_reachable(base, user):
            return str(base)
    pytest.skip(f"the user {user.pw_name} may run no Python here")


def is_reachable(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether all folders above, of links too, let this user through (by the bits for others, if not by root's)."""
    if os.getuid() != 0:
        return True
    places = {*path.parents, *path.resolve().parents}
    return all(place.stat().st_mode & stat.S_IXOTH or place.stat().st_uid == user.pw_uid for place in places)
