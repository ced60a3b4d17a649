"""Clients: each asks one thing at a time, of any member, and remembers what it was told.

A client whose member dies, or whose request runs out of time, does not know what became of it and goes on with another.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from kvstore.proposals import Outcome, Refused, Unavailable
from kvstore.store.errors import CompareFailed, KeyExists, KeyNotFound, StoreError
from kvstore.store.events import Event
from kvstore.store.operations import CompareAndSwap, Create, CreateInOrder, Delete, Set
from tests.sim.history import Call, History
from tests.sim.linearizability import Answer
from tests.sim.plan import Plan
from tests.sim.scheduler import Scheduler

if TYPE_CHECKING:
    from tests.sim.life import Life

QUEUE = b"/queue"
KEYS = (b"/a", b"/b", b"/dir/c")
FLEETING = (b"/fleeting/x", b"/fleeting/y")  # with a ttl: compared between members, not between answers


class Client:
    """`somebody` gives a member that can be asked, if there is one."""

    def __init__(
        self,
        number: int,
        random: Random,
        scheduler: Scheduler,
        history: History,
        plan: Plan,
        somebody: Callable[[], Life | None],
    ) -> None:
        self.stopped = False
        self._number = number
        self._random = random
        self._scheduler = scheduler
        self._history = history
        self._think = plan.think
        self._values = plan.values
        self._somebody = somebody
        self._written = 0
        self._last: dict[bytes, bytes] = {}  # what it believes to stand there
        self._pause()

    def _pause(self) -> None:
        self._scheduler.after(self._random.randrange(self._think), self._go_on)

    def _go_on(self) -> None:
        if self.stopped:
            return
        life = self._somebody()
        if life is None:
            self._pause()
        elif self._random.random() < 0.3:
            self.read(life, self._random.choice(KEYS))
        else:
            self._write(life)

    def read(self, life: Life, key: bytes) -> Call:
        """A quorum read."""
        call = self._begin(key, None)

        def done(problem: Unavailable | None) -> None:
            if problem is not None:
                self._end(call, Answer.UNKNOWN)
                return
            store = life.node.machine.store
            call.index = store.index
            life.shown = max(life.shown, store.index)
            try:
                call.observed = store.get(key, recursive=False, sort=False, now=life.node.now()).value
            except KeyNotFound:
                self._end(call, Answer.MISSING)
            else:
                self._end(call, Answer.DONE)

        life.ask(lambda: life.node.read(done), lambda: self._lost(call))
        return call

    def write(self, life: Life, told: Callable[[Outcome], None]) -> None:
        """One more in-order create."""
        life.ask(
            lambda: life.node.propose(CreateInOrder(QUEUE, b"last of %d" % life.machine.id, False, None), told),
            lambda: None,
        )

    def _write(self, life: Life) -> None:
        command = self._command()
        call = self._begin(command.key, command)
        life.ask(
            lambda: life.node.propose(command, lambda outcome: self._told(life, call, outcome)),
            lambda: self._lost(call),
        )

    def _command(self) -> Set | Create | CompareAndSwap | Delete | CreateInOrder:
        random = self._random
        key = random.choice(KEYS)
        self._written += 1
        value = b"%d.%d" % (self._number, self._written) + b"." * random.choice(self._values)
        match random.choice(("set", "set", "create", "cas", "cas", "delete", "queue", "fleeting")):
            case "set":
                return Set(key, value, False, None, False)
            case "create":
                return Create(key, value, False, None)
            case "cas":
                return CompareAndSwap(key, value, self._last.get(key, b"nothing"), 0, None, False)
            case "delete":
                return Delete(key, False, False)
            case "queue":
                return CreateInOrder(QUEUE, value, False, None)
            case _:
                return Set(random.choice(FLEETING), value, False, random.choice((1, 2)), False)

    def _begin(self, key: bytes, command: Set | Create | CompareAndSwap | Delete | CreateInOrder | None) -> Call:
        call = Call(self._number, key, command, self._scheduler.now)
        if key not in FLEETING:
            self._history.calls.append(call)
        if self._history.trace.is_on:
            self._tell(f"asks: {call}")
        return call

    def _told(self, life: Life, call: Call, outcome: Outcome) -> None:
        match outcome:
            case Event():
                life.shown = max(life.shown, outcome.index)
                call.index = outcome.index
                call.observed = outcome.previous.value if outcome.previous else None
                self._end(call, Answer.DONE)
            case StoreError():
                call.index = outcome.index
                self._end(call, _why_not(call, outcome))
            case _:
                call.refused = isinstance(outcome, Refused)
                self._end(call, Answer.UNKNOWN)

    def _tell(self, what: str) -> None:
        self._history.trace.tell(self._scheduler.now, f"c{self._number}", what)

    def _lost(self, call: Call) -> None:
        """The member died."""
        if call.answer is None:
            self._end(call, Answer.UNKNOWN)

    def _end(self, call: Call, answer: Answer) -> None:
        assert call.answer is None, f"{call} was answered again: {answer}"
        call.answer = answer
        if self._history.trace.is_on:
            self._tell(f"is told: {call}")
        if answer is not Answer.UNKNOWN:
            call.end = self._scheduler.now
            shown = call.observed if call.command is None or answer is not Answer.DONE else call.value
            if shown is not None:
                self._last[call.key] = shown
        self._pause()


def _why_not(call: Call, refusal: StoreError) -> Answer:
    match refusal:
        case CompareFailed(values=(_, bytes(actual))):
            call.observed = actual
            return Answer.DIFFERS
        case KeyNotFound():
            return Answer.MISSING
        case KeyExists():
            return Answer.EXISTS
    raise AssertionError(f"{call} was refused: {refusal}")
