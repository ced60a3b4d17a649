"""Whose word ends a member that is refused."""

from __future__ import annotations

import pytest

from kvstore.hello import Verdict
from kvstore.verdicts import agreed, needed

REMOVED, DISK, MEMBER = Verdict.REMOVED, Verdict.DISK, Verdict.MEMBER


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_majority_must_say_it(size: int, count: int) -> None:
    assert needed(1, range(1, size + 1)) == count


@pytest.mark.parametrize(
    ("members", "said", "counts"),
    [
        ({1, 2, 3}, {2: REMOVED, 3: REMOVED}, REMOVED),
        ({1, 2, 3}, {2: REMOVED}, None),
        ({1, 2, 3}, {2: REMOVED, 3: None}, None),
        ({1, 2, 3}, {2: REMOVED, 99: REMOVED}, None),  # a stranger's word
        ({1, 2, 3}, {2: DISK, 3: REMOVED}, REMOVED),  # the second is behind
        ({1, 2, 3}, {2: DISK, 3: DISK}, DISK),
        ({1, 2, 3}, {2: MEMBER, 3: MEMBER}, None),
        ({1, 2}, {2: REMOVED}, REMOVED),
        ({1, 2}, {1: REMOVED}, None),
        ({1}, {99: REMOVED}, None),
        (set(), {99: REMOVED}, None),
        ({2, 3}, {2: DISK, 3: DISK}, DISK),  # our own configuration is without us
        ({1, 2, 3, 4, 5}, {2: REMOVED, 3: REMOVED}, None),
        ({1, 2, 3, 4, 5}, {2: REMOVED, 3: REMOVED, 5: REMOVED}, REMOVED),
    ],
)
def test_what_counts(members: set[int], said: dict[int, Verdict | None], counts: Verdict | None) -> None:
    assert agreed(1, members, said) is counts
