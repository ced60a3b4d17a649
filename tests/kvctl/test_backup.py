"""`backup`: what it copies starts as a cluster of its own, and the folder it came from stays as it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from kvstore.storage.check import check
from tests.cluster import Cluster
from tests.kvctl.cases import Case
from tests.kvctl.process import on_terminal, run, says
from tests.kvctl.programs import Places, kvctl

NOWHERE = Places("", "", "", "")


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of one member of three, killed, and what `ls` showed before."""
    folder = tmp_path_factory.mktemp("backup")
    with Cluster.of(3, folder) as cluster:
        leader = cluster.leader()
        url = leader.client_url
        nodes = [{"key": f"/keys/{number}", "value": f"value {number}"} for number in range(20)]
        says("import", "-c", "1", url=url, stdin=json.dumps({"node": {"dir": True, "nodes": nodes}}))
        says("set", "--ttl", "1000", "/short", "1", url=url)
        says("mkdir", "/empty", url=url)
        says("user", "add", "root:secret", url=url)
        says("rm", "/keys/3", url=url)
        listing = says("-o", "json", "ls", "--recursive", "--sort", "/keys", url=url)
        done = run("backup", "--data-dir", str(leader.folder), "--backup-dir", str(folder / "no"))
        assert done.returncode == 1
        assert "in use by process" in done.stderr
        assert not (folder / "no").exists()
        leader.kill()
    return leader.folder, listing


def test_the_copy_starts_as_a_cluster_of_its_own(stopped: tuple[Path, str], tmp_path: Path) -> None:
    source, listing = stopped
    before = contents(source)
    target = tmp_path / "n1"
    said = says("backup", "--data-dir", str(source), "--backup-dir", str(target))
    assert said.startswith("Backed up the keys up to index 24 (entry ")
    assert contents(source) == before
    assert check(str(target)).sound
    with Cluster.of(1, tmp_path) as cluster:  # on the copy, under a name of its own and other URLs
        (member,) = cluster.members
        assert member.folder == target
        url = member.client_url
        assert says("-o", "json", "ls", "--recursive", "--sort", "/keys", url=url) == listing
        assert says("ls", "--sort", "-p", url=url) == "/empty/\n/keys/\n/short\n"
        assert "TTL: 9" in says("-o", "extended", "get", "/short", url=url)
        assert says("user", "list", url=url) == "root\n"
        assert says("member", "list", url=url).count("name=n1 ") == 1
        assert says("-o", "extended", "set", "/new", "1", url=url).splitlines()[2] == "Modified-Index: 25"
        assert says("watch", "--after-index", "23", "--recursive", "/keys", url=url).startswith("[delete] /keys/3\n")


def test_a_folder_for_the_log_apart(stopped: tuple[Path, str], tmp_path: Path) -> None:
    source, _ = stopped
    wal = source / "member" / "wal"
    places = ("--wal-dir", str(wal), "--backup-dir", str(tmp_path / "copy"), "--backup-wal-dir", str(tmp_path / "wal"))
    says("backup", "--data-dir", str(source), *places)
    assert check(str(tmp_path / "copy"), wal_folder=str(tmp_path / "wal")).sound
    assert not (tmp_path / "copy" / "member" / "wal").exists()


def test_progress_on_a_terminal_alone(stopped: tuple[Path, str], tmp_path: Path) -> None:
    source, _ = stopped
    status, shown = on_terminal("backup", "--data-dir", str(source), "--backup-dir", str(tmp_path / "copy"))
    assert status == 0
    assert "applying the log: 0 of " in shown


def test_what_cannot_be_backed_up(stopped: tuple[Path, str], tmp_path: Path) -> None:
    source, _ = stopped
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    says("backup", "--data-dir", str(source), "--backup-dir", str(tmp_path / "used"))
    cases = {
        ("--backup-dir", "b"): "Error:  --data-dir and --backup-dir required\n",
        ("--data-dir", str(tmp_path / "none"), "--backup-dir", "b"): "there is no such folder",
        ("--data-dir", str(tmp_path / "empty"), "--backup-dir", "b"): "no member was created here",
        ("--data-dir", str(tmp_path / "file"), "--backup-dir", "b"): "no member was created here",
        ("--data-dir", str(source), "--backup-dir", str(tmp_path / "used")): "there is a member already",
        ("--data-dir", str(source), "--backup-dir", str(tmp_path / "file")): "File exists",
        ("--data-dir", str(source), "--backup-dir", str(source / "b")): f"lies in {source}, which is only read",
        ("--data-dir", str(source), "--backup-dir", str(tmp_path / "link" / "b")): f"lies in {source}, which is",
        (*("--data-dir", str(source), "--backup-dir", "b"), "--backup-wal-dir", str(source)): "which is only read",
        (*("--data-dir", str(source), "--wal-dir", str(tmp_path)), "--backup-dir", str(tmp_path / "b")): "is only read",
    }
    (tmp_path / "link").symlink_to(source)
    before = contents(source)
    for arguments, words in cases.items():
        outcome = kvctl(Case("", ("backup", *arguments), {}, ""), NOWHERE)
        assert (outcome.status, outcome.stdout) == (1, ""), outcome
        assert words in outcome.stderr
        assert outcome.stderr.count("\n") == 1
    assert contents(source) == before
