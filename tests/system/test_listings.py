"""Long listings and wide fan-outs on a real member, small: others are served meanwhile. `make listings` has the issue's
sizes, and bounds for a machine that does nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.listings import SCENES, SMALL, play

#: A machine that runs other tests as well may keep a process waiting for this long.
SECONDS = 1.0


@pytest.mark.parametrize("scene", SCENES)
def test_others_are_served_meanwhile(scene: str, tmp_path: Path) -> None:
    figures = play(tmp_path, SMALL, scene)
    assert figures
    over = [figure for figure in figures if not figure.is_kept]
    assert all(figure.what.endswith(", s") and figure.value < SECONDS for figure in over), "\n".join(map(str, over))
