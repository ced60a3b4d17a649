"""etcdctl and kvctl as functions of a command line, and what makes two outcomes comparable."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn
from unittest import mock

from kvctl.main import main
from tests.cluster import ETCD, KVSTORED, POLL_SECONDS, Cluster, Member
from tests.kvctl.cases import Case, lines, read

HAS_ETCD = shutil.which("etcd") is not None
HAS_ETCDCTL = shutil.which("etcdctl") is not None
COMMAND_SECONDS = 30.0
SERVERS = {"kvstored": (*KVSTORED, "--bcrypt-cost", "4"), "etcd": (*ETCD, "--bcrypt-cost", "4")}


class Outcome(NamedTuple):
    stdout: str
    stderr: str
    status: int


class Places(NamedTuple):
    """What differs from run to run: replaced in command lines, and by their names in what comes out."""

    url: str
    peer: str
    member: str
    nobody: str


@contextmanager
def fresh(server: str, folder: Path) -> Iterator[Places]:
    """One member of `server`, kvstored or etcd, with no keys."""
    with Cluster.of(1, folder, SERVERS[server]) as cluster, socket.socket() as unused:
        cluster.leader()
        (member,) = cluster.members
        unused.bind((member.address, 0))  # bound, but nobody listens: refused, and nobody else gets the port
        nobody = f"http://{member.address}:{unused.getsockname()[1]}"
        yield Places(member.client_url, member.peer_url, _published(member), nobody)


def _published(member: Member) -> str:
    """The member's id, once it has told its client URLs, which it does just after it leads."""
    deadline = time.monotonic() + COMMAND_SECONDS
    while time.monotonic() < deadline:
        (known,) = json.loads(member.get("/v2/members")[1])["members"]
        if known["clientURLs"]:
            return str(known["id"])
        time.sleep(POLL_SECONDS)
    raise TimeoutError("the member does not tell its client URLs")


def _environment(case: Case, places: Places) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    return {**kept, "ETCDCTL_ENDPOINTS": places.url, **case.environment}


def etcdctl(case: Case, places: Places) -> Outcome:
    done = subprocess.run(
        ["etcdctl", *case.arguments],
        env={**_environment(case, places), "ETCDCTL_API": "2"},
        input=case.stdin.encode(),
        capture_output=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    return Outcome(done.stdout.decode(), done.stderr.decode(), done.returncode)


def kvctl(case: Case, places: Places) -> Outcome:
    """In this process: a start costs more than all the rest. `test_process.py` has real ones."""
    streams = [io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8") for raw in (case.stdin.encode(), b"", b"")]
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(int(COMMAND_SECONDS))
    with (
        mock.patch.dict(os.environ, _environment(case, places), clear=True),
        mock.patch.multiple(sys, stdin=streams[0], stdout=streams[1], stderr=streams[2]),
    ):
        try:
            status = main(case.arguments)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGINT, before)
        for stream in streams[1:]:
            stream.flush()
    out, err = (stream.buffer.getvalue().decode(errors="surrogateescape") for stream in streams[1:])
    return Outcome(out, err, status)


def _too_long(_number: int, _frame: object) -> NoReturn:
    raise TimeoutError(f"kvctl is not done after {COMMAND_SECONDS} s")


def run_scene(program: str, scene: str, places: Places) -> Iterator[tuple[str, Outcome]]:
    """Each line and its outcome, comparable."""
    for line in lines(scene):
        case = read(line, **places._asdict())
        outcome = {"etcdctl": etcdctl, "kvctl": kvctl}[program](case, places)
        stdout = comparable(outcome.stdout, places)
        if case.arguments[:1] == ("ls",) and "--sort" not in case.arguments:  # etcd lists in any order
            stdout = "".join(sorted(stdout.splitlines(keepends=True)))
        yield line, Outcome(stdout, comparable(outcome.stderr, places), outcome.status)


_PROGRAM_HELP = re.compile(r"NAME:\n.*GLOBAL OPTIONS:\n.*", re.DOTALL)
_EXAMPLE = re.compile(r"\n*EXAMPLE:\n.*\Z", re.DOTALL)
_OURS = re.compile(r"DESCRIPTION:\n   The member must be stopped.*?\n\n", re.DOTALL)  # backup's, which is another


def comparable(text: str, places: Places) -> str:
    """Without what differs between two runs of one program, or must differ between the two programs."""
    for name, value in places._asdict().items():
        text = text.replace(value, f"{{{name}}}").replace(value.removeprefix("http://"), f"{{{name}}}")
    text = _comparable_help(text)
    text = re.sub(r"\b20\d\d-\d\d-\d\dT[0-9:.]+Z", "{time}", text)
    text = re.sub(r'(TTL: |"ttl":)(1000|99\d)\b', r"\g<1>{about 1000}", text)
    text = re.sub(r"\b[0-9a-f]{15,16}\b", "{id}", text)
    text = re.sub(r"stty: 'standard input': Inappropriate ioctl for device\n", "", text)
    return _members_in_order(text.replace("\tkvctl member remove", "\tetcdctl member remove"))


def _comparable_help(text: str) -> str:
    """Without the name, the version, the examples, and spaces at the ends; the list of all commands differs."""
    text = _PROGRAM_HELP.sub("{help}", text)
    text = re.sub(r"^(kv|etcd)ctl version: .*", "{version}", text)
    if "NAME:\n" in text:
        text = re.sub(r"\bkvctl\b", "etcdctl", _OURS.sub("", _EXAMPLE.sub("\n", text)))
        text = re.sub(r" +$", "", text, flags=re.MULTILINE).rstrip("\n") + "\n"
    return text


def _members_in_order(text: str) -> str:
    """Members are listed by their ids, which are drawn anew each time."""
    lines = text.split("\n")
    if all(re.match(r"\{(id|member)\}[:\[]", line) for line in lines[:-1]):
        lines[:-1] = sorted(lines[:-1])
    for place, line in enumerate(lines):
        if line.startswith("ETCD_INITIAL_CLUSTER="):
            lines[place] = ",".join(sorted(line.split('"')[1].split(",")))
    return "\n".join(lines)
