"""What the clients asked and what they were told, and whether all of it can be true together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from kvstore.store.operations import (
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Set,
)
from kvstore.store.operations import Operation as Command
from tests.sim.linearizability import NEVER, Answer, Kind, Operation, Verdict, check
from tests.sim.trace import Trace, Violation

LINEARIZABLE = "linearizability"
ACKNOWLEDGED = "no acknowledged write is lost"
UNASKED = "what was refused does not happen"
IN_ORDER = "an in-order create that was acknowledged exists exactly once"

_KINDS: Mapping[type[Command], Kind] = {
    Set: Kind.SET,
    Create: Kind.CREATE,
    CompareAndSwap: Kind.CAS,
    Delete: Kind.DELETE,
}


@dataclass(slots=True)
class Call:
    """One request of one client. `command` None: a quorum read. `answer` is None while it is under way, and stays
    UNKNOWN where nobody ever told."""

    client: int
    key: bytes
    command: Command | None
    start: int
    end: int = NEVER
    answer: Answer | None = None
    observed: bytes | None = None
    index: int = 0  # of the store, as the answer shows it
    refused: bool = False  # certainly not done

    @property
    def value(self) -> bytes | None:
        return getattr(self.command, "value", None)

    def __str__(self) -> str:
        what = "get" if self.command is None else type(self.command).__name__
        asked = f"client {self.client} {what} {self.key.decode()} {_short(self.value)}"
        return f"{asked} -> {self.answer} {_short(self.observed)}"


class History:
    def __init__(self, trace: Trace) -> None:
        self.calls: list[Call] = []
        self.trace = trace

    def check(self, written: Mapping[bytes, int], in_order: Collection[bytes]) -> None:
        """`written` is each unique value with the log index of its command, `in_order` the values that the in-order
        creates left. Raises Violation."""
        for call in self.calls:
            if call.answer is None:
                call.answer = Answer.UNKNOWN
        self._check_writes(written)
        self._check_in_order(list(in_order))
        self._check_keys(written)
        self._check_indices()

    def _check_writes(self, written: Mapping[bytes, int]) -> None:
        for call in self.calls:
            if not call.value:
                continue
            if call.refused and call.value in written:
                raise Violation(UNASKED, f"{call} stands at {written[call.value]}")
            if call.answer is Answer.DONE and call.value not in written:
                raise Violation(ACKNOWLEDGED, f"{call} is not among the committed entries")

    def _check_in_order(self, left: list[bytes]) -> None:
        for call in self.calls:
            if type(call.command) is CreateInOrder:
                assert call.value is not None
                times = left.count(call.value)
                if times > 1 or (call.answer is Answer.DONE and times != 1) or (call.refused and times):
                    raise Violation(IN_ORDER, f"{call} exists {times} times")

    def _check_keys(self, written: Mapping[bytes, int]) -> None:
        """A write that is not among the committed entries did not happen."""
        keys: dict[bytes, list[Operation]] = {}
        for call in self.calls:
            kind = Kind.GET if call.command is None else _KINDS.get(type(call.command))
            is_lost = call.answer is Answer.UNKNOWN and bool(call.value) and call.value not in written
            if kind is not None and not call.refused and not is_lost:
                assert call.answer is not None
                expected = call.command.previous_value if isinstance(call.command, CompareAndSwap) else None
                operation = Operation(kind, call.start, call.end, call.answer, call.value, expected, call.observed)
                keys.setdefault(call.key, []).append(operation)
        for key, operations in keys.items():
            verdict = check(operations)
            if verdict is Verdict.IMPOSSIBLE:
                told = "\n".join(f"    {call.start}-{call.end} {call}" for call in self.calls if call.key == key)
                raise Violation(LINEARIZABLE, f"no order explains what clients saw of {key.decode()}:\n{told}")
            self.trace.saw(f"keys {verdict}")

    def _check_indices(self) -> None:
        """The store's index counts writes, so whatever begins after another one ended must not see a lower one."""
        ended = sorted((call for call in self.calls if call.index), key=lambda call: call.end)
        begun = sorted(ended, key=lambda call: call.start)
        highest: Call | None = None
        position = 0
        for call in begun:
            while position < len(ended) and ended[position].end < call.start:
                if highest is None or ended[position].index > highest.index:
                    highest = ended[position]
                position += 1
            if highest is not None and call.index < highest.index + (call.command is not None and _wrote(call)):
                raise Violation(LINEARIZABLE, f"[{highest}] at {highest.index} came before [{call}] at {call.index}")


def _short(value: bytes | None) -> str:
    return "" if value is None else value.rstrip(b".").decode()


def _wrote(call: Call) -> bool:
    return call.answer is Answer.DONE
