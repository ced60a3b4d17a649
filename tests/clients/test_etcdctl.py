"""Debian's etcdctl 3.4 with ETCDCTL_API=2, its commands one after the other as an operator types them.

What it leans on: it asks /v2/members first and then talks to the advertised client URLs; `cluster-health` parses the
string in /health of every member; `role grant` sends back the role that it read, null lists and all; exit statuses are
made of error codes; `watch` sends waitIndex=0.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster import Cluster

pytestmark = pytest.mark.skipif(shutil.which("etcdctl") is None, reason="etcdctl is not installed (etcd-client)")

COMMAND_SECONDS = 30.0


class Etcdctl:
    def __init__(self, cluster: Cluster) -> None:
        self.start = ["etcdctl", "--endpoints", ",".join(member.client_url for member in cluster.members)]
        self.environment = {**os.environ, "ETCDCTL_API": "2"}

    def run(self, *arguments: str, user: str = "") -> subprocess.CompletedProcess[str]:
        """`user`: name and password of who asks."""
        command = [*self.start, *(["--username", user] if user else []), *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )

    def says(self, *arguments: str, user: str = "") -> str:
        done = self.run(*arguments, user=user)
        assert done.returncode == 0, f"{arguments}: {done}"
        return done.stdout

    def fails(self, *arguments: str, user: str = "") -> str:
        done = self.run(*arguments, user=user)
        assert done.returncode != 0, f"{arguments}: {done}"
        return done.stderr

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.start, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@pytest.mark.parametrize("count", [1, 3])
def test_keys_watches_and_a_lost_leader(count: int, tmp_path: Path) -> None:
    with Cluster.of(count, tmp_path) as cluster:
        cluster.leader()
        etcdctl = Etcdctl(cluster)
        use_keys(etcdctl)
        use_directories(etcdctl)
        watch_and_hear(etcdctl)
        assert "cluster is healthy" in etcdctl.says("cluster-health")
        assert etcdctl.says("member", "list").count("isLeader=true") == 1
        etcdctl.says("set", "/before", "the kill")
        if count > 1:
            cluster.leader().kill()
            cluster.leader()
        assert etcdctl.says("get", "--quorum", "/before") == "the kill\n"
        assert etcdctl.says("set", "/after", "the kill") == "the kill\n"
        if count > 1:
            health = etcdctl.run("cluster-health")
            assert "unreachable" in health.stdout
            assert "cluster is degraded" in health.stdout


def use_keys(etcdctl: Etcdctl) -> None:
    assert etcdctl.says("set", "/one", "1") == "1\n"
    assert etcdctl.says("get", "/one") == "1\n"
    assert etcdctl.says("update", "/one", "2").startswith("2\n")
    assert etcdctl.says("set", "--swap-with-value", "2", "/one", "3").startswith("3\n")
    assert "Compare failed ([2 != 3])" in etcdctl.fails("set", "--swap-with-value", "2", "/one", "4")
    assert "Key already exists (/one)" in etcdctl.fails("mk", "/one", "1")
    assert "Key not found (/none)" in etcdctl.fails("get", "/none")
    assert '"value":"3"' in etcdctl.says("--output", "json", "get", "/one")
    assert "Modified-Index: " in etcdctl.says("--output", "extended", "get", "/one")
    assert etcdctl.says("set", "--ttl", "100", "/short", "1") == "1\n"
    assert etcdctl.says("rm", "/one") == "PrevNode.Value: 3\n"
    assert "Key not found" in etcdctl.fails("rm", "/one")


def use_directories(etcdctl: Etcdctl) -> None:
    etcdctl.says("mkdir", "/tree")
    assert "Key already exists (/tree)" in etcdctl.fails("mkdir", "/tree")
    etcdctl.says("setdir", "--ttl", "100", "/tree/branch")
    etcdctl.says("updatedir", "--ttl", "200", "/tree/branch")
    first = etcdctl.says("mk", "--in-order", "/tree/branch", "first")
    assert first == "first\n"
    assert etcdctl.says("ls", "--recursive", "--sort", "-p", "/tree").splitlines()[0] == "/tree/branch/"
    assert "Not a file (/tree)" in etcdctl.fails("set", "/tree", "leaf")
    assert "Directory not empty (/tree)" in etcdctl.fails("rmdir", "/tree")
    etcdctl.says("rm", "--recursive", "/tree")
    assert "Key not found (/tree)" in etcdctl.fails("ls", "/tree")


def watch_and_hear(etcdctl: Etcdctl) -> None:
    """`exec-watch` has no way to say that it watches: writes go on until it has heard one."""
    index = etcdctl.says("--output", "extended", "set", "/seen", "0")
    number = next(line.split(": ")[1] for line in index.splitlines() if line.startswith("Modified-Index"))
    assert etcdctl.says("watch", "--after-index", str(int(number) - 1), "/seen") == "0\n"
    with etcdctl.begin(
        "exec-watch", "--recursive", "/", "--", "sh", "-c", "echo $ETCD_WATCH_KEY; kill $PPID"
    ) as watcher:
        deadline = time.monotonic() + COMMAND_SECONDS
        while watcher.poll() is None and time.monotonic() < deadline:
            etcdctl.says("set", "/seen", "1")
        watcher.kill()
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "/seen\n"


def test_users_and_roles(tmp_path: Path) -> None:
    with Cluster.of(1, tmp_path) as cluster:
        etcdctl = Etcdctl(cluster)
        root, anna = "root:secret", "anna:rose"
        assert etcdctl.says("user", "add", root) == "User root created\n"
        assert etcdctl.says("auth", "enable") == "Authentication Enabled\n"
        etcdctl.says("user", "add", anna, user=root)
        etcdctl.says("role", "add", "gardener", user=root)
        etcdctl.says("role", "grant", "gardener", "--path", "/garden*", "--readwrite", user=root)
        etcdctl.says("user", "grant", "anna", "--roles", "gardener", user=root)
        etcdctl.says("role", "revoke", "guest", "--path", "/*", "--readwrite", user=root)
        assert etcdctl.says("set", "/garden/rose", "red", user=anna) == "red\n"
        assert "Insufficient credentials" in etcdctl.fails("set", "/gard", "1", user=anna)
        assert "Insufficient credentials" in etcdctl.fails("get", "/garden/rose")
        assert "/garden*" in etcdctl.says("role", "get", "gardener", user=root)
        assert etcdctl.says("user", "list", user=root) == "anna\nroot\n"
        etcdctl.says("user", "remove", "anna", user=root)
        etcdctl.fails("get", "/garden/rose", user=anna)
        assert etcdctl.says("auth", "disable", user=root) == "Authentication Disabled\n"
        assert etcdctl.says("get", "/garden/rose") == "red\n"
