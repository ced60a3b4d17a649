"""Members that moved to other peer URLs while another one was down: it must find them again."""

from __future__ import annotations

import asyncio

from kvstore.hello import Verdict
from kvstore.membership import Member, Membership
from kvstore.raft.types import Configuration
from tests.test_transport import SECONDS, Peer, connected, heartbeat, introduce, peer


def knows(one: Peer, *members: tuple[int, str]) -> None:
    """`one` applied this membership; each member is an id and its URL."""
    membership = Membership([Member(member, "", (url,)) for member, url in members])
    one.transport.members_changed(membership, Configuration())


async def dead_url() -> str:
    async with peer(9) as gone:
        return gone.url


async def delivers(one: Peer, two: Peer) -> None:
    """A message from 1 arrives at 2."""
    one.transport.send(heartbeat(1, 2))
    one.transport.flush()
    await two.inbox.until(lambda: heartbeat(1, 2) in two.inbox.messages)


async def test_a_peer_that_moved_is_dialled_where_its_hello_says() -> None:
    old = await dead_url()
    async with peer(1) as one, peer(2) as two:
        knows(one, (1, one.url), (2, old))
        knows(two, (1, one.url), (2, two.url))
        await connected(two, 1)
        await connected(one, 2)
        await delivers(one, two)


async def test_a_hello_of_a_peer_that_is_behind_does_not_hide_its_present_url() -> None:
    """Member 2 restarted under its new URL and has not applied yet that it moved; member 1 has."""
    old = await dead_url()
    async with peer(1) as one, peer(2) as two:
        two.inbox.verdict = None  # its disk takes its time, so that its hello comes first
        knows(one, (1, one.url), (2, two.url))
        knows(two, (1, one.url), (2, old))
        await connected(two, 1)
        await two.inbox.until(lambda: bool(two.inbox.asked))
        two.inbox.verdict = Verdict.WELCOME
        two.inbox.asked[0](Verdict.VERSION)  # and it does not let us in yet
        await connected(one, 2)
        await delivers(one, two)


async def test_a_peer_that_learns_that_it_moved_says_hello_again_to_those_that_cannot_reach_it() -> None:
    old = await dead_url()
    async with peer(1) as one, peer(2) as two:
        knows(one, (1, one.url), (2, old))
        knows(two, (1, one.url), (2, old))
        await connected(two, 1)
        assert not one.transport.is_connected(2)
        knows(two, (1, one.url), (2, two.url))
        await connected(one, 2)


async def test_a_connection_survives_the_update_that_confirms_its_url() -> None:
    old = await dead_url()
    async with peer(1) as one, peer(2) as two:
        knows(one, (1, one.url), (2, old))
        knows(two, (1, one.url), (2, two.url))
        await connected(one, 2)
        knows(one, (1, one.url), (2, two.url))
        assert one.transport.is_connected(2)
        await delivers(one, two)
        assert one.inbox.lost == []


async def test_an_update_to_another_url_ends_the_connection_to_the_old_one() -> None:
    async with peer(1) as one, peer(2) as two, peer(2) as moved:
        introduce(one, 2, two.url)
        await connected(one, 2)
        introduce(one, 2, moved.url)
        await connected(one, 2)
        await delivers(one, moved)


async def test_an_unrelated_change_keeps_the_url_of_the_hello() -> None:
    old = await dead_url()
    async with peer(1) as one, peer(2) as two:
        knows(one, (1, one.url), (2, old))
        knows(two, (1, one.url), (2, two.url))
        await connected(two, 1)
        async with asyncio.timeout(SECONDS):
            while not two.transport.active:  # noqa: ASYNC110  a link has no event to wait for
                await asyncio.sleep(0)
        knows(one, (1, one.url), (2, old), (3, old))
        await connected(one, 2)
        await delivers(one, two)


async def test_an_update_that_is_older_than_the_hello_does_not_cut_the_peer_off() -> None:
    """It moved twice; the leader that sends the second update is the one that moved."""
    old, between = await dead_url(), await dead_url()
    async with peer(1) as one, peer(2) as two:
        knows(one, (1, one.url), (2, old))
        knows(two, (1, one.url), (2, two.url))
        await connected(one, 2)
        knows(one, (1, one.url), (2, between))
        await connected(one, 2)
        await delivers(one, two)


async def test_a_hello_that_was_out_of_date_when_it_was_welcomed_is_said_again() -> None:
    old = await dead_url()
    async with peer(1) as one, peer(2) as two:
        one.inbox.verdict = None
        knows(one, (1, one.url), (2, old))
        knows(two, (1, one.url), (2, old))
        await one.inbox.until(lambda: bool(one.inbox.asked))
        knows(two, (1, one.url), (2, two.url))
        one.inbox.verdict = Verdict.WELCOME
        one.inbox.asked[0](Verdict.WELCOME)
        await connected(one, 2)
