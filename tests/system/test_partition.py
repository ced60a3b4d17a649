"""Parts of the network fail: who is left goes on after one election at most, who comes back unseats nobody.

The two that are left are measured by clients of theirs: the longest time without an acknowledged write.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.system.load import ask, healthy, leader_among, load, put, term_of
from tests.system.members import Member, until
from tests.system.proxy import Network, running_behind_gates

ELECTION_SECONDS = 1.0  # the default; a timeout is drawn from one to two of them
#: The longest timeout, and what the election itself and a busy machine add.
ONE_ELECTION = 2 * ELECTION_SECONDS + 0.25
NOTICEABLE = 0.3
TROUBLE_SECONDS = 3.5


def cannot_hear(network: Network, victim: Member, others: list[Member]) -> None:
    for other in others:
        network.cut(other, victim)


def cannot_speak(network: Network, victim: Member, others: list[Member]) -> None:
    for other in others:
        network.cut(victim, other)


def is_slow(network: Network, victim: Member, others: list[Member]) -> None:
    network.slow(victim, 0.3)


def is_frozen(network: Network, victim: Member, others: list[Member]) -> None:
    victim.signal(signal.SIGSTOP)


Trouble = Callable[[Network, Member, list[Member]], None]


class Outcome(NamedTuple):
    """Seconds without an acknowledged write by the other two: while the trouble lasted, and when it ended."""

    meanwhile: float
    afterwards: float


async def trouble_for(victim_leads: bool, trouble: Trouble, folder: Path) -> Outcome:
    async with running_behind_gates(3, folder) as (cluster, network):
        await healthy(*cluster.members)
        leader = await leader_among(cluster.members)
        victim = next(member for member in cluster.members if (member is leader) is victim_leads)
        others = [member for member in cluster.members if member is not victim]
        async with load(others, writers=2, pace=0.01) as written:
            began = time.monotonic()
            trouble(network, victim, others)
            healed = began + TROUBLE_SECONDS
            await written.acknowledges_after(healed)
            meanwhile = written.longest_gap(began, healed) - written.longest_stall(began)
            stays = leader if victim_leads and trouble is is_slow else await leader_among(others)
            term = await term_of(others[0])
            healed = time.monotonic()
            victim.signal(signal.SIGCONT)
            network.heal()
            await healthy(victim)
            afterwards = written.longest_gap(healed) - written.longest_stall(healed)
        assert await leader_among(cluster.members) is stays
        assert await term_of(victim) == term
        return Outcome(meanwhile, afterwards)


@pytest.mark.parametrize("trouble", [cannot_hear, cannot_speak, is_slow, is_frozen])
async def test_a_member_in_trouble_stops_the_others_for_one_election_at_most(trouble: Trouble, tmp_path: Path) -> None:
    follower, leader = await asyncio.gather(
        *(trouble_for(leads, trouble, tmp_path / str(leads)) for leads in (False, True))
    )
    print(f"{getattr(trouble, '__name__', '')}: a follower {follower}, the leader {leader}")
    assert follower.meanwhile < NOTICEABLE
    assert leader.meanwhile < ONE_ELECTION
    assert max(follower.afterwards, leader.afterwards) < ELECTION_SECONDS  # there is none: the term stays


async def test_a_leader_alone_answers_in_time_and_serves_plain_reads(tmp_path: Path) -> None:
    async with running_behind_gates(3, tmp_path) as (cluster, network):
        await healthy(*cluster.members)
        leader = await leader_among(cluster.members)
        others = [member for member in cluster.members if member is not leader]
        assert (await put(leader, "/k", "before")).status == 201
        cannot_hear(network, leader, others)
        cannot_speak(network, leader, others)
        began = time.monotonic()
        written, read = await asyncio.gather(put(leader, "/k", "after"), ask(leader, "GET /v2/keys/k?quorum=true"))
        took = time.monotonic() - began
        for answer in (written, read):
            assert (answer.status, answer.json["errorCode"]) == (500, 300)
            assert answer.json["cause"].startswith("etcdserver: request timed out")
        assert 5.0 < took < 8.5  # etcd: five seconds and two election timeouts
        plain = await ask(leader, "GET /v2/keys/k")
        assert (plain.status, plain.json["node"]["value"]) == (200, "before")
        assert (await ask(leader, "GET /health")).status == 503
        network.heal()

        async def has_heard() -> bool:
            return (await ask(leader, "GET /health")).status == 200

        await until(has_heard, "the old leader follows")
        assert (await ask(others[0], "GET /v2/keys/k?quorum=true")).json["node"]["value"] == "before"
