"""`lock` with real commands and members: exclusion across a killed leader, and a lost lock ends the command."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.kvctl.containers.running import (
    end,
    frozen,
    here,
    line,
    nobody,
    read,
    run,
    says,
    started,
    until,
    without_leader,
)
from tests.kvctl.process import on_terminal


def test_no_two_at_once_and_rising_numbers_across_a_killed_leader(cluster: Cluster, url: str, tmp_path: Path) -> None:
    inside, log = tmp_path / "inside", tmp_path / "log"
    script = f"""
        mkdir {inside} || echo BOTH >> {log}
        sleep 0.2
        echo $KVCTL_LOCK_FENCE >> {log}
        rmdir {inside}"""
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(started("lock", "busy", "--ttl", "6", "--", "sh", "-c", script, url=url))
            for _ in range(5)
        ]
        until(lambda: read(log), "the first one had it")
        with without_leader(cluster):
            ends = [end(process) for process in contenders]
    assert [status for status, _ in ends] == [0] * 5
    numbers = read(log).split()
    assert len(numbers) == 5
    assert numbers == sorted(set(numbers), key=int)
    assert says("ls", "/locks/busy", url=url) == ""


def test_status_and_signals_are_the_commands_own(url: str) -> None:
    assert run("lock", "mine", "--", "sh", "-c", "exit 7", url=url).returncode == 7
    assert run("lock", "mine", "--", "no-such-program", url=url).returncode == 127
    assert says("ls", "/locks/mine", url=url) == ""
    # All that the command started is told, and gone before the lock is free.
    with started("lock", "mine", "--", "sh", "-c", "sleep 60 & echo $!; wait", url=url) as process:
        sleeper = int(line(process))
        process.terminate()
        assert end(process) == (143, "")
    until(lambda: not Path(f"/proc/{sleeper}").exists() or " Z " in read(Path(f"/proc/{sleeper}/stat")), "it is gone")
    assert says("ls", "/locks/mine", url=url) == ""


def test_a_lock_that_was_taken_away_ends_the_command_at_once(url: str) -> None:
    """Long before its next renewal, which comes after 200 seconds."""
    script = "trap 'echo told; exit 0' TERM; echo $KVCTL_LOCK_KEY; while :; do sleep 0.01; done"
    with started("lock", "taken", "--ttl", "600", "--", "sh", "-c", script, url=url) as process:
        says("rm", line(process), url=url)
        assert line(process) == "told"
        status, said = end(process)
    assert status == 123
    assert said.startswith("kvctl: the lock taken is lost, and the command is ended: /locks/taken/")
    assert said.count("kvctl: ") == 1


def test_out_of_contact_the_command_ends_before_the_lock_is_free(cluster: Cluster, url: str) -> None:
    """It ignores SIGTERM, and must still be dead when the time to live may be over."""
    script = "trap '' TERM; echo $$; while :; do sleep 0.01; done"
    with started("lock", "cut", "--ttl", "2", "--grace", "500ms", "--", "sh", "-c", script, url=url) as process:
        child = Path(f"/proc/{line(process)}")
        with frozen(cluster):
            since = time.monotonic()
            until(lambda: not child.exists() or ") Z " in read(child / "stat"), "the command is ended")
            assert time.monotonic() - since < 2
        status, said = end(process)
    assert status == 123
    assert "could not be renewed in time: the cluster is out of reach" in said


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's PR_SET_PDEATHSIG")
def test_a_killed_kvctl_takes_the_command_with_it(url: str) -> None:
    with started(
        "lock", "crash", "--ttl", "2", "--", "sh", "-c", "echo $$; while :; do sleep 0.01; done", url=url
    ) as process:
        child = Path(f"/proc/{line(process)}")
        assert child.exists()
        with started("lock", "crash", "--ttl", "2", "--", "echo", "next", url=url) as waiting:
            process.kill()
            until(lambda: not child.exists() or ") Z " in read(child / "stat"), "the command died with it")
            assert line(waiting) == "next"  # after the time to live
            assert end(waiting) == (0, "")


def test_giving_up(url: str) -> None:
    with started("lock", "slow", "--", "sh", "-c", "echo in; exec sleep 60", url=url) as process:
        assert line(process) == "in"
        status, shown = on_terminal("lock", "slow", "--timeout", "1500ms", "--", "true", url=url)
        assert status == 124
        assert "waiting for the lock slow: 1 s, 1 in front, " in shown  # on a terminal alone
        done = run("lock", "slow", "--timeout", "2s", "--", "true", url=url)
        assert done.returncode == 124
        assert re.fullmatch(
            r"kvctl: the lock slow could not be taken within 2 s: 1 in front, \S+ the last of them\n", done.stderr
        )
        with started("lock", "slow", "--", "true", url=url) as waiting:
            until(lambda: says("ls", "/locks/slow", url=url).count("\n") == 2, "it waits")
            waiting.send_signal(signal.SIGINT)
            assert end(waiting) == (130, "")
        assert says("ls", "/locks/slow", url=url).count("\n") == 1  # who gives up leaves nothing
        process.terminate()
        assert end(process)[0] == 143


def test_never_from_a_cache(url: str, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    assert run("lock", "kept", "--cache", cache, "--", "true", url=url).returncode == 0
    assert not os.path.exists(cache)
    with nobody() as off:
        done = here("lock", "kept", "--cache", cache, "--", "echo", "never", url=off)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (125, "", 1)
        assert done.stderr.endswith("; the lock kept is never taken from a cache\n")
        done = here("lock", "kept", "--timeout", "1200ms", "--", "echo", "never", url=off)
        first, second = done.stderr.splitlines()  # once, though it asks again and again
        assert first.startswith("kvctl: the cluster is out of reach: ")
        assert first.endswith("connection refused; waiting for it")
        assert second == "kvctl: the lock kept could not be taken within 1.2 s: the cluster is out of reach"
        assert (done.returncode, done.stdout) == (124, "")


def test_wrong_arguments(url: str) -> None:
    says("set", "/locks/file", "1", url=url)
    for arguments, said in [
        (("--", "true"), "one name is needed"),
        (("a", "b", "--", "true"), "one name is needed"),
        (("a",), "a command is needed behind --"),
        (("a", "--ttl", "1", "--", "true"), "--ttl must be at least 2"),
        (("a", "--grace", "20s", "--", "true"), "--grace must be between 0s and half of --ttl"),
        (("file", "--", "true"), "104: Not a directory (/locks/file)"),
    ]:
        done = here("lock", *arguments, url=url)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (125, "", 1)
        assert said in done.stderr
