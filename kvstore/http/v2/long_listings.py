"""A listing that is too long to be made in one go: a body in slices, from the tree as it was when it began.

It is asked for like any other. Its head is sent when its turn has come (slices.py), and from then on it goes through
the tree as fast as its client reads, but for the turns of others. It holds one slice, and for as long as it runs what
writes have replaced since it began; so a client that reads too little for longer than `--client-write-timeout` is
dropped, and so is the first to stall while too many stall and others wait.
"""

from __future__ import annotations

from collections.abc import Callable

from kvstore.http.backend import Backend
from kvstore.http.slices import Slices
from kvstore.http.v2.listings import Listings
from kvstore.http.v2.long_bodies import pieces_of_listing
from kvstore.http.v2.parameters import KeyRequest
from kvstore.http.v2.streamed import Answered, Streamed
from kvstore.store.frozen_tree import FrozenTree

#: A directory with more nodes, hidden ones among them, or with keys and values of more bytes, is listed in slices.
SHORT_NODES = 1_000
SHORT_BYTES = 256 << 10
#: Up to this length a body is kept for those who ask for it next, as short ones are.
KEPT_BYTES = 1 << 20


class LongListing(Streamed):
    """One client's listing of a directory."""

    __slots__ = (
        "_asked",
        "_head",
        "_kept",
        "_listings",
        "_otherwise",
        "_size",
        "_tree",
    )

    def __init__(
        self,
        asked: KeyRequest,
        backend: Backend,
        slices: Slices,
        head: Callable[[int], bytes],
        otherwise: Callable[[bool], Answered | None],
        listings: Listings | None = None,
    ) -> None:
        """`head` gives the header lines of a success at an index of the store; `otherwise` the answer that has become
        the right one while this waited, if another has, and is told whether it has waited too long. `listings` may
        keep the body."""
        super().__init__(backend, slices, iter(()), has_begun=False)
        self._asked = asked
        self._head = head
        self._otherwise = otherwise
        self._listings = listings
        self._kept: list[bytes] | None = None
        self._size = 0
        self._tree: FrozenTree | None = None

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

    def _sent(self, slice_: bytes, is_last: bool) -> None:
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

    def _let_go(self) -> None:
        tree, self._tree = self._tree, None
        self._kept = None
        super()._let_go()
        if tree is not None:
            tree.release()
