"""PUT and GET a second, kvstored and etcd side by side: `python -m benchmarks.throughput`, or `make bench`.

Each round starts a fresh cluster of each server in turn, first one and then the other going first, so that whatever
else the machine does falls on both. All requests go to the leader. The figures are medians over the rounds. Prints a
Markdown table and writes all figures to benchmarks/results/. Servers and load share this machine's cores, so the
figures compare servers; they say little about what a network would allow.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster import ETCD, KVSTORED, ROOT, Cluster, ClusterError, Member

KEYS = 1000  # of both threads of wrk together; the scripts in wrk/ count alike
FILLERS = 8  # connections that write them before
SCRIPTS = Path(__file__).parent / "wrk"
RESULTS = Path(__file__).parent / "results"
#: Both take snapshots equally often, which etcd's own default of 100,000 entries would spare it.
COMMANDS = {"kvstored": KVSTORED, "etcd": (*ETCD, "--snapshot-count=10000")}


class CannotMeasure(Exception):
    """Something is missing or went wrong; the text is one line for whoever runs this."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One run of wrk."""

    server: str
    members: int
    verb: str
    connections: int
    round: int
    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    bad_status: int
    socket_errors: int


@dataclass(frozen=True, slots=True)
class Plan:
    servers: Sequence[str]
    members: Sequence[int]
    connections: Sequence[int]
    rounds: int
    seconds: int


def measure(plan: Plan) -> Iterator[Figure]:
    """All runs of the plan, one after the other."""
    for turn in range(plan.rounds):
        for members in plan.members:
            for server in plan.servers if turn % 2 == 0 else reversed(plan.servers):
                yield from _measure_cluster(plan, server, members, turn)


def _measure_cluster(plan: Plan, server: str, members: int, turn: int) -> Iterator[Figure]:
    place = ROOT / "run"  # on the disk that the project lies on, and not in a /tmp that may be memory
    place.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=place) as folder,
        Cluster.of(members, Path(folder), COMMANDS[server]) as cluster,
    ):
        _fill(cluster.leader())
        for verb in ("PUT", "GET"):
            for connections in plan.connections:
                found = _wrk(cluster.leader(), verb, connections, plan.seconds)
                yield Figure(
                    server=server,
                    members=members,
                    verb=verb,
                    connections=connections,
                    round=turn + 1,
                    per_second=found["requests"] / found["duration_us"] * 1e6,
                    p50_ms=found["p50_us"] / 1000,
                    p99_ms=found["p99_us"] / 1000,
                    max_ms=found["max_us"] / 1000,
                    bad_status=found["bad_status"],
                    socket_errors=found["socket_errors"],
                )


def _fill(member: Member) -> None:
    """Writes each key once, so that every GET finds one, however slow the PUTs before it were."""

    def write(first: int) -> None:
        with contextlib.closing(http.client.HTTPConnection(member.address, member.ports.client, timeout=10)) as client:
            for number in range(first, KEYS, FILLERS):
                client.request("PUT", f"/v2/keys/bench/{number}?value={number:032}")
                answer = client.getresponse()
                answer.read()
                if answer.status not in (200, 201):
                    raise CannotMeasure(f"{member.name} answers {answer.status} to a PUT")

    with ThreadPoolExecutor(FILLERS) as pool:
        list(pool.map(write, range(FILLERS)))


def _wrk(member: Member, verb: str, connections: int, seconds: int) -> dict[str, int]:
    command = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", f"{verb.lower()}.lua"]
    ended = subprocess.run(
        [*command, member.client_url], cwd=SCRIPTS, capture_output=True, text=True, timeout=seconds + 30, check=False
    )
    for line in ended.stdout.splitlines():
        if line.startswith("RESULT "):
            found: dict[str, int] = json.loads(line.removeprefix("RESULT "))
            return found
    raise CannotMeasure(f"wrk gave no result: {(ended.stderr or ended.stdout).strip()}")


def table(figures: Sequence[Figure]) -> str:
    """Medians over the rounds as a Markdown table, fastest columns side by side."""
    servers = list(dict.fromkeys(figure.server for figure in figures))
    rows = list(dict.fromkeys((figure.members, figure.verb, figure.connections) for figure in figures))
    head = "".join(f" {server}/s | p50 ms | p99 ms |" for server in servers)
    ratio = len(servers) == 2
    lines = [f"| members | request | connections |{head}{' ratio |' if ratio else ''}"]
    lines.append("|---:|---|---:|" + "---:|---:|---:|" * len(servers) + ("---:|" if ratio else ""))
    for members, verb, connections in rows:
        speeds = []
        cells = ""
        for server in servers:
            runs = [
                figure
                for figure in figures
                if (figure.server, figure.members, figure.verb, figure.connections)
                == (server, members, verb, connections)
            ]
            speeds.append(statistics.median(run.per_second for run in runs))
            p50 = statistics.median(run.p50_ms for run in runs)
            p99 = statistics.median(run.p99_ms for run in runs)
            cells += f" {speeds[-1]:,.0f} | {p50:.2f} | {p99:.2f} |"
        last = f" {speeds[0] / speeds[1]:.2f} |" if ratio else ""
        lines.append(f"| {members} | {verb} | {connections} |{cells}{last}")
    return "\n".join(lines)


def machine() -> dict[str, object]:
    """What the figures depend on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _plan(arguments: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__.split("\n")[0])
    parser.add_argument("--servers", default="kvstored,etcd", help="default: %(default)s")
    parser.add_argument("--members", default="1,3", help="sizes of clusters, default: %(default)s")
    parser.add_argument("--connections", default="64,256", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=4, help="of each run, default: %(default)s")
    chosen = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        raise CannotMeasure("wrk is not installed; on Debian: apt-get install wrk")
    servers = chosen.servers.split(",")
    if unknown := set(servers) - set(COMMANDS):
        parser.error(f"unknown server: {', '.join(sorted(unknown))}")
    if "etcd" in servers and shutil.which("etcd") is None:
        print("etcd is not installed, so only kvstored is measured; on Debian: apt-get install etcd-server\n")
        servers.remove("etcd")
    return Plan(
        servers,
        [int(count) for count in chosen.members.split(",")],
        [int(count) for count in chosen.connections.split(",")],
        chosen.rounds,
        chosen.seconds,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    figures = []
    try:
        plan = _plan(arguments)
        for figure in measure(plan):
            figures.append(figure)
            problems = f", {figure.bad_status} bad answers" if figure.bad_status else ""
            problems += f", {figure.socket_errors} socket errors" if figure.socket_errors else ""
            print(
                f"round {figure.round}: {figure.server}, members {figure.members}, {figure.verb},"
                f" {figure.connections} connections: {figure.per_second:,.0f}/s{problems}",
                file=sys.stderr,
            )
    except (CannotMeasure, ClusterError) as problem:
        print(f"throughput: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"throughput-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    content = {"machine": machine(), "plan": asdict(plan), "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(table(figures))
    print(f"\nAll figures: {path.relative_to(ROOT)}")
    bad = sum(figure.bad_status + figure.socket_errors for figure in figures)
    if bad:
        print(f"{bad} requests went wrong, so do not believe these figures.", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
