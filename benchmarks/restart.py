"""How long a cluster of three does not serve when all members are killed at one moment and started again.

    python -m benchmarks.restart [--runs 20]

From the start of the first process until each member has answered a linearizable read; ours and etcd's in turn. Exit
status 1 when the median of ours is above the goal, or its 95th percentile above etcd's.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import signal
import statistics
import sys
import time
from collections.abc import Sequence

from benchmarks.systems import ETCD_NAME, OURS, CannotMeasure, missing, running
from tests.cluster import Cluster, Member

GOAL_SECONDS = 0.6
DEADLINE_SECONDS = 30.0
PAUSE_SECONDS = 0.005  # between two attempts, which cost the members time
ANSWER_SECONDS = 0.2


def seconds_until_all_serve(cluster: Cluster) -> float:
    """Starts all members, asks each until it answers, and kills them."""
    began = time.perf_counter()
    for member in cluster.members:
        member.start(cluster.initial_cluster)
    for member in cluster.members:
        while not _serves(member):
            if time.perf_counter() - began > DEADLINE_SECONDS:
                raise CannotMeasure(f"{member.name} does not serve {DEADLINE_SECONDS:g} s after the start")
            time.sleep(PAUSE_SECONDS)
    seconds = time.perf_counter() - began
    kill(cluster)
    return seconds


def kill(cluster: Cluster) -> None:
    """All members at one moment."""
    for member in cluster.running:
        member.signal(signal.SIGKILL)
    for member in cluster.running:
        member.kill()


def _serves(member: Member) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return member.get("/v2/keys/?quorum=true", ANSWER_SECONDS)[0] == 200
    return False


def percentile(times: Sequence[float], part: float) -> float:
    """The time that `part` of all runs did not exceed."""
    return sorted(times)[max(0, -(-round(len(times) * part * 100) // 100) - 1)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="restarts of each system (default: 20)")
    runs = parser.parse_args().runs
    systems = [OURS] if ETCD_NAME in missing() else [OURS, ETCD_NAME]
    times: dict[str, list[float]] = {system: [] for system in systems}
    with contextlib.ExitStack() as stack:
        clusters = {system: stack.enter_context(running(system, 3)) for system in systems}
        for cluster in clusters.values():
            cluster.leader()
            kill(cluster)
        for _ in range(runs):  # in turn, so that both have the same machine
            for system, cluster in clusters.items():
                times[system].append(seconds_until_all_serve(cluster))
    for system, found in times.items():
        print(
            f"{system:<9} median {statistics.median(found) * 1000:5.0f} ms   "
            f"95 % {percentile(found, 0.95) * 1000:5.0f} ms   worst {max(found) * 1000:5.0f} ms   ({runs} runs)"
        )
    met = statistics.median(times[OURS]) <= GOAL_SECONDS
    if ETCD_NAME in times:
        met = met and percentile(times[OURS], 0.95) <= percentile(times[ETCD_NAME], 0.95)
    print(f"goal: {GOAL_SECONDS * 1000:.0f} ms for the median, etcd's 95th percentile: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
