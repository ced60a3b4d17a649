"""A port for TLS and what comes to it: half handshakes, many at a time, resumed sessions, certificates that change."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from kvstore.certificates import Usage, issue
from kvstore.ciphers import SUITES
from kvstore.settings import TlsSettings
from kvstore.tls import checks, listener, refusals, sides
from kvstore.tls.credentials import Credentials
from kvstore.tls.listener import TlsListener, listen_tls
from kvstore.tls.material import Policy, load
from tests.cluster import Pair
from tests.tls.pki import HOSTS, Pki

SECONDS = 10.0
POLICY = Policy((), "TLS1.2")


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, octets: bytes) -> None:
        self.transport.write(octets)


class Scene:
    def __init__(self, pki: Pki, server: Pair, held: Credentials, port: TlsListener, caplog: pytest.LogCaptureFixture):
        self.pki = pki
        self.server = server
        self.held = held
        self.listener = port
        self.port = port.sockets[0].getsockname()[1]
        self._caplog = caplog

    @property
    def told(self) -> list[str]:
        """Why connections were refused, one after the other."""
        return [str(record.__dict__["fields"].get("why")) for record in self._caplog.records]

    async def connect(self, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():  # noqa: ASYNC110  a line in a log is no event
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def listening(
    pki: Pki,
    caplog: pytest.LogCaptureFixture,
    tls: TlsSettings | None = None,
    side: str = "client",
    policy: Policy = POLICY,
) -> AsyncIterator[Scene]:
    server = pki.issue("listener", HOSTS, Usage.PEER)
    asked = tls or TlsSettings(trusted_ca_file=pki.ca_file)
    with_pair = TlsSettings(
        cert_file=server.cert,
        key_file=server.key,
        trusted_ca_file=asked.trusted_ca_file,
        crl_file=asked.crl_file,
        allowed_cn=asked.allowed_cn,
        allowed_hostname=asked.allowed_hostname,
        skip_address_check=asked.skip_address_check,
        allow_any_usage=asked.allow_any_usage,
    )
    held = Credentials(side, with_pair, policy)
    port = await listen_tls(Echo, "127.0.0.1", 0, 100, held)
    try:
        yield Scene(pki, server, held, port, caplog)
    finally:
        port.close()
        await port.wait_closed()


async def echo(scene: Scene, context: ssl.SSLContext) -> bytes:
    """What comes back; nothing where the connection is ended instead."""
    try:
        reader, writer = await scene.connect(context)
    except (ssl.SSLError, ConnectionError):
        return b""
    try:
        writer.write(b"hello")
        async with asyncio.timeout(SECONDS):
            return await reader.read(5)
    except (ssl.SSLError, ConnectionError):
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


async def test_who_only_knocks_is_ended_in_time(
    pki: Pki, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 0.05)
    async with listening(pki, caplog) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        async with asyncio.timeout(SECONDS):
            assert await reader.read() == b""
        assert scene.told == ["its handshake took too long"]
        writer.close()
        await writer.wait_closed()


async def test_those_who_only_knock_do_not_keep_others_out(
    pki: Pki, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "MAX_HANDSHAKES", 3)
    good = pki.context(pki.issue("good"))
    async with listening(pki, caplog) as scene:
        knocking = [await asyncio.open_connection("127.0.0.1", scene.port) for _ in range(3)]
        await scene.until(lambda: len(scene.listener._handshakes) == 3)
        assert await echo(scene, good) == b"hello"
        async with asyncio.timeout(SECONDS):
            assert await knocking[0][0].read() == b""  # the oldest had to go
        assert "too many handshakes at a time: the oldest ends" in scene.told
        for _, writer in knocking:
            writer.close()


async def test_without_a_file_left_it_waits_and_goes_on(
    pki: Pki, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection is lost for good, and none is left open: warnings are errors."""
    good = pki.context(pki.issue("good"))
    async with listening(pki, caplog) as scene:
        fails = [OSError(errno.EMFILE, "Too many open files")] * 2

        def dup(connection: socket.socket) -> socket.socket:
            if fails:
                raise fails.pop()
            return original(connection)

        original = socket.socket.dup
        monkeypatch.setattr(socket.socket, "dup", dup)
        assert [await echo(scene, good) for _ in range(3)] == [b"", b"", b"hello"]
        assert scene.told == ["cannot accept: Too many open files"]


async def test_what_has_only_just_come_is_closed_with_the_port(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    async with listening(pki, caplog) as scene:
        with socket.create_connection(("127.0.0.1", scene.port), SECONDS) as knocking:
            await scene.until(lambda: bool(scene.listener._handshakes))
            scene.listener.close()
            await scene.listener.wait_closed()
            assert await asyncio.to_thread(knocking.recv, 1) == b""


async def test_a_connection_closes_although_the_client_does_not_say_goodbye(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    lost = asyncio.Event()
    answer = b"x" * (1 << 20)  # more than the sockets hold: what was written still arrives

    class Closing(Echo):
        def data_received(self, octets: bytes) -> None:
            self.transport.write(answer)
            self.transport.close()

        def connection_lost(self, problem: Exception | None) -> None:
            lost.set()

    def read(secured: ssl.SSLSocket) -> int:
        size = 0
        while size < len(answer):
            size += len(secured.recv(1 << 16))
        return size

    async with listening(pki, caplog) as scene:
        scene.listener._factory = Closing
        with socket.create_connection(("127.0.0.1", scene.port), SECONDS) as raw:
            context = pki.context(pki.issue("good"))
            secured = await asyncio.to_thread(context.wrap_socket, raw, server_hostname="127.0.0.1")
            with secured:
                await asyncio.to_thread(secured.sendall, b"hello")
                assert await asyncio.to_thread(read, secured) == len(answer)
                async with asyncio.timeout(SECONDS):
                    await lost.wait()


async def test_a_probe_that_says_nothing_is_not_told_of(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    async with listening(pki, caplog) as scene:
        with socket.create_connection(("127.0.0.1", scene.port), SECONDS):
            await scene.until(lambda: bool(scene.listener._handshakes))
        await scene.until(lambda: not scene.listener._handshakes)
        assert scene.told == []


async def test_one_host_is_told_of_once_for_each_reason(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    async with listening(pki, caplog) as scene:
        for _ in range(5):
            assert await echo(scene, pki.context()) == b""
        await scene.until(lambda: scene.listener._refusals._unsaid == 4)
        assert scene.told == ["it shows no certificate"]
        caplog.clear()
    assert caplog.records[0].getMessage() == "refused more connections for such reasons"
    assert caplog.records[0].__dict__["fields"] == {"more": 4, "side": "client"}


async def test_the_log_takes_so_many_lines_and_counts_the_rest(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "WINDOW_SECONDS", 0.02)
    refused = refusals.Refusals("client")
    for host in range(refusals.MAX_LINES + 5):
        refused.tell("why", (f"10.0.0.{host}", 1))
    assert len(caplog.records) == refusals.MAX_LINES
    async with asyncio.timeout(SECONDS):
        while len(caplog.records) == refusals.MAX_LINES:  # noqa: ASYNC110  a line in a log is no event
            await asyncio.sleep(0.005)
    assert caplog.records[-1].__dict__["fields"] == {"more": 5, "side": "client"}
    refused.tell("why", ("10.0.0.0", 1))
    assert len(caplog.records) == refusals.MAX_LINES + 2  # a new window
    refused.close()


async def test_the_least_version_may_be_raised(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    context = pki.context(pki.issue("good"))
    async with listening(pki, caplog, policy=Policy((), "TLS1.3")) as scene:
        assert await echo(scene, context) == b"hello"
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await echo(scene, context) == b""
        assert scene.told == ["it wants a version of TLS below --tls-min-version"]


async def test_cipher_suites_by_go_names(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"
    context = pki.context(pki.issue("good"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with listening(pki, caplog, policy=Policy((suite, "TLS_AES_128_GCM_SHA256"), "TLS1.2")) as scene:
        _, writer = await scene.connect(context)
        assert writer.get_extra_info("cipher")[0] == SUITES[suite]
        writer.close()
        await writer.wait_closed()
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        assert await echo(scene, context) == b""
        await scene.until(lambda: scene.told == ["no cipher suite in common"])


@pytest.mark.parametrize("suite", SUITES)
def test_openssl_knows_every_suite(suite: str) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(SUITES[suite])


async def test_an_address_in_use_is_told(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    async with listening(pki, caplog) as scene:
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{scene.port}: address already in use"):
            await listen_tls(Echo, "127.0.0.1", scene.port, 100, scene.held)


# --- resumed sessions ---------------------------------------------------------------------------------------------


def resumed(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
    """A session that was used, and whether it was resumed. Blocks. SSLError, ConnectionError: refused."""
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as secured,
    ):
        secured.sendall(b"hello")
        if secured.recv(5) != b"hello":
            raise ConnectionResetError
        return secured.session, bool(secured.session_reused)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_session_outlives_a_revocation(
    pki: Pki, caplog: pytest.LogCaptureFixture, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    pair = pki.issue("resuming")
    crl = pki.revoke(name="none.crl")
    async with listening(pki, caplog, TlsSettings(trusted_ca_file=pki.ca_file, crl_file=crl)) as scene:
        context = pki.context(pair)
        context.minimum_version = context.maximum_version = version
        session, _ = await asyncio.to_thread(resumed, scene.port, context, None)
        _, again = await asyncio.to_thread(resumed, scene.port, context, session)
        assert again is (version is ssl.TLSVersion.TLSv1_2)  # with TLS 1.3 no session is offered at all
        pki.revoke("resuming", name="none.crl")
        scene.held.material = load(scene.held.settings, POLICY)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(resumed, scene.port, context, session)
        await scene.until(lambda: any("is revoked" in line for line in scene.told))


async def test_no_session_outlives_its_certificate(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    pair = pki.issue("short-lived", days=1.5 / 86400)
    async with listening(pki, caplog) as scene:
        context = pki.context(pair)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        session, _ = await asyncio.to_thread(resumed, scene.port, context, None)
        end = pki.issued["short-lived"].certificate.not_valid_after_utc
        await scene.until(lambda: datetime.now(UTC) > end)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(resumed, scene.port, context, session)
        await scene.until(lambda: any("is not valid at this time" in line for line in scene.told))


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tls", "hosts", "why"),
    [
        (TlsSettings(allowed_cn="named", allow_any_usage=True), (), ""),
        (TlsSettings(allowed_cn="other"), (), "the certificate of 'named' has not the common name 'other'"),
        (TlsSettings(), (), "the certificate of 'named' is not made for members: it names no host"),
        (TlsSettings(allow_any_usage=True), (), ""),  # names no host: may come from anywhere
        (TlsSettings(), ("127.0.0.1",), ""),
        (TlsSettings(), ("192.0.2.1", "localhost"), ""),  # a name that leads to where it comes from
        (TlsSettings(), ("192.0.2.1",), "the certificate of 'named' is not good for 127.0.0.1, where it connects from"),
        (TlsSettings(), ("no.such.invalid",), "the certificate of 'named' is not good for 127.0.0.1"),
        (TlsSettings(skip_address_check=True), ("192.0.2.1",), ""),
        (TlsSettings(allowed_hostname="a.example"), ("127.0.0.1", "*.example"), ""),
        (TlsSettings(allowed_hostname="a.b.example"), ("127.0.0.1", "*.example"), "is not good for 'a.b.example'"),
    ],
)
async def test_the_name_of_a_member(
    pki: Pki, caplog: pytest.LogCaptureFixture, tls: TlsSettings, hosts: tuple[str, ...], why: str
) -> None:
    asked = TlsSettings(
        trusted_ca_file=pki.ca_file,
        allowed_cn=tls.allowed_cn,
        allowed_hostname=tls.allowed_hostname,
        skip_address_check=tls.skip_address_check,
        allow_any_usage=tls.allow_any_usage,
    )
    context = pki.context(pki.issue("named", hosts))
    async with listening(pki, caplog, asked, "peer") as scene:
        if not why:
            assert await echo(scene, context) == b"hello"
        else:
            assert await echo(scene, context) == b""
            await scene.until(lambda: any(why in line for line in scene.told))


@pytest.mark.parametrize(
    ("usage", "hosts"), [(Usage.CLIENT, ()), (Usage.CLIENT, HOSTS), (Usage.PEER, ())], ids=["user", "hosts", "no host"]
)
async def test_a_certificate_that_was_not_made_for_a_member(
    pki: Pki, caplog: pytest.LogCaptureFixture, usage: Usage, hosts: tuple[str, ...]
) -> None:
    """A user's certificate by the members' own authority must not make its user a member."""
    context = pki.context(pki.issue("mallory", hosts, usage))
    async with listening(pki, caplog, side="peer") as scene:
        assert await echo(scene, context) == b""
        await scene.until(lambda: any("'mallory' is not made for members" in line for line in scene.told))
        assert "--peer-cert-allow-any-usage lets it pass" in scene.told[0]
    old = TlsSettings(trusted_ca_file=pki.ca_file, allow_any_usage=True)
    async with listening(pki, caplog, old, side="peer") as scene:
        assert await echo(scene, context) == b"hello"
    async with listening(pki, caplog) as scene:  # clients' port: a client's certificate is all it takes
        assert await echo(scene, context) == b"hello"


async def test_a_client_may_come_from_anywhere(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    context = pki.context(pki.issue("roaming", ["192.0.2.1"]))
    async with listening(pki, caplog) as scene:
        assert await echo(scene, context) == b"hello"


async def test_a_certificate_that_only_openssl_can_read_is_refused(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    context = pki.context(pki.odd())
    async with listening(pki, caplog, side="peer") as scene:
        assert await echo(scene, context) == b""
        await scene.until(lambda: any("its certificate cannot be read" in line for line in scene.told))
        assert len(scene.told) == 1


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("a.example", True),
        ("A.Example.", True),
        ("b.wild.example", True),
        ("wild.example", False),
        ("c.b.wild.example", False),
        (".wild.example", False),
        ("10.0.0.1", True),
        ("10.0.0.2", False),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("the-common-name", False),
        ("", False),
    ],
)
def test_what_a_certificate_is_good_for(pki: Pki, host: str, good: bool) -> None:
    hosts = ["a.example", "*.wild.example", "10.0.0.1", "::1"]
    made = issue(pki.ca, "the-common-name", hosts, Usage.SERVER)
    assert checks.is_good_for(made.certificate, host) is good
