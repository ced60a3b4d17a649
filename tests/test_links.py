"""The check of links and references finds what leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import links

PAGE = """# The page

## Keys: `/v2/keys/...`

### Reading & writing

```sh
# not a heading
```

## Twice
## Twice
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "adr").mkdir(parents=True)
    (tmp_path / "docs" / "page.md").write_text(PAGE)
    (tmp_path / "docs" / "adr" / "0007-frames.md").write_text("# 7 Frames\n")
    return tmp_path


def test_all_references_of_this_project_resolve() -> None:
    assert list(links.problems()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](docs/page.md) [b](docs/adr/) [c](https://example.com/x) [d](#start)\n# Start", []),
        ("[a](docs/page.md#keys-v2keys) [b](docs/page.md#reading--writing) [c](docs/page.md#twice-1)", []),
        ("[a](docs/page.md), *Keys*, and [b](docs/page.md),\n*Reading & writing*", []),
        ("```sh\n[a](none.md)\n```", []),
        ("[a](none.md)", ["none.md does not exist"]),
        ("[a](docs/page.md#none)", ["docs/page.md#none names no heading of page.md"]),
        ("[a](docs/page.md#not-a-heading)", ["docs/page.md#not-a-heading names no heading of page.md"]),
        ("[a](#none)", ["#none names no heading of README.md"]),
        ("[a](docs/page.md),\n*None*", ["docs/page.md has no section 'None'"]),
        ("[ADR 8](docs/adr/0008-none.md)", ["docs/adr/0008-none.md does not exist", "ADR 8 does not exist"]),
    ],
)
def test_links_in_markdown(root: Path, text: str, found: list[str]) -> None:
    (root / "README.md").write_text(text)
    assert [line.removeprefix("README.md: ") for line in links.problems(root)][: len(found) or 1] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"""As docs/page.md, *Keys*, has it; ADR 7, docs/adr/0007 and docs/adr/0007-frames.md."""', []),
        ("# of docs/page.md, *Reading &\n# writing*", []),
        ('open("table.md"), "other/docs/none.md"', []),
        ('"""As API.md section 3."""', ["API.md does not exist"]),
        ('"""As docs/none.md."""', ["docs/none.md does not exist"]),
        ('"""As docs/page.md, *None*."""', ["docs/page.md has no section 'None'"]),
        ("x = 1  # ADR 8", ["ADR 8 does not exist"]),
        ("x = 1  # docs/adr/0008", ["adr/0008 does not exist"]),
    ],
)
def test_references_in_source(root: Path, text: str, found: list[str]) -> None:
    (root / "module.py").write_text(text + "\n")
    assert [line.removeprefix("module.py: ") for line in links.problems(root)] == found
