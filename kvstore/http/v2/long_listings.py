"""A listing that is too long to be made in one go: a body in slices, from the tree as it was when it began.

It is asked for like any other. Its head is sent when its turn has come (slices.py), and from then on it goes through
the tree as fast as its client reads, but for the turns of others. It holds one slice, and for as long as it runs what
writes have replaced since it began; so a client that keeps it waiting for longer than `--client-write-timeout`, all
together, is dropped. Knows nothing of HTTP/1.1 framing: a `Sink` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Protocol

from kvstore.http.backend import Backend
from kvstore.http.reply import Answer
from kvstore.http.slices import SLICE_BYTES, SLICE_SECONDS, Slices
from kvstore.http.v2.listings import Listings
from kvstore.http.v2.long_bodies import pieces_of_listing
from kvstore.http.v2.parameters import KeyRequest
from kvstore.store.frozen_tree import FrozenTree

#: A directory with more nodes, hidden ones among them, or with keys and values of more bytes, is listed in slices.
SHORT_NODES = 1_000
SHORT_BYTES = 256 << 10
#: Up to this length a body is kept for those who ask for it next, as short ones are.
KEPT_BYTES = 1 << 20


class Sink(Protocol):
    """A connection that waits for its answer."""

    @property
    def is_stalled(self) -> bool:
        """Whether the client has left more unread than the transport cares to buffer."""

    def begin(self, head: bytes) -> None:
        """Send the head of a 200 with `head` among its header lines; a body follows, of unknown length."""

    def send(self, piece: bytes) -> None: ...

    def end(self, last: bytes) -> None:
        """`last` ends the body ; the connection may live on."""

    def answer(self, answer: Answer) -> None:
        """Instead of all that: a whole answer."""

    def abort(self) -> None:
        """Drop the connection and whatever was still to be written."""


class LongListing:
    """One client's listing of a directory, from its request to the end of its body. Satisfies slices.LongAnswer."""

    __slots__ = (
        "_asked",
        "_backend",
        "_head",
        "_kept",
        "_listings",
        "_otherwise",
        "_pieces",
        "_seen",
        "_sink",
        "_size",
        "_slices",
        "_tree",
        "has_begun",
    )

    def __init__(
        self,
        asked: KeyRequest,
        backend: Backend,
        slices: Slices,
        head: Callable[[int], bytes],
        otherwise: Callable[[bool], Answer | None],
        listings: Listings | None = None,
    ) -> None:
        """`head` gives the header lines of a success at an index of the store; `otherwise` the answer that has become
        the right one while this waited, if another has, and is told whether it has waited too long. `listings` may
        keep the body."""
        self._asked = asked
        self._backend = backend
        self._slices = slices
        self._head = head
        self._otherwise = otherwise
        self._listings = listings
        self._kept: list[bytes] | None = None
        self._size = 0
        self._sink: Sink | None = None  # until it is over
        self._tree: FrozenTree | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._seen = (0, 0, 0)
        self.has_begun = False

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
        sink, backend, asked = self._sink, self._backend, self._asked
        if sink is None:
            return False
        answer = self._otherwise(False)
        if answer is not None:
            self._let_go()
            sink.answer(answer)
            return False
        store = backend.store
        self.has_begun = True
        tree = self._tree = store.freeze_tree()
        self._pieces = pieces_of_listing(tree, asked.key, asked.recursive, asked.sorted, backend.now())
        self._kept = None if self._listings is None else []
        sink.begin(self._head(tree.index))
        return True

    def step(self) -> bool:
        sink = self._sink
        if sink is None:
            return False
        slice_, is_last = self._next_slice()
        self._keep(slice_, is_last)
        if is_last:
            self._let_go()
            sink.end(slice_)
        elif slice_:
            sink.send(slice_)
        return not is_last

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

    def _keep(self, slice_: bytes, is_last: bool) -> None:
        if self._kept is None or self._listings is None or self._tree is None:
            return
        self._size += len(slice_)
        if self._size > KEPT_BYTES:
            self._kept = None
            return
        self._kept.append(slice_)
        if is_last and self._tree.index == self._backend.store.index:
            self._listings.keep(self._asked, self._tree.index, b"".join(self._kept))

    def overdue(self) -> None:
        sink = self._sink
        self._let_go()
        if sink is None:
            return
        answer = None if self.has_begun else self._otherwise(True)
        if answer is None:
            sink.abort()
        else:
            sink.answer(answer)

    @property
    def is_stalled(self) -> bool:
        return self._sink is not None and self._sink.is_stalled

    def has_company(self) -> bool:
        backend = self._backend
        counts = backend.store.counts
        seen, self._seen = self._seen, (backend.raft_index, counts.gets, counts.watches)
        return seen != self._seen or backend.commands_pending > 0

    def _let_go(self) -> None:
        tree, self._tree = self._tree, None
        self._sink = self._kept = None
        self._pieces = iter(())
        if tree is not None:
            tree.release()
