"""One run of wrk, or of h2load where it is TLS, against one URL: how many requests were answered, and how soon.

A run with any refused or lost request is none: CannotMeasure. Knows nothing of rows.
"""

from __future__ import annotations

import json
import random
import re
import string
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.systems import CannotMeasure, need

SCRIPTS = Path(__file__).parent / "wrk"
KEYS = 1000  # as in wrk/requests.lua, with what follows
LISTS = 10
LISTED = 100
VALUE_BYTES = 256
SPARE_SECONDS = 30.0  # that a run may take longer than it was told to
SEED = 7


class Load(NamedTuple):
    requests: int
    per_second: float
    p50_us: float
    p99_us: float


def value(random_: random.Random, size: int = VALUE_BYTES) -> str:
    return "".join(random_.choices(string.ascii_letters + string.digits, k=size))


def wrk(url: str, kind: str, connections: int, seconds: float) -> Load:
    """`kind` is one of wrk/requests.lua: put, get, quorum, mixed, post, list."""
    need("wrk")
    duration = max(1, round(seconds))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}s", "--timeout", "10s", "-s", "requests.lua", url]
    ended = _run([*command, "--", kind, str(SEED)], duration, SCRIPTS)
    line = next((line for line in ended.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise CannotMeasure(f"wrk gave no result: {_last_line(ended)}")
    found: dict[str, int] = json.loads(line.removeprefix("RESULT "))
    if found["bad_status"] or found["socket_errors"]:
        raise CannotMeasure(
            f"of {found['requests']} requests {found['bad_status']} were refused"
            f" and {found['socket_errors']} lost their connection or their time"
        )
    if not found["requests"]:
        raise CannotMeasure("not one request was answered")
    return Load(found["requests"], found["requests"] / found["duration_us"] * 1e6, found["p50_us"], found["p99_us"])


def h2load(url: str, verb: str, connections: int, seconds: float) -> float:
    """Requests a second over kept-alive HTTP/1.1; all of KEYS must exist for a GET."""
    need("h2load")
    with tempfile.TemporaryDirectory() as folder:
        urls, body = Path(folder, "urls"), Path(folder, "body")
        urls.write_text("".join(f"{url}/v2/keys/bench/{number}\n" for number in range(KEYS)))
        body.write_text("value=" + value(random.Random(SEED)))
        command = ["h2load", "--h1", "-t1", f"-c{connections}", f"-D{seconds:g}", "--warm-up-time=1", f"-i{urls}"]
        if verb == "PUT":
            form = "content-type: application/x-www-form-urlencoded"
            command += [f"-d{body}", "-H", ":method: PUT", "-H", form]
        said = _run(command, seconds)
    speed = re.search(r"^finished in .*?, ([\d.]+) req/s", said, re.MULTILINE)
    counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    if speed is None or counts is None:
        raise CannotMeasure(f"h2load gave no result: {_last_line(said)}")
    done, succeeded, *_ = map(int, counts.groups())
    if not done or succeeded != done:
        raise CannotMeasure(f"of {done} requests {done - succeeded} went wrong")
    return float(speed[1])


def _run(command: list[str], seconds: float, folder: Path | None = None) -> str:
    """All that it printed, to both streams."""
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds + SPARE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"{command[0]} did not end in time") from None
    return ended.stdout


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
