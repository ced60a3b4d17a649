"""The recipes for TLS on the pages, run as they are written, and who is let in where afterwards.

Only names of machines are changed: addresses, ports, and the folders that begin with a slash.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import ROOT, environment, free_ports, loopback

SECONDS = 20.0
PAGE = (ROOT / "docs" / "operations.md").read_text()
NAMES = ("n1", "n2", "n3")


def block(section: str, number: int, page: str = PAGE) -> str:
    """The lines of the shell in a section of a page, counted from 0."""
    text = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return str(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[number])


def shell(line: str, folder: Path) -> None:
    """Runs a line of a page; `kvctl` and `kvstored` are ours."""
    begin = "".join(f'{name}() {{ "{sys.executable}" -m {name} "$@"; }}; ' for name in ("kvctl", "kvstored"))
    ran = subprocess.run(
        ("bash", "-ec", begin + line), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{line}\n{ran.stderr}"


class Machines:
    """Three members as the page starts them, each on an address of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        first, _, rest = loopback().rpartition(".")
        low = min(int(rest), 250)
        self.addresses = {name: f"{first}.{low + number}" for number, name in enumerate(NAMES)}
        self.ports = {name: free_ports(address, 2) for name, address in self.addresses.items()}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def here(self, text: str, name: str = "n1") -> str:
        """Lines of the page with the machines of this test; those for n1 become those for `name`."""
        lines = []
        for line in text.replace("\\\n", "\n").splitlines():
            if "--initial-cluster " not in line:  # the same everywhere
                line = re.sub(r"\bn1\b", name, line).replace("10.0.0.1", f"10.0.0.{NAMES.index(name) + 1}")
            lines.append(line)
        text = "\n".join(lines)
        for number, other in enumerate(NAMES, 1):
            for port, ours in zip((2379, 2380), self.ports[other], strict=True):
                text = text.replace(f"10.0.0.{number}:{port}", f"{self.addresses[other]}:{ours}")
            text = re.sub(rf"10\.0\.0\.{number}\b", self.addresses[other], text)
        # On one machine, members dial from 127.0.0.1, whatever address they listen on.
        text = re.sub(r"(kvctl certs peer [^#\n]*?)( *#|$)", r"\1 127.0.0.1 \2", text, flags=re.MULTILINE)
        return text.replace("/var/lib/kvstored", f"data-{name}").replace("http://", "https://")

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def start(self, name: str) -> None:
        start = block("Start", 0).rstrip().removeprefix("kvstored ") + " \\\n" + block("TLS", 1)
        words = shlex.split(self.here(start, name))
        with (self.folder / f"{name}.log").open("ab") as log:
            command = (sys.executable, "-m", "kvstored", *words)
            self.processes[name] = subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=log, stderr=log)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n" + "\n".join(map(self.log, NAMES))
            for name, process in self.processes.items():
                assert process.poll() is None, self.log(name)
            time.sleep(0.02)

    def context(self, file: str | None, authority: str = "ca") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.folder / "certs" / f"{authority}.crt")
        if file is not None:
            context.load_cert_chain(self.folder / "certs" / f"{file}.crt", self.folder / "certs" / f"{file}.key")
        return context

    def ask(self, port: str, file: str | None, path: str, method: str = "GET", authority: str = "") -> bytes:
        """What n1 answers at its client or peer port to one that shows this certificate; nothing if it ends it."""
        address = (self.addresses["n1"], self.ports["n1"][port == "peer"])
        context = self.context(file, authority or ("peer-ca" if port == "peer" else "ca"))
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),
            socket.create_connection(address, SECONDS, (address[0], 0)) as raw,
            context.wrap_socket(raw, server_hostname=address[0]) as secured,
        ):
            secured.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            return secured.recv(1 << 16)
        return b""

    def is_healthy(self) -> bool:
        with contextlib.suppress(OSError):
            return b'"health":"true"' in self.ask("client", "client-alice", "/health").replace(b" ", b"")
        return False

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    made = Machines(tmp_path_factory.mktemp("recipe"))
    for line in block("TLS", 0).splitlines():
        members = NAMES if "n1" in line else NAMES[:1]
        for name in members:
            shell(made.here(line, name), made.folder)
    shell("kvctl certs client mallory; kvctl certs client n1; kvctl certs client revoked", made.folder)
    shell("kvctl certs peer --name revoked 127.0.0.1; kvctl certs revoke peer-revoked client-revoked", made.folder)
    try:
        for name in NAMES:
            made.start(name)
        made.wait(made.is_healthy, "n1 is healthy")
        yield made
    finally:
        made.close()


def test_the_members_form_a_cluster(machines: Machines) -> None:
    def is_led() -> bool:
        stats = machines.ask("client", "client-alice", "/v2/members")
        return all(f'"name":"{name}"'.encode() in stats for name in NAMES)

    machines.wait(is_led, "all three have published their names")
    assert b"201" in machines.ask("client", "client-alice", "/v2/keys/hello?value=a", "PUT")[:20]
    assert not any("cannot speak with a member" in machines.log(name) for name in NAMES)


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        ("client-mallory", "unable to get local issuer certificate"),
        ("client-n1", "unable to get local issuer certificate"),
        ("server-n1", "certificate"),
        ("peer-revoked", "is revoked"),
        ("client-revoked", "certificate"),
        (None, "it shows no certificate"),
    ],
)
def test_the_peer_port_is_for_members_alone(machines: Machines, shown: str | None, why: str) -> None:
    said = len(machines.log("n1"))
    assert machines.ask("peer", shown, "/members") == b""
    if shown in ("client-mallory", "peer-revoked", None):  # the others repeat a line, which is left out
        machines.wait(lambda: why in machines.log("n1")[said:], why)


def test_a_member_comes_in_at_the_peer_port(machines: Machines) -> None:
    assert machines.ask("peer", "peer-n1", "/members").startswith(b"HTTP/1.1 200")


def test_the_client_port_is_for_users_alone(machines: Machines) -> None:
    """A member's certificate with the common name n1 is not the user n1's."""
    assert machines.ask("client", "client-n1", "/v2/keys/").startswith(b"HTTP/1.1 200")
    for shown in ("peer-n1", "server-n1", "client-revoked", None):
        assert machines.ask("client", shown, "/v2/keys/") == b""


def test_one_authority_for_all_does_not_let_users_in_either(tmp_path: Path) -> None:
    """A folder of the release before: the usage alone tells a user from a member."""
    folder = tmp_path / "certs"
    shell("kvctl certs init; rm certs/peer-ca.*", tmp_path)
    address = loopback()
    ports = free_ports(address, 2)
    shell(f"kvctl certs server {address}; kvctl certs peer {address}; kvctl certs client mallory", tmp_path)
    client, peer = (f"https://{address}:{port}" for port in ports)
    files = [f"--{side}{kind}={folder / name}" for side, kind, name in (
        ("", "cert-file", "server.crt"), ("", "key-file", "server.key"), ("", "trusted-ca-file", "ca.crt"),
        ("peer-", "cert-file", "peer.crt"), ("peer-", "key-file", "peer.key"), ("peer-", "trusted-ca-file", "ca.crt"),
    )]  # fmt: skip
    command = (
        *(sys.executable, "-m", "kvstored", "--data-dir", str(tmp_path / "data"), *files),
        *("--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer),
        *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
    )
    machines = Machines(tmp_path)
    machines.addresses["n1"], machines.ports["n1"] = address, ports
    with (
        (tmp_path / "n1.log").open("wb") as log,
        subprocess.Popen(command, env=environment(), stdout=log, stderr=log) as process,
    ):
        try:
            deadline = time.monotonic() + SECONDS
            while "serves clients" not in machines.log("n1"):
                assert time.monotonic() < deadline, machines.log("n1")
                time.sleep(0.02)
            assert machines.ask("peer", "peer", "/members", authority="ca").startswith(b"HTTP/1.1 200")
            for shown in ("client-mallory", "server", None):
                assert machines.ask("peer", shown, "/members", authority="ca") == b""
        finally:
            process.kill()


def test_the_commands_of_the_other_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "kvctl.md").read_text()
    for line in block("Certificates", 0, page).splitlines():
        shell(line, tmp_path)
    assert (tmp_path / "certs" / "peer-n1.crt").exists()


def test_an_authority_is_rolled_without_a_gap(machines: Machines) -> None:
    """The lines of the page on a cluster that runs; every step is taken by all members before the next."""
    recipe = PAGE.partition("- *The authority*, without a gap")[2].partition("###")[0]
    first, join_files, join_lists = re.findall(r"`((?:kvctl|cat) [^`]*)`", recipe)
    shell(first, machines.folder)
    for line in block("TLS", 0).splitlines()[1:3]:
        for name in NAMES:
            shell(machines.here(line.partition("#")[0], name) + " --dir new", machines.folder)
    shell("kvctl certs client --dir new alice", machines.folder)
    took = machines.log("n1").count("uses changed certificates")

    def step(*lines: str) -> None:
        """Both sides take changed files, perhaps more than once; then a client is answered."""
        nonlocal took
        shell("; ".join(lines), machines.folder)
        wanted = took + 2
        machines.wait(lambda: machines.log("n1").count("uses changed certificates") >= wanted, "n1 uses the files")
        took = machines.log("n1").count("uses changed certificates")
        assert machines.is_healthy()

    lines = [text.replace("/ca.", "/peer-ca.") for text in (join_files, join_lists)]
    peers = [text.replace("both", "peers") for text in lines]
    for kind in ("crt", "crl"):
        peers += [f"mv both.{kind} certs/ca.{kind}", f"mv peers.{kind} certs/peer-ca.{kind}"]
    step(join_files, join_lists, *peers)
    step("cp new/server-* new/peer-n* new/client-* certs/")
    step("cp new/ca.crt new/ca.crl new/peer-ca.crt new/peer-ca.crl certs/")
    assert b"HTTP/1.1 201" in machines.ask("client", "client-alice", "/v2/keys/rolled?value=a", "PUT")[:20]
    assert machines.ask("client", "client-mallory", "/v2/keys/") == b""
