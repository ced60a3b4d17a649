"""What an operator can get wrong, and what a cluster can lack: one line each, the right status, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import KVSTORED, Cluster
from tests.kvctl.containers.running import here, nobody, published, says

#: Each command as short as it can be, and the status of kvctl's own failure.
COMMANDS = {
    "exec": (("exec", "--prefix", "/a", "--", "true"), 125),
    "env": (("env", "--prefix", "/a"), 0),
    "render": (("render",), 0),
    "wait": (("wait", "/a", "--timeout", "300ms"), 0),
    "register": (("register", "/a", "1", "--ttl", "2"), 125),
    "lock": (("lock", "a", "--timeout", "300ms", "--", "true"), 125),
    "semaphore": (("semaphore", "a", "--limit", "2", "--timeout", "300ms", "--", "true"), 125),
}
WAITING = ("wait", "lock", "semaphore")


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A member that lets nobody in who has no name."""
    with Cluster.of(1, tmp_path_factory.mktemp("closed"), (*KVSTORED, "--bcrypt-cost", "4")) as cluster:
        published(cluster)
        url = cluster.members[0].client_url
        says("user", "add", "root:secret", url=url)
        says("auth", "enable", url=url)
        says("-u", "root:secret", "role", "revoke", "guest", "--path", "/*", "--readwrite", url=url)
        yield url


def arguments(command: str, folder: Path) -> tuple[str, ...]:
    if command != "render":
        return COMMANDS[command][0]
    (folder / "t.j2").write_text('{{ get("/a") }}')
    return ("render", f"{folder}/t.j2:{folder}/dest")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_permission(command: str, closed: str, tmp_path: Path) -> None:
    done = here(*arguments(command, tmp_path), url=closed)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (COMMANDS[command][1] or 4, "", 1)
    assert done.stderr.startswith("kvctl: 110: The request requires user authentication (Insufficient credentials) [")


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_there(command: str, tmp_path: Path) -> None:
    with nobody() as off:
        done = here(*arguments(command, tmp_path), url=off)
    assert done.stdout == ""
    if command in WAITING:
        first, second = done.stderr.splitlines()
        assert first.startswith("kvctl: the cluster is out of reach: ")
        assert (done.returncode, "within 0.3 s: the cluster " in second) == (124, True)
    else:
        assert done.stderr.count("\n") == 1
        assert done.returncode == (COMMANDS[command][1] or 2)
        assert "the cluster is out of reach: " in done.stderr
        assert "connection refused" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_certificates_and_flags(command: str, url: str, tmp_path: Path) -> None:
    for bad in (("--cert-file", "/none"), ("--ca-file", "/none")):
        done = here(*bad, *arguments(command, tmp_path), url=url)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (COMMANDS[command][1] or 1, "", 1)
        assert "/none" in done.stderr
    done = here(command, "--no-such-flag", url=url)
    assert (done.returncode, done.stdout) == (COMMANDS[command][1] or 1, "")
    said = f"kvctl: flag provided but not defined: -no-such-flag; see kvctl help {command}\n"
    assert done.stderr == said


def test_without_a_leader_reads_are_answered_and_a_lock_is_not(cluster: Cluster, url: str) -> None:
    says("set", "/lonely/v", "1", url=url)
    one, *others = cluster.members
    for member in others:
        member.kill()
    try:
        done = here("--timeout", "1s", "--total-timeout", "1s", "env", "--prefix", "/lonely", url=one.client_url)
        assert (done.returncode, done.stdout) == (0, "v=1\n")
        assert done.stderr == "kvctl: the cluster has no leader; what one member holds is used, which may be old\n"
        done = here(
            "--total-timeout",
            "500ms",
            "lock",
            "lonely",
            "--timeout",
            "300ms",
            "--",
            "echo",
            "never",
            url=one.client_url,
        )
        assert (done.returncode, done.stdout) == (124, "")
    finally:
        for member in others:
            cluster.restart(member.name)
        cluster.wait_until_healthy()
