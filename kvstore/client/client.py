"""A cluster as one thing that is asked: endpoints tried in turn, members looked up, times kept.

The rule for asking again: a request goes to the next endpoint when it certainly had no effect (not sent, or refused
for want of a leader), or when it only reads. A write that was sent and not answered is reported as `OutcomeUnknown`.
It knows paths and bodies, not what keys, members or users are.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

from kvstore.client.connection import Answer, Connection
from kvstore.client.endpoint import Endpoint, parse
from kvstore.client.errors import (
    ClientError,
    DeadlineExceeded,
    EndpointError,
    Interrupted,
    NoEndpoints,
    OutcomeUnknown,
    Unreachable,
)
from kvstore.client.pool import Pool
from kvstore.client.tls import Tls

REQUEST_SECONDS = 2.0
TOTAL_SECONDS = 5.0
# So begins a 500 about members, users or roles: the leader may be well, and the change refused.
_MESSAGE = b'{"message":'
# The causes with which a server says that a write certainly was not done.
_NOT_DONE = (b"etcdserver: no leader", b"etcdserver: not leader", b"etcdserver: too many requests")

#: Told of every request as it is sent: method, URL, body (None where there is none).
Trace = Callable[[str, str, bytes | None], None]


class Request(NamedTuple):
    """`path` is unquoted, `query` is quoted. A `wait` has no time limit of its own."""

    method: str
    path: str
    query: str = ""
    body: bytes | None = None
    content_type: str = ""
    wait: bool = False
    #: When no endpoint could do it, only the first one's error is told: etcdctl's way for `mk`, `mkdir` and `rm`.
    one_shot: bool = False
    #: Told the X-Etcd-Index of the answer as soon as its head is there; what breaks later is then Interrupted.
    on_index: Callable[[int], None] | None = None

    @property
    def only_reads(self) -> bool:
        return self.method == "GET"


class Client:
    """Use it as `async with`, or `close()` it. Safe for many tasks of one event loop.

    `timeout` is for the head of one answer, `total_timeout` for one call over all endpoints it tries; seconds, 0 is
    no limit.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        username: str = "",
        password: str = "",
        tls: Tls | None = None,
        timeout: float = REQUEST_SECONDS,
        total_timeout: float = TOTAL_SECONDS,
        trace: Trace | None = None,
    ) -> None:
        """Raises InvalidEndpoint, InvalidTls."""
        self.timeout = timeout
        self.total_timeout = total_timeout
        self._pool = Pool(tls or Tls())
        self._trace = trace
        self._authorization = b""
        if username:
            pair = f"{username}:{password}".encode(errors="surrogateescape")
            self._authorization = b"Authorization: Basic " + b64encode(pair) + b"\r\n"
        self._pinned = 0
        self._syncs = False
        self._endpoints = self._shuffled(endpoints)
        for endpoint in self._endpoints:
            self._pool.prepare(endpoint)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._pool.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """In the order in which they are tried."""
        return tuple(endpoint.url for endpoint in self._endpoints)

    def use(self, endpoints: Sequence[str]) -> None:
        """Other endpoints from now on, in any order. The same ones change nothing. Raises InvalidEndpoint."""
        if sorted(endpoints) != sorted(self.endpoints):
            self._endpoints = self._shuffled(endpoints)
            self._pinned = 0

    def _shuffled(self, endpoints: Sequence[str]) -> tuple[Endpoint, ...]:
        if not endpoints:
            raise NoEndpoints
        # Clients spread over the members. `random` would cost a twentieth of the time kvctl has to start.
        return tuple(sorted((parse(text) for text in endpoints), key=lambda _endpoint: os.urandom(8)))

    async def ask(self, request: Request) -> Answer:
        """Asks one endpoint after the other until one answers; its answer, whatever its status below 500.

        Raises Unreachable, DeadlineExceeded, OutcomeUnknown.
        """
        sent = asyncio.Event()
        try:
            async with asyncio.timeout(self.total_timeout if self.total_timeout and not request.wait else None):
                return await self._ask_in_turn(request, sent)
        except TimeoutError:
            if sent.is_set() and not request.only_reads:
                raise OutcomeUnknown(DeadlineExceeded()) from None
            raise DeadlineExceeded from None

    async def _ask_in_turn(self, request: Request, sent: asyncio.Event) -> Answer:
        endpoints, pinned = self._endpoints, self._pinned
        errors = []
        for turn in range(len(endpoints)):
            place = (pinned + turn) % len(endpoints)
            sent.clear()
            try:
                answer = await self.ask_one(endpoints[place], request, sent)
            except EndpointError as error:
                errors.append(error)
                if error.sent and not request.only_reads:
                    self._move_on(endpoints, place + 1)
                    raise OutcomeUnknown(error) from None
                continue
            self._move_on(endpoints, place)
            return answer
        if request.one_shot:
            raise errors[0]
        raise Unreachable(errors)

    def _move_on(self, endpoints: tuple[Endpoint, ...], place: int) -> None:
        if endpoints is self._endpoints:
            self._pinned = place % len(endpoints)

    def prefer_next(self) -> None:
        """Begins with another endpoint from now on."""
        self._move_on(self._endpoints, self._pinned + 1)

    async def ask_one(self, endpoint: Endpoint, request: Request, sent: asyncio.Event) -> Answer:
        """Asks this endpoint alone; `sent` is set when it may know of the request. Raises EndpointError."""
        target = self._target(endpoint, request)
        if self._trace is not None:
            self._trace(request.method, endpoint.full(target), request.body)
        answer = await self._fetch(endpoint, target, request, sent)
        if answer.status >= 500:
            raise _server_error(endpoint, answer)
        return answer

    async def ask_anyhow(self, endpoint: Endpoint, request: Request) -> Answer:
        """Asks this endpoint alone, and whatever status it answers is an answer. Raises EndpointError."""
        return await self._fetch(endpoint, self._target(endpoint, request), request, asyncio.Event())

    def _target(self, endpoint: Endpoint, request: Request) -> str:
        return endpoint.target(request.path) + (f"?{request.query}" if request.query else "")

    async def _fetch(self, endpoint: Endpoint, target: str, request: Request, sent: asyncio.Event) -> Answer:
        answer, begun = Answer(), False
        asking = asyncio.ensure_future(self._exchange(endpoint, target, request, answer, sent))
        try:
            seconds = None if request.wait else self.timeout or None
            if not await _head_or_end(asking, answer.head, seconds):
                text = f"client: endpoint {endpoint.url} exceeded header timeout"
                raise EndpointError(text, sent=sent.is_set())
            if answer.head.is_set() and request.on_index is not None and answer.status < 500:
                request.on_index(answer.index)
                begun = True
            await asking
        except EndpointError as error:
            if begun:
                raise Interrupted(str(error)) from None
            raise
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            elif not asking.cancelled():
                asking.exception()  # also when we are cancelled in the turn in which it failed
        return answer

    async def _exchange(
        self, endpoint: Endpoint, target: str, request: Request, answer: Answer, sent: asyncio.Event
    ) -> None:
        raw = self._bytes(endpoint, target, request)
        connection = self._pool.take(endpoint)
        if connection is not None:
            sent.set()
            try:
                await self._use(connection, raw, answer)
                return
            except EndpointError:  # the server may have closed it just now: a read is asked again on a new one
                if answer.head.is_set() or not request.only_reads:
                    raise
        connection = await self._pool.open(endpoint)
        sent.set()
        await self._use(connection, raw, answer)

    async def _use(self, connection: Connection, raw: bytes, answer: Answer) -> None:
        try:
            await connection.ask(raw, answer)
        except BaseException:
            connection.close()
            raise
        self._pool.give_back(connection)

    def _bytes(self, endpoint: Endpoint, target: str, request: Request) -> bytes:
        head = f"{request.method} {target} HTTP/1.1\r\nHost: {endpoint.authority}\r\nUser-Agent: kvctl\r\n"
        if request.content_type:
            head += f"Content-Type: {request.content_type}\r\n"
        body = request.body or b""
        if body or request.method in ("PUT", "POST"):
            head += f"Content-Length: {len(body)}\r\n"
        return head.encode(errors="surrogateescape") + self._authorization + b"\r\n" + body

    async def sync(self) -> None:
        """Takes the client URLs of all members as the endpoints. Raises ClientError; then nothing is changed."""
        from kvstore.client.members import Members  # here, since Members is made of a Client

        self.use([url for member in await Members(self).all() for url in member.client_urls])
        self._syncs = True

    async def sync_again(self) -> None:
        """When a member was lost, for others may have come. Only where `sync` was wanted before; it may fail."""
        if self._syncs:
            with suppress(ClientError):
                await self.sync()


async def _head_or_end(asking: asyncio.Future[None], head: asyncio.Event, seconds: float | None) -> bool:
    """Waits until the head of the answer is there, or the asking failed; False when the time is up."""
    heading = asyncio.ensure_future(head.wait())
    try:
        done, _ = await asyncio.wait((asking, heading), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        heading.cancel()
    return bool(done)


def _server_error(endpoint: Endpoint, answer: Answer) -> EndpointError:
    """etcdctl's words. 503 comes before anything is done; of a 500, only some causes say so."""
    sent = answer.status != 503 and not any(cause in answer.body for cause in _NOT_DONE)
    if answer.status == 500 and answer.body.startswith(_MESSAGE):
        text = f"client: etcd member {endpoint.url} answers 500 Internal Server Error; its log may say why"
        return EndpointError(text, sent=sent)
    if answer.status in (500, 503):
        return EndpointError(f"client: etcd member {endpoint.url} has no leader", sent=sent)
    from http import HTTPStatus  # here, since only few runs pay for it

    try:
        words = HTTPStatus(answer.status).phrase
    except ValueError:
        words = ""
    return EndpointError(f"client: etcd member {endpoint.url} returns server error [{words}]", sent=sent)


def is_connection_failure(error: ClientError) -> bool:
    """Whether it was the network, rather than what the servers said."""
    if isinstance(error, Unreachable | EndpointError):
        return error.is_connection
    return isinstance(error, DeadlineExceeded)
