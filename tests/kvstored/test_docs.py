"""What the pages say is there, is there; and the tour in README.md works as it is written."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster import Cluster

ROOT = Path(__file__).parents[2]


def test_the_readme_begins_with_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    block = lines[lines.index("```sh") + 1 :][:2]
    assert [line.partition("#")[0].strip() for line in block] == ["make run", "make test"]


def test_the_figures_of_the_readme_are_those_of_the_last_benchmark() -> None:
    section = (ROOT / "README.md").read_text().partition("**In numbers**")[2].partition("**Why trust it.**")[0]
    measured = (ROOT / "benchmarks" / "results" / "table.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (\d.*?) \| (\d.*?) \|$", section, re.MULTILINE)
    assert len(rows) == 5
    for what, *figures in rows:
        of_row = [line for line in measured.splitlines() if line.startswith((f"| {what} |", f"| {what}: p99 |"))]
        for column, cell in zip((3, 4), figures, strict=True):
            measured_here = [line.split("|")[column].strip() for line in of_row]
            assert cell.replace("p99 ", "").split(", ") == measured_here, what


def test_the_readme_names_each_make_target_and_no_other() -> None:
    public = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    rows = re.findall(r"^\| `make ([a-z-]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted([*rows, "help"]) == sorted(public)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_tour(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("## Ten lines of curl")[2]
    lines = section.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert len(lines) == 10
    answers = []
    with Cluster.of(1, tmp_path) as cluster:
        for line in lines:
            command = shlex.split(line.replace("http://127.0.0.1:2379", cluster.members[0].client_url))
            ended = subprocess.run([*command, "--silent"], capture_output=True, timeout=20, check=True)
            answers.append(json.loads(ended.stdout))
    created, got, swapped, refused, session, job, listed, watched, quorum, deleted = answers
    assert (created["action"], created["node"]["value"]) == ("set", "hello")
    assert (got["action"], got["node"]) == ("get", created["node"])
    assert (swapped["action"], swapped["node"]["modifiedIndex"]) == ("compareAndSwap", 3)
    assert refused["errorCode"] == 101
    assert session["node"]["ttl"] == 60
    assert re.fullmatch(r"/queue/\d{20}", job["node"]["key"])
    assert [node["key"] for node in listed["node"]["nodes"]] == ["/message", "/queue", "/session"]
    assert watched == swapped
    assert quorum["node"] == swapped["node"]
    assert (deleted["action"], deleted["prevNode"]["value"]) == ("delete", "bye")
