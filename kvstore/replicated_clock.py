"""Replicated time as one member reckons it: by a clock that is never set, drawn gently towards the wall clocks.

The leader stamps each command with this time, and TTLs run out by the stamps. So the pace comes from a monotonic clock:
a step of a wall clock, either way, moves no deadline. Wall clocks only say where time begins when no running member
knows it, and towards what it is corrected afterwards: never backwards, and never fast enough to end a lease early.

A member that follows keeps its own reckoning, so that it can lead on from there and show readers a correct TTL. The
reckoning is a lower bound, because stamps in the log may be old, until `learned` reports a fresh stamp. From then on
the member knows the time, and its wall clock no longer counts when it comes to lead.

Times are nanoseconds, wall clocks' since the epoch. Knows no raft and no log; both clocks are given to it.
"""

from __future__ import annotations

from collections.abc import Callable

from kvstore import logs

SECOND = 1_000_000_000

#: How much slower than true time the pace may be while the wall clocks are behind. Keys then live 5 % longer.
SLOWER_PART = 20
#: How much faster it may be while they are ahead: 0.05 %, the rate at which the kernel itself slews CLOCK_MONOTONIC, so
#: the holder of a lease must allow for it on any machine.
FASTER_PART = 2000
#: 2001-01-01 and 2200-01-01: a wall clock outside of these is not believed. Before 2000 a set with a TTL would be
#: permanent, as in etcd; after 2262 deadlines would not fit into 64 bits.
EARLIEST_WALL = 978_307_200 * SECOND
LATEST_WALL = 7_258_118_400 * SECOND
#: A jump of time at the beginning of a term is logged from here on, as a warning from `WARNED_JUMP` on.
LOGGED_JUMP = SECOND
WARNED_JUMP = 3600 * SECOND
#: A stamp so far ahead of what a member knows to be the time is refused, unless it is committed.
MAX_AHEAD = 24 * 3600 * SECOND
#: An answer that took longer says nothing about what time it is now.
FRESH_WITHIN = SECOND

log = logs.get("clock")


class ReplicatedClock:
    """The clock of one member. `wall` returns nanoseconds since the epoch and may be set at any time.

    `monotonic` returns nanoseconds and is never set. It should go on while the machine sleeps (Linux: CLOCK_BOOTTIME),
    because a lease does.
    """

    def __init__(self, wall: Callable[[], int], monotonic: Callable[[], int]) -> None:
        self.wall = wall
        #: Whether a fresh stamp was seen in this life, or this member has led.
        self.is_set = False
        self._has_stamp = False  # whether any command that was stamped was met
        self._monotonic = monotonic
        self._time = 0  # replicated time when the monotonic clock stood at `_at`
        self._at = monotonic()
        self._due = 0  # by how much time is to be corrected, as of `_at`
        self._peers: dict[int, int] = {}  # what must be added to our monotonic clock for a peer's wall clock
        self._complained = False

    def now(self) -> int:
        """Replicated time, as this member reckons it. Never backwards, but where `learned` corrects it."""
        return self._reckon(self._monotonic())

    def shown(self) -> int:
        """For what a reader is shown: before anything fresh is known, the wall clock is the better guess."""
        if self.is_set:
            return self._time + self._monotonic() - self._at  # each GET asks; what is due since the tick shows nowhere
        return max(self.now(), self._believed_wall() or 0)

    def tick(self) -> None:
        """Looks at the wall clocks again; a few times a second is enough."""
        monotonic = self._monotonic()
        self._set(self._reckon(monotonic), monotonic)
        wall = self._believed_wall()
        self._due = 0 if wall is None else wall - self._time

    def passed(self, stamp: int) -> None:
        """A command that was stamped so is committed, perhaps long ago: it is not earlier than that."""
        monotonic = self._monotonic()
        now = self._reckon(monotonic)
        self._has_stamp = self._has_stamp or stamp > 0
        if stamp > LATEST_WALL:
            self._complain("refused a stamp after 2199 as the time", stamp=stamp)
        elif stamp > now:
            if self.is_set and stamp - now >= WARNED_JUMP:
                log.warning("the leader's time is far ahead of this member's", seconds=_seconds(stamp - now))
            self._set(stamp, monotonic)

    def ask(self) -> int:
        """Before a command is proposed whose stamp is to be learned."""
        return self._monotonic()

    def learned(self, stamp: int, asked: int) -> None:
        """A command got `stamp`, after `ask` had given `asked`: if that was just now, it is the time."""
        monotonic = self._monotonic()
        if not self.is_set and monotonic - asked <= FRESH_WITHIN and stamp <= LATEST_WALL:
            self.is_set = True
            self._set(stamp, monotonic)

    def begin_term(self, last_stamp: int) -> None:
        """This member leads from here on; `last_stamp` is that of the last command in its log, 0 without one.

        A member that knows the time goes on from it, whatever its wall clock says. One that was only just started (all
        were down) cannot know how much time has passed: then it is what the wall clocks say, the middle one of those
        that are known, so that a cluster that was down for a day expires what has expired.
        """
        monotonic = self._monotonic()
        now = self._reckon(monotonic)
        if last_stamp > LATEST_WALL or (self.is_set and last_stamp - now > MAX_AHEAD):
            log.error("refused a stamp of the log as the time: it is too far ahead", seconds=_seconds(last_stamp - now))
        else:
            now = max(now, last_stamp)
        wall = None if self.is_set else self._believed_wall()
        if wall is not None and wall > now:
            if self._has_stamp or last_stamp:  # a new cluster has no time to go on from
                self._log_jump(now, wall)
            now = wall
        self.is_set = True
        self._set(now, monotonic)

    def _reckon(self, monotonic: int) -> int:
        elapsed, due = monotonic - self._at, self._due
        if due > 0:
            return self._time + elapsed + min(elapsed // FASTER_PART, due)
        if due < 0:
            return self._time + elapsed - min(elapsed // SLOWER_PART, -due)
        return self._time + elapsed

    def _set(self, time: int, monotonic: int) -> None:
        self._time, self._at, self._due = time, monotonic, 0

    def _log_jump(self, now: int, wall: int) -> None:
        seconds, clocks = _seconds(wall - now), 1 + len(self._peers)
        if wall - now >= WARNED_JUMP:
            log.warning(
                "time goes on from the wall clock: what ended meanwhile expires", seconds=seconds, clocks=clocks
            )
        elif wall - now >= LOGGED_JUMP:
            log.info("time goes on from the wall clock", seconds=seconds, clocks=clocks)

    # --- wall clocks ----------------------------------------------------------------------------------------------

    def met(self, peer: int, wall: int) -> None:
        """A peer's wall clock says `wall` now."""
        self._peers[peer] = wall - self._monotonic()

    def forget(self, peer: int) -> None:
        self._peers.pop(peer, None)

    def difference(self, peer: int) -> int | None:
        """By how much a peer's wall clock is ahead of ours; None if it never said."""
        base = self._peers.get(peer)
        return None if base is None else base + self._monotonic() - self.wall()

    def _believed_wall(self) -> int | None:
        """The middle one of the wall clocks that are known, of two the earlier one; None if none can be believed.

        Peers' clocks go on by our monotonic one: when ours is set, theirs are not.
        """
        monotonic = self._monotonic()
        walls = [self.wall(), *[base + monotonic for base in self._peers.values()]]
        believed = [wall for wall in walls if EARLIEST_WALL <= wall <= LATEST_WALL]
        if not believed:
            self._complain("refused the wall clock: it is before 2001 or after 2199", wall=walls[0])
            return None
        believed.sort()
        return believed[(len(believed) - 1) // 2]

    def _complain(self, what: str, **values: int) -> None:
        if not self._complained:
            self._complained = True
            log.error(what, **values)


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / SECOND, 3)
