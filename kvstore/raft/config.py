"""The limits and timings of one Raft member. Times are ticks; how long a tick is, the driver decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

KIB = 1024
MIB = 1024 * KIB


class PlantedBug(StrEnum):
    """Known Raft bugs that a test can switch on, to show that the simulator finds them. Never set in service.

    Each is honoured in exactly one or two places, found by searching for its name.
    """

    VOTE_NOT_PERSISTED = "vote-not-persisted"
    COMMIT_OLD_TERM = "commit-old-term"
    STALE_READ = "stale-read"
    ACK_BEFORE_FSYNC = "ack-before-fsync"


@dataclass(frozen=True, slots=True)
class Config:
    """Raises ValueError when a value makes no sense or two of them do not fit together."""

    election_ticks: int = 100  # a follower waits between this and twice this before it campaigns
    heartbeat_ticks: int = 10
    stagger_ticks: int = 4  # after a broken connection: by how much each rank waits longer than the one before
    quick_retries: int = 5  # quick elections after a start or a change of connections, before the usual timeouts rule
    max_entry_bytes: int = 16 * MIB  # of one payload
    max_append_bytes: int = MIB  # of the entries in one AppendRequest; a single entry may be larger
    max_inflight: int = 256  # appends sent to one member and not yet answered
    max_inflight_bytes: int = 32 * MIB
    max_uncommitted_bytes: int = 128 * MIB  # of the leader's tail, and so of one batch of proposals
    max_reads: int = 65_536  # reads that wait for one round
    planted: frozenset[str] = frozenset()  # PlantedBug values; for tests only

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.election_ticks <= self.heartbeat_ticks:
            raise ValueError("election_ticks must be greater than heartbeat_ticks")
        if self.max_uncommitted_bytes < self.max_entry_bytes + ENTRY_OVERHEAD:
            raise ValueError("max_uncommitted_bytes must leave room for one entry of max_entry_bytes")
        unknown = self.planted - frozenset(PlantedBug)
        if unknown:
            raise ValueError(f"unknown planted bugs: {', '.join(sorted(unknown))}")


ENTRY_OVERHEAD = 32  # bytes counted for an entry beside its payload: index, term, kind and framing
