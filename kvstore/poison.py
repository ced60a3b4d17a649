"""Entries that cannot be applied because of a bug: named in one line, found without a server, and skipped if need be.

The state is the same on every member only if all of them apply the same entries. So an entry is skipped by all members
or by none; an operator says so to each (`--skip-entry`), and each remembers it. Knows no raft and no threads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kvstore.apply import REFUSALS, StateMachine
from kvstore.membership import MembershipError
from kvstore.raft.types import Entry, EntryKind
from kvstore.wire import LaterVersion, unpack_change, unpack_command

Skipped = frozenset[tuple[int, int]]  # (index, term)


class ApplyFailed(Exception):
    """A bug met this entry; the text is one line for the operator, with the way out."""

    def __init__(self, index: int, term: int, bug: Exception) -> None:
        super().__init__(
            f"entry {index} of term {term} cannot be applied, because of a bug: {bug!r}. Please report it. Start this"
            f" member again; if it stops here again, and so do the others, then see 'An entry that cannot be applied'"
            f" in docs/operations.md: --skip-entry {index}:{term}, on ALL members"
        )
        self.index = index
        self.term = term


class CannotSkip(Exception):
    """The text is one line for the operator."""


def check_skips(wanted: Iterable[tuple[int, int]], snapshot_index: int, entries: Iterable[Entry]) -> None:
    """CannotSkip for an entry that this member has applied for good already, or that is another one here."""
    terms = {entry.index: entry.term for entry in entries}
    for index, term in sorted(wanted):
        if index <= snapshot_index:
            raise CannotSkip(
                f"--skip-entry {index}:{term}: the snapshot of this member, at {snapshot_index}, is past that entry, so"
                " it cannot be skipped here any more. If this member got the snapshot from one that skipped the entry,"
                " start it without the flag. If it applied the entry, do not skip it anywhere, or remove this member"
                " and add it again with an empty data folder"
            )
        if terms.get(index, term) != term:
            raise CannotSkip(f"--skip-entry {index}:{term}: entry {index} of this log is of term {terms[index]}")


def rehearse(machine: StateMachine, entries: Iterable[Entry], skipped: Collection[tuple[int, int]]) -> None:
    """Applies `entries` to `machine` as a member would. ApplyFailed at the first that cannot be applied."""
    for entry in entries:
        if not entry.payload or (entry.index, entry.term) in skipped:
            continue
        try:
            if entry.kind == EntryKind.CONFIGURATION:
                change = unpack_change(entry.payload)
                machine.membership.check(change)
                machine.membership.apply_change(change)
            else:
                logged = unpack_command(entry.payload)
                machine.apply(logged.command, logged.time)
        except (*REFUSALS, MembershipError):
            continue  # an answer like any other
        except LaterVersion:
            raise
        except Exception as bug:
            raise ApplyFailed(entry.index, entry.term, bug) from bug
