"""What happened, line by line, for who replays a seed; and how often each rare thing was seen.

A run without a listener pays nothing for its trace: who has something to say asks `is_on` first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Violation(AssertionError):
    """The cluster did what must never happen. `rule` names the property, `what` says how it was broken."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(rule, what)
        self.rule = rule
        self.what = what

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


class Trace:
    """`listener` gets each line: moment in microseconds, who, what."""

    def __init__(self, listener: Callable[[int, str, str], None] | None) -> None:
        self.sightings: Counter[str] = Counter()
        self.is_on = listener is not None
        self._listener = listener

    def tell(self, moment: int, who: str, what: str) -> None:
        if self._listener is not None:
            self._listener(moment, who, what)

    def saw(self, what: str) -> None:
        self.sightings[what] += 1
