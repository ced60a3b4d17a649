"""One to seven real servers on this machine, kvstored or etcd: for `make cluster` and the benchmarks.

Plain and blocking, so that a script reads from top to bottom; the system tests have their own, asynchronous members.
Whatever happens, leaving a `Cluster` ends its servers. `python -m tests.cluster` is `make cluster`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, NamedTuple, NoReturn

ROOT = Path(__file__).parents[1]
START_SECONDS = 20.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02

KVSTORED = (sys.executable, "-m", "kvstored")
ETCD = ("etcd", "--enable-v2", "--logger=zap", "--log-outputs=stderr")

_BECAME_LEADER = re.compile(r"raft became leader term=(\d+)")
_COLOURS = (36, 33, 35, 32, 34, 31, 37)  # of the terminal, one a member


class ClusterError(Exception):
    """A server did not do what was waited for; the text ends with the last lines it logged."""


class Ports(NamedTuple):
    client: int
    peer: int


class Pair(NamedTuple):
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Tls(NamedTuple):
    """With what a member listens and dials, and with what it is asked; mutual, or between members alone."""

    authority: Path
    server: Pair
    peer: Pair
    client: Pair
    asks_clients: bool = True
    revoked: Path | None = None  # the list, for both sides
    peer_authority: Path | None = None  # None: `authority`
    peer_revoked: Path | None = None  # None: `revoked`

    @property
    def flags(self) -> tuple[str, ...]:
        ca, peer_ca = str(self.authority), str(self.peer_authority or self.authority)
        peer_revoked = self.peer_revoked or self.revoked
        return (
            *("--cert-file", str(self.server.cert), "--key-file", str(self.server.key)),
            *(("--trusted-ca-file", ca, "--client-cert-auth") if self.asks_clients else ()),
            *("--peer-cert-file", str(self.peer.cert), "--peer-key-file", str(self.peer.key)),
            *("--peer-trusted-ca-file", peer_ca, "--peer-client-cert-auth"),
            *(("--client-crl-file", str(self.revoked)) if self.revoked else ()),
            *(("--peer-crl-file", str(peer_revoked)) if peer_revoked else ()),
        )

    def for_curl(self, folder: Path) -> str:
        """curl's options, with paths as they are seen from `folder`."""
        paths = [path.relative_to(folder) for path in (self.authority, *self.client)]
        return "--cacert {} --cert {} --key {}".format(*paths)

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(*self.client)
        return context


class Member:
    """One server: its command, its folder, its log, and the running process if there is one."""

    def __init__(
        self, name: str, folder: Path, address: str, ports: Ports, command: Sequence[str], tls: Tls | None = None
    ) -> None:
        self.name = name
        self.folder = folder / name
        self.log_path = folder / f"{name}.log"
        self.address = address
        self.ports = ports
        scheme = "http" if tls is None else "https"
        self.client_url = f"{scheme}://{address}:{ports.client}"
        self.peer_url = f"{scheme}://{address}:{ports.peer}"
        self.command = tuple(command) if tls is None else (*command, *tls.flags)
        self._tls = tls
        self.more_client_urls: tuple[str, ...] = ()  # to listen on beside `client_url`
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self, initial_cluster: str, output: IO[bytes] | int | None = None) -> None:
        """Starts the server; its log goes to its log file, or to `output`. Does not wait until it serves."""
        assert not self.is_running, f"{self.name} runs already"
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        arguments = [
            *self.command,
            *("--name", self.name, "--data-dir", str(self.folder), "--initial-cluster", initial_cluster),
            *("--listen-client-urls", ",".join((self.client_url, *self.more_client_urls))),
            *("--advertise-client-urls", self.client_url),
            *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
        ]
        with self.log_path.open("ab") as log:
            # A session of its own: Ctrl-C reaches only us, and we end the servers one after the other.
            self.process = subprocess.Popen(
                arguments,
                stdout=output or log,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal and waits for the end; the exit status. Kills it when it does not end in time."""
        assert self.process is not None, f"{self.name} was never started"
        self.signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ClusterError(f"{self.name} did not end within {STOP_SECONDS} s\n{self.last_lines()}") from None

    def kill(self) -> None:
        """kill -9; the process is gone on return."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def get(self, path: str, seconds: float = 1.0) -> tuple[int, bytes]:
        """Status and body of one GET. OSError or http.client.HTTPException when there is no answer."""
        connection = http.client.HTTPConnection(self.address, self.ports.client, timeout=seconds)
        if self._tls is not None:
            context = self._tls.context()
            connection = http.client.HTTPSConnection(self.address, self.ports.client, timeout=seconds, context=context)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def is_healthy(self) -> bool:
        """Whether it serves and knows a leader."""
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            status, body = self.get("/health")
            return status == 200 and json.loads(body)["health"] == "true"
        return False

    def led_term(self) -> int:
        """The last term in which this member became leader, as its log has it; 0 for none."""
        return max((int(term) for term in _BECAME_LEADER.findall(self.log)), default=0)

    def last_lines(self, count: int = 10) -> str:
        return "\n".join(f"{self.name} | {line}" for line in self.log.splitlines()[-count:])


class Cluster:
    """Members that form one cluster. As a context manager: started and healthy inside, gone afterwards."""

    def __init__(self, members: Sequence[Member]) -> None:
        assert 1 <= len(members) <= 7
        self.members = list(members)
        self.initial_cluster = ",".join(f"{member.name}={member.peer_url}" for member in members)

    @classmethod
    def of(
        cls,
        count: int,
        folder: Path,
        command: Sequence[str] = KVSTORED,
        tls: Tls | None = None,
        address: str | None = None,
    ) -> Cluster:
        """`count` members n1, n2, ... on free ports of a loopback address that is likely nobody else's."""
        address = address or loopback()
        ports = free_ports(address, 2 * count)
        return cls(
            [
                Member(f"n{i + 1}", folder, address, Ports(ports[2 * i], ports[2 * i + 1]), command, tls)
                for i in range(count)
            ]
        )

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __getitem__(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    @property
    def running(self) -> list[Member]:
        return [member for member in self.members if member.is_running]

    def start(self) -> None:
        """Starts all members and waits until all are healthy."""
        for member in self.members:
            member.start(self.initial_cluster)
        self.wait_until_healthy()

    def restart(self, name: str) -> None:
        """Starts a member that has ended again, on the same folder; does not wait."""
        self[name].start(self.initial_cluster)

    def wait_until_healthy(self, seconds: float = START_SECONDS) -> None:
        """Waits for all members, running or not. ClusterError when one has ended or the time is over."""
        for member in self.members:
            self._until(member, member.is_healthy, "is healthy", seconds)

    def leader(self, seconds: float = START_SECONDS) -> Member:
        """The running member that leads, by /v2/stats/self where it is served, else by the members' logs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for member in self.running:
                if member.is_healthy() and self._leads(member):
                    return member
            time.sleep(POLL_SECONDS)
        raise ClusterError(f"no leader within {seconds} s\n" + "\n".join(one.last_lines() for one in self.members))

    def close(self) -> None:
        """Ends all members at once, whatever state they are in."""
        for member in self.members:
            if member.is_running:
                member.resume()
                member.kill()

    def _leads(self, member: Member) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, body = member.get("/v2/stats/self")
            if status == 200:
                return bool(json.loads(body)["state"] == "StateLeader")
        term = member.led_term()
        return term > 0 and term == max(other.led_term() for other in self.members)

    def _until(self, member: Member, condition: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            if not member.is_running:
                status = member.process.returncode if member.process else None
                raise ClusterError(f"{member.name} ended with status {status}\n{member.last_lines()}")
            if condition():
                return
            if time.monotonic() > deadline:
                raise ClusterError(f"after {seconds} s not yet so: {member.name} {what}\n{member.last_lines()}")
            time.sleep(POLL_SECONDS)


def loopback() -> str:
    """An address of this machine that is likely nobody else's."""
    return ".".join(["127", *(str(random.randrange(1, 255)) for _ in range(3))])


def free_ports(address: str, count: int) -> list[int]:
    """Ports that are free now, all different."""
    with contextlib.ExitStack() as probes:
        ports = []
        for _ in range(count):
            probe = probes.enter_context(socket.socket())
            probe.bind((address, 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def environment() -> dict[str, str]:
    """Ours, without what would change a server's settings, or make it compile its own source at each start, which no
    installed one does."""
    left_out = ("ETCD_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "cmd")))}


# --- make cluster -------------------------------------------------------------------------------------------------

_ADDRESS = "127.0.0.1"
_PORTS = (Ports(2379, 2380), Ports(22379, 22380), Ports(32379, 32380))

_TRY = """
Three members serve on {urls}. Try:

  curl {files}-L {first}/v2/keys/message -XPUT -d value=hello
  curl {files}-L {second}/v2/keys/message
  curl {files}-L '{third}/v2/keys/message?wait=true'      # waits for the next change
  curl {files}-L {second}/health

Data and logs are in {folder}. Ctrl-C stops all three.
"""


def main(with_tls: bool = False) -> int:
    """Three members on the usual ports until Ctrl-C; exit status 1 when they cannot start."""
    folder = ROOT / "run" / ("cluster-tls" if with_tls else "cluster")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _check_ports()
        tls = certificates(folder / "certs") if with_tls else None
        cluster = Cluster(
            [Member(f"n{i + 1}", folder, _ADDRESS, ports, KVSTORED, tls) for i, ports in enumerate(_PORTS)]
        )
        with _shown(cluster):
            cluster.wait_until_healthy()
            urls = [member.client_url for member in cluster.members]
            first, second, third = urls
            files = "" if tls is None else f"{tls.for_curl(ROOT)} "
            text = _TRY.format(
                urls=", ".join(urls),
                first=first,
                second=second,
                third=third,
                folder=folder.relative_to(ROOT),
                files=files,
            )
            print(text, flush=True)
            for member in cluster.members:
                assert member.process is not None
                member.process.wait()
    except KeyboardInterrupt:
        return 0
    except ClusterError as problem:
        print(f"make cluster: {str(problem).splitlines()[0]}", file=sys.stderr)
        return 1
    return 1  # all have ended by themselves


def _check_ports() -> None:
    """ClusterError where one is taken: whoever has it would be taken for our member when it answers."""
    for port in (port for ports in _PORTS for port in ports):
        with socket.socket() as probe:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as the server does: past connections count not
            try:
                probe.bind((_ADDRESS, port))
            except OSError:
                raise ClusterError(f"{_ADDRESS}:{port} is in use; does another cluster run?") from None


def certificates(folder: Path) -> Tls:
    """Made by kvctl, once, for members on 127.0.0.1; what is about to end is renewed."""
    if (folder / "ca.crt").exists() and not (folder / "peer-ca.crt").exists():
        shutil.rmtree(folder)  # with one authority for all, from before there were two
    commands = {
        "ca": ("init",),
        "server": ("server", "127.0.0.1", "localhost"),
        "peer": ("peer", "127.0.0.1"),
        "client-root": ("client", "root"),
    }
    for file, (command, *words) in commands.items():
        if not (folder / f"{file}.crt").exists():
            _kvctl("certs", command, "--dir", str(folder), *words)
    _kvctl("certs", "renew", "--dir", str(folder), quiet=True)
    server, peer, root = (Pair(folder / f"{file}.crt", folder / f"{file}.key") for file in list(commands)[1:])
    return Tls(
        folder / "ca.crt",
        server,
        peer,
        root,
        revoked=folder / "ca.crl",
        peer_authority=folder / "peer-ca.crt",
        peer_revoked=folder / "peer-ca.crl",
    )


def _kvctl(*arguments: str, quiet: bool = False) -> None:
    output = subprocess.DEVNULL if quiet else None
    try:
        subprocess.run((sys.executable, "-m", "kvctl", *arguments), env=environment(), stdout=output, check=True)
    except subprocess.CalledProcessError as problem:
        raise ClusterError(f"kvctl {' '.join(arguments)} ended with status {problem.returncode}") from None


@contextlib.contextmanager
def _shown(cluster: Cluster) -> Iterator[None]:
    """Starts the members with their logs on this terminal, each line after its member's name; stops them at the end."""
    shown = []
    try:
        for number, member in enumerate(cluster.members):
            member.start(cluster.initial_cluster, subprocess.PIPE)
            thread = threading.Thread(target=_show, args=(member, number), name=f"log of {member.name}")
            thread.start()
            shown.append(thread)
        yield
    finally:
        for member in reversed(cluster.running):
            with contextlib.suppress(ClusterError):
                member.stop()
        for thread in shown:
            thread.join()


def _show(member: Member, number: int) -> None:
    """Copies a member's log to the terminal and to its file until the member ends."""
    assert member.process is not None
    assert member.process.stdout is not None
    prefix = f"{member.name} | "
    if sys.stdout.isatty():
        prefix = f"\x1b[{_COLOURS[number]}m{prefix}\x1b[0m"
    with member.log_path.open("ab") as log:
        for line in member.process.stdout:
            log.write(line)
            log.flush()
            print(prefix + line.decode(errors="replace"), end="", flush=True)
    print(f"{prefix}ended with status {member.process.wait()}", flush=True)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(with_tls="--tls" in sys.argv[1:]))
