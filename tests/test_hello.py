"""How two members greet each other: what travels in a hello, and which version they agree on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from kvstore.hello import (
    LOWEST_VERSION,
    PEER_VERSION,
    PREAMBLE,
    Facts,
    FrameSplitter,
    Hello,
    HelloReader,
    Verdict,
    frame,
    pack_hello,
)
from kvstore.raft.types import AppendRequest, Entry, HeartbeatRequest
from kvstore.wire import LaterVersion, SetLevel, WireError, pack, pack_command, stamp, unpack, unpack_message
from tests.test_transport import CLUSTER, Inbox, connected, introduce, peer

HELLO = Hello(PEER_VERSION, CLUSTER, 1, 2, b"i" * 16, ("http://a:1",), Facts(5, 100, 1000, 2, "0.2.0"))


def read(packed: bytes) -> Hello | None:
    reader = HelloReader()
    hello = None
    for payload in FrameSplitter().feed(packed[len(PREAMBLE) :]):
        assert hello is None, "nothing follows a whole hello"
        hello = reader.take(payload)
    return hello


def test_a_hello_travels_with_its_facts() -> None:
    assert read(pack_hello(HELLO)) == HELLO


def test_in_version_1_a_hello_is_what_the_release_before_reads() -> None:
    """Its six fields, in one frame, and nothing else."""
    (payload,) = FrameSplitter().feed(pack_hello(HELLO._replace(version=1))[len(PREAMBLE) :])
    assert unpack(payload) == (1, CLUSTER, 1, 2, b"i" * 16, ("http://a:1",))
    assert read(pack_hello(HELLO._replace(version=1))) == HELLO._replace(version=1, facts=Facts())


def test_a_hello_of_a_later_version_is_whole_with_its_first_frame() -> None:
    later = HELLO._replace(version=PEER_VERSION + 1)
    first = frame(pack(later[:6]))
    assert read(PREAMBLE + first) == later._replace(facts=Facts())


def test_facts_that_are_unknown_are_passed_over() -> None:
    first = frame(pack(HELLO[:6]))
    assert read(PREAMBLE + first + frame(pack([(4, 2), (63, "of a later version"), (5, "0.9")]))) == HELLO._replace(
        facts=Facts(level=2, program="0.9")
    )


@pytest.mark.parametrize(
    "facts", [5, "text", [5], [(1,)], [("1", 5)], [(1, -1)], [(4, "2")], [(4, True)], [(9, 1)] * 65]
)
def test_facts_that_make_no_sense_are_refused(facts: object) -> None:
    with pytest.raises(WireError):
        read(PREAMBLE + frame(pack(HELLO[:6])) + frame(pack(facts)))


class Before(asyncio.Protocol):
    """The accepting side of the release before: six fields in one frame, version 1 alone, and then messages."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._splitter = FrameSplitter()
        self._begin = b""
        self._is_welcome = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, octets: bytes) -> None:
        if len(self._begin) < len(PREAMBLE):
            self._begin += octets
            octets = self._begin[len(PREAMBLE) :]
        for payload in self._splitter.feed(octets):
            if self._is_welcome:
                self._inbox.received(unpack_message(payload))
                continue
            version, *_ = fields = unpack(payload)
            assert len(fields) == 6
            self._is_welcome = version == 1
            verdict = Verdict.WELCOME if self._is_welcome else Verdict.VERSION
            self._transport.write(frame(pack(verdict.value)))
            if not self._is_welcome:
                self._transport.close()
                return


@contextlib.asynccontextmanager
async def member_of_the_release_before() -> AsyncIterator[tuple[Inbox, str]]:
    inbox = Inbox()
    server = await asyncio.get_running_loop().create_server(lambda: Before(inbox), "127.0.0.1", 0)
    async with server:
        yield inbox, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_member_of_the_release_before_is_spoken_to_in_its_version() -> None:
    async with peer(1) as one, member_of_the_release_before() as (inbox, url):
        introduce(one, 2, url)
        await connected(one, 2)
        assert one.transport.version_to(2) == 1
        sent = HeartbeatRequest(2, 1, 1, 0, 0)
        one.transport.send(sent)
        one.transport.flush()
        await inbox.until(lambda: inbox.messages == [sent])
        assert one.inbox.refusals == [], "the next lower version was welcome"


async def test_members_of_one_version_agree_on_their_highest() -> None:
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        await connected(one, 2)
        assert one.transport.version_to(2) == PEER_VERSION


async def test_what_the_other_version_cannot_apply_is_never_sent_to_it() -> None:
    """Or it would acknowledge what stops it."""
    (payload,) = stamp(5, [pack_command(1, SetLevel(2))])
    append = AppendRequest(2, 1, 1, 0, 0, (Entry(1, 1, 0, payload),), 0)
    probe = append._replace(entries=())
    async with peer(1) as one, member_of_the_release_before() as (inbox, url), peer(2) as two:
        introduce(one, 2, url)
        await connected(one, 2)
        one.transport.send(append)
        one.transport.send(probe)
        one.transport.flush()
        await inbox.until(lambda: bool(inbox.messages))
        assert inbox.messages == [probe]
        introduce(one, 2, two.url)
        await connected(one, 2)
        one.transport.send(append)
        one.transport.flush()
        await two.inbox.until(lambda: two.inbox.messages == [append])


async def test_a_version_below_the_lowest_is_not_dialled() -> None:
    async with peer(1) as one, member_of_the_release_before() as (_, url):
        one.transport.lowest_version = LOWEST_VERSION + 1
        introduce(one, 2, url)
        await one.inbox.until(lambda: bool(one.inbox.refusals))
        assert one.inbox.refusals == [(2, Verdict.VERSION)]
        assert not one.transport.is_connected(2)


def test_an_unknown_tag_says_that_a_later_version_wrote_it() -> None:
    with pytest.raises(LaterVersion, match="a message with the tag 99 was written by a later version of kvstored"):
        unpack_message(pack((99, 1, 2, 3)))
