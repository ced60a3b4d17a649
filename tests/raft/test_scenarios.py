"""The paper's rules and figures, and the dissertation's, as scenario files that an operator can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from .scenario import Scenario

FILES = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    Scenario(path).run()
