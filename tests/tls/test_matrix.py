"""Who is refused at a port for TLS, and what the log says why: one real member, its client port and its peer port."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import KVSTORED, Cluster, Pair, Tls, environment, loopback
from tests.tls.pki import NAME, Pki

SECONDS = 10.0

#: What is shown -> what the log says.
REASONS = {
    "no certificate": "it shows no certificate",
    "expired": "certificate has expired",
    "not yet valid": "certificate is not yet valid",
    "wrong authority": "unable to get local issuer certificate (signed by an authority that is not trusted here)",
    "wrong usage": "unsuitable certificate purpose",
    "wrong name": "is not good for 'good.example'",
    "self-signed": "self-signed certificate",
    "revoked": "is revoked",
}


@dataclass
class Scene:
    cluster: Cluster
    pki: Pki
    tls: Tls
    bad: dict[str, Pair]

    def port(self, side: str) -> int:
        ports = self.cluster.members[0].ports
        return ports.client if side == "client" else ports.peer

    @property
    def address(self) -> str:
        return self.cluster.members[0].address

    def refusal_of(self, address: tuple[str, int], side: str) -> str:
        """The line about a connection that came from this address."""
        wanted = f"peer={address[0]}:{address[1]} side={side}"
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for line in self.cluster.members[0].log.splitlines():
                if line.endswith(wanted):
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no line ends in {wanted}\n{self.cluster.members[0].last_lines()}")


@pytest.fixture(scope="module")
def scene(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    bad = pki.matrix()
    crl = str(pki.revoke("revoked"))
    address = loopback()
    tls = pki.tls(address)
    command = (
        *(*KVSTORED, "--client-crl-file", crl, "--client-cert-allowed-hostname", NAME),
        *("--peer-crl-file", crl, "--peer-cert-allowed-hostname", NAME),
    )
    with Cluster.of(1, tmp_path_factory.mktemp("member"), command, tls, address) as cluster:
        yield Scene(cluster, pki, tls, bad)


def ask(raw: socket.socket, context: ssl.SSLContext) -> bytes:
    """What a request is answered with; nothing where the other side ends the connection instead."""
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        context.wrap_socket(raw, server_hostname=raw.getpeername()[0]) as secured,
    ):
        secured.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        return secured.recv(1 << 16)
    return b""


@pytest.mark.parametrize("side", ["client", "peer"])
@pytest.mark.parametrize("shown", REASONS)
def test_who_must_not_come_in_is_refused_and_told_of(scene: Scene, shown: str, side: str) -> None:
    context = scene.pki.context(scene.bad.get(shown))
    with socket.create_connection((scene.address, scene.port(side)), SECONDS) as raw:
        ours = raw.getsockname()
        assert ask(raw, context) == b""
    assert REASONS[shown] in scene.refusal_of(ours, side)


def test_a_users_certificate_does_not_come_in_as_a_member(scene: Scene) -> None:
    with socket.create_connection((scene.address, scene.port("peer")), SECONDS) as raw:
        ours = raw.getsockname()
        assert ask(raw, scene.pki.context(scene.tls.client)) == b""
    assert "the certificate of 'alice' is not made for members" in scene.refusal_of(ours, "peer")


@pytest.mark.parametrize("side", ["client", "peer"])
def test_an_old_version_of_tls_is_refused(scene: Scene, side: str) -> None:
    context = scene.pki.context(scene.tls.client)
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # or OpenSSL would not even try
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((scene.address, scene.port(side)), SECONDS) as raw:
        ours = raw.getsockname()
        with pytest.raises(ssl.SSLError, match="protocol version"):
            context.wrap_socket(raw, server_hostname=scene.address)
    assert "below --tls-min-version" in scene.refusal_of(ours, side)


@pytest.mark.parametrize("side", ["client", "peer"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_plain_http_is_told_that_this_is_tls(scene: Scene, method: str, side: str) -> None:
    with socket.create_connection((scene.address, scene.port(side)), SECONDS) as raw:
        ours = raw.getsockname()
        raw.sendall(f"{method} /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer == b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    assert scene.refusal_of(ours, side)


@pytest.mark.parametrize("side", ["client", "peer"])
def test_who_is_refused_hears_why_by_an_alert(scene: Scene, side: str) -> None:
    with (
        socket.create_connection((scene.address, scene.port(side)), SECONDS) as raw,
        scene.pki.context().wrap_socket(raw, server_hostname=scene.address) as secured,
        pytest.raises(ssl.SSLError, match="certificate required"),
    ):
        secured.recv(1)


@pytest.mark.parametrize("side", ["client", "peer"])
def test_a_good_certificate_comes_in(scene: Scene, side: str) -> None:
    pair = scene.tls.client if side == "client" else scene.tls.peer
    with socket.create_connection((scene.address, scene.port(side)), SECONDS) as raw:
        assert ask(raw, scene.pki.context(pair)).startswith(b"HTTP/1.1 200 OK\r\n")


def run(*arguments: str | Path, **variables: str) -> str:
    done = subprocess.run(
        list(map(str, arguments)),
        env=environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("client", ["curl", "etcdctl", "kvctl"])
def test_the_good_one_passes_with_real_clients(scene: Scene, client: str) -> None:
    if client != "kvctl" and shutil.which(client) is None:
        pytest.skip(f"{client} is not installed")
    cert, key = scene.tls.client
    url = scene.cluster.members[0].client_url
    if client == "curl":
        curl = ("curl", "-sSf", "--cacert", scene.pki.ca_file, "--cert", cert, "--key", key, f"{url}/v2/keys/curl")
        run(*curl, "-XPUT", "-d", "value=hello")
        assert '"value":"hello"' in run(*curl)
    else:
        command = ("etcdctl",) if client == "etcdctl" else (sys.executable, "-m", "kvctl")
        files = ("--endpoints", url, "--cert-file", cert, "--key-file", key, "--ca-file", scene.pki.ca_file)
        run(*command, "--no-sync", *files, "set", f"/{client}", "hello", ETCDCTL_API="2")
        assert run(*command, "--no-sync", *files, "get", f"/{client}", ETCDCTL_API="2") == "hello\n"
