"""The hooks for pre-commit run the tools of `make check`, as `make check` runs them, and need no network."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_each_hook_is_local_and_a_command_of_make_check() -> None:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    recipe = (
        (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0].replace("$(BIN)", ".venv/bin")
    )
    for hook in repos[0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"] in recipe, hook["id"]
