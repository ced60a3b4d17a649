"""No command line, however odd, ends in a traceback or outside the exit statuses."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvctl.table import GLOBAL, TABLE
from tests.kvctl.cases import Case
from tests.kvctl.programs import Places, kvctl

#: etcdctl's commands; the others start programs and write files.
NAMES = [
    *("mk", "mkdir", "rm", "rmdir", "get", "ls", "set", "setdir", "update", "updatedir", "watch", "exec-watch"),
    *("member", "user", "role", "auth", "cluster-health", "help", "h", "import"),
]
SUBCOMMANDS = ["list", "add", "remove", "update", "get", "grant", "revoke", "passwd", "enable", "disable", "help"]
FLAGS = sorted(
    {
        ("-" if len(name) == 1 else "--") + name
        for flags in (GLOBAL, *(entry.load().flags for entry in TABLE if entry.name in NAMES))
        for flag in flags
        for name in flag.spellings
    }
    - {"--discovery-srv", "-D", "--forever", "-f"}  # they ask the network, they go on
)
JUNK = ["", "-", "--", "---", "-=", "--=x", "/a", "/ü b", "a\nb", "\udcff", "x" * 300, "0", "-1", "9" * 30, "1s", "%zz"]
words = st.sampled_from([*NAMES, *SUBCOMMANDS, *JUNK]) | st.sampled_from(FLAGS)
given_flags = st.tuples(st.sampled_from(FLAGS), st.sampled_from(JUNK) | st.text(max_size=5)).map(
    lambda two: "=".join(two)
)


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        yield Places(url, url, "1", url)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(given_flags | words, max_size=3),
    name=st.sampled_from(NAMES),
    behind=st.lists(given_flags | words, max_size=5),
    no_sync=st.booleans(),
)
def test_any_line(before: list[str], name: str, behind: list[str], no_sync: bool, places: Places) -> None:
    arguments = (*(("--no-sync",) if no_sync else ()), *before, name, *behind)
    outcome = kvctl(Case("", arguments, {}, ""), places)
    assert outcome.status in range(6)
    assert "Traceback" not in outcome.stderr
    assert (outcome.status == 0) or outcome.stderr
