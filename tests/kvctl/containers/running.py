"""kvctl with a command below it, as a process; and what happens to a cluster meanwhile."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from kvctl.main import main
from tests.cluster import Cluster
from tests.kvctl import process
from tests.kvctl.process import KVCTL, SECONDS, next_line, surroundings

POLL_SECONDS = 0.01
END_SECONDS = 2.0


def run(*arguments: str, url: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """In this process, unless one below it may write."""
    if "--" in arguments or "render" in arguments:
        return process.run(*arguments, url=url, environ=environ)
    return here(*arguments, url=url, environ=environ)


def here(*arguments: str, url: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """In this process: a start costs more than all the rest."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    before = signal.getsignal(signal.SIGINT)
    with (
        mock.patch.dict(os.environ, surroundings(ETCDCTL_ENDPOINTS=url, **environ or {}), clear=True),
        mock.patch.multiple(sys, stdout=streams[0], stderr=streams[1]),
    ):
        try:
            status = main(arguments)
        finally:
            signal.signal(signal.SIGINT, before)
    out, err = (stream.buffer.getvalue().decode() for stream in streams)
    return subprocess.CompletedProcess(arguments, status, out, err)


def says(*arguments: str, url: str) -> str:
    """What it prints when it goes well."""
    done = run(*arguments, url=url)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@contextmanager
def started(*arguments: str, url: str, environ: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Ended at the end, if it still runs, with the command below it."""
    child = subprocess.Popen(
        [*KVCTL, *arguments],
        env=surroundings(ETCDCTL_ENDPOINTS=url) | dict(environ or {}),
        bufsize=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with child:
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()


def line(child: subprocess.Popen[bytes]) -> str:
    return next_line(child).rstrip("\n")


def end(child: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Its exit status and standard error, once it ended by itself."""
    assert child.stderr is not None
    status = child.wait(SECONDS)
    said = child.stderr.read().decode()
    assert "Traceback" not in said, said
    return status, said


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(POLL_SECONDS)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def published(cluster: Cluster) -> None:
    """Waits until each member has told the others its client URLs, which clients look up first."""

    def all_have() -> bool:
        members = json.loads(cluster.leader().get("/v2/members")[1])["members"]
        return all(member["clientURLs"] for member in members)

    until(all_have, "all client URLs are known")


@contextmanager
def without_leader(cluster: Cluster) -> Iterator[None]:
    """kill -9 for whoever leads; it is back and all are healthy afterwards."""
    leader = cluster.leader()
    leader.kill()
    try:
        yield
    finally:
        cluster.restart(leader.name)
        cluster.wait_until_healthy()


@contextmanager
def frozen(cluster: Cluster) -> Iterator[None]:
    """No member says anything, though all accept connections."""
    for member in cluster.members:
        member.pause()
    try:
        yield
    finally:
        for member in cluster.members:
            member.resume()
        cluster.leader()


@contextmanager
def nobody() -> Iterator[str]:
    """An endpoint where nobody listens, and nobody will."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


class Terminal:
    """A terminal that a program has as its own, as a shell's user has one."""

    def __init__(self, pid: int, handle: int) -> None:
        self.shown = ""
        self._pid = pid
        self._handle = handle

    def type(self, text: str) -> None:
        os.write(self._handle, text.encode())

    def shows(self, text: str) -> None:
        """Waits until it is on the screen."""
        deadline = time.monotonic() + SECONDS
        while text not in self.shown:
            assert select.select([self._handle], [], [], max(deadline - time.monotonic(), 0))[0], self.shown
            self.shown += os.read(self._handle, 65536).decode()

    def status(self) -> int:
        """Once it has ended, which must be about to happen."""
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


@contextmanager
def on_controlling_terminal(command: list[str], environ: Mapping[str, str]) -> Iterator[Terminal]:
    pid, handle = os.forkpty()
    if pid == 0:
        os.execvpe(command[0], command, environ)
    try:
        yield Terminal(pid, handle)
    finally:
        os.close(handle)  # whoever has it is hung up
