"""The same seed is the same run, in another process too: event by event."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.run import run

ROOT = Path(__file__).parents[2]


def _trace(seed: int, hash_seed: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--seed", str(seed), "--trace"],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@pytest.mark.parametrize("seed", [1, 8])
def test_a_seed_replays_whatever_the_hashes(seed: int) -> None:
    once, again = _trace(seed, 1), _trace(seed, 2)
    assert len(once.splitlines()) > 1000
    assert once == again


def test_another_seed_is_another_run_and_a_listener_changes_nothing() -> None:
    lines: list[str] = []
    silent = run(3)
    heard = run(3, listener=lambda moment, who, what: lines.append(what))
    assert lines
    assert (silent.steps, silent.sightings) == (heard.steps, heard.sightings)
    assert silent.steps != run(4).steps
