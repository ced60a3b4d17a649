"""The paper's rules and figures, and the dissertation's, as scenario files that an operator can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvstore.raft.config import PlantedBug

from .scenario import Scenario

FILES = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    Scenario(path).run()


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("figure_8_no_commit_by_counting_old_terms", PlantedBug.COMMIT_OLD_TERM),
        ("figure_2_one_vote_a_term", PlantedBug.VOTE_NOT_PERSISTED),
        ("section_6_4_read_index_without_quorum", PlantedBug.STALE_READ),
        ("section_10_2_1_parallel_writes", PlantedBug.ACK_BEFORE_FSYNC),
    ],
)
def test_scenario_fails_with_the_bug_that_it_is_about(name: str, bug: PlantedBug) -> None:
    (path,) = (path for path in FILES if path.stem == name)
    with pytest.raises(AssertionError):
        Scenario(path, frozenset({bug})).run()
