"""What all answers have in common whose body is sent in slices: a sink, a place among the others, the next slice.

An answer holds what its body is made from and one slice at most, and goes on only as far as its client reads. Knows
nothing of HTTP/1.1 framing: a `Sink` does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Protocol, TypeAlias

from kvstore.http.backend import Backend
from kvstore.http.reply import Answer
from kvstore.http.slices import SLICE_BYTES, SLICE_SECONDS, Slices


class Sink(Protocol):
    """A connection that waits for its answer."""

    @property
    def is_stalled(self) -> bool:
        """Whether the client has left more unread than the transport cares to buffer."""

    @property
    def is_reset(self) -> bool:
        """Whether the client is gone: it refused bytes that were sent to it."""

    def begin(self, head: bytes, status: int = 200) -> None:
        """Send the head of an answer with `head` among its header lines; a body follows, of unknown length."""

    def send(self, piece: bytes) -> None: ...

    def end(self, last: bytes) -> None:
        """`last` ends the body; the connection may live on."""

    def answer(self, answer: Answer | Streamed) -> None:
        """Instead of all that: another answer."""

    def abort(self) -> None:
        """Drop the connection and whatever was still to be written."""


class Streamed:
    """One answer, from its request to the end of its body. With what a kind of it adds, satisfies slices.LongAnswer.

    `has_begun`: whether nothing but this can be the answer any more.
    """

    __slots__ = ("_backend", "_pieces", "_seen", "_sink", "_slices", "has_begun", "sent_bytes")

    def __init__(self, backend: Backend, slices: Slices, pieces: Iterator[bytes], has_begun: bool) -> None:
        self._backend = backend
        self._slices = slices
        self._pieces = pieces
        self._sink: Sink | None = None  # until it is over
        self._seen = (0, 0, 0)
        self.has_begun = has_begun
        self.sent_bytes = 0

    def attach(self, sink: Sink) -> None:
        """The answer goes to `sink`, perhaps from now on."""
        self._sink = sink
        self._slices.add(self)

    def flush(self) -> None:
        """The client reads again."""
        self._slices.resume(self)

    def cancel(self) -> None:
        """The client is gone, or answered in another way. Idempotent."""
        self._slices.remove(self)
        self._let_go()

    # --- what `Slices` asks ---------------------------------------------------------------------------------------

    def begin(self) -> bool:
        raise NotImplementedError

    def overdue(self) -> None:
        self.failed()

    def failed(self) -> None:
        """Drop the connection: in the middle of a body no other answer is possible."""
        sink = self._sink
        self._let_go()
        if sink is not None:
            sink.abort()

    def step(self) -> bool:
        sink = self._sink
        if sink is None:
            return False
        slice_, is_last = self._next_slice()
        if not slice_ and not is_last and sink.is_reset:  # with something to send, sending it would show that
            self._let_go()
            sink.abort()
            return False
        self._sent(slice_, is_last)
        self.sent_bytes += len(slice_)
        if is_last:
            self._let_go()
            sink.end(slice_)
        elif slice_:
            sink.send(slice_)
        return not is_last

    @property
    def is_stalled(self) -> bool:
        return self._sink is not None and self._sink.is_stalled

    def has_company(self) -> bool:
        backend = self._backend
        counts = backend.store.counts
        seen, self._seen = self._seen, (backend.raft_index, counts.gets, counts.watches)
        return seen != self._seen or backend.commands_pending > 0

    # --------------------------------------------------------------------------------------------------------------

    def _next_slice(self) -> tuple[bytes, bool]:
        end = perf_counter() + SLICE_SECONDS
        pieces: list[bytes] = []
        size = 0
        for piece in self._pieces:
            pieces.append(piece)
            size += len(piece)
            if size >= SLICE_BYTES or perf_counter() >= end:
                return b"".join(pieces), False
        return b"".join(pieces), True

    def _sent(self, slice_: bytes, is_last: bool) -> None:
        """It is about to be."""

    def _let_go(self) -> None:
        self._sink = None
        self._pieces = iter(())


#: What a request is answered with, once it is known.
Answered: TypeAlias = Answer | Streamed
