"""kvctl and etcdctl are given the same command lines, each on a fresh server of the same kind, and print the same.

On kvstored etcdctl runs beside kvctl, where it is installed; elsewhere, and on etcd, what it printed once stands in for
it (`recordings.py`). A server each, because the indexes that both print count every write.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kvctl.cases import RUNS, lines
from tests.kvctl.programs import HAS_ETCD, HAS_ETCDCTL, Outcome, fresh, run_scene
from tests.kvctl.recordings import recorded


def reference(server: str, scene: str, folder: Path) -> list[tuple[str, Outcome]]:
    if server == "etcd" or not HAS_ETCDCTL:
        return recorded(server, scene)
    with fresh(server, folder) as places:
        return list(run_scene("etcdctl", scene, places))


@pytest.mark.parametrize(("server", "scene"), RUNS)
def test_same_output_and_status(server: str, scene: str, tmp_path: Path) -> None:
    if server == "etcd" and not HAS_ETCD:
        pytest.skip("etcd is not installed (etcd-server)")
    with ThreadPoolExecutor(1) as beside, fresh(server, tmp_path / "kvctl") as places:
        wanted = beside.submit(reference, server, scene, tmp_path / "etcdctl")
        ours = list(run_scene("kvctl", scene, places))
    theirs = wanted.result()
    different = [
        f"{line}\n  etcdctl: {wants}\n  kvctl:   {gets}"
        for (line, wants), (_, gets) in zip(theirs, ours, strict=True)
        if wants != gets
    ]
    assert not different, f"{len(different)} of {len(theirs)} lines differ\n" + "\n".join(different)


def test_the_recordings_are_of_these_lines() -> None:
    for server, scene in RUNS:
        assert [line for line, _ in recorded(server, scene)] == lines(scene)
