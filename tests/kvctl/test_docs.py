"""The commands on the page do what it says."""

from __future__ import annotations

import shlex
from pathlib import Path

from kvctl.table import TABLE
from tests.cluster import Cluster
from tests.kvctl.process import says

PAGE = Path(__file__).parents[2] / "docs" / "kvctl.md"


def test_the_first_commands(tmp_path: Path) -> None:
    block = PAGE.read_text().partition("```sh\n")[2].partition("```")[0]
    lines = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    with Cluster.of(1, tmp_path) as cluster:
        cluster.leader()
        said = [says(*words, url=cluster.members[0].client_url) for words in lines]
    assert said[:3] == ["hello\n", "hello\n", "bye\n"]
    assert '"action":"get"' in said[3]
    assert said[4:7] == ["bye\n", "here\n", "job\n"]
    assert said[7].splitlines()[:3] == ["/message", "/session", "/queue/"]
    assert said[8] == ""
    assert said[9].endswith("cluster is healthy\n")
    assert "isLeader=true" in said[10]


def test_every_command_that_the_page_speaks_of_is_there() -> None:
    names = {entry.name for entry in TABLE} | {"COMMAND"}
    spoken = [line.split()[1] for line in PAGE.read_text().splitlines() if line.startswith("kvctl ")]
    assert {word for word in spoken if not word.startswith("-")} <= names
