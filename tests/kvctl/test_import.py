"""`import`: a tree that was printed comes back, from a pipe and from etcd's own snapshot."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvctl.command import Failure
from kvctl.import_tree import Entry, read
from tests.cluster import Cluster
from tests.kvctl.process import on_terminal, run, says


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Cluster.of(1, tmp_path_factory.mktemp("import")) as cluster:
        cluster.leader()
        yield cluster.members[0].client_url


def test_a_printed_tree_comes_back(url: str, tmp_path: Path) -> None:
    says("set", "/app/ü <&>", 'line\n"two"', url=url)
    says("set", "--ttl", "100", "/app/short", "1", url=url)
    says("mkdir", "--ttl", "5000", "/app/empty", url=url)
    tree = tmp_path / "tree.json"
    tree.write_text(says("-o", "json", "ls", "--recursive", "/app", url=url))
    says("rm", "--recursive", "/app", url=url)
    done = run("import", str(tree), url=url)
    assert done.stdout == f"starting to import snapshot {tree} with 10 clients\nfinished importing 2 keys\n"
    assert done.stderr == ""
    assert says("get", "/app/ü <&>", url=url) == 'line\n"two"\n'
    assert re.search("TTL: (300|29.)\n", says("-o", "extended", "get", "/app/short", url=url))  # raised to 300
    assert says("ls", "--sort", "-p", "/app", url=url) == "/app/empty/\n/app/short\n/app/ü <&>\n"
    assert run("import", "-c", "1", url=url, stdin=tree.read_text()).returncode == 0  # once more, over what is there


def test_the_whole_tree_comes_back_into_another_cluster(url: str, tmp_path: Path) -> None:
    says("set", "/whole/deep/key", "1", url=url)
    tree = tmp_path / "tree.json"
    tree.write_text(says("-o", "json", "ls", "--recursive", "/", url=url))
    with Cluster.of(1, tmp_path) as cluster:
        cluster.leader()
        other = cluster.members[0].client_url
        done = run("import", str(tree), url=other)
        assert (done.returncode, done.stderr) == (0, "")
        assert says("ls", "--recursive", "--sort", "-p", url=other) == says(
            "ls", "--recursive", "--sort", "-p", url=url
        )
        assert says("get", "/whole/deep/key", url=other) == "1\n"


def test_what_the_api_prints_and_many_clients(url: str) -> None:
    nodes = [{"key": f"/bulk/{number}", "value": f"v{number}"} for number in range(200)]
    dump = json.dumps(
        {"action": "get", "node": {"dir": True, "nodes": [{"key": "/bulk", "dir": True, "nodes": nodes}]}}
    )
    done = run("import", "-c", "50", url=url, stdin=dump)
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "finished importing 200 keys")
    assert len(says("ls", "/bulk", url=url).splitlines()) == 200
    assert says("get", "/bulk/77", url=url) == "v77\n"


def test_progress_on_a_terminal_alone(url: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree.json"
    tree.write_text(json.dumps({"node": {"dir": True, "nodes": [{"key": "/one", "value": "1"}]}}))
    status, shown = on_terminal("import", str(tree), url=url)
    assert status == 0
    assert "importing: 1 of 1 (100%)" in shown


def test_a_key_in_the_way_is_named(url: str) -> None:
    says("mkdir", "/inway", url=url)
    done = run("import", url=url, stdin=json.dumps({"node": {"key": "/inway", "value": "1"}}))
    assert done.returncode == 4
    assert done.stderr.startswith("failed to copy key: 102: Not a file (/inway) [")
    assert done.stderr.count("\n") == 1


def test_a_snapshot_of_etcd() -> None:
    def node(path: str, value: str = "", children: object = None, expires: str = "0001-01-01T00:00:00Z") -> object:
        return {"Path": path, "Value": value, "Children": children, "ExpireTime": expires, "CreatedIndex": 1}

    below = {
        "a": node("/a", "1", expires="2999-01-01T00:00:00.5Z"),
        "d": node("/d", children={"x": node("/d/x", "2"), "_y": node("/d/_y", "3")}),
        "_etcd": node("/_etcd", children={"z": node("/_etcd/z", "4")}),
        "_other": node("/_other", "5"),
    }
    content = json.dumps({"Root": node("/", children=below), "CurrentIndex": 9}).encode()
    first, *rest = read(content, "snap", hidden=("_etcd/",))
    assert (first.key, first.value, first.is_dir) == ("/a", "1", False)
    assert first.ttl > 300
    assert rest == [
        Entry("/d", "", True, 0),
        Entry("/d/x", "2", False, 0),
        Entry("/_etcd", "", True, 0),
        Entry("/_etcd/z", "4", False, 0),
    ]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000),
        *(b'{"node": 1}', b'{"node": {"key": "/a"}}', b'{"node": {"key": "/a", "value": 1}}'),
        b'{"Root": {"Path": "/a"}}',
    ],
)
def test_what_is_no_tree(content: bytes) -> None:
    with pytest.raises(Failure, match=r"file is neither a tree|file: the tree is nested too deeply"):
        read(content, "file")


@pytest.mark.parametrize("ttl", ["1e400", "-1e400", "NaN", "1.5", "-1", "1e30", "9223372036854775808", '"x"', "true"])
def test_a_ttl_that_no_key_can_have_is_named(ttl: str) -> None:
    with pytest.raises(Failure, match="the ttl of '/a' must be a whole number of seconds"):
        read(b'{"node": {"key": "/a", "value": "", "ttl": %b}}' % ttl.encode(), "file")


@pytest.mark.parametrize("ttl", ["null", "0", "500", "500.0", "9223372036854775807"])
def test_a_ttl_that_a_key_can_have_is_taken(ttl: str) -> None:
    (entry,) = read(b'{"node": {"key": "/a", "value": "", "ttl": %b}}' % ttl.encode(), "file")
    assert entry.ttl == {"null": 0, "500.0": 500}.get(ttl, int(ttl) if ttl.isdigit() else None)


@pytest.mark.parametrize("node", [rb'"key": "/a\ud800", "value": ""', rb'"key": "/a", "value": "\ud800"'])
def test_half_a_character_is_named(node: bytes) -> None:
    with pytest.raises(Failure, match="holds half a character"):
        read(b'{"node": {%b}}' % node, "file")


def test_wrong_arguments(tmp_path: Path) -> None:
    assert run("import", "-c", "0").stderr == "-c must be from 1 to 1000\n"
    done = run("import", "--snap", str(tmp_path / "none"))
    assert done.stderr == f"cannot read snapshot file {tmp_path}/none: No such file or directory\n"
    assert done.returncode == 1
