"""The two systems that are compared, as running clusters, and what the kernel says of their processes.

Both get the same flags and keep their data below run/, on the disk that the project lies on and not in a /tmp that
may be memory. Knows nothing of loads or rows.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cluster import ETCD, KVSTORED, ROOT, Cluster, Member, free_ports

OURS, ETCD_NAME = "kvstored", "etcd"
COMMANDS = {OURS: KVSTORED, ETCD_NAME: ETCD}
TLS_SECONDS = 30.0  # for openssl
_TICKS = os.sysconf("SC_CLK_TCK")

#: What measures, and the Debian package it comes in.
PACKAGES = {"etcd": "etcd-server", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl"}


class CannotMeasure(Exception):
    """Something is missing or went wrong; the text is one line for the table."""


def missing() -> list[str]:
    return [tool for tool in PACKAGES if shutil.which(tool) is None]


def need(tool: str) -> None:
    """Raises CannotMeasure with what to install."""
    if shutil.which(tool) is None:
        raise CannotMeasure(f"{tool} is not installed; on Debian: apt-get install {PACKAGES[tool]}")


@contextlib.contextmanager
def running(system: str, members: int, flags: Sequence[str] = ()) -> Iterator[Cluster]:
    """A fresh cluster that is healthy; gone afterwards, with its data."""
    if system == ETCD_NAME:
        need("etcd")
    with _folder() as folder, Cluster.of(members, folder, (*COMMANDS[system], *flags)) as cluster:
        yield cluster


@contextlib.contextmanager
def running_with_tls(system: str) -> Iterator[tuple[Cluster, str]]:
    """One member that serves plain HTTP as always, and HTTPS at the URL that is given beside it."""
    if system == ETCD_NAME:
        need("etcd")
    need("openssl")
    with _folder() as folder:
        cluster = Cluster.of(1, folder, COMMANDS[system])
        member = cluster.members[0]
        certificate, key = _certificate(folder, member.address)
        member.command += ("--cert-file", str(certificate), "--key-file", str(key))
        url = f"https://{member.address}:{free_ports(member.address, 1)[0]}"
        member.more_client_urls = (url,)
        with cluster:
            yield cluster, url


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    place = ROOT / "run"
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=place) as folder:
        yield Path(folder)


def _certificate(folder: Path, address: str) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=bench"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-addext", f"subjectAltName=IP:{address}"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        text=True,
        timeout=TLS_SECONDS,
        check=False,
    )
    if made.returncode != 0:
        raise CannotMeasure(f"openssl makes no certificate: {made.stderr.strip().splitlines()[-1]}")
    return certificate, key


def cpu_seconds(cluster: Cluster) -> float:
    """User and system time that the processes of all members have used."""
    return sum(_cpu_seconds(member) for member in cluster.running)


def _cpu_seconds(member: Member) -> float:
    # The command's name in parentheses may hold anything; user and system time are the 14th and 15th field.
    fields = (_process(member) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(member: Member) -> int:
    lines = (_process(member) / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def _process(member: Member) -> Path:
    assert member.process is not None
    return Path(f"/proc/{member.process.pid}")


def snapshots_of(member: Member) -> frozenset[str]:
    """Names of the finished snapshots in its folder; both systems keep them in the same place."""
    return frozenset(path.name for path in (member.folder / "member" / "snap").glob("*.snap"))
