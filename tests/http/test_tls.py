"""HTTP over TLS: who a certificate logs in, and what of it a request shows."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from kvstore.certificates import Issued, Usage, authority, issue
from kvstore.http.app import Http, Settings, serve
from kvstore.settings import TlsSettings
from kvstore.store.operations import Set
from kvstore.tls.credentials import Credentials
from kvstore.tls.material import Policy
from kvstore.wire import UpdateUser
from tests.http.backend import LocalBackend
from tests.http.client import DEADLINE, FORM, RawClient, request
from tests.http.scene import basic, change, furnish


class Files:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = authority("the authority")
        self.ca_file = self._write("ca", self.ca.certificate_pem)
        self.server = self.pair("server", issue(self.ca, "server", ["127.0.0.1"], Usage.SERVER))

    def _write(self, name: str, octets: bytes) -> Path:
        (self.folder / name).write_bytes(octets)
        return self.folder / name

    def pair(self, name: str, issued: Issued) -> tuple[Path, Path]:
        return self._write(f"{name}.crt", issued.certificate_pem), self._write(f"{name}.key", issued.key_pem)

    def context(self, name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if name:
            context.load_cert_chain(*self.pair("client", issue(self.ca, name, [], Usage.CLIENT)))
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def serving(
    files: Files, backend: LocalBackend, client_cert_auth: bool = True, asks: bool = True
) -> AsyncIterator[Http]:
    cert, key = files.server
    tls = TlsSettings(cert_file=cert, key_file=key, trusted_ca_file=files.ca_file if asks else None)
    held = Credentials("client", tls, Policy((), "TLS1.2"))
    http = await serve(backend, "127.0.0.1", 0, held, Settings(client_cert_auth=client_cert_auth))
    try:
        yield http
    finally:
        await http.close(grace=0.0)


async def connect(http: Http, context: ssl.SSLContext) -> RawClient:
    return RawClient(*await asyncio.open_connection("127.0.0.1", http.port, ssl=context))


READ_OWN, READ_OTHER = "GET /v2/keys/app/a", "GET /v2/keys/exact"


@pytest.mark.parametrize(
    ("name", "headers", "own", "other", "users"),
    [
        ("alice", (), 200, 401, 401),
        ("root", (), 200, 200, 200),
        ("nobody", (), 401, 401, 401),  # a guest
        ("ALICE", (), 401, 401, 401),
        ("alice", (basic(b"bob"),), 401, 200, 401),  # a password beats a certificate
        ("root", (basic(b"alice", b"wrong"),), 401, 401, 401),
        ("root", ("Authorization: Bearer x",), 401, 401, 401),
        ("alice", ("Authorization: ",), 200, 401, 401),  # an empty one is none
    ],
)
async def test_the_common_name_logs_its_user_in(
    files: Files, name: str, headers: tuple[str, ...], own: int, other: int, users: int
) -> None:
    async with serving(files, furnish(LocalBackend())) as http:
        client = await connect(http, files.context(name))
        assert (await client.ask(request(READ_OWN, *headers))).status == own
        assert (await client.ask(request(READ_OTHER, *headers))).status == other
        assert (await client.ask(request("GET /v2/auth/users", *headers))).status == users
        await client.close()


@pytest.mark.parametrize(("client_cert_auth", "status"), [(True, 200), (False, 401)])
async def test_an_authority_alone_logs_nobody_in(files: Files, client_cert_auth: bool, status: int) -> None:
    async with serving(files, furnish(LocalBackend()), client_cert_auth) as http:
        client = await connect(http, files.context("root"))
        assert (await client.ask(request("GET /v2/auth/users"))).status == status
        await client.close()


async def test_without_a_certificate_everybody_is_a_guest(files: Files) -> None:
    async with serving(files, furnish(LocalBackend()), asks=False) as http:
        client = await connect(http, files.context(""))
        assert (await client.ask(request("GET /v2/keys/pub"))).status == 200
        assert (await client.ask(request(READ_OWN))).status == 401
        await client.close()


async def test_a_watch_of_a_certificates_user_ends_with_the_right_to_it(files: Files) -> None:
    backend = furnish(LocalBackend())
    async with serving(files, backend) as http:
        client = await connect(http, files.context("alice"))
        client.send(request("GET /v2/keys/app/w/k?wait=true&stream=true"))
        assert (await client.head()).status == 200
        change(backend, Set(b"/app/w/k", b"1", False, None, False))
        assert b'"value":"1"' in await client.chunk()
        change(backend, UpdateUser(b"alice", None, (), (b"app",)))
        assert await client.chunk() == b""
        await client.close()


async def test_keys_go_over_tls_before_and_behind_the_express_lane(files: Files) -> None:
    async with serving(files, LocalBackend()) as http:
        client = await connect(http, files.context("alice"))
        large = b"value=" + b"x" * (1 << 20)
        for line, body in (("PUT /v2/keys/a", b"value=1"), ("PUT /v2/keys/b", large), ("PUT /v2/keys/c", b"value=2")):
            assert (await client.ask(request(line, FORM, body=body))).status == 201
        answer = await client.ask(request("GET /v2/keys/b"))
        assert len(answer.body) > len(large)
        await client.close()


@pytest.mark.parametrize("lines", [(), ("X-Odd: 1",)])
def test_what_a_client_does_not_read_counts_and_it_gets_no_more(files: Files, lines: tuple[str, ...]) -> None:
    """As without TLS. On the server's own loop: it is uvloop's transport that keeps it to itself."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_answer_one_who_does_not_read(files, lines))


async def _answer_one_who_does_not_read(files: Files, lines: tuple[str, ...]) -> None:
    backend = LocalBackend()
    backend.apply(Set(b"/big", b"x" * 40_000_000, False, None, False))  # sockets hold a fourth of it
    async with serving(files, backend, asks=False) as http:
        slow = await connect(http, files.context(""))
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a full transport
        slow.send(request("GET /v2/keys/big", *lines))
        async with asyncio.timeout(DEADLINE):
            while not http.load.unread_bytes:  # noqa: ASYNC110  # the server tells nobody
                await asyncio.sleep(0.001)
        assert http.load.unread_bytes < 1_000_000
        assert http.load.held_bytes == 40_000_000
        slow.send(request("GET /v2/keys/big", *lines) * 2)
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(3):
            assert len((await slow.response()).body) > 40_000_000
        await slow.close()
        assert backend.store.counts.gets == 3
