"""What the express lane does not know, by aiohttp's low-level server: each request is handed to its route.

Loaded when the first such request comes, or a moment after the start (server.py), because aiohttp and the routes take
longer to load than all else that a member needs to serve keys. Knows no key, no event and no JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web

from kvstore.http.backend import Backend, TooManyRequests
from kvstore.http.connection import Connection, Exchange, Reply, WatchReply
from kvstore.http.guard import BUSY
from kvstore.http.load import Load
from kvstore.http.reply import Answer, Manner, compose, refusal
from kvstore.http.routes import Routes
from kvstore.http.streamed_reply import StreamedReply
from kvstore.http.target import BadTarget
from kvstore.http.v2.streamed import Streamed
from kvstore.http.v2.watches import Watch
from kvstore.http.whitelist import Whitelist

if TYPE_CHECKING:
    from kvstore.http.app import Settings


class General(web.Server):
    """aiohttp's server, with our Connection as its protocol."""

    def __init__(
        self,
        backend: Backend,
        settings: Settings,
        load: Load,
        whitelist: Whitelist,
        cors_lines_for: Callable[[bytes | None], bytes],
    ) -> None:
        super().__init__(cast(Any, self._serve), request_factory=cast(Any, Exchange), handler_cancellation=True)
        self._routes = Routes(backend, load, client_cert_auth=settings.client_cert_auth)
        self._whitelist = whitelist
        self._cors_lines_for = cors_lines_for
        self._held = load
        self.open_connections = 0

    def connection(self) -> Connection:
        return Connection(self, self._loop, self._held)

    def watches(self) -> Iterator[Watch]:
        """Those that its connections serve now."""
        for connection in self.connections:
            watch = cast(Connection, connection).watch
            if watch is not None:
                yield watch

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self.open_connections += 1
        self._held.admit(transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self.open_connections -= 1
        self._held.connections -= 1

    async def _serve(self, exchange: Exchange) -> Reply | WatchReply | StreamedReply:
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
        finally:
            exchange.release_body()
        if isinstance(answer, Watch):
            return WatchReply(answer, exchange.manner(self._cors_lines(exchange)))
        if isinstance(answer, Streamed):
            return StreamedReply(answer, exchange.manner(self._cors_lines(exchange)))
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
