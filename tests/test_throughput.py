"""The benchmark's own logic; what it measures is `make bench`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import throughput
from benchmarks.throughput import Figure, table


def figure(server: str, turn: int, per_second: float) -> Figure:
    return Figure(
        server=server,
        members=1,
        verb="PUT",
        connections=64,
        round=turn,
        per_second=per_second,
        p50_ms=turn,
        p99_ms=2 * turn,
        max_ms=9,
        bad_status=0,
        socket_errors=0,
    )


def test_the_table_shows_medians_and_their_ratio() -> None:
    ours = [figure("kvstored", turn, speed) for turn, speed in enumerate((9000.0, 100.0, 1000.0), 1)]
    theirs = [figure("etcd", turn, 500.0) for turn in (1, 2, 3)]
    assert table(ours + theirs).splitlines()[-1] == (
        "| 1 | PUT | 64 | 1,000 | 2.00 | 4.00 | 500 | 2.00 | 4.00 | 2.00 |"
    )
    assert table(ours).splitlines() == [
        "| members | request | connections | kvstored/s | p50 ms | p99 ms |",
        "|---:|---|---:|---:|---:|---:|",
        "| 1 | PUT | 64 | 1,000 | 2.00 | 4.00 |",
    ]


def test_without_wrk_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert throughput.main([]) == 1
    assert capsys.readouterr() == ("", "throughput: wrk is not installed; on Debian: apt-get install wrk\n")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_whole_short_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(throughput, "RESULTS", tmp_path)
    monkeypatch.setattr(throughput, "ROOT", tmp_path)
    arguments = ["--servers=kvstored", "--members=1", "--connections=8", "--rounds=1", "--seconds=1"]
    assert throughput.main(arguments) == 0
    (written,) = tmp_path.glob("throughput-*.json")
    figures = json.loads(written.read_text())["figures"]
    assert [(one["verb"], one["bad_status"], one["per_second"] > 0) for one in figures] == [
        ("PUT", 0, True),
        ("GET", 0, True),
    ]
    assert capsys.readouterr().out.startswith("| members | request |")
