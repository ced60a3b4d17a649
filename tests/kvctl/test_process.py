"""kvctl as a process: how it ends when it is interrupted, when nobody reads on, and when an outcome is not known."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.kvctl.fake import BREAK, Fake, answer, node
from tests.kvctl.process import KVCTL, SECONDS, begin, interrupt, next_line, run, says, surroundings


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Cluster.of(1, tmp_path_factory.mktemp("process")) as cluster:
        cluster.leader()
        yield cluster.members[0].client_url


async def ask(*arguments: str, **environ: str) -> tuple[int, str, str]:
    """Beside a fake server, which needs this event loop."""
    child = await asyncio.create_subprocess_exec(
        *KVCTL,
        *arguments,
        env=surroundings(**environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS):
        out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("command", ["set /a 1", "mk /a 1", "rm /a", "mk --in-order /q 1"])
async def test_an_unknown_outcome_is_said_and_not_tried_again(command: str) -> None:
    async with Fake(BREAK).serving() as broken:
        status, out, err = await ask("--no-sync", *command.split(), ETCDCTL_ENDPOINTS=f"{broken.url},{broken.url}")
        assert len(broken.asked) == 1
    assert (status, out) == (4, "")
    assert err == "Error:  the outcome of the write is not known, it may have happened: EOF\n"


async def test_an_unknown_outcome_of_auth_and_members() -> None:
    async with Fake(BREAK).serving() as broken:
        for command in (["user", "add", "a:b"], ["auth", "enable"], ["member", "add", "x", "http://127.0.0.1:1"]):
            status, _, err = await ask("--no-sync", *command, ETCDCTL_ENDPOINTS=broken.url)
            assert (status, err.count("\n"), "may have happened" in err) == (1, 1, True)


async def test_a_watch_whose_history_is_gone_goes_on_and_says_so() -> None:
    cleared = answer(400, {"errorCode": 401, "message": "cleared", "cause": "", "index": 50})
    tree = {
        "key": "/w",
        "dir": True,
        "nodes": [{"key": "/w/old", "value": "o", "modifiedIndex": 3}, node("n", 40)["node"]],
    }
    replies = (answer(200, node("first", 5), index=5), cleared, answer(200, {"action": "get", "node": tree}, index=60))
    async with Fake(*replies, answer(200, node("next", 61)), answer(404, {"errorCode": 100})).serving() as server:
        status, out, err = await ask("--no-sync", "watch", "-f", "-r", "/w", ETCDCTL_ENDPOINTS=server.url)
    assert out == "[get] /a\nfirst\n[get] /a\nn\n[get] /a\nnext\n"
    assert "events of /w before index 60 are gone from the history" in err
    assert (status, err.count("\n")) == (4, 2)  # the second line is the refusal that ends this test


async def test_an_index_that_is_gone_is_an_error_where_it_was_asked_for() -> None:
    cleared = answer(400, {"errorCode": 401, "message": "outdated", "cause": "x", "index": 50})
    async with Fake(cleared, answer(200, node(), index=60)).serving() as server:
        status, _, err = await ask("--no-sync", "watch", "--after-index", "3", "/w", ETCDCTL_ENDPOINTS=server.url)
    assert (status, err) == (4, "Error:  401: outdated (x) [50]\n")


def until_it_watches(url: str, process: subprocess.Popen[bytes]) -> None:
    """Writes until the watch has printed something; it says nothing when it begins."""
    deadline = time.monotonic() + SECONDS
    while not (line := next_line(process, 0)):
        assert time.monotonic() < deadline
        says("set", "/seen", "1", url=url)
    assert line == "1\n"


def test_an_interrupt_is_how_a_watch_ends(url: str) -> None:
    with begin("watch", "--forever", "/seen", url=url) as watch:
        until_it_watches(url, watch)
        assert interrupt(watch) == (0, "")


@pytest.mark.parametrize("arguments", ["{flags} -r /x -- {command}", "/x -r=1 {flags} -- {command}"])
def test_exec_watch_runs_a_child_for_each_change(url: str, arguments: str) -> None:
    script = 'echo "$ETCD_WATCH_ACTION $ETCD_WATCH_KEY=$ETCD_WATCH_VALUE"'
    index = json.loads(says("-o", "json", "set", "/before", "1", url=url))["node"]["modifiedIndex"]
    says("set", "/x/1", "a b", url=url)
    says("setdir", "/x/dir", url=url)
    says("rm", "/x/1", url=url)
    says("rmdir", "/x/dir", url=url)
    known = {"{flags}": ["--after-index", str(index)], "{command}": ["sh", "-c", script]}
    words = [part for word in arguments.split() for part in known.get(word, [word])]
    with begin("exec-watch", *words, url=url) as watch:
        lines = sorted(next_line(watch) for _ in range(2))  # children run side by side
        status, err = interrupt(watch)
    assert lines == ["delete /x/1=\n", "set /x/1=a b\n"]
    assert (status, err.splitlines()[0]) == (0, "Ignored dir /x/dir change")


def test_exec_watch_without_its_program(url: str) -> None:
    done = run("exec-watch", "--recursive", "--after-index", "1", "/", "--", "no-such-program", url=url)
    assert done.returncode == 1
    assert done.stderr == 'exec: "no-such-program": executable file not found in $PATH\n'


async def test_an_interrupt_ends_it_as_it_ends_any_program() -> None:
    asked = asyncio.Event()

    def hang() -> tuple[bytes, bool]:
        asked.set()
        return b"", True

    async with Fake(hang).serving() as silent:
        child = await asyncio.create_subprocess_exec(
            *KVCTL,
            "--timeout",
            "0",
            "get",
            "/a",
            env=surroundings(ETCDCTL_ENDPOINTS=silent.url),
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(SECONDS):
            await asked.wait()
            child.send_signal(signal.SIGINT)
            _, err = await child.communicate()
    assert (child.returncode, err) == (-signal.SIGINT, b"")


def test_nobody_reads_on(url: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [*KVCTL, "ls"], env=surroundings(ETCDCTL_ENDPOINTS=url), stdout=writer, stderr=subprocess.PIPE
    ) as child:
        os.close(writer)
        _, err = child.communicate(timeout=SECONDS)
    assert (child.returncode, err) == (-signal.SIGPIPE, b"")
    assert run("--help").stdout


def typed(arguments: list[str], keys: bytes, environ: Mapping[str, str]) -> tuple[int, bytes]:
    """Types `keys` once a prompt stands there; the status and all that the terminal showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(KVCTL[0], [*KVCTL, *arguments], environ)
    shown = b""
    while b": " not in shown:
        shown += os.read(terminal, 1000)
    os.write(terminal, keys)
    while select.select([terminal], [], [], SECONDS)[0]:
        try:
            shown += os.read(terminal, 1000)
        except OSError:
            break
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_password_is_not_shown(url: str) -> None:
    environ = surroundings(ETCDCTL_ENDPOINTS=url)
    status, shown = typed(["user", "add", "anna"], b"rose\n", environ)
    assert (status, shown) == (0, b"New password: \r\nUser anna created\r\n")
    status, shown = typed(["user", "passwd", "anna"], b"\x03", environ)
    assert status == -signal.SIGINT
    assert b"Traceback" not in shown


def next_poll(watch: subprocess.Popen[bytes], index: int) -> str:
    """The line of curl for the poll that waits for `index`."""
    while line := next_line(watch, error=True):
        if f"waitIndex={index}\n" in line:
            return line
    raise AssertionError("no such poll")


def test_a_watch_outlives_the_member_that_it_is_asked_of(tmp_path: Path) -> None:
    with Cluster.of(3, tmp_path) as cluster:
        cluster.leader()
        urls = ",".join(member.client_url for member in cluster.members)
        index = written(urls, "/first")
        with begin("--debug", "watch", "-f", "-r", "--after-index", str(index), "/w", url=urls) as watch:
            seen, killed = [], []
            for number in range(2):
                poll = next_poll(watch, index + 1)
                member = next(one for one in cluster.members if one.client_url in poll)
                member.kill()
                cluster.leader()
                index = written(urls, f"/w/{number}")
                seen += [next_line(watch), next_line(watch)]
                killed.append(member.name)
                cluster.restart(member.name)
                cluster.wait_until_healthy()
            status, err = interrupt(watch)
    assert seen == ["[set] /w/0\n", "x\n", "[set] /w/1\n", "x\n"]
    assert (status, len(set(killed)), "Traceback" in err) == (0, 2, False)


def written(urls: str, key: str) -> int:
    """The index of a write."""
    said = says("--timeout", "5s", "-o", "json", "set", key, "x", url=urls)
    return int(json.loads(said)["node"]["modifiedIndex"])


@pytest.mark.parametrize(
    ("redirections", "status", "said"),
    [
        (">&-", 0, ""),
        (">/dev/full", 1, "kvctl: standard output: No space left on device\n"),
        ("2>/dev/full", 0, ""),
        ("2>&- <&-", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full(url: str, redirections: str, status: int, said: str) -> None:
    command = f'"$@" --version {redirections}'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *KVCTL],
        env=surroundings(ETCDCTL_ENDPOINTS=url),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, said)


def test_no_standard_input_to_take_a_value_from(url: str) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" set /a <&-', "sh", *KVCTL],
        env=surroundings(ETCDCTL_ENDPOINTS=url),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Error:  value required\n")
