"""The door to TLS: what a member's settings ask for, opened, and ports with and without.

`cryptography` and what uses it is loaded only where TLS is asked for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kvstore.settings import Settings, Url

if TYPE_CHECKING:
    from kvstore.tls.credentials import Credentials
    from kvstore.tls.material import Expiry

#: Addresses to listen on that nobody connects to: all of this machine's.
_ANYWHERE = (str(IPv4Address(0)), str(IPv6Address(0)))


#: Handshakes that may be under way on one port, each with two files; never more than one of so many files.
MAX_HANDSHAKES = 256
HANDSHAKES_SHARE = 32
FILES_A_HANDSHAKE = 2


class TlsError(Exception):
    """Files that cannot be used; the text is one line for the operator."""


class Refused(Exception):
    """Not with this certificate; the text says why."""


class Listener(Protocol):
    """A port: asyncio's, or one that speaks TLS."""

    @property
    def sockets(self) -> Iterable[socket.socket]: ...

    def close(self) -> None: ...

    async def wait_closed(self) -> None: ...


class Sides(NamedTuple):
    """None: without TLS."""

    client: Credentials | None = None
    peer: Credentials | None = None

    @property
    def open(self) -> Iterator[Credentials]:
        return (side for side in self if side is not None)

    @property
    def expiries(self) -> dict[str, tuple[Expiry, ...]]:
        """By side."""
        return {side.side: side.expiries for side in self.open}


def open_sides(settings: Settings, folder: Path) -> Sides:
    """Loads all files; what has to be made is made in `folder`. Raises TlsError."""
    client = settings.listen_client_urls
    members = [url for member in settings.initial_cluster for url in member.peer_urls]
    peer = (*settings.listen_peer_urls, *settings.initial_advertise_peer_urls, *members)
    with_client = any(url.scheme == "https" for url in client)
    with_peer = any(url.scheme == "https" for url in peer)
    if not with_client and not with_peer:
        return Sides()
    from kvstore.tls.credentials import open_side
    from kvstore.tls.material import Policy

    policy = Policy(settings.cipher_suites, settings.tls_min_version)
    ours = _hosts(client, settings.advertise_client_urls)
    theirs = _hosts(settings.listen_peer_urls, settings.initial_advertise_peer_urls)
    return Sides(
        open_side("client", settings.client_tls, policy, folder, ours) if with_client else None,
        open_side("peer", settings.peer_tls, policy, folder, theirs) if with_peer else None,
    )


def handshakes_for(files: int) -> int:
    """How many may be under way on one port of a process that may have so many files."""
    return max(1, min(MAX_HANDSHAKES, files // HANDSHAKES_SHARE)) if files > 0 else MAX_HANDSHAKES  # -1: no limit


def _hosts(*urls: Iterable[Url]) -> Iterator[str]:
    return (url.host for some in urls for url in some if url.host not in _ANYWHERE)


async def listen(
    factory: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    backlog: int,
    credentials: Credentials | None,
    plain: Callable[[], asyncio.Protocol] | None = None,
) -> Listener:
    """A port that is served by `factory`'s protocols; without `credentials` it has no TLS, with them and `plain` both.

    Raises OSError where it cannot be had.
    """
    if credentials is None:
        return await asyncio.get_running_loop().create_server(factory, host, port, backlog=backlog)
    from kvstore.tls.listener import listen_tls

    return await listen_tls(factory, host, port, backlog, credentials, plain)
