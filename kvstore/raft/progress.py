"""What a leader knows about one member: how far its log matches, what to send next, and how fast.

    PROBE      one append at a time, until an answer shows where the logs agree
    REPLICATE  appends stream ahead of their answers, within a window of messages and bytes
    SNAPSHOT   the member needs entries that are compacted away: nothing is sent until its snapshot is done

It knows neither the log nor messages: indices only.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum


class ProgressState(IntEnum):
    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Inflights:
    """The window of appends that were sent and not answered, limited in messages and in bytes."""

    __slots__ = ("_bytes", "_max_bytes", "_max_messages", "_window")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._bytes = 0
        self._window: deque[tuple[int, int]] = deque()  # (last index, bytes), both as sent, indices rising

    def __len__(self) -> int:
        return len(self._window)

    @property
    def is_full(self) -> bool:
        return len(self._window) >= self._max_messages or self._bytes >= self._max_bytes

    def add(self, last_index: int, size: int) -> None:
        assert not self.is_full, "sent beyond the window"
        self._window.append((last_index, size))
        self._bytes += size

    def free_to(self, index: int) -> None:
        """An answer covers every append that ends at or below `index`."""
        while self._window and self._window[0][0] <= index:
            self.free_first()

    def free_first(self) -> None:
        self._bytes -= self._window.popleft()[1]

    def clear(self) -> None:
        self._window.clear()
        self._bytes = 0


class Progress:
    __slots__ = (
        "heard",
        "inflights",
        "match",
        "member",
        "next",
        "paused",
        "sent",
        "sent_commit",
        "snapshot_index",
        "state",
    )

    def __init__(self, member: int, next_index: int, now: int, inflights: Inflights) -> None:
        self.member = member
        self.match = 0  # the highest index known to be durable there and equal to ours; match < next
        self.next = next_index  # the next index to send
        self.state = ProgressState.PROBE
        self.paused = False  # PROBE: an append is under way. REPLICATE: never
        self.inflights = inflights
        self.heard = now  # the tick of its last message
        self.sent = now  # the tick of our last append to it
        self.sent_commit = 0  # the highest commit that it can know from an append of ours
        self.snapshot_index = 0  # SNAPSHOT only: where the snapshot that is under way stands

    def __repr__(self) -> str:
        return f"Progress({self.member}: {self.state.name} match={self.match} next={self.next})"

    def _become(self, state: ProgressState) -> None:
        self.state = state
        self.paused = False
        self.snapshot_index = 0
        self.inflights.clear()

    def become_probe(self) -> None:
        """Finds out again where the logs agree, at first right after what is certain."""
        arrived = self.snapshot_index  # it may have arrived; if it has not, the probe is refused
        self._become(ProgressState.PROBE)
        self.next = max(self.match, arrived) + 1
        self.sent_commit = 0

    def become_replicate(self) -> None:
        self._become(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        self._become(ProgressState.SNAPSHOT)
        self.snapshot_index = index

    def snapshot_failed(self) -> None:
        self.snapshot_index = 0
        self.become_probe()

    def acked(self, index: int, start_index: int) -> bool:
        """Everything up to `index` matches and is durable there. Returns whether `match` moved.

        `start_index` is where our own log begins: only a member that is beyond it can do without a snapshot.
        """
        moved = index > self.match
        if moved:
            self.match = index
            self.next = max(self.next, index + 1)
        if self.state is ProgressState.REPLICATE:
            self.inflights.free_to(index)
        elif self.match >= start_index and (moved or self.state is ProgressState.PROBE):
            self.become_replicate()
        elif self.state is ProgressState.PROBE:
            self.paused = False
        return moved

    def rejected(self, prev_index: int, agreed: int) -> bool:
        """The append after `prev_index` was refused; the logs agree at or below `agreed`, our own best guess.

        Returns False for an answer to a probe of the past. A member that refuses what it once acknowledged has
        lost it (its disk was damaged, paper 5.1 forbids that): its `match` goes back, which is always safe,
        because `commit` never does.
        """
        if self.state is ProgressState.REPLICATE:
            self.become_probe()
            if prev_index > self.match:
                self.next = max(self.match, min(prev_index - 1, agreed)) + 1
            return True
        if self.state is not ProgressState.PROBE or prev_index != self.next - 1:
            return False
        if prev_index <= self.match:
            self.match = 0
        self.next = max(self.match, min(prev_index - 1, agreed)) + 1
        self.paused = False
        return True

    def unanswered(self) -> None:
        """It lives, but has not answered the last append for long: at least one more may be tried."""
        self.paused = False
        if self.state is ProgressState.REPLICATE and self.inflights.is_full:
            self.inflights.free_first()
