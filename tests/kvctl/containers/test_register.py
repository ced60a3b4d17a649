"""`register`: announced while it lives, with heartbeats that nobody hears; through a killed leader."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.cluster import Cluster
from tests.kvctl.containers.running import end, here, line, nobody, run, says, started, until, without_leader


def value(key: str, url: str) -> str:
    return run("get", "--quorum", key, url=url).stdout.strip()


def test_heartbeats_wake_no_watcher_and_outlive_the_leader(cluster: Cluster, url: str) -> None:
    before = json.loads(says("-o", "json", "set", "/svc/before", "1", url=url))["node"]["modifiedIndex"]
    watch = ("watch", "--recursive", "--forever", "--after-index", str(before), "/svc/beat")
    with (
        started(*watch, url=url) as watcher,
        started("register", "/svc/beat/a", "10.0.0.1", "--ttl", "3", url=url) as announcer,
    ):
        assert (line(watcher), line(watcher)) == ("[set] /svc/beat/a", "10.0.0.1")

        def index() -> int:
            shown = run("-o", "extended", "get", "/svc/beat/a", url=url).stdout
            return int(shown.partition("Modified-Index: ")[2].partition("\n")[0] or 0)

        first = index()
        until(lambda: index() > first, "it was renewed")
        with without_leader(cluster):
            second = index()
            until(lambda: index() > second, "it was renewed with the new leader")
        announcer.send_signal(signal.SIGTERM)
        assert end(announcer) == (0, "")
        assert line(watcher) == "[compareAndDelete] /svc/beat/a"  # and nothing in between
    assert value("/svc/beat/a", url) == ""


def test_it_ends_with_its_command(url: str) -> None:
    with started(
        "register", "/svc/cmd", "x", "--", "sh", "-c", "read a < /dev/null; sleep 0.5; exit 7", url=url
    ) as process:
        until(lambda: value("/svc/cmd", url) == "x", "it is announced")
        assert end(process) == (7, "")
    assert value("/svc/cmd", url) == ""
    with started("register", "/svc/cmd", "x", "--", "sh", "-c", "echo up; exec sleep 60", url=url) as process:
        assert line(process) == "up"
        until(lambda: value("/svc/cmd", url) == "x", "it is announced")
        process.send_signal(signal.SIGTERM)
        assert end(process) == (143, "")
    assert value("/svc/cmd", url) == ""


def test_made_anew_when_it_is_gone_and_left_to_who_has_it(url: str) -> None:
    with started("register", "/svc/own", "old", "--ttl", "2", url=url) as process:
        until(lambda: value("/svc/own", url) == "old", "it is announced")
        says("rm", "/svc/own", url=url)
        until(lambda: value("/svc/own", url) == "old", "it is announced again")
        with started("register", "/svc/own", "new", "--ttl", "2", url=url) as other:
            until(lambda: value("/svc/own", url) == "new", "who starts last has it")
            assert process.stderr is not None
            assert process.stderr.readline() == b"kvctl: /svc/own is announced by somebody else\n"
            process.send_signal(signal.SIGTERM)
            assert end(process) == (0, "")
            assert value("/svc/own", url) == "new"  # not removed by the one before
            other.send_signal(signal.SIGTERM)
            assert end(other) == (0, "")


def test_the_same_value_of_a_later_one_is_not_removed(url: str) -> None:
    with started("register", "/svc/same", "v", "--ttl", "60", url=url) as first:
        until(lambda: value("/svc/same", url) == "v", "it is announced")
        says("set", "/svc/same", "v", url=url)
        first.send_signal(signal.SIGTERM)
        assert end(first) == (0, "")
    assert value("/svc/same", url) == "v"


def test_only_while_the_check_passes(url: str, tmp_path: Path) -> None:
    healthy = tmp_path / "healthy"
    with started("register", "/svc/check", "x", "--ttl", "2", "--check", f"test -e {healthy}", url=url) as process:
        assert process.stderr is not None
        said = "kvctl: /svc/check is not announced while --check fails: exit status 1\n"
        assert process.stderr.readline().decode() == said
        assert value("/svc/check", url) == ""
        healthy.touch()
        until(lambda: value("/svc/check", url) == "x", "it is announced once it is healthy")
        healthy.unlink()
        until(lambda: value("/svc/check", url) == "", "it is removed")
        healthy.touch()
        until(lambda: value("/svc/check", url) == "x", "it is announced again")
        process.send_signal(signal.SIGTERM)
        assert end(process) == (0, said)
    assert value("/svc/check", url) == ""


def test_without_the_cluster(url: str, tmp_path: Path) -> None:
    """What was announced before starts anyway; what never was may be a wrong endpoint."""
    cache = str(tmp_path / "cache")
    arguments = ("register", "/svc/cached", "x", "--cache", cache)
    with started(*arguments, "--", "sleep", "60", url=url) as process:
        until(lambda: Path(cache).exists(), "it was announced")
        process.send_signal(signal.SIGTERM)
        assert end(process)[0] == 143
    with nobody() as off:
        done = run(*arguments, "--", "echo", "up", url=off)
        assert (done.returncode, done.stdout) == (0, "up\n")
        assert "; /svc/cached is announced as soon as it can be\n" in done.stderr
        for other in (("/svc/cached", "y"), ("/svc/other", "x")):
            done = run("register", *other, "--cache", cache, "--", "echo", "up", url=off)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (125, "", 1)
            assert done.stderr.endswith("is not of this key and value\n")
        assert run("register", "/svc/cached", "x", "--", "echo", "up", url=off).returncode == 125


def test_wrong_arguments(url: str) -> None:
    says("mkdir", "/svc/dir", url=url)
    for arguments, said in [
        (("/a",), "a key and a value are needed"),
        (("/a", ""), "the value must not be empty: it is how a key is known to be ours"),
        (("/a", "x", "--ttl", "1"), "--ttl must be at least 2"),
        (("/svc/dir", "x"), "/svc/dir is a directory"),
        (("/svc/new", "x", "--", "no-such-program"), "no-such-program: command not found"),
    ]:
        done = here("register", *arguments, url=url)
        assert (done.returncode, done.stderr) == (127 if "--" in arguments else 125, f"kvctl: {said}\n")
