"""Messages between members over TCP, or TLS: one connection a direction, dialled by the side that has something to say.

A connection begins with eight bytes that no HTTP request begins with, then the dialler's hello and the other side's
welcome, then frames: four bytes of length, and a packed message. What is sent in one turn goes out in one write.
Nothing is ever resent: raft does not mind a lost message, and a connection never repeats one.

An accepted connection that does not begin with those eight bytes is HTTP's: it is handed over with what was read so
far, so one peer port serves both. Knows nothing of what a message means.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from kvstore import logs
from kvstore.hello import (
    LOWEST_VERSION,
    MAX_HELLO_BYTES,
    PEER_VERSION,
    PREAMBLE,
    Facts,
    FrameSplitter,
    Hello,
    HelloReader,
    Speaker,
    Verdict,
    frame,
    pack_hello,
)
from kvstore.levels import is_understood
from kvstore.membership import Membership
from kvstore.raft.types import Configuration, VoteResponse
from kvstore.tls.refusals import Refusals, reason
from kvstore.tls.sides import Refused
from kvstore.traffic import Traffic
from kvstore.wire import (
    MAX_FRAME_BYTES,
    MessagePacker,
    Packed,
    PeerMessage,
    WireError,
    pack,
    packed_bytes,
    unpack,
    unpack_message,
)

if TYPE_CHECKING:
    from kvstore.tls.credentials import Credentials

#: Bytes waiting for one member; beyond that its messages are dropped, which raft takes for a lossy network.
MAX_BACKLOG_BYTES = 64 << 20
#: Accepted connections that have not said yet who they are. One more ends the oldest, so that those who only knock do
#: not keep out those who come in.
MAX_KNOCKING = 128
HANDSHAKE_SECONDS = 5.0
DIAL_SECONDS = 2.0
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
#: Lines about a member that cannot be spoken with over TLS, until it can be.
MAX_COMPLAINTS = 16
#: A frame of one that is no member as far as we know. Enough for all that is said before it is followed as the leader.
MAX_STRANGER_FRAME_BYTES = 1 << 20
#: Strangers that are welcomed at a time; one more ends the oldest of them.
MAX_STRANGERS = 16
#: How long a removed member is still talked with: it may lead until we have acknowledged that it goes.
FAREWELL_SECONDS = 3.0
#: Unacknowledged for so long, a connection counts as broken and is dialled anew (Linux: TCP_USER_TIMEOUT).
USER_TIMEOUT_MS = 1500

_LENGTH = struct.Struct(">I")

log = logs.get("peer")


class Receiver(Protocol):
    """Who gets what arrives; all calls come on the event loop."""

    @property
    def leader(self) -> int:
        """Whom this member follows, 0 for no leader."""

    def examine(self, hello: Hello, done: Callable[[Verdict], None]) -> None:
        """`done` is called at once, or when the disk has noted who this is."""

    def received(self, message: PeerMessage) -> None: ...

    def connection_made(self, member: int) -> None:
        """What is sent to the member from now on reaches it."""

    def connected(self, member: int) -> None:
        """Another member is reached from now on. Called before anything is sent to it."""

    def connection_lost(self, member: int) -> None: ...

    def refused(self, member: int, verdict: Verdict) -> None:
        """Another member does not talk to us."""


# --- accepting ----------------------------------------------------------------------------------------------------


class Acceptor(asyncio.Protocol):
    """One accepted connection, until its first bytes say whether it is a peer's stream or HTTP."""

    def __init__(self, transport: PeerTransport, http: Callable[[], asyncio.BaseProtocol]) -> None:
        self._peers = transport
        self._http = http
        self._begin = b""
        self._splitter: FrameSplitter | None = None
        self._hello = HelloReader()
        self._socket: asyncio.Transport
        self._deadline: asyncio.TimerHandle
        self.member: int | None = None
        self.version = LOWEST_VERSION  # of this connection
        self.urls: tuple[str, ...] = ()  # where it says that it can be answered
        self.was_stranger = False  # as it was welcomed: its incarnation is not pinned
        self.level = 1  # the highest level that it says it takes part in
        self.program = ""  # the version of its program, if it says so
        self.replaced = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        self._socket = transport
        self._peers.knocks(self)
        _set_options(transport)
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, transport.abort)

    def data_received(self, octets: bytes) -> None:
        if self._splitter is None:
            self._begin += octets
            if self._begin[: len(PREAMBLE)] != PREAMBLE[: len(self._begin)]:
                self._hand_over()
                return
            if len(self._begin) < len(PREAMBLE):
                return
            octets = self._begin[len(PREAMBLE) :]
            self._splitter = FrameSplitter(MAX_HELLO_BYTES)
        self._read(octets)

    def _read(self, octets: bytes) -> None:
        assert self._splitter is not None
        try:
            frames = self._splitter.feed(octets)
            for payload in frames:
                if self.member is None:
                    hello = self._hello.take(payload)
                    if hello is None:
                        continue
                    frames.close()  # the rest waits for the verdict
                    self._examine(hello)
                    return
                self._peers.deliver(self.member, payload)
        except WireError as problem:
            self._peers.nonsense.tell(
                f"it sent what cannot be read: {problem}", self._socket.get_extra_info("peername")
            )
            self._socket.abort()

    def _hand_over(self) -> None:
        """It is HTTP: the next protocol gets the connection and what was read of it."""
        self._deadline.cancel()
        self._peers.hands_over(self)
        protocol = self._http()
        self._socket.set_protocol(protocol)
        protocol.connection_made(self._socket)
        cast(asyncio.Protocol, protocol).data_received(self._begin)

    def _examine(self, hello: Hello) -> None:
        """Nothing more is read until the verdict is there."""
        self._socket.pause_reading()
        self._peers.examine(hello, self._address(), lambda verdict: self._greet(hello, verdict))

    def _greet(self, hello: Hello, verdict: Verdict) -> None:
        if self._socket.is_closing():
            return
        self._socket.write(frame(pack(verdict.value)))
        if verdict is not Verdict.WELCOME:
            self._socket.close()
            return
        self._deadline.cancel()
        assert self._splitter is not None
        self.version = hello.version
        self.member, self.urls = hello.sender, hello.urls
        self.was_stranger = not self._peers.is_known(hello.sender)
        is_small = self._peers.is_stranger(hello.sender)
        self._splitter.limit = MAX_STRANGER_FRAME_BYTES if is_small else MAX_FRAME_BYTES
        self.level, self.program = hello.facts.level, hello.facts.program
        self._peers.joined(self, hello.urls)
        self._socket.resume_reading()
        self._read(b"")  # what came right behind the hello

    def _address(self) -> str:
        name = self._socket.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if name else "?"

    def connection_lost(self, problem: Exception | None) -> None:
        self._deadline.cancel()
        self._peers.left(self)

    def trust(self) -> None:
        """It is followed as the leader: its frames may be as large as a member's."""
        if self._splitter is not None:
            self._splitter.limit = MAX_FRAME_BYTES

    def close(self) -> None:
        self._socket.abort()


# --- dialling -----------------------------------------------------------------------------------------------------


class _Dialled(asyncio.Protocol):
    """One dialled connection: says hello, waits for the welcome, then is only written to."""

    def __init__(self, link: Link, hello: Hello) -> None:
        self._link = link
        self.hello = hello
        self._splitter = FrameSplitter(MAX_HELLO_BYTES)
        self.verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.problem: ssl.SSLError | Refused | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        self.transport = transport
        _set_options(transport)
        transport.set_write_buffer_limits(high=MAX_BACKLOG_BYTES)
        session = transport.get_extra_info("ssl_object")
        if session is not None:
            try:
                self._link.examine(session)
            except Refused as problem:
                self.problem = problem
                transport.abort()
                return
        transport.write(pack_hello(self.hello))

    def data_received(self, octets: bytes) -> None:
        try:
            for payload in self._splitter.feed(octets):
                if not self.verdict.done():
                    self.verdict.set_result(Verdict(unpack(payload)))
        except (WireError, ValueError):
            self.transport.abort()

    def connection_lost(self, problem: Exception | None) -> None:
        if isinstance(problem, ssl.SSLError):  # with TLS 1.3, it refuses our certificate only now
            self.problem = self.problem or problem
        for future in (self.verdict, self.lost):
            if not future.done():
                if future is self.verdict:
                    future.cancel()
                else:
                    self.lost.set_result(None)


class Link:
    """Our side of the stream to one member: keeps a connection, sends while there is one.

    `version` is that of the connection; a member is never dialled with one below `lowest_version`.
    """

    def __init__(
        self,
        member: int,
        urls: tuple[str, ...],
        speaker: Speaker,
        receiver: Receiver,
        tls: Credentials | None = None,
        lowest_version: int = LOWEST_VERSION,
    ) -> None:
        self.member = member
        self.urls = urls  # by our own state
        self.said: tuple[str, ...] = ()  # by the last hello of that member that was accepted
        self.connected_url = ""  # what the connection was dialled at; empty without one
        self.version = PEER_VERSION
        self.lowest_version = lowest_version
        self._speaker = speaker
        self._receiver = receiver
        self._tls = tls
        self._complained: set[tuple[str, str]] = set()  # since the last connection
        self._waiting: list[bytes] = []
        self._waits_long = False  # whether long bytes are among them
        self._transport: asyncio.Transport | None = None
        self._reported: Verdict | None = None
        self._dials = True
        self._hurried = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def send(self, packed: Packed) -> None:
        if self._transport is None:
            return
        self._waiting.append(_LENGTH.pack(packed_bytes(packed)))
        if isinstance(packed, bytes):
            self._waiting.append(packed)
        else:
            self._waiting += packed
            self._waits_long = True

    @property
    def is_connected(self) -> bool:
        return self._transport is not None

    @property
    def refusal(self) -> Verdict | None:
        """What the member said last to our hello, None if it was a welcome or nothing."""
        return self._reported

    def flush(self) -> bool:
        """One write for all of this turn, in which long bytes are not copied. False: the member does not take it and
        the messages are dropped."""
        if not self._waiting:
            return True
        waiting, self._waiting = self._waiting, []
        has_long, self._waits_long = self._waits_long, False
        if self._transport is None or self._transport.is_closing():  # it broke, and we are told so in a later turn
            return True
        if self._transport.get_write_buffer_size() > MAX_BACKLOG_BYTES:
            return False
        if has_long:
            self._transport.writelines(waiting)
        else:
            self._transport.write(b"".join(waiting))
        return True

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        attempt = 0
        while self._dials:
            # Either may be the older one: we were down while it moved, or it has not applied yet that it moved.
            urls = tuple(dict.fromkeys(self.urls + self.said))
            url = urls[attempt % len(urls)]
            attempt += 1
            dialled = await self._reach(url)
            if dialled is not None:
                pause = FIRST_PAUSE
                self._transport = dialled.transport
                self._receiver.connected(self.member)
                self.connected_url = url
                self._receiver.connection_made(self.member)
                await dialled.lost
                self._transport = None
                self.connected_url = ""
                self._waiting.clear()
                self._receiver.connection_lost(self.member)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hurried.wait()
            self._hurried.clear()
            pause = min(2 * pause, LONGEST_PAUSE)

    def hurry(self) -> None:
        """The member has just dialled us, so it listens: do not wait with the next attempt."""
        if self._transport is None:
            self._hurried.set()

    async def _reach(self, url: str) -> _Dialled | None:
        """A connection of the highest version that both sides know. Every attempt begins with our highest, since the
        other member may have been upgraded since the last one."""
        outcome: _Dialled | Verdict | None = None
        for version in range(PEER_VERSION, self.lowest_version - 1, -1):
            outcome = await self._dial(url, version)
            if outcome is not Verdict.VERSION:
                break
        if isinstance(outcome, Verdict):
            if outcome is not self._reported:
                self._reported = outcome
                self._receiver.refused(self.member, outcome)
            return None
        return outcome

    async def _dial(self, url: str, version: int) -> _Dialled | Verdict | None:
        """None: it is not there, or the connection broke before the verdict."""
        address = _address(url)
        if address.with_tls and self._tls is None:
            self._complain(url, "no peer URL of this member's is https, so it has nothing to go by")
            return None
        dialled = None
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                dialled = await self._connect(address, self._speaker(version))
                verdict = await dialled.verdict
        except (OSError, UnicodeError, TimeoutError, asyncio.CancelledError) as problem:
            if dialled is not None:
                dialled.transport.abort()
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            self._complain_of_tls(url, problem, dialled)
            return None
        if verdict is Verdict.WELCOME:
            self._reported = None
            self._complained.clear()
            if dialled.hello.urls == self._speaker(version).urls:
                self.version = version
                return dialled
            dialled.transport.abort()  # it said URLs that are ours no more
            return None
        dialled.transport.abort()
        return verdict

    async def _connect(self, address: _Address, hello: Hello) -> _Dialled:
        loop = asyncio.get_running_loop()
        context = None
        if address.with_tls:
            assert self._tls is not None
            context = self._tls.material.dialling
        _, dialled = await loop.create_connection(
            lambda: _Dialled(self, hello), address.host, address.port, ssl=context
        )
        return dialled

    def examine(self, session: ssl.SSLObject) -> None:
        """What is asked of the other side's certificate beyond its chain and its host. Raises Refused."""
        assert self._tls is not None
        self._tls.examine(session)

    def _complain_of_tls(self, url: str, problem: BaseException, dialled: _Dialled | None) -> None:
        """A member that is not there needs no line; one that is there and cannot be trusted does."""
        if dialled is not None and dialled.problem is not None:
            problem = dialled.problem
        if isinstance(problem, ssl.SSLError):
            self._complain(url, reason(problem))
        elif isinstance(problem, Refused):
            self._complain(url, str(problem))
        elif dialled is not None and url.startswith("https:") and isinstance(problem, asyncio.CancelledError):
            self._complain(url, "it closes the connection behind the handshake; its log says why")

    def _complain(self, url: str, why: str) -> None:
        if (url, why) not in self._complained and len(self._complained) < MAX_COMPLAINTS:
            self._complained.add((url, why))
            log.warning("cannot speak with a member", peer=url, member=f"{self.member:x}", why=why)

    def report_later_level(self) -> None:
        """A member that went back to an earlier kvstored is sent nothing it cannot apply; if it is needed for a
        majority, writes wait for it."""
        why = f"it speaks version {self.version} and cannot read what the log holds; start the later kvstored there"
        self._complain(self.connected_url, why)

    def dial_no_more(self) -> None:
        """The connection that there is, is the last."""
        self._dials = False

    async def close(self) -> None:
        self.flush()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._transport is not None:
            self._transport.close()


class _Address(NamedTuple):
    host: str
    port: int
    with_tls: bool


def _address(url: str) -> _Address:
    """Of a URL that has no host and port that can be dialled, what certainly fails."""
    try:
        parts = urlsplit(url)
        return _Address(parts.hostname or "", parts.port or 0, parts.scheme == "https")
    except ValueError:
        return _Address("", 0, False)


# --- all connections of one member ----------------------------------------------------------------------------------


class PeerTransport:
    """Satisfies the driver's `Network`. `identity` is (cluster id, member id, incarnation); `facts` are asked for when
    a hello is made."""

    def __init__(
        self,
        identity: tuple[int, int, bytes],
        receiver: Receiver,
        tls: Credentials | None = None,
        facts: Callable[[], Facts] = Facts,
        urls: tuple[str, ...] = (),
    ) -> None:
        """`urls` are our own until the membership says so, and once it does not list us any more: a member that was
        removed is still asked for its vote, and for what it knows, by one that is behind."""
        self._tls = tls
        self._facts = facts
        self._cluster, self._member, self._incarnation = identity
        self._receiver = receiver
        self._urls = urls  # our own
        self.lowest_version = LOWEST_VERSION  # whoever speaks a lower one is refused
        self._packers = {version: MessagePacker() for version in range(LOWEST_VERSION, PEER_VERSION + 1)}
        self.traffic = Traffic()
        self._links: dict[int, Link] = {}
        self._known: frozenset[int] = frozenset()  # the members, as our state has them
        self._streams: dict[int, Acceptor] = {}  # accepted and welcomed, by member
        self._knocking: dict[Acceptor, None] = {}  # accepted and not welcomed, the oldest first
        self.nonsense = Refusals("peer", "peer")
        self._refusals_logged: set[tuple[int, Verdict]] = set()

    def send(self, message: PeerMessage) -> None:
        link = self._links.get(message.to)
        if link is None and message.to in self._streams:
            self._answer_stranger(message)
        if link is None or not link.is_connected:
            self.traffic.dropped(message)
        elif not is_understood(message, link.version):
            link.report_later_level()
            self.traffic.dropped(message)
        else:
            packed = self._packers[link.version].pack_parts(message)
            link.send(packed)
            self.traffic.sent(message, packed_bytes(packed))

    def _answer_stranger(self, message: PeerMessage) -> None:
        """Dial a stranger once this member follows it as its leader, or votes for it: only then is it worth an answer.

        We may be behind, and it may lead with a configuration that we do not know yet (dissertation 4.2.2). What a
        stranger says of itself alone, its URLs among it, makes this member connect nowhere.
        """
        stream = self._streams[message.to]
        votes = type(message) is VoteResponse and message.granted
        if stream.urls and (votes or message.to == self._receiver.leader):
            stream.trust()
            self._link(message.to, stream.urls)

    def is_known(self, member: int) -> bool:
        """Whether it is a member, as far as our state goes."""
        return member in self._known

    def is_stranger(self, member: int) -> bool:
        """Whether it is no member as far as we know, and neither leads us nor has our vote."""
        return member not in self._known and member not in self._links

    @property
    def refusals(self) -> dict[int, Verdict | None]:
        """The last word of each member to our hello."""
        return {member: link.refusal for member, link in self._links.items()}

    def flush(self) -> None:
        for link in self._links.values():
            if not link.flush():
                self.traffic.lost(link.member)  # told in a turn of its own: the driver is in the midst of one
                asyncio.get_running_loop().call_soon(self._receiver.connection_lost, link.member)

    def members_changed(self, membership: Membership, configuration: Configuration) -> None:
        wanted = {member.id: member.peer_urls for member in membership.members.values()}
        urls = wanted.pop(self._member, self._urls)
        # A member that was removed has a vote until the joint configuration is left, wherever it is.
        self._known = frozenset(wanted) | configuration.members
        # A link that is made again may be on its way through updates that are older than the member's hello.
        said = {member: link.said for member, link in self._links.items()}
        self._require(membership.level)
        if urls != self._urls:
            self._urls = urls
            self._introduce_again(wanted)
        for member, link in list(self._links.items()):
            if member not in wanted and (member in configuration.members or member not in membership.removed):
                continue  # it has a say until the joint configuration is left; or we are behind and do not know it yet
            if member not in wanted and link.is_connected:
                link.dial_no_more()
                asyncio.get_running_loop().call_later(FAREWELL_SECONDS, self._part_from, member)
            elif wanted.get(member) == link.urls:
                pass
            elif link.connected_url in wanted.get(member, ()):  # its hello was ahead of our state
                link.urls = wanted[member]
            else:
                self._close_link(member)
        for member in [member for member in self.traffic.peers if member not in wanted]:
            self.traffic.forget(member)
        for member, urls in wanted.items():
            if member not in self._links:
                self._link(member, urls)
                self._links[member].said = said.get(member, ())
        for member, stream in list(self._streams.items()):
            if stream.was_stranger and member in wanted:
                stream.close()  # it says hello again, and its incarnation is pinned before it promises anything

    def _require(self, level: int) -> None:
        """From now on members that do not speak the version of the level are refused, also those that are connected:
        they cannot apply what they would be sent."""
        if level <= self.lowest_version:
            return
        self.lowest_version = min(level, PEER_VERSION)
        for member, link in list(self._links.items()):
            link.lowest_version = self.lowest_version
            if link.version < self.lowest_version and link.is_connected:
                self._close_link(member)  # and it is dialled again, by `members_changed`
        for stream in list(self._streams.values()):
            if stream.version < self.lowest_version:
                stream.close()

    def _link(self, member: int, urls: tuple[str, ...]) -> None:
        def hello(version: int) -> Hello:
            facts = self._facts()
            return Hello(version, self._cluster, self._member, member, self._incarnation, self._urls, facts)

        self._links[member] = Link(member, urls, hello, self._receiver, self._tls, self.lowest_version)

    def _introduce_again(self, members: Collection[int]) -> None:
        """Our URLs are others than we said: those that hear us and cannot reach us need to be told."""
        for link in list(self._links.values()):
            if link.member in members and link.is_connected and link.member not in self._streams:
                self._close_link(link.member)

    def _close_link(self, member: int) -> None:
        task = asyncio.get_running_loop().create_task(self._links.pop(member).close())
        task.add_done_callback(lambda done: done.exception())

    def _part_from(self, member: int) -> None:
        """It was removed: whatever it still has to say, it says to a new connection, and is told there."""
        if member in self._links:
            self._close_link(member)
        if member in self._streams:
            self._streams[member].close()

    def is_connected(self, member: int) -> bool:
        link = self._links.get(member)
        return link is not None and link.is_connected

    def version_to(self, member: int) -> int:
        """The version that this member speaks on its connection to another one; 0 without a connection."""
        link = self._links.get(member)
        return link.version if link is not None and link.is_connected else 0

    def levels(self) -> dict[int, int]:
        """The highest level of each member that hears us and that we hear, as far as both connections can carry it."""
        return {
            member: min(max(stream.level, 1), self._links[member].version)
            for member, stream in self._streams.items()
            if self.is_connected(member)
        }

    def programs(self) -> dict[int, str]:
        """The version of the program of each member that we hear, where it says so."""
        return {member: stream.program for member, stream in self._streams.items() if stream.program}

    @property
    def active(self) -> set[int]:
        """The members that hear us and that we hear."""
        return {member for member in self._streams if self.is_connected(member)}

    # --- for accepted connections -----------------------------------------------------------------------------------

    def knocks(self, stream: Acceptor) -> None:
        if len(self._knocking) >= MAX_KNOCKING:
            oldest = next(iter(self._knocking))
            del self._knocking[oldest]
            oldest.close()
        self._knocking[stream] = None

    def hands_over(self, stream: Acceptor) -> None:
        """It is not a peer's."""
        self._knocking.pop(stream, None)

    def examine(self, hello: Hello, address: str, done: Callable[[Verdict], None]) -> None:
        def judged(verdict: Verdict) -> None:
            self._note(hello, verdict, address)
            done(verdict)

        if not self.lowest_version <= hello.version <= PEER_VERSION:
            judged(Verdict.VERSION)
        elif hello.cluster != self._cluster:
            judged(Verdict.CLUSTER)
        elif hello.to != self._member:
            judged(Verdict.MEMBER)
        else:
            self._receiver.examine(hello, judged)

    def _note(self, hello: Hello, verdict: Verdict, address: str) -> None:
        if verdict is not Verdict.WELCOME and (hello.sender, verdict) not in self._refusals_logged:
            if len(self._refusals_logged) < 1000:
                self._refusals_logged.add((hello.sender, verdict))
            log.warning(
                "refuses a peer",
                reason=verdict.value,
                peer=address,
                sender=f"{hello.sender:x}",
                cluster=f"{hello.cluster:x}",
                version=hello.version,
                **self._advice(verdict, hello.version),
            )

    def _advice(self, verdict: Verdict, version: int) -> dict[str, str]:
        if verdict is not Verdict.VERSION:
            return {}
        spoken = f"here versions {self.lowest_version} to {PEER_VERSION} are spoken"
        if version > PEER_VERSION:
            return {"why": f"{spoken}; a later kvstored dials again with a version that both know, if there is one"}
        return {"why": f"{spoken}; start a later kvstored there"}

    def joined(self, stream: Acceptor, urls: tuple[str, ...]) -> None:
        """A member may have moved while we were down: what it says of itself is newer than our state."""
        assert stream.member is not None
        self._knocking.pop(stream, None)
        link = self._links.get(stream.member)
        if link is not None:
            link.said = urls
            link.hurry()
        elif urls and stream.member in self._known:
            self._link(stream.member, urls)  # the membership has forgotten where it is
        elif stream.member not in self._streams:
            self._end_oldest_stranger()
        older = self._streams.get(stream.member)
        self._streams[stream.member] = stream
        if older is not None:
            older.replaced = True
            older.close()

    def _end_oldest_stranger(self) -> None:
        """If there are too many, so that one that is a member can still come in."""
        strangers = [member for member in self._streams if self.is_stranger(member)]
        if len(strangers) >= MAX_STRANGERS:
            self._streams[strangers[0]].close()

    def left(self, stream: Acceptor) -> None:
        self._knocking.pop(stream, None)
        if stream.member is not None and not stream.replaced:
            self._streams.pop(stream.member, None)
            if stream.was_stranger and stream.member not in self._known and stream.member in self._links:
                self._close_link(stream.member)  # a stranger is forgotten as it goes
            self.traffic.lost(stream.member)
            self._receiver.connection_lost(stream.member)

    def deliver(self, member: int, payload: bytes | memoryview) -> None:
        message = unpack_message(payload)
        if message.sender != member or message.to != self._member:
            raise WireError(f"a message from {message.sender:x} to {message.to:x} on the stream of {member:x}")
        self.traffic.received(message, len(payload))
        self._receiver.received(message)

    async def close(self) -> None:
        for link in list(self._links.values()):
            await link.close()
        self._links.clear()
        for stream in (*self._knocking, *self._streams.values()):
            stream.close()
        self.nonsense.close()


def _set_options(transport: asyncio.Transport) -> None:
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
