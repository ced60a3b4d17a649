"""Connections that are kept between two requests, for each endpoint apart."""

from __future__ import annotations

import ssl

from kvstore.client.connection import Connection
from kvstore.client.endpoint import Endpoint
from kvstore.client.tls import Tls

#: Idle connections that are kept to one endpoint.
MAX_IDLE_CONNECTIONS = 16


class Pool:
    """Whoever takes a connection gives it back when its answer is there, or closes it."""

    def __init__(self, tls: Tls) -> None:
        """Raises InvalidTls."""
        tls.check()
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._idle: dict[Endpoint, list[Connection]] = {}

    def prepare(self, endpoint: Endpoint) -> None:
        """Reads the files of TLS, where the endpoint needs them. Raises InvalidTls."""
        if endpoint.scheme == "https" and self._context is None:
            self._context = self._tls.context()

    def take(self, endpoint: Endpoint) -> Connection | None:
        """One that was used before and is still open, as far as one can see."""
        idle = self._idle.get(endpoint, [])
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
            connection.close()
        return None

    async def open(self, endpoint: Endpoint) -> Connection:
        """A new one. Raises EndpointError, InvalidTls."""
        self.prepare(endpoint)
        tls = self._context if endpoint.scheme == "https" else None
        return await Connection.open(endpoint, tls, self._tls.server_name)

    def give_back(self, connection: Connection) -> None:
        idle = self._idle.setdefault(connection.endpoint, [])
        if connection.is_usable and len(idle) < MAX_IDLE_CONNECTIONS:
            idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
