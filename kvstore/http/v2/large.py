"""Answers with large values: the body is made and sent in slices, as far as the client reads.

Such an answer holds the values, which the store most likely holds as well, and one slice of their escapes. The load
counts each value once until the answer is sent, so clients that do not read cannot make a member keep any number of
replaced values. A connection serves no other request until its answer is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from kvstore.http.backend import Backend, TooManyRequests
from kvstore.http.errors import api_error
from kvstore.http.load import Load
from kvstore.http.reply import Answer
from kvstore.http.texts import quote
from kvstore.http.v2.answers import answer_error, encode_node, event_status
from kvstore.http.v2.long_bodies import parts_of
from kvstore.http.v2.parameters import KeyRequest
from kvstore.http.v2.streamed import Streamed
from kvstore.store.errors import CompareFailed
from kvstore.store.events import Event, NodeView

#: A longer value makes its answer a large one.
LARGE_BYTES = 256 << 10


class Raw(NamedTuple):
    """A value that is still to be escaped."""

    value: bytes


Parts: TypeAlias = Sequence[bytes | Raw]


def is_large(value: bytes | None) -> bool:
    return value is not None and len(value) > LARGE_BYTES


def is_large_event(event: Event) -> bool:
    previous = event.previous
    return is_large(event.node.value) or (previous is not None and is_large(previous.value))


def may_be_large(request: KeyRequest, backend: Backend) -> bool:
    """Whether the answer to a write that has not taken place yet may be a large one."""
    if len(request.value) + len(request.previous_value) > LARGE_BYTES:
        return True
    return is_large(backend.store.value(request.key))


class LargeAnswer(Streamed):
    """One client's answer."""

    __slots__ = ("_head", "_instead", "_load", "_status", "_values")

    def __init__(
        self, status: int, head: bytes, parts: Parts, backend: Backend, load: Load, instead: Answer | None = None
    ) -> None:
        """`head`: its own header lines. `instead`: the answer when there turns out to be no room for this one."""
        super().__init__(backend, load.large_answers, _pieces(parts), has_begun=True)
        self._status = status
        self._head = head
        self._load = load
        self._instead = instead
        self._values = [part.value for part in parts if isinstance(part, Raw)]

    def begin(self) -> bool:
        sink = self._sink
        if sink is None:
            return False
        if self._instead is not None and not self._load.may_answer:  # as others that came together have begun
            self._values = []
            self._let_go()
            sink.answer(self._instead)
            return False
        for value in self._values:
            self._load.hold(value)
        sink.begin(self._head, self._status)
        return True

    def _let_go(self) -> None:
        if self._sink is not None:
            for value in self._values:
                self._load.let_go(value)
        self._values = []
        super()._let_go()


def _pieces(parts: Parts) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, Raw):
            for text in parts_of(part.value):
                yield quote(text)
        else:
            yield part


def parts_of_view(view: NodeView) -> Parts:
    """The body of a GET."""
    return [b'{"action":"get","node":', *_parts_of_node(view), b"}\n"]


def parts_of_event(event: Event) -> Parts:
    parts: list[bytes | Raw] = [b'{"action":"%s","node":' % event.action.encode(), *_parts_of_node(event.node)]
    if event.previous is not None:
        parts += [b',"prevNode":', *_parts_of_node(event.previous)]
    return [*parts, b"}\n"]


def _parts_of_node(view: NodeView) -> Parts:
    value = view.value
    if value is None or not is_large(value):
        return [encode_node(view)]
    # A quote within the key is escaped, so this can only be the field.
    head, field, tail = encode_node(view._replace(value=b"")).partition(b'"value":"')
    return [head + field, Raw(value), tail]


def answer_large_view(view: NodeView, head: bytes, backend: Backend, load: Load) -> LargeAnswer:
    instead = answer_error(api_error(TooManyRequests()), backend.cluster_id)
    return LargeAnswer(200, head, parts_of_view(view), backend, load, instead)


def answer_large_event(event: Event, head: bytes, backend: Backend, load: Load) -> LargeAnswer:
    return LargeAnswer(event_status(event), head, parts_of_event(event), backend, load)


def answer_large_failure(
    failed: CompareFailed, values: tuple[bytes, bytes], backend: Backend, load: Load
) -> LargeAnswer:
    """A failed comparison names both values."""
    error = api_error(CompareFailed(failed.index, failed.key, (b"", b""), failed.indices))
    answer = answer_error(error, backend.cluster_id)
    start, between, end = answer.body.partition(b" != ")
    parts: Parts = [start, Raw(values[0]), between, Raw(values[1]), end]
    return LargeAnswer(answer.status, answer.head, parts, backend, load)
