"""The library that runs real servers for scripts: it finds leaders, tells failures and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import cluster as module
from tests.cluster import (
    ETCD,
    KVSTORED,
    POLL_SECONDS,
    START_SECONDS,
    Cluster,
    ClusterError,
    Member,
    Ports,
    certificates,
    environment,
    free_ports,
)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pids(cluster: Cluster) -> list[int]:
    return [member.process.pid for member in cluster.members if member.process]


def test_three_members_and_a_new_leader_after_a_kill(tmp_path: Path) -> None:
    with Cluster.of(3, tmp_path) as cluster:
        first = cluster.leader()
        first.kill()
        second = cluster.leader()
        assert second is not first
        cluster.restart(first.name)
        cluster.wait_until_healthy()
        assert second.stop() == 0
        assert [member.is_running for member in cluster.members].count(True) == 2
        all_pids = pids(cluster)
    assert not any(map(exists, all_pids))


def test_a_paused_member_does_not_answer_and_is_ended_all_the_same(tmp_path: Path) -> None:
    with Cluster.of(1, tmp_path) as cluster:
        (member,) = cluster.members
        member.pause()
        with pytest.raises(TimeoutError):
            member.get("/health", seconds=0.2)
        member.resume()
        assert member.get("/health")[0] == 200
        member.pause()
    assert not any(map(exists, pids(cluster)))


def test_nothing_is_left_behind_when_the_caller_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Cluster.of(1, tmp_path) as cluster:
        raise KeyboardInterrupt
    assert not any(map(exists, pids(cluster)))


def test_a_member_that_cannot_start_says_why(tmp_path: Path) -> None:
    command = (*KVSTORED, "--snapshot-count=none")
    with (
        pytest.raises(ClusterError, match=r"^n1 ended with status 2\n.*'none' is not a whole number"),
        Cluster.of(1, tmp_path, command),
    ):
        raise AssertionError("it must not start")


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    with Cluster.of(1, tmp_path) as cluster:
        taken = cluster.members[0]
        peer = free_ports(taken.address, 1)[0]
        twin = Member("twin", tmp_path, taken.address, Ports(taken.ports.client, peer), KVSTORED)
        # It answers /health through the first member's port, so its end is waited for and not its health.
        twin.start(f"twin={twin.peer_url}")
        assert twin.process is not None
        assert twin.process.wait(START_SECONDS) == 1
        assert "ERROR server cannot start why=" in twin.log
        assert "Traceback" not in twin.log


def test_make_cluster_says_that_another_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Which would answer in its place."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    with Cluster.of(1, tmp_path) as cluster:
        (member,) = cluster.members
        first, second, third, fourth, fifth = free_ports(member.address, 5)
        ports = (Ports(first, second), Ports(member.ports.client, third), Ports(fourth, fifth))
        monkeypatch.setattr(module, "_PORTS", ports)
        monkeypatch.setattr(module, "_ADDRESS", member.address)
        assert module.main() == 1
        signal.signal(signal.SIGTERM, before)
    out, err = capfd.readouterr()
    assert "Three members serve on" not in out
    assert f"make cluster: {member.address}:{member.ports.client} is in use" in err
    assert not (tmp_path / "run").exists()


def test_the_certificates_of_make_cluster_can_be_revoked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "certs"
    tls = certificates(folder)
    certificates(folder)  # again, as at the next start
    assert "none ends" not in capfd.readouterr().out
    with Cluster.of(1, tmp_path, tls=tls, address="127.0.0.1") as cluster:
        (member,) = cluster.members
        revoke = (sys.executable, "-m", "kvctl", "certs", "revoke", "--dir", str(folder), "client-root")
        subprocess.run(revoke, env=environment(), check=True)
        deadline = time.monotonic() + START_SECONDS
        while member.is_healthy():
            assert time.monotonic() < deadline, member.last_lines()
            time.sleep(POLL_SECONDS)
        assert "'root' with serial number" in member.log
        assert "is revoked" in member.log
        flags = [str(flag) for flag in member.command]
        assert flags[flags.index("--client-crl-file") + 1] == str(folder / "ca.crl")
        assert flags[flags.index("--peer-crl-file") + 1] == str(folder / "peer-ca.crl")
        assert flags[flags.index("--peer-trusted-ca-file") + 1] == str(folder / "peer-ca.crt")


def test_certificates_by_one_authority_for_all_are_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    before = certificates(folder)
    old = before.authority.read_bytes()
    for path in folder.glob("peer-ca.*"):
        path.unlink()
    tls = certificates(folder)
    assert tls.peer_authority is not None
    assert tls.peer_authority.exists()
    assert tls.authority.read_bytes() != old


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
def test_etcd_runs_the_same_way(tmp_path: Path) -> None:
    with Cluster.of(3, tmp_path, ETCD) as cluster:
        assert cluster.leader().stop(signal.SIGKILL) == -signal.SIGKILL
        assert cluster.leader() in cluster.running
