"""Peers over real sockets: who is let in, what arrives, and what a broken connection tells."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import pytest

from kvstore.hello import (
    MAX_HELLO_BYTES,
    PEER_VERSION,
    PREAMBLE,
    FrameSplitter,
    Hello,
    Verdict,
    frame,
    pack_hello,
)
from kvstore.membership import Member, Membership
from kvstore.raft.types import AppendRequest, Configuration, Entry, EntryKind, HeartbeatRequest, VoteResponse
from kvstore.transport import MAX_STRANGER_FRAME_BYTES, MAX_STRANGERS, Acceptor, PeerTransport
from kvstore.wire import (
    LONG_BYTES,
    TIME_BYTES,
    MessagePacker,
    PeerMessage,
    SetLevel,
    WireError,
    pack,
    pack_command,
    unpack,
)

CLUSTER = 77
SECONDS = 10.0


@dataclass
class Inbox:
    """A receiver that remembers, and wakes whoever waits for something to have happened."""

    verdict: Verdict | None = Verdict.WELCOME  # None: the disk takes its time
    asked: list[Callable[[Verdict], None]] = field(default_factory=list)
    messages: list[PeerMessage] = field(default_factory=list)
    made: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)
    refusals: list[tuple[int, Verdict]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    leader: int = 0

    def examine(self, hello: Hello, done: Callable[[Verdict], None]) -> None:
        self.asked.append(done)
        if self.verdict is not None:
            done(self.verdict)
        self.changed.set()

    def received(self, message: PeerMessage) -> None:
        self.messages.append(message)
        self.changed.set()

    def connection_made(self, member: int) -> None:
        self.made.append(member)

    def connected(self, member: int) -> None:
        self.reached.append(member)
        self.changed.set()

    def connection_lost(self, member: int) -> None:
        self.lost.append(member)
        self.changed.set()

    def refused(self, member: int, verdict: Verdict) -> None:
        self.refusals.append((member, verdict))
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                await self.changed.wait()
                self.changed.clear()


class EchoHttp(asyncio.Protocol):
    """Stands in for the HTTP server: answers with what it got."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, octets: bytes) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(b"http:" + octets)
        self.transport.close()


@dataclass
class Peer:
    inbox: Inbox
    transport: PeerTransport
    server: asyncio.Server
    url: str
    port: int


@contextlib.asynccontextmanager
async def peer(member: int, cluster: int = CLUSTER, knows_its_url: bool = False) -> AsyncIterator[Peer]:
    inbox = Inbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Acceptor(transport, EchoHttp), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    urls = (f"http://127.0.0.1:{port}",) if knows_its_url else ()
    transport: PeerTransport = PeerTransport((cluster, member, bytes([member]) * 16), inbox, urls=urls)
    try:
        yield Peer(inbox, transport, server, f"http://127.0.0.1:{port}", port)
    finally:
        server.close()
        await transport.close()
        await server.wait_closed()


def introduce(one: Peer, member: int, *urls: str) -> None:
    membership = Membership([Member(member, "", urls)])
    one.transport.members_changed(membership, Configuration())


async def connected(one: Peer, member: int) -> None:
    async with asyncio.timeout(SECONDS):
        while not one.transport.is_connected(member):  # noqa: ASYNC110  a link has no event to wait for
            await asyncio.sleep(0)


def heartbeat(sender: int, to: int, commit: int = 0) -> HeartbeatRequest:
    return HeartbeatRequest(to, sender, 1, commit, 0)


async def test_messages_arrive_in_order_once() -> None:
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        await connected(one, 2)
        sent = [heartbeat(1, 2, commit) for commit in range(100)]
        for message in sent:
            one.transport.send(message)
        one.transport.flush()
        await two.inbox.until(lambda: len(two.inbox.messages) >= 100)
        assert two.inbox.messages == sent


async def test_another_url_is_tried_when_one_is_dead() -> None:
    async with peer(1) as one, peer(2) as two:
        async with peer(3) as gone:
            dead = gone.url
        introduce(one, 2, dead, two.url)
        await connected(one, 2)


@pytest.mark.parametrize("verdict", [Verdict.DISK, Verdict.REMOVED])
async def test_who_is_refused_hears_why_and_its_messages_do_not_arrive(verdict: Verdict) -> None:
    async with peer(1) as one, peer(2) as two:
        two.inbox.verdict = verdict
        introduce(one, 2, two.url)
        await one.inbox.until(lambda: bool(one.inbox.refusals))
        one.transport.send(heartbeat(1, 2))
        one.transport.flush()
        assert one.inbox.refusals == [(2, verdict)]
        assert not one.transport.is_connected(2)
        assert two.inbox.messages == []


async def test_another_cluster_is_refused() -> None:
    async with peer(1, cluster=1) as one, peer(2, cluster=2) as two:
        introduce(one, 2, two.url)
        await one.inbox.until(lambda: bool(one.inbox.refusals))
        assert one.inbox.refusals == [(2, Verdict.CLUSTER)]


async def say(port: int, *pieces: bytes) -> bytes:
    """What the other side answers until it closes the connection."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
        answer = await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return answer


def hello(version: int = PEER_VERSION, to: int = 2, cluster: int = CLUSTER) -> bytes:
    return pack_hello(Hello(version, cluster, 1, to, b"i" * 16))


@pytest.mark.parametrize(
    ("greeting", "verdict"),
    [
        (hello(version=99), Verdict.VERSION),
        (hello(to=3), Verdict.MEMBER),
        (hello(cluster=1), Verdict.CLUSTER),
    ],
)
async def test_a_hello_that_does_not_fit_is_answered(greeting: bytes, verdict: Verdict) -> None:
    async with peer(2) as two:
        answer = await say(two.port, greeting)
        (payload,) = FrameSplitter().feed(answer)
        assert unpack(payload) == verdict.value


@pytest.mark.parametrize(
    "noise",
    [
        PREAMBLE + frame(b"noise"),
        PREAMBLE + frame(pack(["not", "a", "hello"])),
        PREAMBLE + frame(pack((PEER_VERSION, CLUSTER, 1, 2, b"i" * 16, (7,)))),
        PREAMBLE + frame(pack((PEER_VERSION, CLUSTER, 1, 2, b"i" * 15, ()))),
        PREAMBLE + frame(pack((PEER_VERSION, CLUSTER, -1, 2, b"i" * 16, ()))),
        PREAMBLE + frame(pack((PEER_VERSION, CLUSTER, 1, "2", b"i" * 16, ()))),
        PREAMBLE + frame(pack((PEER_VERSION, CLUSTER, 1, 2, b"i" * 16, None))),
        PREAMBLE + frame(b"\xdd\x00\x00\x10\x00" * 500),
        PREAMBLE + (MAX_HELLO_BYTES + 1).to_bytes(4, "big"),  # refused before it is there
        hello() + frame(b"noise"),
        hello() + b"\xff\xff\xff\xff",
        hello() + frame(MessagePacker().pack(heartbeat(9, 2))),  # in another's name
        hello() + frame(MessagePacker().pack(heartbeat(1, 9))),  # meant for another
    ],
)
async def test_noise_closes_the_connection_and_nothing_else(noise: bytes) -> None:
    bugs: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: bugs.append(context))
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        await connected(one, 2)
        with contextlib.suppress(ConnectionResetError):
            await say(two.port, noise)
        assert two.inbox.messages == []
        one.transport.send(heartbeat(1, 2))
        one.transport.flush()
        await two.inbox.until(lambda: two.inbox.messages == [heartbeat(1, 2)] or not one.transport.is_connected(2))
    assert bugs == []


async def test_whatever_else_comes_is_https_with_its_first_bytes() -> None:
    async with peer(2) as two:
        assert await say(two.port, b"GET / HTTP/1.1\r\n\r\n") == b"http:GET / HTTP/1.1\r\n\r\n"


async def test_a_broken_connection_is_told_on_both_sides_and_dialled_anew() -> None:
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        await connected(one, 2)
        one.transport.send(heartbeat(1, 2))
        one.transport.flush()
        await two.inbox.until(lambda: bool(two.inbox.messages))
        await two.transport.close()
        await one.inbox.until(lambda: one.inbox.lost == [2])
        await two.inbox.until(lambda: two.inbox.lost == [1])
        await connected(one, 2)


async def test_a_member_that_dials_us_is_dialled_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members that start together find each other with the last one that listens, not after its peers' pauses."""
    monkeypatch.setattr("kvstore.transport.FIRST_PAUSE", 1000.0)
    async with peer(1) as one, peer(2) as two:
        two.inbox.verdict = Verdict.MEMBER
        introduce(one, 2, two.url)
        await one.inbox.until(lambda: one.inbox.refusals == [(2, Verdict.MEMBER)])
        two.inbox.verdict = Verdict.WELCOME
        introduce(two, 1, one.url)
        await connected(one, 2)
        assert one.inbox.made == [2]


async def test_a_removed_member_is_still_talked_with_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that is removed leads until the others have acknowledged what removes it."""
    monkeypatch.setattr("kvstore.transport.FAREWELL_SECONDS", 3600.0)
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        introduce(two, 1, one.url)
        await connected(one, 2)
        await connected(two, 1)
        one.transport.members_changed(Membership(removed=[2]), Configuration())
        one.transport.send(heartbeat(1, 2))
        one.transport.flush()
        await two.inbox.until(lambda: two.inbox.messages == [heartbeat(1, 2)])
        two.transport.send(heartbeat(2, 1))
        two.transport.flush()
        await one.inbox.until(lambda: one.inbox.messages == [heartbeat(2, 1)])


async def test_a_member_that_its_own_membership_does_not_list_any_more_can_be_answered() -> None:
    """It was removed, and one that is behind needs its vote to find that out."""
    async with peer(1) as one, peer(2, knows_its_url=True) as two:
        introduce(two, 1, one.url)
        await connected(two, 1)
        one.inbox.leader = 2
        one.transport.send(heartbeat(1, 2))  # it is lost: there is no connection yet
        await connected(one, 2)


async def test_a_removed_member_that_still_has_a_vote_is_asked_for_it_after_a_restart() -> None:
    """In a joint configuration it counts until that is left. The membership has forgotten where it is, and what it
    says is not worth an answer by itself when its log is behind; but only with its vote can there be a leader."""
    async with peer(1) as one, peer(2, knows_its_url=True) as two:
        one.transport.members_changed(Membership(removed=[2]), Configuration(frozenset([1]), frozenset([1, 2])))
        introduce(two, 1, one.url)
        await connected(one, 2)


async def test_a_removed_member_is_told_so_once_it_dials_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.transport.FAREWELL_SECONDS", 0.0)
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        introduce(two, 1, one.url)
        await connected(one, 2)
        await connected(two, 1)
        one.inbox.verdict = Verdict.REMOVED
        one.transport.members_changed(Membership(removed=[2]), Configuration())
        await two.inbox.until(lambda: two.inbox.refusals == [(1, Verdict.REMOVED)])
        assert not one.transport.is_connected(2)


async def test_urls_that_cannot_be_dialled_do_not_end_the_dialling() -> None:
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, "http://[", "http://127.0.0.1:99999", f"http://{'x' * 70}.y:1", "unix://x", two.url)
        await connected(one, 2)


async def test_active_are_those_that_hear_us_and_that_we_hear() -> None:
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        await connected(one, 2)
        assert one.transport.active == set()
        introduce(two, 1, one.url)
        await connected(two, 1)
        async with asyncio.timeout(SECONDS):
            while one.transport.active != {2}:  # noqa: ASYNC110
                await asyncio.sleep(0)
        two.transport.send(heartbeat(2, 1))
        two.transport.flush()
        await one.inbox.until(lambda: bool(one.inbox.messages))
        sent, received = two.transport.traffic.peer(1).sent_bytes, one.transport.traffic.peer(2).received_bytes
        assert sent == received > 0


class Recorder(asyncio.Transport):
    """Takes the place of a connection, and keeps the written chunks as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[object] = []

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, octets: bytes | bytearray | memoryview) -> None:
        self.written.append(octets)

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.written += pieces


async def test_long_bytes_are_written_as_they_are_and_arrive_between_short_ones() -> None:
    entry = Entry(5, 1, 0, bytes(LONG_BYTES + 1))
    sent: list[PeerMessage] = [heartbeat(1, 2), AppendRequest(2, 1, 1, 4, 1, (entry,), 4), heartbeat(1, 2, 7)]
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        await connected(one, 2)
        link = one.transport._links[2]
        connection, recorder = link._transport, Recorder()
        for transport in (recorder, connection):
            link._transport = transport
            for message in sent:
                one.transport.send(message)
            one.transport.flush()
        assert any(piece is entry.payload for piece in recorder.written)
        await two.inbox.until(lambda: len(two.inbox.messages) >= len(sent))
        assert two.inbox.messages == sent


def test_frames_come_out_whole_however_they_are_cut() -> None:
    payloads = [b"", b"a", b"bc" * 1000]
    stream = b"".join(map(frame, payloads))
    splitter = FrameSplitter()
    assert [whole for octet in stream for whole in splitter.feed(bytes([octet]))] == payloads
    assert list(FrameSplitter().feed(stream)) == payloads


def test_a_frame_over_the_limit_is_refused_by_its_length_alone() -> None:
    with pytest.raises(WireError, match="the limit is 10"):
        list(FrameSplitter(10).feed((11).to_bytes(4, "big")))


async def test_a_member_that_went_back_to_an_earlier_version_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        await connected(one, 2)
        one.transport._links[2].version = 1  # as a member of the release before speaks it
        raised = Entry(1, 1, EntryKind.COMMAND, bytes(TIME_BYTES) + pack_command(1, SetLevel(2)))
        append = AppendRequest(2, 1, 1, 0, 0, (raised,), 0)
        for _ in range(3):
            one.transport.send(append)
        one.transport.send(heartbeat(1, 2, 7))
        one.transport.flush()
        await two.inbox.until(lambda: bool(two.inbox.messages))
    assert [type(message) for message in two.inbox.messages] == [HeartbeatRequest]
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage() == "cannot speak with a member"
    assert "cannot read what the log holds" in record.__dict__["fields"]["why"]


async def test_who_speaks_to_us_is_answered_although_we_do_not_know_it() -> None:
    """A member that begins with an old snapshot is led by one that the snapshot does not name."""
    async with peer(1) as one, peer(2) as two:
        membership = Membership([Member(1, "", (one.url,)), Member(2, "", (two.url,))])
        one.transport.members_changed(membership, Configuration())
        await connected(one, 2)
        two.transport.members_changed(Membership([Member(2, "", (two.url,))]), Configuration())
        await spoken(one, two)
        two.inbox.leader = 1
        await answered(two, one, heartbeat(2, 1))


async def test_a_candidate_that_we_vote_for_is_answered_although_we_do_not_know_it() -> None:
    async with peer(1) as one, peer(2) as two:
        membership = Membership([Member(1, "", (one.url,)), Member(2, "", (two.url,))])
        one.transport.members_changed(membership, Configuration())
        await connected(one, 2)
        await spoken(one, two)
        await answered(two, one, VoteResponse(1, 2, 1, True, True))


async def test_a_stranger_that_is_not_followed_makes_us_connect_nowhere() -> None:
    """Nor does it make us tell an address that it names who we are."""
    async with peer(1) as one, peer(2) as two:
        membership = Membership([Member(1, "", (one.url,)), Member(2, "", (two.url,))])
        one.transport.members_changed(membership, Configuration())
        await connected(one, 2)
        await spoken(one, two)
        for message in (VoteResponse(1, 2, 1, False, True), heartbeat(2, 1), VoteResponse(1, 2, 1, False, False)):
            two.transport.send(message)
        assert two.transport.refusals == {}
        assert one.inbox.asked == []


async def test_a_frame_of_a_stranger_is_small_until_it_is_followed() -> None:
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        await connected(one, 2)
        await spoken(one, two)
        entry = Entry(2, 1, EntryKind.COMMAND, bytes(MAX_STRANGER_FRAME_BYTES))
        append = AppendRequest(2, 1, 1, 1, 1, (entry,), 0)
        one.transport.send(append)
        one.transport.flush()
        await one.inbox.until(lambda: one.inbox.lost == [2])
        assert append not in two.inbox.messages
        await connected(one, 2)
        one.inbox.lost.clear()
        two.inbox.leader = 1
        membership = Membership([Member(1, "", (one.url,)), Member(2, "", (two.url,))])
        one.transport.members_changed(membership, Configuration())
        await spoken(one, two)
        await answered(two, one, heartbeat(2, 1))
        one.transport.send(append)
        one.transport.flush()
        await two.inbox.until(lambda: append in two.inbox.messages)


async def test_the_oldest_stranger_makes_room() -> None:
    """Real ones come again, and those that only take a place cannot keep them out."""
    async with peer(2) as two:
        opened = []
        for number in range(MAX_STRANGERS + 1):
            reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
            writer.write(pack_hello(Hello(PEER_VERSION, CLUSTER, 100 + number, 2, b"i" * 16)))
            length = int.from_bytes(await reader.readexactly(4), "big")
            assert unpack(await reader.readexactly(length)) == Verdict.WELCOME.value
            opened.append((reader, writer))
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(ConnectionError):
                assert await opened[0][0].read() == b""
        assert not opened[1][0].at_eof()
        for _, writer in opened:
            writer.close()


async def test_a_stranger_that_becomes_a_member_says_hello_again() -> None:
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        await connected(one, 2)
        await two.inbox.until(lambda: len(two.inbox.asked) == 1)
        two.transport.members_changed(Membership([Member(1, "", (one.url,))]), Configuration())
        await two.inbox.until(lambda: len(two.inbox.asked) == 2)


async def spoken(one: Peer, two: Peer) -> None:
    """Messages of `one` come through to `two`."""
    before = len(two.inbox.messages)
    async with asyncio.timeout(SECONDS):
        while len(two.inbox.messages) == before:
            one.transport.send(heartbeat(1, 2))
            one.transport.flush()
            await asyncio.sleep(0.001)


async def answered(two: Peer, one: Peer, message: PeerMessage) -> None:
    """`two` dials `one` for the sake of this message; it may be the next one that arrives."""
    async with asyncio.timeout(SECONDS):
        while message not in one.inbox.messages:
            two.transport.send(message)
            two.transport.flush()
            await asyncio.sleep(0.001)


async def test_what_comes_behind_a_hello_waits_for_the_verdict() -> None:
    async with peer(2) as two:
        two.inbox.verdict = None
        _, writer = await asyncio.open_connection("127.0.0.1", two.port)
        writer.write(hello() + frame(MessagePacker().pack(heartbeat(1, 2))))
        await two.inbox.until(lambda: bool(two.inbox.asked))
        writer.write(frame(MessagePacker().pack(heartbeat(1, 2, commit=5))))
        assert two.inbox.messages == []
        two.inbox.asked[0](Verdict.WELCOME)
        await two.inbox.until(lambda: len(two.inbox.messages) == 2)
        assert two.inbox.messages == [heartbeat(1, 2), heartbeat(1, 2, commit=5)]
        writer.close()
        await writer.wait_closed()
        assert len(two.inbox.asked) == 1


async def test_a_verdict_that_comes_too_late_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.transport.HANDSHAKE_SECONDS", 0.05)
    async with peer(2) as two:
        two.inbox.verdict = None
        with contextlib.suppress(ConnectionError):
            assert await say(two.port, hello()) == b""
        two.inbox.asked[0](Verdict.WELCOME)
        assert two.transport.active == set()


async def test_those_who_only_knock_do_not_keep_out_who_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.transport.MAX_KNOCKING", 3)
    monkeypatch.setattr("kvstore.transport.HANDSHAKE_SECONDS", 3600.0)
    async with peer(1) as one, peer(2) as two:
        introduce(one, 2, two.url)
        introduce(two, 1, one.url)
        await connected(one, 2)
        knocking = [await asyncio.open_connection("127.0.0.1", two.port) for _ in range(5)]
        for reader, _ in knocking[:2]:
            async with asyncio.timeout(SECONDS):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        await connected(two, 1)
        one.transport.send(heartbeat(1, 2))
        one.transport.flush()
        await two.inbox.until(lambda: bool(two.inbox.messages))  # who was let in is not among them
        for _, writer in knocking:
            writer.close()
