"""kvctl as a real process, where a test is about just that: signals, pipes, terminals, exit statuses."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from tests.cluster import environment

KVCTL = (sys.executable, "-m", "kvctl")
SECONDS = 30.0


def surroundings(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in environment().items() if not name.startswith("ETCDCTL_")}
    return kept | more


def run(
    *arguments: str, url: str = "", stdin: str = "", environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    more = {"ETCDCTL_ENDPOINTS": url} if url else {}
    done = subprocess.run(
        [*KVCTL, *arguments],
        env=surroundings(**more) | dict(environ or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def says(*arguments: str, url: str = "", stdin: str = "") -> str:
    """What it prints when it goes well."""
    done = run(*arguments, url=url, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def begin(*arguments: str, url: str) -> subprocess.Popen[bytes]:
    """A process that goes on; close it with `with`."""
    return subprocess.Popen(
        [*KVCTL, *arguments],
        env=surroundings(ETCDCTL_ENDPOINTS=url),
        bufsize=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def next_line(process: subprocess.Popen[bytes], seconds: float = SECONDS, *, error: bool = False) -> str:
    """The next line that it prints, or says on standard error; empty when there is none within the time."""
    stream = process.stderr if error else process.stdout
    assert stream is not None
    line = b""
    deadline = time.monotonic() + seconds
    while not line.endswith(b"\n") and select.select([stream], [], [], max(deadline - time.monotonic(), 0))[0]:
        byte = stream.read(1)
        if not byte:
            break
        line += byte
    return line.decode()


def interrupt(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Ctrl-C; the exit status and what it said on standard error."""
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, err.decode()


def on_terminal(*arguments: str, url: str = "", stdin: bytes = b"") -> tuple[int, str]:
    """Status and all that a terminal showed; `stdin` is typed into it."""
    leader, follower = os.openpty()
    more = {"ETCDCTL_ENDPOINTS": url} if url else {}
    with subprocess.Popen(
        [*KVCTL, *arguments], env=surroundings(**more), stdin=follower, stdout=follower, stderr=follower, close_fds=True
    ) as child:
        os.close(follower)
        os.write(leader, stdin)
        shown = b""
        while select.select([leader], [], [], SECONDS)[0]:
            try:
                shown += os.read(leader, 65536)
            except OSError:  # the other side is gone
                break
        status = child.wait(SECONDS)
    os.close(leader)
    return status, shown.decode()
