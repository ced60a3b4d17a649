"""How long one `kvctl get` takes as a process, from exec to exit: median and worst, and what of it is imports.

    python -m benchmarks.startup [--count 40]

One kvstored runs beside it; `etcdctl get`, where it is installed, and an empty Python stand beside it for comparison.
Exit status 1 when the median is above the goal.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster import Cluster

GOAL_SECONDS = 0.120
WARM_UP = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="processes to time of each kind (default: 40)")
    count = parser.parse_args().count
    kvctl = str(Path(sys.executable).with_name("kvctl"))
    with tempfile.TemporaryDirectory() as folder, Cluster.of(1, Path(folder)) as cluster:
        cluster.leader()
        environment = {**os.environ, "ETCDCTL_ENDPOINTS": cluster.members[0].client_url, "ETCDCTL_API": "2"}
        subprocess.run([kvctl, "set", "/a", "1"], env=environment, check=True, capture_output=True)
        median = _row("kvctl get", [kvctl, "get", "/a"], environment, count)
        _row("kvctl --no-sync get", [kvctl, "--no-sync", "get", "/a"], environment, count)
        _row("kvctl --help", [kvctl, "--help"], environment, count)
        if shutil.which("etcdctl"):
            _row("etcdctl get", ["etcdctl", "get", "/a"], environment, count)
        _row("python -c pass", [sys.executable, "-c", "pass"], environment, count)
    verdict = "met" if median <= GOAL_SECONDS else "MISSED"
    print(f"goal: {GOAL_SECONDS * 1000:.0f} ms for the median of `kvctl get`: {verdict}")
    return 0 if median <= GOAL_SECONDS else 1


def _row(name: str, command: Sequence[str], environment: Mapping[str, str], count: int) -> float:
    """Times `count` runs, prints the row, returns the median in seconds."""
    times = []
    for number in range(WARM_UP + count):
        begin = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        if number >= WARM_UP:
            times.append(time.perf_counter() - begin)
    median = statistics.median(times)
    print(f"{name:<20} median {median * 1000:6.1f} ms   worst {max(times) * 1000:6.1f} ms   ({count} runs)")
    return median


if __name__ == "__main__":
    sys.exit(main())
