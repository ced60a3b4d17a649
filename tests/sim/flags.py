"""What operators give their members at the start: flags that were right on the first day, those of today, or none."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from kvstore.membership import Member
from kvstore.settings import DEFAULT_PEER_URL, InitialMember, Settings, Url, parse_url
from tests.sim.plan import Plan

TOKEN = "simulated"
PORT = 2380


class FirstDay(NamedTuple):
    """The `--initial-*` flags of a member's first start."""

    cluster: tuple[InitialMember, ...]
    url: str
    state: str


def peer_url(host: int, port: int = PORT) -> str:
    return f"http://10.0.0.{host}:{port}"


def host_of(url: str) -> int:
    """The inverse of `peer_url`."""
    return int(_url(url).host.rpartition(".")[2])


def initial(members: Iterable[Member]) -> tuple[InitialMember, ...]:
    """Those that have a name, as `--initial-cluster` names them."""
    named = [(one.name, tuple(sorted(map(_url, one.peer_urls)))) for one in members if one.name]
    return tuple(InitialMember(name, urls) for name, urls in sorted(named))


def moved(first: FirstDay, name: str, url: str) -> FirstDay:
    """The flags for member `name` on another URL, while it was never started."""
    cluster = [InitialMember(one.name, (_url(url),)) if one.name == name else one for one in first.cluster]
    return first._replace(cluster=tuple(cluster), url=url)


def joining(first: FirstDay, name: str, today: Iterable[Member]) -> FirstDay:
    """The flags for member `name`, which could not join so far, with the members that there are now."""
    ours = [one for one in first.cluster if one.name == name]
    others = [one for one in initial(today) if one.name != name and not set(one.peer_urls) & set(ours[0].peer_urls)]
    return first._replace(cluster=tuple(sorted([*others, *ours])))


def first_settings(name: str, first: FirstDay, level: int, plan: Plan) -> Settings:
    return _settings(name, plan, level, first.url, first.cluster, (_url(first.url),), first.state)


def later_settings(
    random: Random, name: str, url: str, first: FirstDay, today: Iterable[Member], level: int, plan: Plan
) -> Settings:
    """Of a member that has run before and listens on `url`; `today` are the members as somebody knows them."""
    match random.choice(("first", "today", "none")):
        case "first":
            return _settings(name, plan, level, url, first.cluster, (_url(first.url),), first.state)
        case "today":
            ours = (_url(url),)
            others = [one for one in initial(today) if one.name != name and not set(one.peer_urls) & set(ours)]
            cluster = tuple(sorted([*others, InitialMember(name, ours)]))
            return _settings(name, plan, level, url, cluster, ours, random.choice(("new", "existing")))
        case _:
            return _settings(name, plan, level, url)


def _settings(
    name: str,
    plan: Plan,
    level: int,
    url: str,
    cluster: tuple[InitialMember, ...] = (),
    advertised: tuple[Url, ...] = (DEFAULT_PEER_URL,),
    state: str = "new",
) -> Settings:
    return Settings(
        name=name,
        listen_peer_urls=(_url(url),),
        initial_advertise_peer_urls=advertised,
        initial_cluster=cluster,
        initial_cluster_state=state,
        initial_cluster_token=TOKEN,
        event_history=plan.options.event_history,
        max_wals=plan.max_wals,
        max_snapshots=plan.max_snapshots,
        max_level=level,
        snapshot_count=plan.options.snapshot_count,
    )


def _url(text: str) -> Url:
    return parse_url("peer-url", text)
