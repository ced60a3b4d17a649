"""Which term each index of the log on the disk carries, kept as runs, so that its size does not follow the log's.

It knows neither entries nor files; it is what the writer and the replay share to agree on what a record does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from kvstore.raft.types import Entry


class Terms:
    """The log holds the indices `base` + 1 to `last_index`; the term of `base` is known too, unless it is 0."""

    __slots__ = ("_firsts", "_terms", "last_index")

    def __init__(self, base: int = 0, base_term: int = 0) -> None:
        self._firsts = [base]  # where each run begins, rising; the first run is the base alone
        self._terms = [base_term]
        self.last_index = base

    @property
    def base(self) -> int:
        return self._firsts[0]

    @property
    def last_term(self) -> int:
        return self._terms[-1]

    def at(self, index: int) -> int | None:
        """The term of the entry at `index`; None outside of what is held."""
        if not self.base <= index <= self.last_index:
            return None
        return self._terms[bisect_right(self._firsts, index) - 1]

    def append(self, entries: Sequence[Entry]) -> None:
        """Entries that go on from the last one, or replace from their first index on. No gap; at least one entry."""
        first, last = entries[0], entries[-1]
        assert first.index <= self.last_index + 1, "a gap in the log"
        assert last.index - first.index == len(entries) - 1, "indices are not consecutive"
        if first.index <= self.last_index:
            self._cut(first.index)
        if first.term != self._terms[-1] or last.term != first.term:
            for entry in entries:
                if entry.term != self._terms[-1]:
                    self._firsts.append(entry.index)
                    self._terms.append(entry.term)
        self.last_index = last.index

    def restart(self, index: int, term: int) -> None:
        """The log begins anew behind a snapshot."""
        self._firsts, self._terms, self.last_index = [index], [term], index

    def _cut(self, index: int) -> None:
        if index <= self.base:
            self.restart(index - 1, 0)
            return
        while self._firsts[-1] >= index:
            self._firsts.pop()
            self._terms.pop()
