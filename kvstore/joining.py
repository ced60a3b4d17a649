"""Who a member is that joins a cluster which runs: asked of the members that there are, before it has a log.

Any of them may be behind, and know an id that was removed since. An empty disk under a removed id could not be told
from the one that voted under it. So all of them are asked, the one that has applied most is believed, and an id that
any of them knows as removed is not taken. At least half must answer: those and the majority that removed a member have
one in common. Knows no folder and no log.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from kvstore import logs
from kvstore.membership import Member
from kvstore.settings import Settings, SettingsError, Url, parse_url
from kvstore.tls.sides import Refused

if TYPE_CHECKING:
    from kvstore.tls.credentials import Credentials

JOIN_SECONDS = 5.0
MAX_ANSWER_BYTES = 1 << 20
#: Peer URLs named by the answers that are asked, and URLs that are asked at a time: an answer cannot make us do more.
MAX_NAMED = 256
MAX_ASKING = 16
INDEX_HEADER = "X-Raft-Index"

log = logs.get("server")


class JoinError(Exception):
    """The member cannot join; the text is one line for the operator."""


class Told(NamedTuple):
    """What one member answers. `index` is how far it has applied the log; 0 if it does not say, as older ones."""

    cluster: int
    members: list[Member]
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which is not needed
    removed: frozenset[int] = frozenset()


#: Asks the member at a URL: cluster id and members, or all of Told. OSError if it does not answer.
Ask: TypeAlias = Callable[[Url], tuple[int, list[Member]] | Told]

#: What an answer that is none may raise.
UNANSWERED = (OSError, http.client.HTTPException, Refused, ValueError, KeyError, TypeError)


class Joined(NamedTuple):
    """Who this member is, and the members that it joins, itself among them."""

    cluster: int
    member: int
    members: list[Member]


def join(settings: Settings, tls: Credentials | None, ask: Ask | None = None) -> Joined:
    """Ask the members of `--initial-cluster`, and those that they name. JoinError.

    `tls` is for members whose URL is https. `ask` replaces asking over the network, which is done in parallel.
    """
    ours = tuple(sorted(map(str, settings.initial_advertise_peer_urls)))
    others = [url for member in settings.initial_cluster if member.name != settings.name for url in member.peer_urls]
    answers: dict[Url, Told] = {}
    problems: dict[Url, str] = {}

    def ask_all(urls: Iterable[Url]) -> None:
        wanted = [url for url in dict.fromkeys(urls) if url not in answers and url not in problems]
        for url, told in zip(wanted, _each(partial(_answer, ask=ask, tls=tls), wanted, ask is None), strict=True):
            if isinstance(told, Told):
                answers[url] = told
            else:
                problems[url] = told

    ask_all(others)
    named = {url for told in answers.values() for member in told.members for url in member.peer_urls}
    ask_all(_well_formed(sorted(named - set(ours))[:MAX_NAMED]))
    if not answers:
        why = "; ".join(f"{url}: {problem}" for url, problem in problems.items())
        raise JoinError(f"no member of the existing cluster answers ({why or 'none is named'})")
    return _decide(ours, answers, problems)


def _well_formed(urls: Iterable[str]) -> Iterator[Url]:
    """The URLs named by members, without those that cannot be asked: they are no fault of our flags."""
    for url in urls:
        try:
            yield parse_url("initial-cluster", url)
        except SettingsError:
            log.warning("a member of the cluster is listed with an invalid peer URL; it is not asked", url=url)


def _decide(ours: tuple[str, ...], answers: dict[Url, Told], problems: dict[Url, str]) -> Joined:
    told = sorted(answers.values(), key=lambda told: told.index, reverse=True)
    cluster = told[0].cluster
    if any(one.cluster != cluster for one in told):
        where = ", ".join(f"{url} to {one.cluster:x}" for url, one in answers.items())
        raise JoinError(f"--initial-cluster names members of different clusters: {where}; name those of one cluster")
    removed = frozenset().union(*(one.removed for one in told))
    listed = [(one, member) for one in told for member in one.members if tuple(sorted(member.peer_urls)) == ours]
    found = next(((one, member) for one, member in listed if member.id not in removed), None)
    if found is None:
        former = f" ({listed[0][1].id:x} had them and was removed)" if listed else ""
        raise JoinError(
            f"the cluster has no member with the peer URLs {','.join(ours)}{former}; add it first (POST /v2/members),"
            " then start it with --initial-cluster-state existing"
        )
    one, member = found
    started = [other for other in one.members if other.name and other.id != member.id]
    heard = [other for other in started if any(str(url) in other.peer_urls for url in answers)]
    if 2 * len(heard) < len(started):
        why = "; ".join(f"{url}: {problem}" for url, problem in problems.items())
        raise JoinError(
            f"{len(heard)} of {len(started)} members of the cluster answer, too few to know whether member"
            f" {member.id:x} was removed; start it again when at least half of them do ({why})"
        )
    return Joined(cluster, member.id, one.members)


def _each(ask: Callable[[Url], Told | str], urls: Sequence[Url], in_parallel: bool) -> Iterator[Told | str]:
    if not in_parallel or not urls:
        return map(ask, urls)
    with ThreadPoolExecutor(min(len(urls), MAX_ASKING)) as threads:
        return threads.map(ask, urls)


def _answer(url: Url, ask: Ask | None, tls: Credentials | None) -> Told | str:
    """What it answers, or why it does not."""
    try:
        told = ask(url) if ask is not None else ask_members(url, tls)
    except UNANSWERED as problem:
        return str(problem) or type(problem).__name__
    return told if isinstance(told, Told) else Told(*told)


def ask_members(url: Url, tls: Credentials | None) -> Told:
    """The cluster as the member at `url` knows it. Raises one of UNANSWERED."""
    connection = http.client.HTTPConnection(url.host, url.port, timeout=JOIN_SECONDS)
    if url.scheme == "https":
        if tls is None:
            raise Refused("no peer URL of this member is https, so it has no authority to trust")
        connection = http.client.HTTPSConnection(
            url.host, url.port, timeout=JOIN_SECONDS, context=tls.material.dialling
        )
    with contextlib.closing(connection):
        connection.connect()
        if tls is not None and isinstance(connection.sock, ssl.SSLSocket):
            tls.examine(connection.sock)
        headers, listed = _get(connection, "/members")
        removed: frozenset[int] = frozenset()
        index = int(headers.get(INDEX_HEADER, 0))
        if index:  # older members have neither
            # Asked second, so that it is not older than the list of members.
            removed = frozenset(int(member, 16) for member in _get(connection, "/members/removed")[1])
    members = [
        Member(int(one["id"], 16), one["name"], tuple(one["peerURLs"]), tuple(one["clientURLs"])) for one in listed
    ]
    return Told(int(headers["X-Etcd-Cluster-Id"], 16), members, index, removed)


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[http.client.HTTPMessage, list[Any]]:
    connection.request("GET", path)
    answer = connection.getresponse()
    if answer.status != 200:
        raise http.client.HTTPException(f"status {answer.status}")
    body = answer.read(MAX_ANSWER_BYTES + 1)
    if len(body) > MAX_ANSWER_BYTES:
        raise ValueError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    listed = json.loads(body)
    if type(listed) is not list:
        raise ValueError(f"{path} is not a list")
    return answer.headers, listed
