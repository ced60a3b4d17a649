"""Snapshots between members: one bounded chunk at a time, each asked for by the acknowledgement of the one before.

A chunk or acknowledgement that is lost is sent again, one that comes twice or late does no harm: the receiver
says how far it is, and the sender goes on from there. Time is ticks. It knows no sockets, and the disk only as
"read this piece" and "write this piece".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kvstore import logs
from kvstore.raft.types import SnapshotMeta, SnapshotRequest
from kvstore.wire import PeerMessage, SnapshotAck, SnapshotChunk

CHUNK_BYTES = 1 << 20
RETRY_TICKS = 50
MAX_RETRIES = 20
#: From a stream that failed to the next attempt at the same member: doubled with each failure in a row (0.1 to 30 s).
FIRST_BACKOFF_TICKS = 10
LAST_BACKOFF_TICKS = 3_000

log = logs.get("snapshot")


class SnapshotDisk(Protocol):
    """Snapshot files, read and written elsewhere; `done` and `failed` are called back on this thread."""

    def read_piece(
        self,
        meta: SnapshotMeta,
        offset: int,
        limit: int,
        done: Callable[[bytes, int], None],
        failed: Callable[[str], None],
    ) -> None:
        """`done(piece, size of the whole file)`."""

    def verify_snapshot(self, meta: SnapshotMeta, done: Callable[[str], None]) -> None:
        """Reads our own file from its first byte to its last: `done("")` if it is sound or gone, or what is wrong. One
        that is damaged is not used any more."""

    def write_piece(self, chunk: SnapshotChunk, done: Callable[[], None], failed: Callable[[str], None]) -> None:
        """Writes a piece; offset 0 begins a new file, the last piece ends it: verified, synced and in place."""


class _Outgoing:
    """A stream to one follower. `offset`: how many bytes it is known to hold."""

    __slots__ = ("backoff", "idle", "meta", "offset", "reading", "retries", "term")

    def __init__(self, meta: SnapshotMeta, term: int) -> None:
        self.meta = meta
        self.term = term
        self.offset = 0
        self.idle = 0  # ticks since the last progress
        self.retries = 0
        self.reading = False
        self.backoff = 0  # ticks until its failure is reported, and another attempt may follow; 0: it has not failed


class SnapshotSender:
    """The leader's side: streams to any number of followers; `sent(member, ok)` ends each.

    A failure is reported only after a time that doubles with each one in a row. Meanwhile our own file is verified,
    once; `damaged()` asks for another snapshot.
    """

    def __init__(
        self,
        member: int,
        disk: SnapshotDisk,
        send: Callable[[PeerMessage], None],
        sent: Callable[[int, bool], None],
        damaged: Callable[[], None],
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._member = member
        self._chunk_bytes = chunk_bytes
        self._disk = disk
        self._send = send
        self._sent = sent
        self._damaged = damaged
        self._outgoing: dict[int, _Outgoing] = {}
        self._failures: dict[int, int] = {}  # in a row, by member
        self._verified: SnapshotMeta | None = None  # our last file that was verified, or is being verified

    def start(self, request: SnapshotRequest) -> None:
        """Begins to stream `request.meta` to `request.to`, unless that is under way."""
        running = self._outgoing.get(request.to)
        if running is not None and (running.backoff or (running.meta, running.term) == (request.meta, request.term)):
            return
        log.info("sending a snapshot", to=f"{request.to:x}", index=request.meta.index)
        self._outgoing[request.to] = stream = _Outgoing(request.meta, request.term)
        self._read(request.to, stream)

    def acknowledged(self, ack: SnapshotAck) -> None:
        stream = self._outgoing.get(ack.sender)
        if stream is None or (ack.index, ack.term) != (stream.meta.index, stream.term) or stream.backoff:
            return
        if not ack.ok:
            self._fail(ack.sender, stream, "it cannot take it, as its own log says")
        elif ack.offset != stream.offset or stream.retries:
            stream.offset = ack.offset
            stream.idle = stream.retries = 0
            self._read(ack.sender, stream)

    def tick(self) -> None:
        for member, stream in list(self._outgoing.items()):
            if stream.backoff:
                stream.backoff -= 1
                if not stream.backoff:
                    self._end(member, ok=False)
                continue
            if stream.reading:
                continue  # our own disk is slow, not the follower
            stream.idle += 1
            if stream.idle < RETRY_TICKS:
                continue
            stream.idle = 0
            stream.retries += 1
            if stream.retries > MAX_RETRIES:
                self._end(member, ok=False)
            else:
                self._read(member, stream)

    def stop(self) -> None:
        """This member leads no more: whoever does starts over."""
        self._outgoing.clear()
        self._failures.clear()

    def _read(self, member: int, stream: _Outgoing) -> None:
        if stream.reading:
            return
        stream.reading = True
        offset = stream.offset

        def done(piece: bytes, total: int) -> None:
            stream.reading = False
            if self._outgoing.get(member) is not stream:
                return
            if offset >= total:
                self._failures.pop(member, None)
                self._end(member, ok=True)
                return
            self._send(SnapshotChunk(member, self._member, stream.term, stream.meta, offset, total, piece))

        def failed(why: str) -> None:
            stream.reading = False
            if self._outgoing.get(member) is stream:
                self._fail(member, stream, f"it cannot be read here: {why}")

        self._disk.read_piece(stream.meta, offset, self._chunk_bytes, done, failed)

    def _fail(self, member: int, stream: _Outgoing, why: str) -> None:
        failures = self._failures[member] = self._failures.get(member, 0) + 1
        stream.backoff = min(FIRST_BACKOFF_TICKS << min(failures - 1, 30), LAST_BACKOFF_TICKS)
        log.warning(
            "a member did not get the snapshot that it needs",
            to=f"{member:x}",
            index=stream.meta.index,
            why=why,
            failures=failures,
        )
        self._verify(stream.meta)

    def _verify(self, meta: SnapshotMeta) -> None:
        if meta == self._verified:
            return
        self._verified = meta

        def done(problem: str) -> None:
            if problem:
                log.error("our own snapshot is damaged, another one is saved", index=meta.index, why=problem)
                self._verified = None
                self._damaged()

        self._disk.verify_snapshot(meta, done)

    def _end(self, member: int, ok: bool) -> None:
        del self._outgoing[member]
        self._sent(member, ok)


class SnapshotReceiver:
    """The follower's side: one snapshot at a time; `received` gets it when all of it is on the disk and checked."""

    def __init__(
        self,
        member: int,
        disk: SnapshotDisk,
        send: Callable[[PeerMessage], None],
        received: Callable[[SnapshotRequest], None],
    ) -> None:
        self._member = member
        self._disk = disk
        self._send = send
        self._received = received
        self._stream: tuple[int, int, SnapshotMeta] | None = None  # sender, term, meta
        self._held = 0
        self._total = 0
        self._writing = False

    def receive(self, chunk: SnapshotChunk) -> None:
        if self._writing:
            return  # it comes again, if it was not this very one
        stream = (chunk.sender, chunk.term, chunk.meta)
        if stream != self._stream:
            if chunk.offset:
                self._acknowledge(chunk, 0)
                return
            log.info("receiving a snapshot", sender=f"{chunk.sender:x}", index=chunk.meta.index, bytes=chunk.total)
            self._stream, self._held, self._total = stream, 0, chunk.total
        if chunk.offset != self._held or chunk.total != self._total or not chunk.data:
            self._acknowledge(chunk, self._held)
            return
        self._writing = True
        self._disk.write_piece(chunk, lambda: self._written(chunk), lambda why: self._failed(chunk, why))

    def _written(self, chunk: SnapshotChunk) -> None:
        self._writing = False
        self._held += len(chunk.data)
        self._acknowledge(chunk, self._held)
        if self._held == self._total:
            self._received(SnapshotRequest(self._member, chunk.sender, chunk.term, chunk.meta))

    def _failed(self, chunk: SnapshotChunk, why: str) -> None:
        log.error("cannot take a snapshot from the leader", sender=f"{chunk.sender:x}", why=why)
        self._writing = False
        self._stream = None
        self._send(SnapshotAck(chunk.sender, self._member, chunk.term, chunk.meta.index, 0, False))

    def _acknowledge(self, chunk: SnapshotChunk, held: int) -> None:
        self._send(SnapshotAck(chunk.sender, self._member, chunk.term, chunk.meta.index, held, True))
