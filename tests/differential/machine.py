"""The stateful machine: random requests to all servers and the model, every answer and every event compared."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.differential.compare import difference
from tests.differential.conversation import Conversation, Response
from tests.differential.expected import TRUE, Answer, expect, go_json
from tests.differential.requests import Request
from tests.differential.servers import Side, Sides
from tests.differential.strategies import Draft, drafts, passing, watches
from tests.differential.tree import SECOND, Tree, Watch

MOST_WATCHES = 6  # open at a time
SOON = 30 * SECOND  # a deadline nearer than that is waited for

_CORS = {
    b"access-control-allow-methods": b"POST, GET, OPTIONS, PUT, DELETE",
    b"access-control-allow-origin": b"*",
    b"access-control-allow-headers": b"accept, content-type, authorization",
}
_COMPARED = (b"allow", b"location", b"content-type", b"x-etcd-index")


@dataclass
class Bench:
    """The servers and the model of them, kept from one example to the next."""

    sides: Sides
    tree: Tree | None = None  # None: they may differ by now, begin anew
    operations: int = 0
    watches: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)  # actions, error codes, else statuses


@dataclass
class OpenWatch:
    request: Request
    expected: Watch
    conversations: list[tuple[Side, Conversation]]
    read: int = 0  # events
    is_over: bool = False

    def close(self) -> None:
        for _, conversation in self.conversations:
            conversation.close()


class Machine(RuleBasedStateMachine):
    """Each example begins with an empty tree; the index and the history go on."""

    bench: ClassVar[Bench]

    def __init__(self) -> None:
        super().__init__()
        self.open: list[OpenWatch] = []
        self.tree = self.bench.tree or Tree(self.bench.sides.start())
        self.bench.tree = None  # until the example has passed
        self.is_sound = True  # no difference so far
        self.steps_before_expiry = 25

    @initialize()
    def begin(self) -> None:
        if not self.tree.events:  # what Sides.start did
            self.tree.index -= 1000
            for _ in range(999):
                self.tree.set((b"_fill",), b"", False, None, False, time.time_ns())
            self.tree.delete((b"_fill",), False, False, time.time_ns())
        self.clear()

    @rule(many=st.lists(drafts(), min_size=1, max_size=12))
    def ask(self, many: list[Draft]) -> None:
        for draft in many:
            self.perform(draft.resolve(self.tree))
        self.steps_before_expiry -= 1

    @rule(draft=watches())
    def watch(self, draft: Draft) -> None:
        self.perform(draft.resolve(self.tree))

    @precondition(lambda self: self.steps_before_expiry <= 0)
    @rule(many=st.lists(passing(), min_size=1, max_size=2))
    def expire(self, many: list[Draft]) -> None:
        """Waits for the servers' own sweeps, so not often."""
        self.steps_before_expiry = 25
        for draft in many:
            self.perform(draft.resolve(self.tree))

    @rule(which=st.integers(0, MOST_WATCHES - 1))
    def leave(self, which: int) -> None:
        # No precondition: what is drawn must not depend on a history that goes on from example to example.
        if self.open:
            self.end(self.open[which % len(self.open)])

    # --- one operation

    def perform(self, request: Request) -> None:
        self.is_sound = False
        self.bench.operations += 1
        self._perform(request)
        self.is_sound = True

    def _perform(self, request: Request) -> None:
        expected = expect(request, self.tree, time.time_ns())
        if isinstance(expected, Watch):
            self.begin_watch(request, expected)
            return
        self.bench.outcomes[outcome_of(expected)] += 1
        responses = self.bench.sides.ask(request)
        in_order = next((value in TRUE for name, value in request.query if name == b"sorted"), False)
        for side, response in responses:
            self.check(request, side, response, expected, in_order)
        first = responses[0][1]
        for side, response in responses[1:]:
            text = difference(first.body, response.body, in_order)
            assert not text, f"{bytes(request)!r}: kvstored, then {side.name}:\n{text}"
            for name in _COMPARED:
                assert first.headers.get(name) == response.headers.get(name), f"{bytes(request)!r}: {name!r}"
        self.hear()
        self.let_expire()

    def check(self, request: Request, side: Side, response: Response, expected: Answer, in_order: bool) -> None:
        where = f"{bytes(request)!r}: {side.name}"
        assert response.status == expected.status, f"{where}: {response}, expected {expected}"
        if expected.body is not None:
            text = difference(response.body, expected.body, in_order)
            assert not text, f"{where}, then the model:\n{text}"
        check_headers(where, response.headers, expected)

    def begin_watch(self, request: Request, expected: Watch) -> None:
        while len([one for one in self.open if not one.is_over]) >= MOST_WATCHES:
            self.end(self.open[0])
        self.bench.watches += 1
        watch = OpenWatch(request, expected, [(side, side.connect()) for side in self.bench.sides])
        self.open.append(watch)
        head = Answer(200, b"application/json", None, expected.begun_at, of_cluster=True, of_raft=True)
        for side, conversation in watch.conversations:
            conversation.send(bytes(request))
            status, headers = conversation.head()
            assert status == 200, f"{bytes(request)!r}: {side.name}: {status}"
            check_headers(f"{bytes(request)!r}: {side.name}", headers, head)
        self.hear()

    def hear(self) -> None:
        """Every event that the model says a watch heard has to come, and no other before it."""
        for watch in self.open:
            new = watch.expected.heard[watch.read :]
            watch.read += len(new)
            for event in new:
                for side, conversation in watch.conversations:
                    text = difference(conversation.chunk(), go_json(event.body), in_order=True)
                    assert not text, f"{bytes(watch.request)!r}: {side.name}, then the model:\n{text}"
            if new and not watch.expected.stream and not watch.is_over:
                watch.is_over = True
                for side, conversation in watch.conversations:
                    assert conversation.chunk() == b"", f"{bytes(watch.request)!r}: {side.name} goes on"
        for watch in [one for one in self.open if one.is_over]:
            self.end(watch)

    def let_expire(self) -> None:
        """Nothing else is asked until what has a deadline soon is gone."""
        while (due := self.tree.first_due(time.time_ns() + SOON)) is not None:
            self.bench.sides.wait_for(self.tree.index + 1)
            self.tree.expire(due[1], time.time_ns())
            self.hear()

    # --- the end

    def end(self, watch: OpenWatch) -> None:
        self.tree.cancel(watch.expected)
        self.open.remove(watch)
        watch.close()

    def clear(self) -> None:
        for name in sorted(self.tree.root.children or {}):
            path = b"/" + b"".join(b"%%%02x" % byte for byte in name)
            self.perform(Request("DELETE", path, ((b"recursive", b"true"),)))

    def teardown(self) -> None:
        try:
            if self.is_sound:
                self.finish()
        finally:
            for watch in list(self.open):
                self.end(watch)

    def finish(self) -> None:
        """A last event for each watch that waits: had a server sent one too many, it would come first."""
        self.clear()
        for watch in list(self.open):
            if watch.expected.waits and watch.expected.names:
                path = b"".join(b"/" + b"".join(b"%%%02x" % byte for byte in one) for one in watch.expected.names)
                self.perform(Request("PUT", path, form=((b"value", b"last"),)))
                self.clear()
        self.bench.tree = self.tree


def outcome_of(answer: Answer) -> str:
    """What kind of answer it is, for the count of what was tried."""
    document = json.loads(answer.body) if answer.body and answer.content_type == b"application/json" else {}
    return str(document.get("action") or document.get("errorCode") or answer.status)


def check_headers(where: str, headers: dict[bytes, bytes], expected: Answer) -> None:
    index = None if expected.etcd_index is None else b"%d" % expected.etcd_index
    assert headers.get(b"x-etcd-index") == index, f"{where}: {headers}, expected {expected}"
    assert headers.get(b"content-type") == expected.content_type, f"{where}: {headers}, expected {expected}"
    for name, there in (
        (b"x-etcd-cluster-id", expected.of_cluster),
        (b"x-raft-index", expected.of_raft),
        (b"x-raft-term", expected.of_raft),
    ):
        assert (name in headers) == there, f"{where}: {name!r} in {headers}"
    assert headers.items() >= _CORS.items(), f"{where}: {headers}"
