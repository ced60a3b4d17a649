"""What etcdctl printed, for machines without it.

`python -m tests.kvctl.recordings` makes recordings.json anew; it needs Debian's etcd-client and etcd-server.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.kvctl.cases import RUNS
from tests.kvctl.programs import SERVERS, Outcome, fresh, run_scene

FILE = Path(__file__).with_name("recordings.json")


def recorded(server: str, scene: str) -> list[tuple[str, Outcome]]:
    return [(line, Outcome(*rest)) for line, *rest in json.loads(FILE.read_text())[server][scene]]


def main() -> None:
    recordings: dict[str, dict[str, object]] = {server: {} for server in SERVERS}
    for server, scene in RUNS:
        recordings[server][scene] = _record(server, scene)
    FILE.write_text(json.dumps(recordings, indent=1, ensure_ascii=False) + "\n")


def _record(server: str, scene: str) -> list[list[object]]:
    with tempfile.TemporaryDirectory() as folder, fresh(server, Path(folder)) as places:
        return [[line, *outcome] for line, outcome in run_scene("etcdctl", scene, places)]


if __name__ == "__main__":
    main()
