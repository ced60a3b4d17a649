"""What goes to the other members and comes from them, counted and timed.

The transport tells of every message as it leaves and arrives; nobody waits for that, and a message costs the same
whatever is in it. An append counts as answered when the follower says that it holds the append's last entry on its
disk; a heartbeat's answer waits for no disk, and so gives the round trip. Knows no socket and no clock of its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from kvstore.raft.types import AppendRequest, AppendResponse, HeartbeatRequest, HeartbeatResponse
from kvstore.statistics import PEER_BUCKETS, Histogram, Latency, Rate
from kvstore.wire import PeerMessage

MAX_UNANSWERED = 256  # appends that are timed at once, to each member
HEARTBEAT_LOST_SECONDS = 1.0


class PeerTraffic:
    """To and from one other member."""

    __slots__ = ("_appends", "_heartbeat", "latency", "received_bytes", "round_trips", "sent_bytes")

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.received_bytes = 0
        self.latency = Latency()  # of appends; failed: what could not be sent, or was not answered
        self.round_trips = Histogram(PEER_BUCKETS)
        self._appends: deque[tuple[int, float]] = deque(maxlen=MAX_UNANSWERED)  # last index, when it was sent
        self._heartbeat = 0.0  # when the one was sent that is timed; 0: none is

    def append_sent(self, message: AppendRequest, now: float) -> None:
        self._appends.append((message.prev_index + len(message.entries), now))

    def append_answered(self, message: AppendResponse, now: float) -> None:
        appends = self._appends
        if message.rejected:
            self.lost()
        while appends and appends[0][0] <= message.index:
            self.latency.observe(now - appends.popleft()[1])

    def heartbeat_sent(self, now: float) -> None:
        if now - self._heartbeat > HEARTBEAT_LOST_SECONDS:
            self._heartbeat = now

    def heartbeat_answered(self, now: float) -> None:
        if self._heartbeat:
            self.round_trips.observe(now - self._heartbeat)
            self._heartbeat = 0.0

    def lost(self) -> None:
        """What is on the way may never be answered."""
        self.latency.failed += len(self._appends)
        self._appends.clear()
        self._heartbeat = 0.0


class Traffic:
    """Of one member, with all others. `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.peers: dict[int, PeerTraffic] = {}
        self.sent_appends = Rate()
        self.received_appends = Rate()

    def peer(self, member: int) -> PeerTraffic:
        found = self.peers.get(member)
        if found is None:
            found = self.peers[member] = PeerTraffic()
        return found

    def sent(self, message: PeerMessage, size: int) -> None:
        peer = self.peer(message.to)
        peer.sent_bytes += size
        kind = type(message)
        if kind is AppendRequest:
            now = self.clock()
            self.sent_appends.add(now, size)
            peer.append_sent(message, now)  # type: ignore[arg-type]  # `kind` says it
        elif kind is HeartbeatRequest:
            peer.heartbeat_sent(self.clock())

    def received(self, message: PeerMessage, size: int) -> None:
        peer = self.peer(message.sender)
        peer.received_bytes += size
        kind = type(message)
        if kind is AppendRequest:
            self.received_appends.add(self.clock(), size)
        elif kind is AppendResponse:
            peer.append_answered(message, self.clock())  # type: ignore[arg-type]
        elif kind is HeartbeatResponse:
            peer.heartbeat_answered(self.clock())

    def dropped(self, message: PeerMessage) -> None:
        """There is no connection to send it over."""
        if type(message) is AppendRequest:
            self.peer(message.to).latency.failed += 1

    def lost(self, member: int) -> None:
        """A connection to or from a member broke."""
        if member in self.peers:
            self.peers[member].lost()

    def forget(self, member: int) -> None:
        self.peers.pop(member, None)
