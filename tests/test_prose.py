"""The phrases that docs/style.md replaces may only become fewer, in every file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tidy import counts
from tests.tidy.phrases import PATTERNS, hits

SAMPLE = '''
"""Of one listener. Whoever asks
behind the first is refused at once."""
# The kernel's; nobody
# tells us.
value = "what is compiled"
'''


def test_every_file_has_as_many_phrases_as_are_allowed() -> None:
    now = {name: len(found) for name, found in counts.found().items()}
    assert counts.differences(now, counts.allowed()) == []


def test_a_count_that_rose_and_one_that_fell_are_both_reported() -> None:
    lines = counts.differences({"a.py": 3, "b.py": 1, "d.py": 1}, {"a.py": 2, "b.py": 2, "c.py": 1, "d.py": 1})
    assert [line.partition(",")[0] for line in lines] == ["a.py: 3 phrases", "b.py: 1 phrases", "c.py: 0 phrases"]
    assert ["--lower" in line for line in lines] == [False, True, True]


def test_the_allowance_is_lowered_and_moved_but_never_raised(tmp_path: Path) -> None:
    path = tmp_path / "allowance.txt"
    path.write_text("   2 a.py\n   1 b.py\n")
    counts.lower({"b.py": 1, "moved.py": 2}, path)
    assert counts.allowed(path) == {"b.py": 1, "moved.py": 2}
    with pytest.raises(counts.Risen, match="4 phrases, 3 allowed"):
        counts.lower({"b.py": 4}, path)
    counts.lower({"b.py": 1}, path)
    assert counts.allowed(path) == {"b.py": 1}


def test_docstrings_and_comments_are_read_across_lines(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(SAMPLE)
    found = [(hit.line, hit.meaning) for hit in hits(path, all_strings=False)]
    assert found == [
        (2, "a whole sentence"),
        (2, "after, following"),
        (2, "immediately, or in one batch"),
        (2, "name the person or program"),
        (4, "a client, no member, the passive"),
        (4, "notify, record, report"),
    ]
    assert (6, "the noun, not a clause") in [(hit.line, hit.meaning) for hit in hits(path, all_strings=True)]


def test_code_in_a_page_does_not_count(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```sh\n# at once\n```\n\nSends `at once` a batch.\n\nIt is sent at\nonce.\n")
    assert [(hit.line, hit.meaning) for hit in hits(page, all_strings=False)] == [(9, "immediately, or in one batch")]


@pytest.mark.parametrize(
    ("meaning", "bad", "good"),
    [
        ("name the person or program", "Whoever has the key", "A client that has the key"),
        ("a client, no member, the passive", "nobody may join", "no member may join"),
        ("the noun, not a clause", "deletes what is compiled", "deletes compiled modules"),
        ("after, following", "entries behind index 7", "a member that is behind"),
        ("immediately, or in one batch", "is sent at once", "is sent immediately"),
        ("because, or a full stop", "waits, for it is slow", "waits, for example, or for a disk"),
        ("notify, record, report", "tells the watchers", "notifies the watchers"),
        ("return, show, yield", "gives the index", "returns the index"),
        ("absent, invalid, None if", "or there is none", "or None if absent"),
        ("does not know, has no", "Knows no JSON", "Does not know JSON"),
        ("the noun again", "not one that was removed", "not a removed member"),
        ("belongs to, is handed to", "the rest is aiohttp's.", "etcd's own words"),
        ("sweep, poll, check", "until the next look", "as it looks now"),
        ("again", "writes it anew", "writes it again"),
        ("during, in the middle", "in the midst of a write", "during a write"),
        ("the number of, as long as", "knows so many keys", "so many that it is slow, so long as it runs"),
        ("a whole sentence", "Of the leader alone.", "The leader's. None: see below"),
        ("not ..., but in this order", "It fails. Not checked is the size", "It is not checked"),
    ],
)
def test_each_pattern(tmp_path: Path, meaning: str, bad: str, good: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(bad)
    assert meaning in [hit.meaning for hit in hits(page, all_strings=False)]
    page.write_text(good)
    assert [hit.meaning for hit in hits(page, all_strings=False)] == []


def test_each_pattern_has_its_examples() -> None:
    marks = [mark for mark in test_each_pattern.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert [case[0] for case in marks[0].args[1]] == list(PATTERNS)
