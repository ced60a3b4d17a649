"""`/v2/members` and `/v2/machines`: who the members are, and changes to that.

From requests to changes, and from their outcomes to etcd's answers, to the letter (docs/api-v2.md, *Members*). Which
change is refused, and why, is decided below.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from kvstore.http.backend import Backend, TooManyRequests, Unavailable
from kvstore.http.guard import BUSY, INSUFFICIENT, TRY_LATER, Denied, Guard
from kvstore.http.json_body import json_body
from kvstore.http.reply import JSON, TEXT, TEXT_ERROR, Answer
from kvstore.http.request import BodyError, Request
from kvstore.http.texts import quote
from kvstore.http.v2.form import MAX_TYPE_BYTES
from kvstore.membership import DuplicatePeerURL, Member, MembershipError, RemovedMember, UnknownMember
from kvstore.passwords import TooManyChecks
from kvstore.settings import MAX_PEER_URLS_BYTES

MEMBERS = b"/v2/members"

_JSON_TYPE = b"application/json"
_ID = re.compile(r"[0-9A-Fa-f]{1,16}", re.ASCII)
_SCHEMES = ("http", "https", "unix", "unixs")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BAD_HOST = re.compile(r"[\x00-\x20\x7f<>\"\\^`{|}%]")


class Refusal(Exception):
    """An answer of `status` with this message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


class MembersApi:
    """The handlers of one member."""

    def __init__(self, backend: Backend, guard: Guard, max_body: int) -> None:
        self._backend = backend
        self._guard = guard
        self._max_body = max_body

    async def machines(self, request: Request) -> Answer:
        """The client URLs of all members, sorted."""
        urls = sorted(url for member in self._members().values() for url in member.client_urls)
        return Answer(200, TEXT, ", ".join(urls).encode())

    async def members(self, request: Request) -> Answer:
        rest = request.path.removeprefix(MEMBERS).removeprefix(b"/").decode("utf-8", "replace")
        try:
            if request.method == "GET":
                return self._show(rest)
            await self._guard.require_root(request)
            return await self._changes[request.method](self, request, rest)
        except Denied:
            return INSUFFICIENT
        except TooManyChecks:
            return TRY_LATER
        except Refusal as refusal:
            return self._message(refusal.status, refusal.message)
        except BodyError as error:
            return self._message(400, error.cause.decode())
        except DuplicatePeerURL:
            return self._message(409, "membership: peerURL exists")
        except UnknownMember as error:
            return self._message(404, f"No such member: {error.member:x}")
        except RemovedMember as error:
            if request.method == "DELETE":
                return self._message(410, f"Member permanently removed: {error.member:x}")
            return self._message(500, "Internal Server Error")
        except TooManyRequests:
            return BUSY
        except (MembershipError, Unavailable):  # also what would cost the quorum; the log says why
            return self._message(500, "Internal Server Error")

    def _show(self, rest: str) -> Answer:
        members = self._members()
        if not rest:
            return self._answer(200, {"members": [_shown(members[member]) for member in sorted(members)]})
        if rest != "leader":
            raise Refusal(404, "Not found")
        leader = members.get(self._backend.leader)
        if leader is None:
            raise Refusal(503, "During election")
        return self._answer(200, _shown(leader))

    def _members(self) -> dict[int, Member]:
        """All members by id. What this one is about to tell the cluster of itself counts already: etcd serves no client
        before it has done so, and clients that ask who the members are go on to nobody without a URL."""
        members, own = self._backend.membership.members, self._backend.announced
        known = members.get(own.member)
        if known is None or known.client_urls:
            return members
        return {**members, own.member: known._replace(name=own.name, client_urls=own.client_urls)}

    async def _add(self, request: Request, rest: str) -> Answer:
        urls = await self._peer_urls(request)
        await self._settle(request)
        return self._answer(201, _shown(await self._backend.reconfiguration.add(urls)))

    async def _update(self, request: Request, rest: str) -> Answer:
        if not rest:
            return self._without_id()
        member = _member_id(rest)
        urls = await self._peer_urls(request)
        await self._settle(request)
        await self._backend.reconfiguration.update(member, urls)
        return self._empty()

    async def _remove(self, request: Request, rest: str) -> Answer:
        if not rest:
            return self._without_id()
        member = _member_id(rest)
        await self._settle(request)
        await self._backend.reconfiguration.remove(member)
        return self._empty()

    _changes: dict[str, Callable[[MembersApi, Request, str], Awaitable[Answer]]] = {  # noqa: RUF012
        "POST": _add,
        "PUT": _update,
        "DELETE": _remove,
    }

    async def _settle(self, request: Request) -> None:
        """Asks for root once more, by users and roles that are certainly not old ones."""
        await self._backend.read_barrier()
        await self._guard.require_root(request)

    async def _peer_urls(self, request: Request) -> tuple[str, ...]:
        _check_content_type(request.content_type or b"")
        return parse_peer_urls(await json_body(request, self._max_body))

    # --- answers ----------------------------------------------------------------------------------------------------

    @property
    def _cluster(self) -> bytes:
        return b"X-Etcd-Cluster-Id: %x\r\n" % self._backend.cluster_id

    def _answer(self, status: int, shown: object) -> Answer:
        body = json.dumps(shown, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        return Answer(status, JSON + self._cluster, body)

    def _message(self, status: int, text: str) -> Answer:
        message = quote(text.encode("utf-8", "surrogatepass"))  # `quote` replaces what is not UTF-8
        return Answer(status, JSON + self._cluster, b'{"message":"%b"}' % message)

    def _empty(self) -> Answer:
        return Answer(204, self._cluster, b"")

    def _without_id(self) -> Answer:
        return Answer(405, TEXT_ERROR + self._cluster, b"Method Not Allowed\n")


def _shown(member: Member) -> dict[str, object]:
    return {
        "id": f"{member.id:x}",
        "name": member.name,
        "peerURLs": list(member.peer_urls),
        "clientURLs": list(member.client_urls),
    }


def _member_id(text: str) -> int:
    digits = text.lstrip("0") or text[:1]  # a pattern would go back through the zeros
    if not _ID.fullmatch(digits):
        raise Refusal(404, f"No such member: {text}")
    return int(digits, 16)


def _check_content_type(line: bytes) -> None:
    """etcd lowers the case only of what stands before a semicolon."""
    if len(line) > MAX_TYPE_BYTES:
        raise Refusal(415, f"the Content-Type has {len(line)} bytes; at most {MAX_TYPE_BYTES} are read")
    kind, semicolon, _ = line.partition(b";")
    if semicolon:
        kind = kind.lower().strip()
    if kind != _JSON_TYPE:
        raise Refusal(415, f"Bad Content-Type {kind.decode('latin-1')}, accept application/json")


def parse_peer_urls(body: bytes) -> tuple[str, ...]:
    """The sorted URLs of `{"peerURLs": [...]}`; names of fields count in any case. Raises Refusal, status 400."""
    try:
        document: Any = json.loads(body.decode("utf-8", "replace"))
    except RecursionError:
        raise Refusal(400, "the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Refusal(400, str(error)) from None
    except ValueError:  # of an integer with more digits than Python converts
        raise Refusal(400, "a number in the JSON is too long") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise Refusal(400, "the body must be a JSON object")
    urls = None
    for name, given in document.items():
        if name.lower() == "peerurls":
            urls = given
    if not urls and (urls is None or isinstance(urls, list)):
        raise Refusal(400, "no valid URLs given")
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise Refusal(400, "peerURLs must be a list of strings")
    if (size := sum(map(len, urls))) > MAX_PEER_URLS_BYTES:
        raise Refusal(400, f"the peerURLs have {size} characters; the limit for one member is {MAX_PEER_URLS_BYTES}")
    return tuple(sorted(map(_peer_url, urls)))


def _peer_url(text: str) -> str:
    """One URL by the rules of etcd's `NewURLs`, which take an empty host and port 0 as well."""
    url = _LONE_SURROGATE.sub("\ufffd", text).strip()  # as Go reads JSON
    scheme = _SCHEME.match(url)
    if scheme is None and ":" in url.partition("/")[0]:
        raise Refusal(400, f'parse "{url}": first path segment in URL cannot contain colon')
    if scheme is None or scheme[1].lower() not in _SCHEMES:
        raise Refusal(400, f"URL scheme must be http, https, unix, or unixs: {url}")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise Refusal(400, f'parse "{url}": {error}') from None
    host, colon, port = parts.netloc.rpartition("@")[2].rpartition(":")
    if _BAD_HOST.search(parts.netloc):
        raise Refusal(400, f'parse "{url}": invalid character in host name')
    if not colon or (host.count(":") and not host.startswith("[")) or port.endswith("]"):
        raise Refusal(400, f'URL address does not have the form "host:port": {url}')
    if port and (not port.isascii() or not port.isdigit() or int(port.lstrip("0")[:6] or "0") > 65535):
        raise Refusal(400, f'parse "{url}": invalid port ":{port}" after host')
    if parts.path:
        raise Refusal(400, f"URL must not contain a path: {url}")
    if not url.isascii():
        raise Refusal(400, f'parse "{url}": not ASCII; write a host name as xn--')
    return f"{parts.scheme}{url[len(parts.scheme) :]}"  # the scheme in lower case
