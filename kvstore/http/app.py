"""The HTTP server of one member: listens, hands each request to its route, and stops gracefully.

A connection begins in the express lane (express.py) and goes on, when it asks for what that does not know, in aiohttp's
low-level server. Knows no key, no event and no JSON.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, cast

from kvstore.http.backend import Backend
from kvstore.http.express import Express
from kvstore.http.lane import Lane
from kvstore.http.load import Load, Refusal
from kvstore.http.reply import CORS_ANY, cors_lines
from kvstore.http.whitelist import Whitelist
from kvstore.limits import Limits
from kvstore.tls.sides import Listener, listen

if TYPE_CHECKING:
    from kvstore.http.general import General
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


class Http:
    """A running server. Made by `serve`."""

    def __init__(self, backend: Backend, settings: Settings, load: Load) -> None:
        self._backend = backend
        self._settings = settings
        self._cors = settings.cors
        self._whitelist = Whitelist(settings.hosts)
        self.load = load
        self._general: General | None = None  # made when it is needed: to load it takes longer than all else
        self._is_closing = False
        self._lane = Lane(backend, self.cors_lines_for(None), load, self._hand_over)
        self._listener: Listener | None = None
        self._auth = backend.auth
        self._ignore_auth = self._auth.observe(self._auth_changed)
        backend.store.pace_watchers(asyncio.get_running_loop().call_soon, perf_counter)

    def _server(self) -> General:
        """aiohttp's server, for what the express lane does not know."""
        if self._general is None:
            from kvstore.http.general import General

            self._general = General(self._backend, self._settings, self.load, self._whitelist, self.cors_lines_for)
            if self._is_closing:
                self._general.pre_shutdown()
        return self._general

    async def listen(self, host: str, port: int, credentials: Credentials | None, with_plain: bool = False) -> None:
        """`with_plain`: serve requests without TLS on this port, too. Raises OSError if the address cannot be had."""
        plain = self._accept if self._whitelist.allows_all else self._accept_guarded
        if credentials is None:
            self._listener = await listen(plain, host, port, ACCEPT_QUEUE, None)
        else:
            beside = plain if with_plain else None
            self._listener = await listen(self._accept, host, port, ACCEPT_QUEUE, credentials, beside)

    def _accept(self) -> asyncio.Protocol:
        # One that is compiled inherits from nothing that is not; it has what a Protocol has.
        return Refusal() if self.load.is_full else cast(asyncio.Protocol, Express(self._lane))

    def _accept_guarded(self) -> asyncio.Protocol:
        """Where requests must name this host, the express lane, which does not look, takes none."""
        return Refusal() if self.load.is_full else self._server().connection()

    def _hand_over(self, transport: asyncio.Transport, octets: bytes, is_half_closed: bool) -> None:
        """The connection goes on in aiohttp's server, with what it sent and nobody has answered."""
        connection = self._server().connection()
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
        general = self._general.open_connections if self._general is not None else 0
        return general + len(self._lane.connections)

    async def close(self, grace: float) -> None:
        """Listen no more, end the watches, let requests in flight finish for `grace` seconds, then close all."""
        if self._listener is None:
            return
        self._listener.close()
        self._ignore_auth()
        self._is_closing = True
        if self._general is not None:
            self._general.pre_shutdown()  # no further request on any connection
            for watch in self._general.watches():
                watch.finish()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        await self._lane.close(grace)  # first, for what leaves it meanwhile is aiohttp's to end
        if self._general is not None:
            await self._general.shutdown(max(deadline - loop.time(), SHORTEST_GRACE))
        await self._listener.wait_closed()
        self._listener = None

    def _auth_changed(self) -> None:
        """Users or roles have changed: a watch must not outlive the right to it."""
        if self._general is not None:
            for watch in self._general.watches():
                watch.review(self._auth)
        self._lane.review(self._auth)

    def cors_lines_for(self, origin: bytes | None) -> bytes:
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
    with_plain: bool = False,
) -> Http:
    """Start to serve `backend` on one address; port 0 picks a free one. Raises OSError.

    `load` is that of all listeners of a member; None: this is the only one. `with_plain`: with TLS and without it.
    """
    settings = settings or Settings()
    http = Http(backend, settings, load or Load(settings.limits))
    await http.listen(host, port, credentials, with_plain)
    return http
