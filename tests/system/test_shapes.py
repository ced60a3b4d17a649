"""Requests of many shapes against a real member, small: others are served meanwhile. `make shapes` has three
members, the issue's sizes, and bounds for a machine that does nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.shapes import MEBIBYTE, SHAPES, play

#: A machine that runs other tests as well may keep a process waiting for this long.
SECONDS = 1.0


def test_no_shape_of_request_takes_more_than_its_bytes_explain(tmp_path: Path) -> None:
    rows = list(play(tmp_path, [MEBIBYTE - 100], list(SHAPES), guests_share=4))
    assert len(rows) > 2 * len(SHAPES)
    faults = {row.shape: found for row in rows if (found := row.faults(SECONDS))}
    assert faults == {}
