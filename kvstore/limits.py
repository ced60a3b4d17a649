"""What clients may take of a member at most: plain values, in one place. Each but the last four has a flag.

Knows no connection; whoever serves one keeps to these, whichever lane it is in.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The highest level of a cluster that this version takes part in (levels.py).
HIGHEST_LEVEL = 2

#: The highest values of the two limits on keys. A leader refuses a longer key from any member, because each node above
#: a key holds its own full name: one write takes up to half the product of the two, 64 MiB.
MOST_KEY_COMPONENTS = 2_048
MOST_KEY_BYTES = 64 << 10

#: What a POST adds to the key of its directory: one component of a slash and 20 digits.
IN_ORDER_BYTES = 21

#: What a command needs beside the body: its key comes in the request line.
COMMAND_ROOM_BYTES = 2 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The defaults serve clients that etcd serves, too; beyond each of them stands what is then done."""

    connections: int = 65_536  # of clients, on all listeners; one more is closed as it comes
    line_bytes: int = 1 << 20  # of a request line; etcd counts it as part of the head: 431, closed
    head_bytes: int = 1 << 20  # request line and header lines, etcd's own limit: 431, closed
    headers: int = 1_000  # header lines: 431, closed
    request_bytes: int = 10 << 20  # of a body, etcd's own limit: 400
    key_components: int = 256  # of a key, and of what a POST creates: 400
    key_bytes: int = 32 << 10  # of a key with all its slashes, once it is decoded: 400
    read_seconds: float = 60.0  # for the head of a request to arrive, and again for its body: 408, closed
    write_seconds: float = 60.0  # in which nothing is read of an answer that fills all buffers: closed
    idle_seconds: float = 600.0  # between two requests: closed
    watchers: int = 50_000  # one connection has one at a time: 503
    proposals: int = 10_000  # writes that wait for the cluster; as many linearizable reads: 503
    log_bytes: int = 1 << 30  # of log since the last snapshot that succeeded: 503
    buffered_bytes: int = 256 << 20  # of requests that arrive; of writes that wait; of answers not read: 503
    long_answers: int = 4  # long listings sent at a time, and as many that stall; further ones wait for their turn
    watch_backlog: int = 100  # events that a watcher may be behind, etcd's own limit: closed
    turn_seconds: float = 30.0  # for a long listing to begin: 503
    stall_seconds: float = 2.0  # in which nothing is read of a long listing while others want its place: closed
    taken_bytes: int = 64 << 10  # a second; reading less of a long listing uses up write_seconds: closed

    @property
    def command_bytes(self) -> int:
        """Of the largest command, packed. `tests/test_sizes.py` shows that it fits into all that carries it."""
        return self.request_bytes + COMMAND_ROOM_BYTES
