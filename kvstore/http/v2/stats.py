"""`/v2/stats/self`, `/leader` and `/store`: a member's numbers as etcd's JSON (docs/api-v2.md, *Other paths*)."""

from __future__ import annotations

import json
from typing import Any

from kvstore.http.backend import Backend, Numbers
from kvstore.http.reply import JSON, Answer
from kvstore.http.request import Request
from kvstore.http.v2.answers import format_time
from kvstore.raft.types import Role
from kvstore.statistics import Latency
from kvstore.store.operations import (
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Operation,
    Set,
    Update,
)

#: Go's names of the roles in a cluster.
STATES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}
#: What is counted together, under etcd's names.
COUNTED: dict[str, tuple[type[Operation], ...]] = {
    "sets": (Set,),
    "delete": (Delete,),
    "update": (Update,),
    "create": (Create, CreateInOrder),
    "compareAndSwap": (CompareAndSwap,),
    "compareAndDelete": (CompareAndDelete,),
}

_NOT_LEADER = Answer(403, JSON, b'{"message":"not current leader"}')
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


class StatsApi:
    """The handlers of one member."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def self_(self, request: Request) -> Answer:
        numbers = self._backend.numbers()
        now = self._backend.now()
        since = numbers.leader_since or numbers.started
        shown: dict[str, Any] = {
            "name": numbers.name,
            "id": f"{numbers.member:x}",
            "state": STATES[numbers.role],
            "startTime": _time(numbers.started),
            "leaderInfo": {
                "leader": f"{numbers.last_leader:x}" if numbers.last_leader else "",
                "uptime": go_duration(max(0, now - since)),
                "startTime": _time(since),
            },
            "recvAppendRequestCnt": numbers.traffic.received_appends.count,
        }
        shown.update(_rates(numbers, "recv"))
        shown["sendAppendRequestCnt"] = numbers.traffic.sent_appends.count
        shown.update(_rates(numbers, "send"))
        return _answer(shown)

    async def leader(self, request: Request) -> Answer:
        numbers = self._backend.numbers()
        if numbers.role is not Role.LEADER:
            return _NOT_LEADER
        followers = {
            f"{member:x}": _follower(numbers.traffic.peer(member).latency)
            for member in sorted(self._backend.membership.members)
            if member != numbers.member
        }
        return _answer({"leader": f"{numbers.member:x}", "followers": followers})

    async def store(self, request: Request) -> Answer:
        store = self._backend.store
        counts = store.counts
        shown = {"getsSuccess": counts.gets - counts.gets_failed, "getsFail": counts.gets_failed}
        for name, kinds in COUNTED.items():
            shown[f"{name}Success"] = sum(counts.succeeded[kind] for kind in kinds)
            shown[f"{name}Fail"] = sum(counts.failed[kind] for kind in kinds)
        shown["expireCount"] = counts.expired
        shown["watchers"] = store.watcher_count
        return _answer(shown)


def _rates(numbers: Numbers, direction: str) -> dict[str, float]:
    """Left out when zero, as in etcd."""
    traffic = numbers.traffic
    rate = traffic.received_appends if direction == "recv" else traffic.sent_appends
    packages, octets = rate.per_second(traffic.clock())
    return {f"{direction}PkgRate": packages, f"{direction}BandwidthRate": octets} if packages else {}


def _follower(latency: Latency) -> dict[str, dict[str, float]]:
    return {
        "latency": {
            "current": latency.current,
            "average": latency.average,
            "standardDeviation": latency.deviation,
            "minimum": latency.minimum,
            "maximum": latency.maximum,
        },
        "counts": {"fail": latency.failed, "success": latency.succeeded},
    }


def _time(nanoseconds: int) -> str:
    return format_time(nanoseconds).decode()


def _answer(shown: object) -> Answer:
    return Answer(200, JSON, json.dumps(shown, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace"))


def go_duration(nanoseconds: int) -> str:
    """As Go's Duration prints itself: 1h2m3.5s, 4.25ms, 0s."""
    if nanoseconds < 1_000:
        return f"{nanoseconds}ns" if nanoseconds else "0s"
    for size, unit in _UNITS[1:] if nanoseconds < _UNITS[0][0] else ():
        if nanoseconds >= size:
            return _decimal(nanoseconds, size) + unit
    minutes, rest = divmod(nanoseconds, 60 * _UNITS[0][0])
    hours, minutes = divmod(minutes, 60)
    seconds = _decimal(rest, _UNITS[0][0]) + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(number: int, unit: int) -> str:
    """`number / unit`, exactly, without trailing zeros."""
    whole, fraction = divmod(number, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
