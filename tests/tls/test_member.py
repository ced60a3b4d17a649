"""One real member: http beside https, a certificate of its own, files it cannot use, and what it says of itself."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import KVSTORED, environment, free_ports, loopback
from tests.tls.pki import Pki

SECONDS = 15.0


class Running:
    def __init__(self, folder: Path, listen: str = "", *flags: str, peer: str = "http") -> None:
        address = loopback()
        self.plain, self.secure, peer_port = free_ports(address, 3)
        self.address = listen or address
        self.log_path = folder / "log"
        clients = f"http://{self.address}:{self.plain},https://{self.address}:{self.secure}"
        peer_url = f"{peer}://{address}:{peer_port}"
        self.command = [
            *(*KVSTORED, "--data-dir", str(folder / "member"), "--listen-client-urls", clients),
            *("--advertise-client-urls", f"http://{address}:{self.plain}", "--listen-peer-urls", peer_url),
            *("--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"default={peer_url}", *flags),
        ]
        self.host = address

    def start(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(self.command, stdout=log, stderr=log, env=environment())

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def get(self, path: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.plain, timeout=2)
        if context is not None:
            connection = http.client.HTTPSConnection(self.host, self.secure, timeout=2, context=context)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    @contextlib.contextmanager
    def healthy(self) -> Iterator[Running]:
        with self.start() as process:
            try:
                deadline = time.monotonic() + SECONDS
                while not self._is_healthy():
                    assert process.poll() is None, self.log
                    assert time.monotonic() < deadline, self.log
                    time.sleep(0.02)
                yield self
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(SECONDS) == 0

    def _is_healthy(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return bool(json.loads(self.get("/health")[1])["health"] == "true")
        return False

    def fails(self) -> str:
        """The last line of one that does not start."""
        with self.start() as process:
            assert process.wait(SECONDS) == 1
        return self.log.splitlines()[-1]


def trusting_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_http_beside_https_with_certificates_of_its_own_making(tmp_path: Path) -> None:
    with Running(tmp_path, "", "--auto-tls", "--peer-auto-tls", peer="https").healthy() as member:
        assert member.get("/v2/keys/")[0] == 200
        assert member.get("/v2/keys/", trusting_anybody())[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            member.get("/v2/keys/", ssl.create_default_context())
        metrics = member.get("/metrics")[1].decode()
        assert 'kvstored_tls_expiry_days{kind="certificate",side="client"} 3' in metrics
        assert 'kvstored_tls_expiry_days{kind="certificate",side="peer"} 3' in metrics
        assert sorted(path.name for path in (tmp_path / "member" / "tls").iterdir()) == [
            *("client.crt", "client.key", "peer.crt", "peer.key")
        ]
        assert f"http://{member.host}:{member.plain} is served without TLS, although there is a cert" in member.log
        assert "OPEN TO THE NETWORK" not in member.log
    with Running(tmp_path, "", "--auto-tls", "--peer-auto-tls", peer="https").healthy() as member:
        assert member.log.count("made a self-signed certificate") == 2  # the second start took what was there


def test_http_and_https_on_one_port_as_in_etcd(tmp_path: Path) -> None:
    """The first byte tells them apart; rules for requests without TLS hold for those alone."""
    member = Running(tmp_path, "", "--auto-tls", "--host-whitelist", "good.example")
    member.command = [part.replace(f":{member.secure}", f":{member.plain}") for part in member.command]
    member.secure = member.plain
    with member.start() as process:
        try:
            deadline = time.monotonic() + SECONDS
            while "serves clients url=https" not in member.log_path.read_text():
                assert time.monotonic() < deadline, member.log
                time.sleep(0.02)
            assert member.get("/version", trusting_anybody())[0] == 200
            assert member.get("/version")[0] == 421
            curl = ("curl", "-sS", "-H", "Host: good.example", f"http://{member.host}:{member.plain}/version")
            if shutil.which("curl") is not None:
                assert b"etcdserver" in subprocess.run(curl, capture_output=True, check=True).stdout
            with socket.create_connection((member.host, member.plain), SECONDS) as silent:
                silent.shutdown(socket.SHUT_WR)
                assert silent.recv(1) == b""
            with socket.create_connection((member.host, member.plain), SECONDS) as noise:
                noise.sendall(b"\x16\x03\x01 no handshake")
                assert not noise.recv(100).startswith(b"HTTP/")
            with socket.create_connection((member.host, member.plain), SECONDS) as slow:
                for octet in b"GET /version HTTP/1.1\r\nHost: good.example\r\n\r\n":
                    slow.sendall(bytes([octet]))
                assert slow.recv(100).startswith(b"HTTP/1.1 200")
            assert f"http://{member.host}:{member.plain} is served without TLS, although there is a cert" in member.log
            assert "Traceback" not in member.log
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0


def test_peers_have_no_port_for_both_as_in_etcd(tmp_path: Path) -> None:
    member = Running(tmp_path, "", "--auto-tls", "--peer-auto-tls", peer="https")
    at = member.command.index("--listen-peer-urls") + 1
    member.command[at] += "," + member.command[at].replace("https", "http")
    assert "address already in use" in member.fails()


def test_a_member_that_all_can_reach_says_so_once_and_loudly(tmp_path: Path) -> None:
    with Running(tmp_path, "0.0.0.0", "--auto-tls").healthy() as member:
        (line,) = (line for line in member.log.splitlines() if "OPEN TO THE NETWORK" in line)
        assert " WARN  server OPEN TO THE NETWORK why=" in line
        assert f"whoever reaches http://0.0.0.0:{member.plain} may read and change every key" in line


def test_files_that_cannot_be_used_stop_the_start_with_one_line(tmp_path: Path, pki: Pki) -> None:
    pair, other = pki.issue("one"), pki.issue("other")
    flags = ("--cert-file", str(pair.cert), "--key-file", str(other.key))
    line = Running(tmp_path, "", *flags).fails()
    assert f'ERROR server cannot start why="{pair.cert} with {other.key}: the key does not belong to the' in line
    line = Running(tmp_path, "", "--cert-file", str(tmp_path / "none"), "--key-file", str(pair.key)).fails()
    assert "none: No such file or directory" in line
    assert "Traceback" not in (tmp_path / "log").read_text()
