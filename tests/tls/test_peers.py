"""Members over TLS: whom one dials and believes, what the log says where it does not, and a cluster of three."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from kvstore import membership
from kvstore.certificates import Usage
from kvstore.joining import ask_members
from kvstore.membership import Membership
from kvstore.raft.types import Configuration
from kvstore.settings import TlsSettings, Url
from kvstore.tls.credentials import Credentials, open_side
from kvstore.tls.listener import listen_tls
from kvstore.tls.material import Policy
from kvstore.tls.sides import Refused
from kvstore.transport import Acceptor, PeerTransport
from tests.cluster import KVSTORED, Cluster, Member, Pair, Ports, Tls, free_ports, loopback
from tests.test_transport import CLUSTER, EchoHttp, Inbox, heartbeat
from tests.tls.pki import NAME, Pki

SECONDS = 10.0
POLICY = Policy((), "TLS1.2")


def credentials(pki: Pki, pair: Pair, **more: Any) -> Credentials:
    tls = TlsSettings(cert_file=pair.cert, key_file=pair.key, trusted_ca_file=pki.ca_file)
    return Credentials("peer", replace(tls, **more), POLICY)


@contextlib.asynccontextmanager
async def peer(held: Credentials, member: int) -> AsyncIterator[tuple[PeerTransport, Inbox, str]]:
    inbox = Inbox()
    transport = PeerTransport((CLUSTER, member, bytes([member]) * 16), inbox, held)
    port = await listen_tls(lambda: Acceptor(transport, EchoHttp), "127.0.0.1", 0, 100, held)
    try:
        yield transport, inbox, f"https://127.0.0.1:{port.sockets[0].getsockname()[1]}"
    finally:
        port.close()
        await transport.close()
        await port.wait_closed()


def introduce(transport: PeerTransport, member: int, url: str) -> None:
    transport.members_changed(Membership([membership.Member(member, "", (url,))]), Configuration())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110  a line in a log is no event
            await asyncio.sleep(0.005)


def told(caplog: pytest.LogCaptureFixture) -> str:
    """Why members could not be spoken with."""
    return "\n".join(
        str(record.__dict__["fields"]["why"])
        for record in caplog.records
        if record.getMessage() == "cannot speak with a member"
    )


async def test_messages_go_over_tls(pki: Pki) -> None:
    held = credentials(pki, pki.issue("peer"))
    async with peer(held, 1) as (one, _, _), peer(held, 2) as (_, inbox, url):
        introduce(one, 2, url)
        await until(lambda: one.is_connected(2))
        sent = [heartbeat(1, 2, commit) for commit in range(100)]
        for message in sent:
            one.send(message)
        one.flush()
        await inbox.until(lambda: len(inbox.messages) >= 100)
        assert inbox.messages == sent


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        ("expired", "its certificate: certificate has expired"),
        ("not yet valid", "its certificate: certificate is not yet valid"),
        ("wrong authority", "its certificate: unable to get local issuer certificate"),
        ("self-signed", "its certificate: self-signed certificate"),
        ("wrong name", "its certificate: IP address mismatch"),
        ("for clients alone", "its certificate: unsuitable certificate purpose"),
        (
            "for servers alone",
            "is not made for members: its extended key usage is not that",
        ),
        ("revoked", "is revoked"),
        ("another common name", "has not the common name 'good'"),
        ("plain", "it does not speak TLS"),
        ("odd", "its certificate"),
    ],
)
async def test_who_poses_as_a_member_is_not_believed(
    pki: Pki, caplog: pytest.LogCaptureFixture, shown: str, why: str
) -> None:
    pairs = pki.matrix()
    pairs["odd"] = pki.odd()
    pairs["for clients alone"] = pki.issue("for-clients", usage=Usage.CLIENT)
    pairs["for servers alone"] = pairs["wrong usage"]
    pairs["another common name"] = pki.issue("another-name")
    more: dict[str, Any] = {"crl_file": pki.revoke("revoked")} if shown == "revoked" else {}
    if shown == "another common name":
        more["allowed_cn"] = "good"
    said: list[bytes] = []

    class Impostor(asyncio.Protocol):
        def data_received(self, octets: bytes) -> None:
            said.append(octets)

    context = None
    if shown != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pairs[shown])
    loop = asyncio.get_running_loop()

    def impostor() -> asyncio.Protocol:
        return Impostor() if context else Plain()

    server = await loop.create_server(impostor, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with peer(credentials(pki, pki.issue("good"), **more), 1) as (one, _, _):
            introduce(one, 2, url)
            await until(lambda: why in told(caplog))
            assert not one.is_connected(2)
    finally:
        server.close()
    assert said == []  # not even a hello


class Plain(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def test_who_is_not_believed_is_told_so(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    """The dialling side hears that its own certificate is refused: by an alert, or by the end of the connection."""
    good, bad = credentials(pki, pki.issue("good")), credentials(pki, pki.issue("expired-peer", days=1e-9))
    async with peer(bad, 1) as (one, _, _), peer(good, 2) as (_, _, url):
        introduce(one, 2, url)
        await until(lambda: "it ended the handshake: certificate expired" in told(caplog))
    picky = credentials(pki, pki.issue("good"), allowed_cn="nobody", skip_address_check=True)
    async with peer(good, 1) as (one, _, _), peer(picky, 2) as (_, _, url):
        introduce(one, 2, url)
        await until(lambda: "it closes the connection behind the handshake; its log says why" in told(caplog))


async def test_self_signed_members_encrypt_and_prove_nothing(tmp_path: Path) -> None:
    def auto(name: str) -> Credentials:
        return open_side("peer", TlsSettings(auto=True), POLICY, tmp_path / name, iter(["127.0.0.1"]))

    async with peer(auto("one"), 1) as (one, _, _), peer(auto("two"), 2) as (_, _, url):
        introduce(one, 2, url)
        await until(lambda: one.is_connected(2))


async def test_a_member_without_tls_cannot_dial_one_with_it(caplog: pytest.LogCaptureFixture) -> None:
    transport = PeerTransport((CLUSTER, 1, b"1" * 16), Inbox())
    introduce(transport, 2, "https://127.0.0.1:1")
    await until(lambda: "it has nothing to go by" in told(caplog))
    await transport.close()


def joins_and_goes(cluster: Cluster, tls: Tls) -> None:
    """A fourth member asks the others who it is, is brought up to date, and ends when it is removed."""
    first = cluster.members[0]
    ports = Ports(*free_ports(first.address, 2))
    command = (*KVSTORED, "--initial-cluster-state", "existing")
    fourth = Member("n4", first.folder.parent, first.address, ports, command, tls)
    status, body = ask(first, tls, "POST", "/v2/members", {"peerURLs": [fourth.peer_url]})
    assert status == 201
    try:
        fourth.start(f"{cluster.initial_cluster},n4={fourth.peer_url}")
        assert fourth.process is not None
        deadline = time.monotonic() + SECONDS
        while not fourth.is_healthy():
            assert time.monotonic() < deadline, fourth.last_lines()
            time.sleep(0.02)
        assert ask(first, tls, "DELETE", f"/v2/members/{json.loads(body)['id']}")[0] == 204
        assert fourth.process.wait(SECONDS) == 1
        assert "this member was removed from the cluster" in fourth.log
    finally:
        fourth.kill()


def ask(member: Member, tls: Tls, method: str, path: str, document: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection(member.address, member.ports.client, timeout=5, context=tls.context())
    with contextlib.closing(connection):
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_three_members_with_mutual_tls_and_who_asks_them_to_join(pki: Pki, tmp_path: Path) -> None:
    address = loopback()
    tls = pki.tls(address)
    with Cluster.of(3, tmp_path, tls=tls, address=address) as cluster:
        first, _, third = cluster.members
        assert first.get("/v2/keys/none")[0] == 404
        url = Url("https", address, third.ports.peer)
        held = credentials(pki, tls.peer)
        members = ask_members(url, held).members
        assert sorted(one.name for one in members) == ["n1", "n2", "n3"]
        with pytest.raises(Refused, match="has not the common name"):
            ask_members(url, credentials(pki, tls.peer, allowed_cn=NAME))
        with pytest.raises(ssl.SSLError):
            ask_members(url, Credentials("peer", TlsSettings(trusted_ca_file=pki.ca_file), POLICY))
        joins_and_goes(cluster, tls)
        for member in cluster.members[:2]:
            assert "refuses a connection" not in member.log
            assert "cannot speak with a member" not in member.log
