"""kvstored and, where it is installed, etcd, brought to the same index and history, so that answers can be equal.

`Sides` asks all of them the same; what the answer should be comes from elsewhere.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.cluster import ETCD, KVSTORED, Cluster
from tests.differential.conversation import Conversation, Response
from tests.differential.requests import Request
from tests.differential.tree import HISTORY

COMMANDS: dict[str, tuple[str, ...]] = {"kvstored": (*KVSTORED, "--event-history", str(HISTORY))}
if shutil.which("etcd"):
    COMMANDS["etcd"] = ETCD
SETTLE_SECONDS = 20.0
BASE = 16  # the index to begin at: etcd writes a few events of its own as it starts

_turns = itertools.count()


class Side:
    """One server and the connection that asks it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._cluster = Cluster.of(1, folder / f"{name}{next(_turns)}", COMMANDS[name])
        self._cluster.start()
        self._member = self._cluster.members[0]
        self._main = self.connect()

    def connect(self) -> Conversation:
        return Conversation(self._member.address, self._member.ports.client)

    def send(self, request: Request) -> None:
        self._main.send(bytes(request))

    def response(self, request: Request) -> Response:
        return self._main.response(request.method)

    def index(self) -> int:
        request = Request("GET", b"")
        self.send(request)
        return int(self.response(request).headers[b"x-etcd-index"])

    def has_come_to(self, index: int) -> bool:
        return self.index() >= index

    def fill(self, count: int) -> None:
        """`count` events on a key that is hidden."""
        if count == 0:
            return
        writes = [Request("PUT", b"/_fill", form=())] * (count - 1) + [Request("DELETE", b"/_fill")]
        self._main.send(b"".join(map(bytes, writes)))
        for write in writes:
            assert self._main.response(write.method).status in (200, 201)

    def is_ready(self) -> bool:
        """etcd writes the version of the cluster some time after it is healthy."""
        return bool(json.loads(self._member.get("/version")[1])["etcdcluster"] == "3.4.0")

    def close(self) -> None:
        self._main.close()
        self._cluster.close()


class Sides:
    """All servers, at the same index. Made anew when they no longer are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sides: list[Side] = []

    def __iter__(self) -> itertools.chain[Side]:
        return itertools.chain(self._sides)

    def start(self) -> int:
        """Fresh servers whose histories hold the same 1000 events; their index."""
        self.close()
        for name in COMMANDS:
            self._sides.append(Side(name, self._folder))
        for side in self._sides:
            self._until(side.is_ready, f"{side.name} knows its version")
            missing = BASE - side.index()
            assert missing >= 2 or missing == 0, f"{side.name} begins {missing} below {BASE}"
            side.fill(missing)
        for side in self._sides:
            side.fill(HISTORY)
        self.wait_for(BASE + HISTORY)
        return BASE + HISTORY

    def ask(self, request: Request) -> list[tuple[Side, Response]]:
        """Asks all of them at the same time."""
        for side in self._sides:
            side.send(request)
        return [(side, side.response(request)) for side in self._sides]

    def wait_for(self, index: int) -> None:
        """Until the servers' own sweeps have brought all of them there."""
        for side in self._sides:
            self._until(partial(side.has_come_to, index), f"{side.name} comes to index {index}")
            assert side.index() == index, f"{side.name} is at {side.index()}, not at {index}"

    def close(self) -> None:
        for side in self._sides:
            side.close()
        self._sides.clear()

    @staticmethod
    def _until(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"after {SETTLE_SECONDS} s not yet so: {what}"
            time.sleep(0.01)
