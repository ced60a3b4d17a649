"""One running server: everything below it, put together, started and stopped.

Here alone are the event loop, the ticking clock, the signals and the exit status. What is decided, is decided below.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from random import SystemRandom
from typing import Any

import uvloop

from kvstore import bootstrap, compiled, lanes, logs, verdicts, wire
from kvstore.auth import Auth
from kvstore.bootstrap import Opened, StartError
from kvstore.collector import Collector, no_collections
from kvstore.disk import NodeDisk
from kvstore.exposure import open_doors
from kvstore.heap import give_large_blocks_back
from kvstore.hello import Facts, Hello, Verdict
from kvstore.http import shortcut, sockets, texts
from kvstore.http.app import Http
from kvstore.http.app import Settings as HttpSettings
from kvstore.http.app import serve as serve_http
from kvstore.http.backend import Numbers
from kvstore.http.guard import forget_changed
from kvstore.http.load import Load
from kvstore.http.peer import peer_http
from kvstore.lanes import ThreadLanes
from kvstore.levels import announced_disks
from kvstore.membership import Membership, MembershipError
from kvstore.newcomer import Newcomer
from kvstore.node import Node, NodeOptions
from kvstore.passwords import Passwords
from kvstore.peer_facts import PeerFacts
from kvstore.poison import ApplyFailed
from kvstore.proposals import Done, Outcome, Unavailable
from kvstore.raft.config import Config
from kvstore.raft.types import NO_MEMBER
from kvstore.reconfiguration import Reconfiguration
from kvstore.replicated_clock import ReplicatedClock
from kvstore.settings import Settings, Url
from kvstore.statistics import Turns
from kvstore.storage.errors import DiskFailed, StorageError
from kvstore.storage.files import OSFiles
from kvstore.storage.folder import DataFolder
from kvstore.store.store import Store
from kvstore.tls.sides import FILES_A_HANDSHAKE, Listener, Sides, TlsError, handshakes_for, listen, open_sides
from kvstore.transport import Acceptor, PeerTransport
from kvstore.version import VERSION
from kvstore.wire import (
    TIME_BYTES,
    Announce,
    Checked,
    Guarded,
    LaterVersion,
    MembershipChange,
    PeerMessage,
    Publish,
    UpdateMember,
)

#: One heartbeat is so many ticks. A finer tick than the heartbeat lets a lost leader be replaced sooner.
TICKS_PER_HEARTBEAT = 10
#: Ticks that are made up for at most after a stall, so that what arrived meanwhile is heard before an election.
MAX_CATCH_UP = 3
REQUEST_SECONDS = 5.0  # and two election timeouts: etcd's limit for a request
PUBLISH_SECONDS = 1.0
HAND_OVER_SECONDS = 3.0
GRACE_SECONDS = 5.0
PEER_ACCEPT_QUEUE = 100
#: A snapshot is due after so many bytes of log, or after an eighth of `--max-log-bytes`: writes are refused only after
#: several attempts.
SNAPSHOT_BYTES = 128 << 20
LOG_SNAPSHOTS = 8
#: Files that clients never get: the log, snapshots, listeners, and two connections to each peer and those that retry.
RESERVED_FILES = 100
#: Python's default of 5 ms is how long a bulk thread could keep the event loop waiting for the interpreter.
SWITCH_INTERVAL_SECONDS = 0.0005

#: After the start, when members that start together have had their election.
LOAD_REST_SECONDS = 2.0
#: Between two looks whether the collector has something to do.
COLLECT_LOOK_SECONDS = 5.0

#: Whether all that can be compiled was, and is in use.
is_compiled = all(
    (
        wire.has_shortcuts,
        lanes.is_compiled,
        shortcut.is_compiled,
        sockets.is_compiled,
        texts.is_compiled,
        compiled.is_in_use("kvstore.node"),
    )
)

#: A clock that is never set and goes on while the machine sleeps (Linux).
_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: What a refusal means, where its name alone would not tell.
_ADVICE = {Verdict.VERSION: {"why": "the two run releases that do not go together; start the later one on both"}}

#: The level from which on a member says of itself all that `Announce` holds.
ANNOUNCED_SINCE = 2

EXIT_OK = 0
EXIT_FAILED = 1

log = logs.get("server")

_FATAL_VERDICTS = {
    Verdict.DISK: "this member is known to the cluster with another data folder, so what it once promised is lost;"
    " put the old folder back, or remove the member from the cluster and add it again",
    Verdict.REMOVED: "this member was removed from the cluster",
}


class Server:
    """A member with its listeners. Satisfies `http.Backend`, `http.PeerBackend` and `transport.Receiver`."""

    def __init__(self, settings: Settings, opened: Opened, tls: Sides | None = None) -> None:
        self._settings = settings
        self._tls = tls or Sides()
        self._announced_in_log = announced_disks(opened.entries)
        self._opened = opened._replace(entries=())
        self._loop = asyncio.get_running_loop()
        self.stopping: asyncio.Future[str | None] = self._loop.create_future()  # None, or why it must stop
        self._flush_scheduled = False
        self._is_over = False  # nobody is left to be told anything: no write begins any more
        self._at_turn_end: list[Callable[[], None]] = []
        self._turns = Turns()
        self._https: list[Http] = []
        self._peer_listeners: list[Listener] = []
        self._started = time.time_ns()
        identity = opened.identity
        self.cluster_id = identity.cluster_id
        self._newcomer = Newcomer(identity.member_id, opened.folder.path)
        self._clock = ReplicatedClock(time.time_ns, partial(time.clock_gettime_ns, _MONOTONIC))
        self._peer_facts = PeerFacts(self._clock, settings.heartbeat_interval_ms, settings.election_timeout_ms)
        self._lanes = ThreadLanes(self._flush, self._broken)
        self._hurry = threading.Event()  # set: nobody is left to make a snapshot in small bites for
        self._transport = PeerTransport(identity, self, self._tls.peer, self._facts, settings.own_peer_urls)
        tick_ms = settings.heartbeat_interval_ms / TICKS_PER_HEARTBEAT
        self._tick_seconds = tick_ms / 1000
        election_ticks = round(settings.election_timeout_ms / tick_ms)
        command_bytes = settings.limits.command_bytes
        config = Config(
            election_ticks=election_ticks,
            heartbeat_ticks=TICKS_PER_HEARTBEAT,
            max_entry_bytes=command_bytes + TIME_BYTES,
        )
        self._disk = NodeDisk(
            opened.wal,
            opened.snapshots,
            self._lanes,
            settings.event_history,
            settings.max_wals,
            settings.max_snapshots,
            settings.event_history_bytes,
            self._hurry.wait,
        )
        random = SystemRandom()
        request_ticks = round(REQUEST_SECONDS * 1000 / tick_ms) + 2 * election_ticks
        self.node = Node(
            opened.raft(config, random),
            opened.machine,
            self._disk,
            self._transport,
            self._clock,
            random,
            NodeOptions(
                request_ticks=request_ticks,
                sweep_ticks=max(1, round(500 / tick_ms)),
                snapshot_count=settings.snapshot_count,
                snapshot_bytes=min(SNAPSHOT_BYTES, settings.limits.log_bytes // LOG_SNAPSHOTS),
                max_log_bytes=settings.limits.log_bytes,
                max_command_bytes=command_bytes,
                max_proposals=settings.limits.proposals,
                max_proposal_bytes=settings.limits.buffered_bytes,
                event_history=settings.event_history,
                highest_level=settings.max_level,
            ),
            opened.snapshot,
            opened.skipped,
        )

        self.passwords = Passwords(settings.bcrypt_cost)
        self.auth.observe(partial(forget_changed, self.auth, self.passwords))
        self.reconfiguration = Reconfiguration(
            self,
            settings.initial_cluster_token,
            self._active if settings.strict_reconfig_check else None,
            limit_seconds=request_ticks * self._tick_seconds,
            pause_seconds=self._tick_seconds,
        )

    # --- for HTTP -----------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        return self.node.machine.store

    @property
    def auth(self) -> Auth:
        return self.node.machine.auth

    @property
    def membership(self) -> Membership:
        return self.node.machine.membership

    @property
    def announced(self) -> Publish | Announce:
        """What the cluster should know of this member, as the level allows to say it."""
        identity, settings = self._opened.identity, self._settings
        urls = tuple(map(str, settings.advertise_client_urls))
        if self.node.machine.level < ANNOUNCED_SINCE:
            return Publish(identity.member_id, settings.name, urls)
        return Announce(identity.member_id, settings.name, urls, identity.incarnation, VERSION, settings.max_level)

    def _is_announced(self) -> bool:
        wanted = self.announced
        known = self.membership.members.get(wanted.member)
        if known is None or (known.name, known.client_urls) != (wanted.name, wanted.client_urls):
            return False
        return isinstance(wanted, Publish) or (known.incarnation, known.version, known.highest_level) == (
            wanted.incarnation,
            wanted.version,
            wanted.highest_level,
        )

    @property
    def raft_index(self) -> int:
        return self.node.raft.log.applied

    @property
    def raft_term(self) -> int:
        return self.node.raft.term

    @property
    def leader(self) -> int:
        return self.node.raft.leader

    @property
    def has_leader(self) -> bool:
        return self.node.has_leader

    def now(self) -> int:
        return self.node.now()

    @property
    def commands_pending(self) -> int:
        return self.node.proposals_pending

    def numbers(self) -> Numbers:
        node, raft = self.node, self.node.raft
        return Numbers(
            self._settings.name,
            raft.member_id,
            raft.role,
            self._started,
            raft.term,
            raft.leader,
            node.last_leader,
            node.leader_since,
            node.leader_changes,
            raft.log.committed,
            raft.applied,
            node.proposals_pending,
            node.proposals_failed,
            self._transport.traffic,
            self._disk.sync_seconds,
            self._disk.commit_seconds,
            self._disk.save_seconds,
            self._tls.expiries,
            node.snapshots,
            self._turns,
            clock_differences=self._peer_facts.differences(),
            level=node.machine.level,
            levels={**self._transport.levels(), raft.member_id: self._settings.max_level},
            programs={**self._transport.programs(), raft.member_id: VERSION},
        )

    def execute(self, command: Checked | Guarded | Publish | UpdateMember | Announce) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self.propose(command, partial(_resolve, future))
        return future

    def propose(self, command: Checked | Guarded | Publish | UpdateMember | Announce, done: Done) -> None:
        self.node.propose(command, done)
        self._wake()

    def propose_change(self, change: MembershipChange) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self.node.propose_change(change, partial(_resolve, future))
        self._wake()
        return future

    def _active(self) -> set[int]:
        return self._transport.active | {self.node.raft.member_id}

    def read_barrier(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self.read(partial(_resolve, future))
        return future

    def read(self, done: Callable[[Unavailable | None], None]) -> None:
        self.node.read(done)
        self._wake()

    def at_turn_end(self, callback: Callable[[], None], first: bool = False) -> None:
        at = 0 if first else len(self._at_turn_end)
        self._at_turn_end.insert(at, callback)  # whatever makes the driver call back also has a flush follow it

    # --- for the transport ----------------------------------------------------------------------------------------

    def examine(self, hello: Hello, done: Callable[[Verdict], None]) -> None:
        """Whoever is met for the first time is remembered on the disk before it is welcomed, for a member that lost its
        disk has forgotten its votes. The log lane does that, as it syncs what else must be promised."""
        sender, incarnation = hello.sender, hello.incarnation

        def welcome(is_same: bool) -> None:
            if is_same:
                self._peer_facts.met(hello, self.membership.members)
            done(Verdict.WELCOME if is_same else Verdict.DISK)

        if sender in self.membership.removed and sender not in self.node.raft.members:
            done(Verdict.REMOVED)
            return
        folder = self._opened.folder
        member = self.membership.members.get(sender)
        # What it announced to the cluster counts, and after a start also what the log says that is not applied yet: to
        # learn that it is committed, the others must be welcomed. A pin is this member's own memory, which may be of a
        # disk that was empty; it bridges the time until then.
        announced = member.incarnation if member is not None else b""
        known = announced or self._announced_in_log.get(sender) or folder.pins.get(sender)
        if known is not None:
            welcome(known == incarnation)
        elif self._is_stranger(sender):
            welcome(True)  # what it promises counts for nothing yet, and once it does it says hello again
        else:

            def met(is_same: bool) -> None:
                welcome(is_same)

            self._lanes.log(partial(folder.pin, sender, incarnation), met)

    def _is_stranger(self, member: int) -> bool:
        """Whether this member knows nothing of it: one of the two may be behind, or it is none."""
        return member not in self.membership.members and member not in self.node.raft.members

    def _facts(self) -> Facts:
        """What this member says of itself with each hello."""
        return self._peer_facts.ours(self._settings.max_level, VERSION)

    def received(self, message: PeerMessage) -> None:
        try:
            self.node.receive(message)
        except Exception as bug:
            self._crashed(bug)
        self._wake()

    def connection_made(self, member: int) -> None:
        self.node.connection_made(member)

    def connected(self, member: int) -> None:
        self.node.connected(member)
        self._wake()

    def connection_lost(self, member: int) -> None:
        self.node.connection_lost(member)
        self._wake()

    def refused(self, member: int, verdict: Verdict) -> None:
        log.error("a peer refuses this member", peer=f"{member:x}", reason=verdict.value, **_ADVICE.get(verdict, {}))
        node, raft = self.node, self.node.raft
        members = raft.members or self.membership.members.keys()  # one that joins knows no configuration yet
        counts = verdicts.agreed(raft.member_id, members, self._transport.refusals)
        if counts is not None:
            self._stop(_FATAL_VERDICTS[counts])
        elif verdict is Verdict.CLUSTER:
            is_untouched = raft.log.last_index == bootstrap.GENESIS_INDEX and node.last_leader == NO_MEMBER
            foreign = {one for one, said in self._transport.refusals.items() if said is Verdict.CLUSTER}
            if why := self._newcomer.refused(member, raft.configuration.voters, is_untouched, foreign):
                self._stop(why)

    # --- the loop -------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """One flush for all that happens in this turn of the loop."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._is_over or (self.stopping.done() and self.stopping.result()):
            return
        try:
            more = self.node.flush()
        except LaterVersion as problem:
            self._stop(str(problem))
            return
        except Exception as bug:
            self._crashed(bug)
            return
        if more:
            self._wake()
        self._transport.flush()
        self._end_turn()
        if self.node.removed:
            self._stop(_FATAL_VERDICTS[Verdict.REMOVED])

    def _end_turn(self) -> None:
        callbacks, self._at_turn_end = self._at_turn_end, []
        for callback in callbacks:
            callback()

    async def _tick(self) -> None:
        """Calls the driver's tick at its own pace; a stall is made up for only in part."""
        due = self._loop.time() + self._tick_seconds
        while True:
            wait = max(0.0, due - self._loop.time())
            asked = time.perf_counter()  # the loop's own time stands still during a turn
            await asyncio.sleep(wait)
            self._turns.observe(max(0.0, time.perf_counter() - asked - wait))
            late = int((self._loop.time() - due) / self._tick_seconds)
            for _ in range(1 + min(late, MAX_CATCH_UP)):
                self.node.tick()
            due += (1 + late) * self._tick_seconds
            self._wake()

    async def _load_the_rest(self) -> None:
        """What the first request that is not plain needs: it need not wait for it, and neither need the start."""
        await asyncio.sleep(LOAD_REST_SECONDS)
        await asyncio.to_thread(importlib.import_module, "kvstore.http.general")

    async def _collect(self) -> None:
        """In a quiet moment: nothing was written, read or watched since the last look."""
        collector = Collector(self._loop.time())
        before = (0, 0, 0)
        while True:
            await asyncio.sleep(COLLECT_LOOK_SECONDS)
            counts = self.store.counts
            now = (self.node.raft.applied, counts.gets, counts.watches)
            collector.look(self._loop.time(), is_quiet=now == before)
            before = now

    async def _publish(self) -> None:
        """Tells the cluster this member's name and where clients reach it, until the cluster knows; again when a
        higher level lets it say more.

        Not before this member knows all that the others do: who has a name counts as one that keeps its promises.
        """
        refused = self._tick_seconds  # how long to wait after the next refusal
        while True:
            pause = self._tick_seconds
            if self._is_announced():
                if self.node.machine.level >= ANNOUNCED_SINCE:
                    return
                pause = PUBLISH_SECONDS
            elif self.has_leader and self.announced.member in self.membership.members:
                try:
                    await self.read_barrier()
                    await self.execute(self.announced)
                    refused = pause
                except (Unavailable, MembershipError):  # some refusals come immediately, and as long as their reason
                    pause = refused = min(2 * refused, PUBLISH_SECONDS)
            await asyncio.sleep(pause)

    # --- start and stop -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises OSError when an address cannot be had; then nothing was promised to anybody."""
        http = peer_http(self)

        def peer() -> Acceptor:
            return Acceptor(self._transport, http)

        for url in self._settings.listen_peer_urls:
            credentials = self._tls.peer if url.scheme == "https" else None
            self._peer_listeners.append(await listen(peer, url.host, url.port, PEER_ACCEPT_QUEUE, credentials))
        tls_ports = [
            url.scheme for url in (*self._settings.listen_client_urls, *self._settings.listen_peer_urls)
        ].count("https")
        connections = min(self._settings.limits.connections, _connections_for(_raise_file_limit(), tls_ports))
        settings = HttpSettings(
            limits=replace(self._settings.limits, connections=connections),
            cors=frozenset(self._settings.cors),
            hosts=frozenset(self._settings.host_whitelist),
            client_cert_auth=self._settings.client_tls.client_cert_auth,
        )
        load = Load(settings.limits)
        for schemes, url in _by_port(self._settings.listen_client_urls):
            credentials = self._tls.client if "https" in schemes else None
            with_plain = "http" in schemes
            self._https.append(await serve_http(self, url.host, url.port, credentials, settings, load, with_plain))
            for scheme in schemes:
                log.info("serves clients", url=url._replace(scheme=scheme))
        if doors := list(open_doors(self._settings, self.auth.enabled)):
            log.warning("OPEN TO THE NETWORK", why="; ".join(doors))
        self.node.start()
        self._wake()
        running = (
            self._load_the_rest(),
            self._tick(),
            self._publish(),
            self._collect(),
            *(side.watch() for side in self._tls.open),
        )
        self._tasks = [self._loop.create_task(task) for task in running]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._stop(f"a task of the server broke: {problem!r}")

    def _broken(self, problem: Exception) -> None:
        if isinstance(problem, StorageError | LaterVersion):
            self._stop(str(problem))
        else:
            self._crashed(problem)

    def _crashed(self, bug: Exception) -> None:
        """Whatever the driver would do from here on cannot be trusted, and it must not seem to live either."""
        log.exception("stops because of a bug in kvstored; please report it")
        self._stop(str(bug) if isinstance(bug, ApplyFailed) else f"a bug: {bug!r}")

    def _stop(self, why: str) -> None:
        if not self.stopping.done():
            self.stopping.set_result(why)

    def terminate(self) -> None:
        """A signal asked for it: stop in good order."""
        log.info("was asked to stop")
        if not self.stopping.done():
            self.stopping.set_result(None)

    async def stop_gracefully(self) -> None:
        """Another member leads before this one goes; what is in flight is finished and answered."""
        deadline = self._loop.time() + HAND_OVER_SECONDS
        while self._loop.time() < deadline and self.node.hand_over():
            self._wake()
            await asyncio.sleep(self._tick_seconds / 2)
        await asyncio.gather(*(http.close(GRACE_SECONDS) for http in self._https))
        await self._close()
        self._hurry.set()
        self._is_over = True
        await self._lanes.close()
        self._opened.wal.settle()
        self._opened.wal.close()

    async def stop_at_once(self) -> None:
        """Nothing more may be promised: the disk, or the membership, is lost."""
        self.node.abandon()
        self._end_turn()
        grace = GRACE_SECONDS if self.node.removed else 0.0  # a member that was removed may finish what it says
        await asyncio.gather(*(http.close(grace) for http in self._https))
        await self._close()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for listener in self._peer_listeners:
            listener.close()
        await self._transport.close()
        self.passwords.close()


def _by_port(urls: Iterable[Url]) -> Iterator[tuple[list[str], Url]]:
    """The schemes that are served on each port, with one of its URLs. Port 0 is another one each time."""
    shared: dict[Url, list[str]] = {}
    for url in urls:
        key = url if url.port == 0 else url._replace(scheme="")
        shared.setdefault(key, []).append(url.scheme)
    for key, schemes in shared.items():
        yield schemes, key._replace(scheme=schemes[0])


def _resolve(future: asyncio.Future[Any], outcome: Outcome | None) -> None:
    if future.done():
        return  # the client went away
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _raise_file_limit() -> int:
    """How many files this process may have open, after asking for all that it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # some systems allow less than they say
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _connections_for(files: int, tls_ports: int = 0) -> int:
    """How many clients there may be at a time: the log, the peers and handshakes must always get a file."""
    return max(1, files - RESERVED_FILES - tls_ports * FILES_A_HANDSHAKE * handshakes_for(files))


def run(settings: Settings, started: Callable[[Server], None] | None = None) -> int:
    """Serves until a signal or a failure ends it; gives the exit status. `started` is for tests."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    give_large_blocks_back()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, started))


async def _serve(settings: Settings, started: Callable[[Server], None] | None) -> int:
    files = OSFiles()
    wal_folder = str(settings.wal_dir) if settings.wal_dir else ""
    try:
        folder = DataFolder.open(files, str(settings.data_dir), wal_folder=wal_folder)
    except (StorageError, OSError) as problem:
        return _refuse(problem)
    with contextlib.closing(folder):
        try:
            tls = open_sides(settings, settings.data_dir / "tls")
            with no_collections():
                opened = bootstrap.open_member(settings, files, folder, tls.peer)
        except (TlsError, StartError, StorageError, OSError) as problem:
            return _refuse(problem)
        log.info(
            "starts",
            version=VERSION,
            name=settings.name,
            member=f"{opened.identity.member_id:x}",
            cluster=f"{opened.identity.cluster_id:x}",
            data_dir=settings.data_dir,
            compiled=is_compiled,
        )
        try:
            server = Server(settings, opened, tls)
        except OSError as problem:  # no file is left for the thread that commits
            return _refuse(problem)
        del opened  # the log alone holds its entries now, and forgets them in time
        return await _serve_until_stopped(server, started)


async def _serve_until_stopped(server: Server, started: Callable[[Server], None] | None) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.terminate)
    try:
        await server.start()
    except OSError as problem:
        return _refuse(problem)
    if started is not None:
        started(server)
    why = await server.stopping
    if why is None:
        try:
            await server.stop_gracefully()
        except StorageError as problem:
            why = str(problem)
        else:
            log.info("stopped")
            return EXIT_OK
    log.error("must stop", why=why)
    await server.stop_at_once()
    return EXIT_FAILED


def _refuse(problem: Exception) -> int:
    reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    log.error("cannot start", why=str(problem) if isinstance(problem, DiskFailed) else reason)
    return EXIT_FAILED
