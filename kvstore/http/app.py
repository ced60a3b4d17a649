"""The HTTP server of one member: listens, hands each request to its route, and stops gracefully.

A connection begins in the express lane (express.py) and goes on, when it asks for what that does not know, in aiohttp's
low-level server. Knows no key, no event and no JSON.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aiohttp import web

from kvstore.http.backend import Backend, TooManyRequests
from kvstore.http.connection import Connection, Exchange, Reply, WatchReply
from kvstore.http.express import Express
from kvstore.http.guard import BUSY
from kvstore.http.lane import Lane
from kvstore.http.listing_reply import ListingReply
from kvstore.http.load import Load, Refusal
from kvstore.http.reply import CORS_ANY, Answer, Manner, compose, cors_lines, refusal
from kvstore.http.routes import Routes
from kvstore.http.target import BadTarget
from kvstore.http.v2.long_listings import LongListing
from kvstore.http.v2.watches import Watch
from kvstore.http.whitelist import Whitelist
from kvstore.limits import Limits
from kvstore.tls.sides import Listener, listen

if TYPE_CHECKING:
    from kvstore.tls.credentials import Credentials

ACCEPT_QUEUE = 1_024
SHORTEST_GRACE = 0.001  # seconds; aiohttp takes 0 for "without limit"
ANY_ORIGIN = frozenset(("*",))
ANY_HOST = frozenset(("*",))


class Settings(NamedTuple):
    """What an operator may set."""

    limits: Limits = Limits()
    cors: frozenset[str] = ANY_ORIGIN  # --cors: the origins to name, or `*`
    hosts: frozenset[str] = ANY_HOST  # --host-whitelist: what a Host header without TLS may name, or `*`
    client_cert_auth: bool = False  # --client-cert-auth: a certificate's common name logs its user in


class _Server(web.Server):
    """aiohttp's server, with our Connection as its protocol."""

    def __init__(self, http: Http, load: Load) -> None:
        super().__init__(cast(Any, http.serve_request), request_factory=cast(Any, Exchange), handler_cancellation=True)
        self._held = load
        self.open_connections = 0

    def __call__(self) -> Connection:
        return Connection(self, self._loop, self._held)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self.open_connections += 1
        self._held.admit(transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self.open_connections -= 1
        self._held.connections -= 1


class Http:
    """A running server. Made by `serve`."""

    def __init__(self, backend: Backend, settings: Settings, load: Load) -> None:
        self._routes = Routes(backend, load, client_cert_auth=settings.client_cert_auth)
        self._cors = settings.cors
        self._whitelist = Whitelist(settings.hosts)
        self.load = load
        self._server = _Server(self, load)
        self._lane = Lane(backend, self._cors_lines_for(None), load, self._hand_over)
        self._listener: Listener | None = None
        self._auth = backend.auth
        self._ignore_auth = self._auth.observe(self._auth_changed)
        backend.store.pace_watchers(asyncio.get_running_loop().call_soon)

    async def listen(self, host: str, port: int, credentials: Credentials | None) -> None:
        """Raises OSError where the address cannot be had."""
        factory = self._accept if credentials is not None or self._whitelist.allows_all else self._accept_guarded
        self._listener = await listen(factory, host, port, ACCEPT_QUEUE, credentials)

    def _accept(self) -> asyncio.Protocol:
        # One that is compiled inherits from nothing that is not; it has what a Protocol has.
        return Refusal() if self.load.is_full else cast(asyncio.Protocol, Express(self._lane))

    def _accept_guarded(self) -> asyncio.Protocol:
        """Where requests must name this host, the express lane, which does not look, takes none."""
        return Refusal() if self.load.is_full else self._server()

    def _hand_over(self, transport: asyncio.Transport, octets: bytes, is_half_closed: bool) -> None:
        """The connection goes on in aiohttp's server, with what it sent and nobody has answered."""
        connection = self._server()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.data_received(octets)
        if is_half_closed and not connection.eof_received():
            transport.close()

    @property
    def port(self) -> int:
        """The port it listens on, where 0 was asked for."""
        assert self._listener is not None
        return int(next(iter(self._listener.sockets)).getsockname()[1])

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._server.open_connections + len(self._lane.connections)

    async def close(self, grace: float) -> None:
        """Listen no more, end the watches, let requests in flight finish for `grace` seconds, then close all."""
        if self._listener is None:
            return
        self._listener.close()
        self._ignore_auth()
        self._server.pre_shutdown()  # no further request on any connection
        for connection in self._server.connections:
            watch = cast(Connection, connection).watch
            if watch is not None:
                watch.finish()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        await self._lane.close(grace)  # first, for what leaves it meanwhile is aiohttp's to end
        await self._server.shutdown(max(deadline - loop.time(), SHORTEST_GRACE))
        await self._listener.wait_closed()
        self._listener = None

    def _auth_changed(self) -> None:
        """Users or roles have changed: a watch must not outlive the right to it."""
        for connection in self._server.connections:
            watch = cast(Connection, connection).watch
            if watch is not None:
                watch.review(self._auth)
        self._lane.review(self._auth)

    async def serve_request(self, exchange: Exchange) -> Reply | WatchReply | ListingReply:
        """One request, whatever its route. Called by aiohttp."""
        if not exchange.is_http1:
            return Reply(refusal(400), keep_alive=False)
        if not exchange.is_secure and (refused := self._whitelist.refusal(exchange.header("Host"))):
            manner = Manner(exchange.is_http11, exchange.keep_alive, exchange.method == "HEAD", cors=b"")
            return Reply(compose(refused, manner), manner.keep_alive)
        try:
            found = self._routes.find(exchange.method, exchange.raw_target)
        except BadTarget:
            return Reply(refusal(400), keep_alive=False)
        if exchange.expects_nonsense:
            return self._reply(exchange, Answer(417, b"", b""), keep_alive=False)
        if isinstance(found, Answer):
            return self._reply(exchange, found)
        exchange.path, exchange.query = found.target
        try:
            answer = await found.handler(exchange)
        except TooManyRequests:
            answer = BUSY
        if isinstance(answer, Watch):
            return WatchReply(answer, exchange.manner(self._cors_lines(exchange)))
        if isinstance(answer, LongListing):
            return ListingReply(answer, exchange.manner(self._cors_lines(exchange)))
        return self._reply(exchange, answer)

    def _reply(self, exchange: Exchange, answer: Answer, keep_alive: bool = True) -> Reply:
        manner = Manner(
            exchange.is_http11,
            keep_alive and exchange.keep_alive,
            exchange.method == "HEAD",
            self._cors_lines(exchange),
        )
        return Reply(compose(answer, manner), manner.keep_alive)

    def _cors_lines(self, exchange: Exchange) -> bytes:
        return self._cors_lines_for(exchange.header("Origin"))

    def _cors_lines_for(self, origin: bytes | None) -> bytes:
        if "*" in self._cors:
            return CORS_ANY
        if origin is not None and origin.decode("latin-1") in self._cors:
            return cors_lines(origin)
        return b""


async def serve(
    backend: Backend,
    host: str,
    port: int,
    credentials: Credentials | None = None,
    settings: Settings | None = None,
    load: Load | None = None,
) -> Http:
    """Start to serve `backend` on one address; port 0 picks a free one. Raises OSError.

    `load` is that of all listeners of a member; None: this is the only one.
    """
    settings = settings or Settings()
    http = Http(backend, settings, load or Load(settings.limits))
    await http.listen(host, port, credentials)
    return http
