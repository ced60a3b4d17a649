"""The one table of routes, and what is decided before any of them: OPTIONS, unclean paths, 404, 405.

Knows the table's handlers by name only; they know nothing of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from kvstore.http.backend import Backend
from kvstore.http.debug import DebugApi
from kvstore.http.guard import Guard
from kvstore.http.health import HEALTH, probe
from kvstore.http.levels import serve_levels
from kvstore.http.load import Load
from kvstore.http.metrics import Metrics
from kvstore.http.reply import JSON, TEXT_ERROR, Answer
from kvstore.http.request import Request
from kvstore.http.target import Target, is_clean, parse_target, redirect
from kvstore.http.v2.auth import INVALID_PATH, ROLES, USERS, AuthApi
from kvstore.http.v2.keys import serve_keys
from kvstore.http.v2.members import MEMBERS, MembersApi
from kvstore.http.v2.stats import StatsApi
from kvstore.http.v2.streamed import Answered
from kvstore.http.v2.watches import Watch
from kvstore.limits import MOST_KEY_BYTES
from kvstore.version import ETCD_CLUSTER_VERSION, ETCD_SERVER_VERSION

Handler: TypeAlias = Callable[[Request], Awaitable[Answered | Watch]]

#: A longer path leads to nothing that there could be, and a page about it costs its length many times over.
REDIRECTED_BYTES = 2 * MOST_KEY_BYTES

_TOO_LONG = Answer(
    400,
    JSON,
    b'{"message":"the path has empty, . or .. components, and is too long to be redirected: at most %d bytes"}'
    % REDIRECTED_BYTES,
)
_NO_CONTENT = Answer(200, b"", b"")
_NOT_FOUND = Answer(404, TEXT_ERROR, b"404 page not found\n")
_VERSION = Answer(
    200,
    JSON,
    b'{"etcdserver":"%s","etcdcluster":"%s"}' % (ETCD_SERVER_VERSION.encode(), ETCD_CLUSTER_VERSION.encode()),
)


class Route(NamedTuple):
    """`methods` in the order in which a 405 names them. `is_named`: one name follows, and no deeper path."""

    methods: tuple[str, ...]
    handler: Handler
    is_named: bool = False

    @property
    def refusal(self) -> Answer:
        allow = b"Allow: " + ",".join(self.methods).encode() + b"\r\n"
        return Answer(405, allow + TEXT_ERROR, b"Method Not Allowed\n")


class Match(NamedTuple):
    handler: Handler
    target: Target


class Routes:
    """The routes of one member."""

    def __init__(
        self,
        backend: Backend,
        load: Load,
        client_cert_auth: bool = False,
    ) -> None:
        guard = Guard(backend, client_cert_auth)
        auth = AuthApi(backend, guard, load.limits.request_bytes)
        members = MembersApi(backend, guard, load.limits.request_bytes)
        stats = StatsApi(backend)
        debug = DebugApi(backend, load.limits.request_bytes)

        async def keys(request: Request) -> Answered | Watch:
            return await serve_keys(request, backend, guard, load)

        async def version(request: Request) -> Answer:
            return _VERSION

        async def health(request: Request) -> Answer:
            return await probe(backend)

        async def levels(request: Request) -> Answer:
            return await serve_levels(request, backend)

        key_space = Route(("HEAD", "GET", "PUT", "POST", "DELETE"), keys)
        membership = Route(("GET", "POST", "DELETE", "PUT"), members.members)
        self._exact: dict[bytes, Route] = {
            b"/v2/keys": key_space,
            b"/version": Route(("GET",), version),
            HEALTH: Route(("GET",), health),
            b"/levels": Route(("GET",), levels),
            MEMBERS: membership,
            b"/v2/machines": Route(("GET", "HEAD"), members.machines),
            b"/v2/stats/self": Route(("GET",), stats.self_),
            b"/v2/stats/leader": Route(("GET",), stats.leader),
            b"/v2/stats/store": Route(("GET",), stats.store),
            b"/metrics": Route(("GET", "HEAD", "POST", "PUT", "DELETE"), Metrics(backend).serve),
            b"/debug/vars": Route(("GET",), debug.vars),
            b"/config/local/log": Route(("PUT",), debug.log_level),
            b"/v2/auth/enable": Route(("GET", "PUT", "DELETE"), auth.switch),
            b"/v2/auth/users": Route(("GET",), auth.users),
            b"/v2/auth/users/": Route(("GET",), auth.users),
            b"/v2/auth/roles": Route(("GET",), auth.roles),
            b"/v2/auth/roles/": Route(("GET",), auth.roles),
        }
        self._below: tuple[tuple[bytes, Route], ...] = (
            (b"/v2/keys/", key_space),
            (MEMBERS + b"/", membership),
            (USERS, Route(("GET", "PUT", "DELETE"), auth.user, is_named=True)),
            (ROLES, Route(("GET", "PUT", "DELETE"), auth.role, is_named=True)),
        )

    def find(self, method: str, raw_target: bytes) -> Match | Answer:
        """The handler for a request line, or the answer that needs none. Raises BadTarget."""
        if method == "OPTIONS":
            if raw_target != b"*":
                parse_target(raw_target)
            return _NO_CONTENT
        if method == "CONNECT":
            return _NOT_FOUND
        target = parse_target(raw_target)
        if not is_clean(target.path):
            return redirect(method, target) if len(target.path) <= REDIRECTED_BYTES else _TOO_LONG
        route = self._route(target.path)
        if route is None:
            return _NOT_FOUND
        if isinstance(route, Answer):
            return route
        if method not in route.methods:
            return route.refusal
        return Match(route.handler, target)

    def _route(self, path: bytes) -> Route | Answer | None:
        route = self._exact.get(path)
        if route is not None:
            return route
        for prefix, route in self._below:
            if path.startswith(prefix):
                is_deeper = route.is_named and path.find(b"/", len(prefix), -1) != -1
                return INVALID_PATH if is_deeper else route
        return None
