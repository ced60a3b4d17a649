"""What members say of themselves in their hello beside who they are, and what an operator should know of it.

Members whose heartbeats, election timeouts or wall clocks differ work together less well than they could: a leader with
slow heartbeats is deposed by followers with short timeouts, and `expiration` follows the leader's clock. Nothing safe
depends on it, so each difference has one line in the log, and the clocks a number among the metrics.
"""

from __future__ import annotations

from collections.abc import Collection

from kvstore import logs
from kvstore.hello import FACTS_SINCE, Facts, Hello
from kvstore.replicated_clock import SECOND, ReplicatedClock

#: From here on two wall clocks differ so much that it has a line. A hello that was under way for longer was given up by
#: its sender, so that a delay alone is not taken for a difference.
CLOCK_WARNED_SECONDS = 2.0

log = logs.get("peer")


class PeerFacts:
    """What one member knows of the others by their hellos. `heartbeat_ms` and `election_ms` are its own."""

    def __init__(self, clock: ReplicatedClock, heartbeat_ms: int, election_ms: int) -> None:
        self._clock = clock
        self._timings = (heartbeat_ms, election_ms)
        self._met: set[int] = set()
        self._warned_timings: dict[int, tuple[int, int]] = {}  # those that the line named
        self._warned_clocks: set[int] = set()

    def ours(self, level: int, program: str) -> Facts:
        return Facts(self._clock.wall(), *self._timings, level, program)

    def met(self, hello: Hello, members: Collection[int]) -> None:
        """A hello was accepted. What others than `members` say is passed over, and what was known of them forgotten."""
        for gone in self._met - set(members):
            self._met.discard(gone)
            self._warned_timings.pop(gone, None)
            self._warned_clocks.discard(gone)
            self._clock.forget(gone)
        if hello.version < FACTS_SINCE or hello.sender not in members:
            return
        self._met.add(hello.sender)
        self._compare_timings(hello.sender, (hello.facts.heartbeat_ms, hello.facts.election_ms))
        if hello.facts.clock:
            self._clock.met(hello.sender, hello.facts.clock)
            self._compare_clock(hello.sender)

    def differences(self) -> dict[int, float]:
        """By how many seconds each member's wall clock is ahead of ours, as far as it has said."""
        found = {member: self._clock.difference(member) for member in self._met}
        return {member: difference / SECOND for member, difference in found.items() if difference is not None}

    def _compare_timings(self, member: int, timings: tuple[int, int]) -> None:
        if timings == self._timings or 0 in timings:
            self._warned_timings.pop(member, None)
        elif self._warned_timings.get(member) != timings:
            self._warned_timings[member] = timings
            heartbeat_ms, election_ms = timings
            log.warning(
                "a member has other timings; give all the same --heartbeat-interval and --election-timeout",
                member=f"{member:x}",
                its_heartbeat_ms=heartbeat_ms,
                its_election_ms=election_ms,
                our_heartbeat_ms=self._timings[0],
                our_election_ms=self._timings[1],
            )

    def _compare_clock(self, member: int) -> None:
        seconds = round((self._clock.difference(member) or 0) / SECOND, 3)
        if abs(seconds) < CLOCK_WARNED_SECONDS:
            self._warned_clocks.discard(member)
        elif member not in self._warned_clocks:
            self._warned_clocks.add(member)
            log.warning(
                "the clock difference against a member is too high; set both by NTP",
                member=f"{member:x}",
                seconds_ahead_of_ours=seconds,
            )
