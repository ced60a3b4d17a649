"""The HTTP edge: whole connections in this process and over sockets, and the parsers of targets, forms and bodies."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from kvstore.http.app import Http, Settings, serve
from kvstore.http.errors import ApiError
from kvstore.http.heads import judge
from kvstore.http.load import Load
from kvstore.http.target import BadTarget, is_clean, parse_target, redirect
from kvstore.http.v2.auth_bodies import BadBody, parse_role, parse_user
from kvstore.http.v2.form import FormError, is_form, parse_form
from kvstore.http.v2.parameters import parse_key_request
from kvstore.limits import Limits
from tests.fuzz.peer_target import LOOP
from tests.fuzz.target import Broken, Target
from tests.fuzz.transport import Pipe, cut
from tests.http.backend import LocalBackend
from tests.http.client import FORM, put, request

LIFE = 200  # inputs that one server gets
TURNS = 40  # of the loop, for what was sent to be answered
SECONDS = 1.0  # for a server to end a connection whose client sends no more
SETTINGS = Settings(Limits(line_bytes=4_000, head_bytes=8_000, headers=40, request_bytes=6_000, watchers=10))

SEEDS = (
    request("GET /v2/keys/?recursive=true&sorted=true"),
    request("GET /v2/keys/a?wait=true&stream=true&waitIndex=1"),
    request("GET /v2/keys/a?quorum=true", "X-Odd: 1"),
    request("HEAD /version", "Connection: close"),
    request("DELETE /v2/keys/a?recursive=true&prevValue=%2F"),
    request("OPTIONS *"),
    request("GET /metrics") + request("GET /v2/stats/store") + request("GET /health"),
    put("/a", "value=1&ttl=5&prevExist=false"),
    put("/a/b", "value=%00%ff+x&dir=true") + put("/q", "value=2"),
    request("POST /v2/keys/q", FORM, body=b"value=job"),
    request("PUT /v2/keys/a", FORM, "Transfer-Encoding: chunked") + b"7;x=y\r\nvalue=1\r\n0\r\nT: u\r\n\r\n",
    request("PUT /v2/keys/a", FORM, "Expect: 100-continue", body=b"value=1"),
    request("PUT /v2/auth/users/root", "Content-Type: application/json", body=b'{"user":"root","password":""}'),
    request("PUT /v2/auth/roles/r", body=b'{"role":"r","permissions":{"kv":{"read":["/a/*"],"write":[]}}}'),
    request("PUT /v2/auth/users/u", body=b'{"user":"u","grant":["r"],"revoke":[]}'),
    request("POST /v2/members", "Content-Type: application/json", body=b'{"peerURLs":["http://127.0.0.1:9"]}'),
    request("GET /v2/keys/a HTTP/1.0", "Connection: keep-alive"),
    b"PUT http://x:1/v2/keys/\xc3\xa9?value=1 HTTP/1.1\r\nHost: x\r\n\r\n",
)
TOKENS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"?",
        b"&",
        b";",
        b"%",
        b"%00",
        b"%2f",
        b"//",
        b"/..",
    ),
    *(b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n", b"value=", b"="),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"1\r\nx\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"HTTP/1.0", b"HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(
        b"wait=true",
        b"stream=true",
        b"waitIndex=",
        b"ttl=",
        b"prevIndex=",
        b"true",
        b"-1",
        b"18446744073709551616",
        b"1e9",
    ),
    *(b"Authorization: Basic cm9vdDo=\r\n", b"Host: y\r\n", b"X: " + b"y" * 3_000 + b"\r\n", b"\xff\xfe", b"\xc3\xa9"),
    *(
        b"[" * 500,
        b'{"a":' * 500,
        b'"\\ud800"',
        b"{}",
        b"null",
        b"/v2/auth/enable",
        b"/v2/members/",
        b"/config/local/log",
    ),
)


class Errors(logging.Handler):
    """What the server logs as an error is one of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.first: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.first is None:
            problem = record.exc_info[1] if record.exc_info else None
            self.first = f"{record.getMessage()}: {problem!r}"


class Edge:
    """A server that is replaced now and then, so that what an input does hangs on few before it."""

    def __init__(self) -> None:
        self._errors = Errors()
        self._taken = 0
        self.backend: LocalBackend
        self.http: Http | None = None

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self._errors.first = self._errors.first or f"{context.get('message')}: {context.get('exception')!r}"

    def __call__(self, octets: bytes) -> None:
        LOOP.run_until_complete(self._take(octets))

    async def _take(self, octets: bytes) -> None:
        if self._taken % LIFE == 0:
            await self._restart()
        self._taken += 1
        assert self.http is not None
        LOOP.set_exception_handler(self._unhandled)
        logging.getLogger().addHandler(self._errors)
        try:
            await self.talk(self.http, octets)
        finally:
            logging.getLogger().removeHandler(self._errors)
        load = self.http.load
        first, self._errors.first = self._errors.first, None
        if first is not None:
            raise Broken(first)
        held = (load.connections, load.arriving_bytes, load.unread_bytes, self.backend.store.watcher_count)
        if held != (0, 0, 0, 0):
            self._taken = 0
            raise Broken(f"all connections are gone, and still held are {held}")

    async def close(self) -> None:
        if self.http is not None:
            await self.http.close(0.0)
            self.backend.passwords.close()
            self.http = None

    async def _restart(self) -> None:
        await self.close()
        self.backend = LocalBackend(100)
        self.http = await serve(self.backend, "127.0.0.1", 0, settings=SETTINGS, load=Load(SETTINGS.limits))

    async def talk(self, http: Http, octets: bytes) -> None:
        protocol = http._accept()  # as its listener does
        pipe = Pipe(protocol)
        protocol.connection_made(pipe)
        for piece in cut(octets):
            pipe.feed(piece)
            await asyncio.sleep(0)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if not pipe.is_closing():
            pipe.protocol.eof_received()
        pipe.protocol.connection_lost(None)
        for _ in range(5):
            await asyncio.sleep(0)


class SocketEdge(Edge):
    """The same over a socket: the client sends all, and no more, and the server ends the connection."""

    async def talk(self, http: Http, octets: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", http.port)
        try:
            async with asyncio.timeout(SECONDS):
                with contextlib.suppress(ConnectionError):
                    for piece in cut(octets):
                        writer.write(piece)
                        await writer.drain()
                    if writer.can_write_eof():
                        writer.write_eof()
                    while await reader.read(1 << 16):
                        pass
        except OSError as problem:  # TimeoutError among them
            if isinstance(problem, TimeoutError):
                raise Broken("the connection does not end") from None
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        async with asyncio.timeout(SECONDS):
            while http.load.connections:  # noqa: ASYNC110  # it is told by the loop
                await asyncio.sleep(0)


def take_parts(octets: bytes) -> None:
    """The pure parsers, each with all of it."""
    judge(octets)
    line, _, rest = octets.partition(b"\n")
    with contextlib.suppress(BadTarget):
        target = parse_target(line)
        if not is_clean(target.path):
            redirect("GET", target)
    for method in ("GET", "PUT", "POST", "DELETE"):
        with contextlib.suppress(ApiError):
            asked = parse_key_request(method, b"/v2/keys/" + line.partition(b"?")[0], line.partition(b"?")[2], rest)
            if asked.ttl is not None and not 0 <= asked.ttl < 2**64:
                raise Broken(f"a ttl of {asked.ttl}")
    for parse in (parse_form, is_form):
        with contextlib.suppress(FormError):
            parse(line)
    for parse_body in (parse_user, parse_role):
        with contextlib.suppress(BadBody):
            parse_body(octets)


_EDGES = (Edge(), SocketEdge())


def close() -> None:
    """Ends the servers, and the loop of all targets."""
    for edge in _EDGES:
        LOOP.run_until_complete(edge.close())
    LOOP.run_until_complete(LOOP.shutdown_asyncgens())
    LOOP.close()


TARGETS = (
    Target("http", SEEDS, TOKENS, _EDGES[0]),
    Target("http sockets", SEEDS, TOKENS, _EDGES[1]),
    Target(
        "http parts",
        (
            b"/v2/keys/a%20b?wait=true&waitIndex=5\nvalue=1&ttl=10&prevExist=true",
            b"http://x/v2/keys//a/../b?prevValue=x&prevIndex=3&recursive=1\ndir=true&refresh=true",
            b"\r\nHost: x:1\r\nAccept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 12",
            b'multipart/form-data; boundary="x y"; a=b\n',
            b'{"user":"u","password":"p","roles":["a","b"],"grant":null,"revoke":[]}',
            b'{"role":"r","permissions":{"kv":{"read":["/a"],"write":["/b*"]}},"grant":{"kv":{"read":[]}}}',
        ),
        TOKENS,
        take_parts,
    ),
)
