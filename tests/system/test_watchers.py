"""Idle watchers are cheap, and one write reaches them all: the issue's numbers, for a fifth of its watchers.

`make bench ARGS='--only watcher*'` measures ten thousand of them.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.watchers import measure, raise_limit
from tests.cluster import Cluster

WATCHERS = 2_000
BYTES_EACH = 16 * 1024
SECONDS = 1.0


def test_idle_watchers_are_cheap_and_all_are_told(tmp_path: Path) -> None:
    raise_limit(WATCHERS)
    with Cluster.of(1, tmp_path) as cluster:
        measured = measure(cluster.members[0], WATCHERS)
    assert measured.bytes_each < BYTES_EACH
    assert measured.seconds_to_all < SECONDS
