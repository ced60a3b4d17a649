"""One HTTP/1.1 connection to one server: asyncio streams, httptools as the parser.

aiohttp would do it too, but takes a fifth of a second to import, and every run of `kvctl` is a new process. It knows
nothing of keys, of other endpoints, or of whether a request may be sent twice.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from contextlib import suppress

from httptools import HttpParserError, HttpResponseParser

from kvstore.alerts import alert_of
from kvstore.client.endpoint import DEFAULT_PORTS, Endpoint
from kvstore.client.errors import EndpointError
from kvstore.client.tls import reason

#: A longer answer is an error: a whole tree of keys fits, memory is not filled without end.
MAX_ANSWER_BYTES = 1 << 30
#: The longest head of an answer that is read.
MAX_HEAD_BYTES = 1 << 20
#: A connection that was idle for longer is not used again: the server may be closing it just now.
MAX_IDLE_SECONDS = 5.0
READ_BYTES = 1 << 18
MAX_PORT = 65535

# A host that vanished is noticed within half a minute, even by a watch that waits without a word.
_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))


class Answer:
    """What a server answered. Header names are lower-case; `head` is set once they and the status are there."""

    __slots__ = ("body", "head", "headers", "status")

    def __init__(self) -> None:
        self.head = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    @property
    def index(self) -> int:
        """X-Etcd-Index: how far the server's key space had come; 0 when it does not say."""
        text = self.headers.get("x-etcd-index", "")
        return int(text) if text.isascii() and text.isdigit() else 0


class Connection:
    """Requests one after the other. Any exception out of `ask`, a cancellation too, leaves it unusable: close it."""

    def __init__(self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.endpoint = endpoint
        self._reader = reader
        self._writer = writer
        self._idle_since = time.monotonic()
        self._fresh = True
        self._keeps = True

    @classmethod
    async def open(cls, endpoint: Endpoint, tls: ssl.SSLContext | None, server_name: str = "") -> Connection:
        """Raises EndpointError, never `sent`."""
        if endpoint.scheme not in DEFAULT_PORTS:
            raise EndpointError(f'unsupported protocol scheme "{endpoint.scheme}"', sent=False)
        if not endpoint.host:
            raise EndpointError("http: no Host in request URL", sent=False)
        if endpoint.port > MAX_PORT:
            raise EndpointError(f"dial tcp: address {endpoint.port}: invalid port", sent=False, is_connection=True)
        try:
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, limit=READ_BYTES)
            if tls:
                await _shake_hands(writer, tls, server_name or endpoint.host)
        except (OSError, UnicodeError) as error:
            raise _refused(endpoint, error) from None
        _keep_alive(writer)
        return cls(endpoint, reader, writer)

    @property
    def is_usable(self) -> bool:
        if not self._keeps or self._reader.at_eof() or self._writer.is_closing():
            return False
        return self._fresh or time.monotonic() - self._idle_since < MAX_IDLE_SECONDS

    async def ask(self, request: bytes, answer: Answer) -> None:
        """Sends `request` and fills `answer`. Raises EndpointError, `sent`."""
        self._fresh = False
        parsing = _Parsing(answer)
        try:
            self._writer.write(request)
            await self._writer.drain()
            while not parsing.complete:
                received = await self._reader.read(READ_BYTES)
                if not received:
                    parsing.end()
                    break
                parsing.feed(received)
        except ssl.SSLError as error:
            # An alert about our certificate comes when the handshake is over for us: the request was never read.
            said = reason(error, self.endpoint.host)
            raise EndpointError(said, sent=not said.startswith("remote error"), is_tls=True) from None
        except OSError as error:
            raise EndpointError(f"read tcp: {_words(error)}", sent=True, is_connection=True) from None
        except HttpParserError as error:
            raise EndpointError(f"net/http: malformed HTTP response: {error}", sent=True) from None
        self._keeps = parsing.keeps
        self._idle_since = time.monotonic()

    def close(self) -> None:
        self._writer.transport.abort()


class _Parsing:
    """httptools calls these methods as an answer comes in."""

    def __init__(self, answer: Answer) -> None:
        self.complete = False
        self.keeps = False
        self._answer = answer
        self._parts: list[bytes] = []
        self._size = 0
        self._head_size = 0
        self._parser = HttpResponseParser(self)

    def feed(self, received: bytes) -> None:
        if not self._answer.head.is_set():
            self._head_size += len(received)
            if self._head_size > MAX_HEAD_BYTES + READ_BYTES:
                raise EndpointError("the head of the answer is too long", sent=True)
        self._parser.feed_data(received)
        if self._size > MAX_ANSWER_BYTES:
            raise EndpointError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes", sent=True)

    def end(self) -> None:
        """The server closed. That ends an answer which gave no length."""
        sized = "content-length" in self._answer.headers or "transfer-encoding" in self._answer.headers
        if not self._answer.head.is_set() or sized:
            text = "unexpected EOF" if self._answer.head.is_set() else "EOF"
            raise EndpointError(text, sent=True)
        self.on_message_complete()
        self.keeps = False

    def on_message_begin(self) -> None:
        self._answer.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        if self._answer.status >= 200:
            self._answer.head.set()

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)

    def on_message_complete(self) -> None:
        if self._answer.status < 200:
            return
        self.complete = True
        self.keeps = self._parser.should_keep_alive()
        self._answer.body = b"".join(self._parts)


async def _shake_hands(writer: asyncio.StreamWriter, tls: ssl.SSLContext, name: str) -> None:
    """Raises ssl.SSLError, OSError; the server then hears why, for asyncio has closed without a word."""
    with writer.get_extra_info("socket").dup() as second:  # asyncio closes the first one
        try:
            await writer.start_tls(tls, server_hostname=name)
        except ssl.SSLError as error:
            with suppress(OSError):  # also where it would block: a few bytes as the first ones never do
                second.send(alert_of(error))
            raise
        except BaseException:
            writer.transport.abort()
            raise


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _refused(endpoint: Endpoint, error: Exception) -> EndpointError:
    """Go's words for a connection that did not come about."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    if isinstance(error, ssl.SSLError):
        return EndpointError(reason(error, endpoint.host), sent=False, is_tls=True)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return EndpointError(f"dial tcp: lookup {endpoint.host}: no such host", sent=False, is_connection=True)
    assert isinstance(error, OSError)
    if isinstance(error, ConnectionAbortedError):  # asyncio: "SSL handshake is taking longer", "connection lost"
        return EndpointError(f"tls: {error}", sent=False)
    text = f"dial tcp {host}:{endpoint.port}: connect: {_words(error)}"
    return EndpointError(text, sent=False, is_connection=True)


def _words(error: OSError) -> str:
    # asyncio puts its own sentence into strerror; the number knows the system's.
    return os.strerror(error.errno).lower() if error.errno else str(error) or "connection reset by peer"
