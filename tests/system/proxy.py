"""A network between members that can be cut and slowed, one direction of one pair at a time.

Each member advertises the address of a gate, and the gate passes on what comes to the address where the member really
listens. A peer connection is written to by the side that dialled it (kvstore/transport.py), and its first frame says
who that is: so the gate knows from whom to whom the messages of a connection go. What is cut is dropped in silence, as
a broken network does it, and no connection is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from kvstore.hello import MAX_HELLO_BYTES, PREAMBLE, FrameSplitter, Hello
from kvstore.wire import unpack
from tests.system.members import Cluster, Member, own_address, prepared

MAX_READ = 1 << 16


class Network:
    """The gates of one cluster. Members are known by name."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = {member.name: member for member in members}
        self._names: dict[int, str] = {}  # by member id, once it has dialled
        self._cut: set[tuple[str, str]] = set()
        self._delays: dict[tuple[str, str], float] = {}
        self._gates: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self, sender: Member, receiver: Member) -> None:
        """From now on nothing that `sender` says reaches `receiver`."""
        self._cut.add((sender.name, receiver.name))

    def slow(self, member: Member, seconds: float) -> None:
        """What `member` says and hears takes that much longer each way."""
        for other in self._members:
            self._delays[member.name, other] = self._delays[other, member.name] = seconds

    def heal(self) -> None:
        self._cut.clear()
        self._delays.clear()

    async def open(self) -> None:
        """Gives every member the URL of its gate; call it before the members start."""
        address = own_address()
        for member in self._members.values():
            gate = await asyncio.start_server(partial(self._accept, member), address, 0)
            self._gates.append(gate)
            member.peer_url = f"http://{address}:{gate.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        for gate in self._gates:
            gate.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, to: Member, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        further: asyncio.StreamWriter | None = None
        try:
            begin = await reader.readexactly(len(PREAMBLE) + 4)
            begin += await reader.readexactly(int.from_bytes(begin[-4:], "big"))
            (hello,) = FrameSplitter(MAX_HELLO_BYTES).feed(begin[len(PREAMBLE) :])
            sender = self._name(Hello(*unpack(hello)).sender)
            back, further = await asyncio.open_connection(to.address, to.peer_port)
            further.write(begin)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, further, (sender, to.name)))
                group.create_task(self._pass_on(back, writer, (to.name, sender)))
        except* (OSError, EOFError):
            pass
        finally:
            for side in (writer, further):
                if side is not None:
                    side.transport.abort()

    def _name(self, member_id: int) -> str:
        """Members say their id in their own log."""
        if member_id not in self._names:
            mark = f" member={member_id:x} "
            self._names[member_id] = next(name for name, member in self._members.items() if mark in member.log)
        return self._names[member_id]

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: tuple[str, str]
    ) -> None:
        """Bytes in their order, each when its time has come. EOFError at the end, which closes the other half too."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def release() -> None:
            while True:
                due, octets = await arrived.get()
                if (wait := due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                writer.write(octets)

        releasing = loop.create_task(release())
        dropping = False
        try:
            while octets := await reader.read(MAX_READ):
                # What lacks a piece cannot be taken up again: after a cut this connection stays silent.
                dropping = dropping or direction in self._cut
                if not dropping:
                    arrived.put_nowait((loop.time() + self._delays.get(direction, 0.0), octets))
                elif direction not in self._cut:
                    raise EOFError
        finally:
            releasing.cancel()
            with suppress(asyncio.CancelledError):
                await releasing
        raise EOFError


@asynccontextmanager
async def running_behind_gates(
    count: int, folder: Path, flags: Sequence[str] = ()
) -> AsyncIterator[tuple[Cluster, Network]]:
    """A cluster whose members reach each other only through the gates of a network."""
    async with prepared(count, folder, flags) as cluster:
        network = Network(cluster.members)
        await network.open()
        try:
            cluster.introduce()
            await cluster.start()
            yield cluster, network
        finally:
            await cluster.kill()
            await network.close()
