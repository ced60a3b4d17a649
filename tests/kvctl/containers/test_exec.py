"""`exec`, `env`: real commands, their environment, signals and statuses; changes; a leader that is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.kvctl.containers.running import (
    end,
    here,
    line,
    on_controlling_terminal,
    read,
    run,
    says,
    started,
    until,
    without_leader,
)
from tests.kvctl.process import KVCTL, surroundings


def test_keys_become_variables(url: str) -> None:
    says("set", "/base/port", "1", url=url)
    says("set", "/base/name", "base", url=url)
    says("set", "/web/port", "80", url=url)
    says("set", "/web/db/url", "pg://x y", url=url)
    prefixes = ("--prefix", "/base", "--prefix", "web/", "--upcase", "--sanitize")
    script = 'echo "$PORT $NAME $DB_URL $HERE"'
    done = run("exec", *prefixes, "--", "sh", "-c", script, url=url, environ={"HERE": "x", "PORT": "9"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "80 base pg://x y x\n", "")
    pristine = run("exec", *prefixes, "--pristine", "--", "/usr/bin/env", url=url, environ={"HERE": "x"})
    assert sorted(pristine.stdout.split("\n")) == ["", "DB_URL=pg://x y", "NAME=base", "PORT=80"]
    assert says("env", *prefixes, url=url) == "DB_URL='pg://x y'\nNAME=base\nPORT=80\n"
    assert says("env", *prefixes, "-f", "export", url=url).startswith("export DB_URL='pg://x y'\n")


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["sh", "-c", "kill -TERM $$"], 143, ""),
        (["no-such-program"], 127, "kvctl: no-such-program: command not found\n"),
        (["/etc/passwd"], 126, "kvctl: /etc/passwd cannot be run: Permission denied\n"),
    ],
)
def test_statuses(url: str, command: list[str], status: int, said: str) -> None:
    done = run("exec", "--prefix", "/", "--sanitize", "--", *command, url=url)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == said


def test_the_command_has_its_flags_to_itself(url: str) -> None:
    says("set", "/own/v", "1", url=url)
    command = ("--prefix", "/own", "--watch", "--signal", "HUP", "--", "echo", "--prefix", "-h", "--", "--watch")
    assert says("exec", *command, url=url) == "--prefix -h -- --watch\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_signals_are_handed_on(url: str, number: signal.Signals) -> None:
    says("set", "/own/v", "1", url=url)
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.01; done"
    with started("exec", "--prefix", "/own", "--", "sh", "-c", script, url=url) as process:
        assert line(process) == "ready"
        process.send_signal(number)
        assert line(process) == f"got {name}"
        assert end(process) == (5, "")


def test_on_a_terminal_ctrl_c_comes_once_and_the_command_can_read(url: str) -> None:
    says("set", "/own/v", "1", url=url)
    script = "n=0; trap 'n=$((n+1)); echo ctrl-c $n' INT; read a; echo got $a; while [ $n = 0 ]; do sleep 0.02; done"
    script += "; sleep 0.1; echo $n in all"
    command = [*KVCTL, "exec", "--prefix", "/own", "--", "sh", "-c", script]
    with on_controlling_terminal(command, surroundings(ETCDCTL_ENDPOINTS=url)) as terminal:
        terminal.type("word\n")
        terminal.shows("got word")
        terminal.type("\x03")
        terminal.shows("1 in all")
        assert terminal.status() == 0


def test_signalled_once_for_many_changes(url: str, tmp_path: Path) -> None:
    says("set", "/sig/v", "0", url=url)
    log = tmp_path / "log"
    script = f"trap 'echo hup >> {log}' HUP; echo ready; while :; do sleep 0.01; done"
    command = ("--watch", "--signal", "hup", "--debounce", "300ms", "--", "sh", "-c", script)
    with started("exec", "--prefix", "/sig", *command, url=url) as process:
        assert line(process) == "ready"
        for number in range(3):
            says("set", "/sig/v", f"{number + 1}", url=url)
        until(lambda: read(log), "a signal came")
        says("set", "/sig/v", "3", url=url)  # the same value: no change
        says("set", "/sig/w", "1", url=url)
        until(lambda: read(log).count("hup") == 2, "the next change is signalled")
        process.terminate()
        assert end(process) == (143, "")
    assert read(log) == "hup\n" * 2


def test_started_anew_across_a_killed_leader(cluster: Cluster, url: str, tmp_path: Path) -> None:
    says("set", "/re/v", "one", url=url)
    says("set", "/hidden/v", "0", url=url)
    cache = tmp_path / "cache"
    # It ignores SIGTERM: the grace is over before the new one starts.
    script = "trap '' TERM; echo $v $$; exec sleep 60"
    flags = ("--prefix", "/hidden", "--prefix", "/re", "--grace", "100ms", "--debounce", "20ms", "--cache", str(cache))
    with started("exec", *flags, "--restart", "--", "sh", "-c", script, url=url) as process:
        assert line(process).startswith("one ")
        says("set", "/hidden/v", "1", url=url)  # no change, for the other one wins
        until(lambda: '"/hidden/v","1"' in read(cache), "it was read")
        says("set", "/re/v", "two", url=url)
        assert line(process).startswith("two ")
        with without_leader(cluster):
            until(lambda: run("set", "/re/v", "three", url=url).returncode == 0, "there is a new leader")
            assert line(process).startswith("three ")
        says("rm", "/re/v", url=url)
        value, pid = line(process).split()
        assert value == "1"
        os.kill(int(pid), signal.SIGKILL)
        assert end(process) == (137, "")


def test_no_change_is_lost_before_the_watch(url: str) -> None:
    """Each start races with a write; whichever comes first, the last value must arrive."""
    command = ("--restart", "--debounce", "1ms", "--", "sh", "-c", "echo $v; exec sleep 60")
    for number in range(4):
        last = f"after {number}"
        says("set", "/race/v", "before", url=url)
        with (
            started("exec", "--prefix", "/race", *command, url=url) as process,
            started("set", "/race/v", last, url=url) as writer,
        ):
            assert end(writer) == (0, "")
            assert line(process) == last or line(process) == last


def test_wrong_arguments(url: str) -> None:
    for arguments, said in [
        (("--", "true"), "kvctl: --prefix is needed: the directory whose keys become variables\n"),
        (("--prefix", "/a"), "kvctl: a command is needed behind --\n"),
        (("--prefix", "/a", "--watch", "--", "true"), "kvctl: --watch needs --signal NAME or --restart\n"),
        (("--prefix", "/a", "--signal", "NOPE", "--", "true"), "kvctl: --signal: there is no signal NOPE\n"),
        (("--frefix", "/a"), "kvctl: flag provided but not defined: -frefix; see kvctl help exec\n"),
    ]:
        done = here("exec", *arguments, url=url)
        assert (done.returncode, done.stdout, done.stderr) == (125, "", said)
    done = here("env", "--prefix", "/a", "--format", "xml", url=url)
    assert (done.returncode, done.stderr) == (1, "kvctl: --format must be one of dotenv, export, systemd\n")
    done = here("env", "--prefix", "/no/such", url=url)
    assert (done.returncode, done.stderr) == (0, "kvctl: /no/such does not exist, and gives no variables\n")


def test_the_command_outlives_nothing_it_should_not(url: str) -> None:
    """A child leads a group of its own, and is not left behind when its kvctl is told to go."""
    says("set", "/own/v", "1", url=url)
    with started("exec", "--prefix", "/own", "--", "sh", "-c", "echo $$; exec sleep 60", url=url) as process:
        child = int(line(process))
        assert os.getpgid(child) == child
        process.terminate()
        assert end(process)[0] == 143
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
