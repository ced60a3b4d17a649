"""What the peer port answers over HTTP: who the members are, for a member that joins, and the version.

The stream of messages on the same port is not HTTP; see kvstore/transport.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kvstore.http.load import Refusal
from kvstore.membership import Membership
from kvstore.version import ETCD_CLUSTER_VERSION, ETCD_SERVER_VERSION

if TYPE_CHECKING:
    from aiohttp import web

#: Who asks here asks once, a few times in a member's life.
MAX_CONNECTIONS = 64
IDLE_SECONDS = 10.0  # without a request that is whole
LINGERING_SECONDS = 1.0  # for a body that nobody wants


class PeerBackend(Protocol):
    @property
    def cluster_id(self) -> int: ...

    @property
    def membership(self) -> Membership: ...

    @property
    def raft_index(self) -> int: ...


def peer_http(backend: PeerBackend) -> Callable[[], asyncio.BaseProtocol]:
    """A factory of protocols for connections that turned out to be HTTP. aiohttp is loaded with the first of them."""
    made: list[web.Server] = []

    def server() -> web.Server:
        if not made:
            made.append(_server(backend))
        return made[0]

    def accept() -> asyncio.BaseProtocol:
        http = server()
        return http() if len(http.connections) < MAX_CONNECTIONS else Refusal()

    return accept


def _server(backend: PeerBackend) -> web.Server:
    from aiohttp import web

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "GET":
            return web.Response(status=405, text="Method Not Allowed\n", headers={"Allow": "GET"})
        if request.path == "/members":
            listed: object = [
                {
                    "id": f"{member.id:x}",
                    "name": member.name,
                    "peerURLs": list(member.peer_urls),
                    "clientURLs": list(member.client_urls),
                }
                for member in sorted(backend.membership.members.values())
            ]
        elif request.path == "/members/removed":  # not among the members, whose list has etcd's shape
            listed = [f"{member:x}" for member in sorted(backend.membership.removed)]
        elif request.path == "/version":
            listed = {"etcdserver": ETCD_SERVER_VERSION, "etcdcluster": ETCD_CLUSTER_VERSION}
        else:
            return web.Response(status=404, text="404 page not found\n")
        return web.Response(
            text=json.dumps(listed),
            content_type="application/json",
            headers={"X-Etcd-Cluster-Id": f"{backend.cluster_id:x}", "X-Raft-Index": str(backend.raft_index)},
        )

    return web.Server(answer, access_log=None, keepalive_timeout=IDLE_SECONDS, lingering_time=LINGERING_SECONDS)
