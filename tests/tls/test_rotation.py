"""Certificates and their authority replaced under load, on three members that go on running."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.certificates import Issued, Usage, authority, issue
from tests.cluster import KVSTORED, Cluster, Member, Pair, Tls, loopback

SECONDS = 20.0
PUT = """
wrk.method = "PUT"
wrk.body = "value=1"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
"""


class Rotation:
    """The files that all members share, and who has taken them."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.hosts = (address, "127.0.0.1")
        self.old, self.new = authority("the authority"), authority("the authority")  # of one name, as they often are
        self.trust(self.old)
        self.issue(self.old)
        self.tls = Tls(folder / "ca.crt", self._pair("server"), self._pair("peer"), self._pair("peer"), False)

    def _pair(self, name: str) -> Pair:
        return Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def trust(self, *authorities: Issued) -> None:
        (self.folder / "ca.next").write_bytes(b"".join(one.certificate_pem for one in authorities))
        (self.folder / "ca.next").rename(self.folder / "ca.crt")

    def issue(self, by: Issued) -> None:
        """Written in place, the key behind the certificate: the worst that a script would do."""
        for name, usage in (("server", Usage.SERVER), ("peer", Usage.PEER)):
            made = issue(by, name, self.hosts, usage)
            pair = self._pair(name)
            pair.cert.write_bytes(made.certificate_pem)
            pair.key.write_bytes(made.key_pem)


class Visitor(threading.Thread):
    """Asks all members in turn, each time over a new connection, and looks at their certificates as a client should."""

    def __init__(self, members: list[Member], trust: bytes) -> None:
        super().__init__()
        self._members = members
        self._context = ssl.create_default_context(cadata=trust.decode())
        self.over = threading.Event()
        self.asked = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.over.wait(0.01):
            member = self._members[self.asked % len(self._members)]
            self.asked += 1
            try:
                assert visit(member, self._context) == 200
            except (OSError, AssertionError, http.client.HTTPException) as problem:
                self.failures.append(f"{member.name}: {problem!r}")


def visit(member: Member, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection(member.address, member.ports.client, timeout=5, context=context)
    with contextlib.closing(connection):
        connection.request("GET", "/v2/keys/?quorum=true")
        answer = connection.getresponse()
        answer.read()
        return answer.status


@contextlib.contextmanager
def load(members: list[Member]) -> Iterator[list[subprocess.Popen[str]]]:
    """wrk on each member, writing; ended at the end."""
    with contextlib.ExitStack() as running:
        script = members[0].folder.parent / "put.lua"
        script.write_text(PUT)
        started = []
        for member in members:
            command = ["wrk", "-t1", "-c1", "-d60", "-s", str(script), f"{member.client_url}/v2/keys/k"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            started.append(running.enter_context(process))
            running.callback(process.kill)
        yield started


def taken(members: list[Member], times: dict[str, int]) -> None:
    """Waits until every member has taken the files of its peer side, and of its client side, so often."""
    deadline = time.monotonic() + SECONDS
    for member in members:
        while not all(member.log.count(f"uses changed certificates side={side}") >= times[side] for side in times):
            assert time.monotonic() < deadline, member.last_lines()
            time.sleep(0.02)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_no_request_fails_while_authority_and_certificates_are_replaced(tmp_path: Path) -> None:
    address = loopback()
    rotation = Rotation(tmp_path, address)
    both = rotation.old.certificate_pem + rotation.new.certificate_pem
    # An election because a machine is too busy would be a failure of another kind.
    command = (*KVSTORED, "--election-timeout", "2000")
    with Cluster.of(3, tmp_path / "members", command, rotation.tls, address) as cluster:
        members = cluster.members
        leader = cluster.leader()
        assert leader.client_url.startswith("https:")
        visitor = Visitor(members, both)
        with load(members) as load_on:
            visitor.start()
            rotation.trust(rotation.old, rotation.new)
            taken(members, {"peer": 1})
            rotation.issue(rotation.new)
            taken(members, {"peer": 2, "client": 1})
            rotation.trust(rotation.new)
            taken(members, {"peer": 3})
            for process in load_on:
                process.send_signal(signal.SIGINT)
            said = [process.communicate(timeout=SECONDS)[0] for process in load_on]
            visitor.over.set()
            visitor.join(SECONDS)
        for text in said:
            assert "Socket errors" not in text, text
            assert "Non-2xx" not in text, text
            assert int(re.findall(r"(\d+) requests in", text)[0]) > 100, text
        assert visitor.failures == []
        assert visitor.asked > 50
        for member in members:
            assert "refuses" not in member.log
            assert "cannot speak with a member" not in member.log

        # What was replaced is what counts now: for clients, and for a member that has to dial and be dialled anew.
        assert visit(leader, ssl.create_default_context(cadata=rotation.new.certificate_pem.decode())) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            visit(leader, ssl.create_default_context(cadata=rotation.old.certificate_pem.decode()))
        follower = next(member for member in members if member is not leader)
        assert follower.stop() == 0
        cluster.restart(follower.name)
        cluster.wait_until_healthy()
