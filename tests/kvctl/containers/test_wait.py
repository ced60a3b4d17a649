"""`wait`: for a key, for a value, for a cluster; through a killed leader."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import Cluster
from tests.kvctl.containers.running import end, line, nobody, published, run, says, started, until, without_leader
from tests.kvctl.process import on_terminal

UNANSWERED = "the cluster has not answered"


def test_what_is_there_already(url: str) -> None:
    says("set", "/there/key", "1", url=url)
    assert says("wait", "/there/key", url=url) == "1\n"
    assert says("wait", "--value", "1", "there/key", url=url) == "1\n"
    assert says("wait", "/there", url=url) == ""  # a directory is there, too


def test_what_comes_later_across_a_killed_leader(cluster: Cluster, url: str) -> None:
    with (
        started("wait", "/later/key", "--value", "ready", "--timeout", "60s", url=url) as waiting,
        started("wait", "/later", url=url) as directory,
    ):
        says("set", "/later/key", "not yet", url=url)
        assert end(directory) == (0, "")  # it came to be as what its key is in
        with without_leader(cluster):
            until(lambda: run("set", "/later/key", "ready", url=url).returncode == 0, "there is a new leader")
            assert line(waiting) == "ready"
            assert waiting.wait() == 0


def test_time_is_up(url: str) -> None:
    done = run("wait", "--timeout", "100ms", "/never", url=url)
    assert (done.returncode, done.stdout) == (124, "")
    assert done.stderr == "kvctl: /never did not appear within 0.1 s\n"
    with nobody() as off:
        done = run("wait", "--timeout", "100ms", "/never", url=off)
    first, second = done.stderr.splitlines()
    assert first.startswith("kvctl: the cluster is out of reach: ")
    assert first.endswith("connection refused; waiting for it")
    assert (done.returncode, second) == (124, f"kvctl: /never did not appear within 0.1 s: {UNANSWERED}")


def test_waiting_for_the_cluster_is_shown_on_a_terminal() -> None:
    with nobody() as off:
        status, shown = on_terminal("wait", "--timeout", "1200ms", "/never", url=off)
    assert status == 124
    assert "waiting for the cluster: 1 s" in shown


def test_the_cluster_is_waited_for(tmp_path: Path) -> None:
    with Cluster.of(1, tmp_path) as cluster:
        (member,) = cluster.members
        published(cluster)
        says("set", "/boot", "1", url=member.client_url)
        member.kill()
        with started("wait", "/boot", url=member.client_url) as waiting:
            assert waiting.stderr is not None
            assert b"; waiting for it" in waiting.stderr.readline()  # also in a pipe
            cluster.restart(member.name)
            assert line(waiting) == "1"
            assert end(waiting) == (0, "")


def test_the_cache(url: str, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    says("set", "/seen", "1", url=url)
    assert says("wait", "--cache", cache, "/seen", url=url) == "1\n"
    with nobody() as off:
        done = run("wait", "--cache", cache, "/seen", url=off)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, "1\n", 1)
        done = run("wait", "--cache", cache + "2", "--timeout", "500ms", "/seen", url=off)
        assert (done.returncode, done.stdout) == (124, "")
        first, second = done.stderr.splitlines()
        assert first.endswith("does not exist yet; waiting for it")
        assert second == f"kvctl: /seen did not appear within 0.5 s: {UNANSWERED}"


def test_wrong_arguments(url: str) -> None:
    assert run("wait", url=url).stderr == "kvctl: one key is needed\n"
    assert run("wait", "/a", "--timeout", "soon", url=url).returncode == 1
