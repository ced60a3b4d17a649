"""Completion, by the shells themselves: each sources the script and is asked what it would offer."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kvctl.completion import places
from tests.kvctl.process import run, says, surroundings

SHELL_SECONDS = 30.0


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    paths = {shell: folder / shell for shell in ("bash", "zsh", "fish")}
    for shell, path in paths.items():
        path.write_text(says("completion", shell))
    return paths


def shell_says(command: list[str], script: str) -> list[str]:
    done = subprocess.run(
        [*command, script], capture_output=True, text=True, timeout=SHELL_SECONDS, env=surroundings(), check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def bash(script: Path, line: str) -> list[str]:
    """The last word of `line` is the one to complete; bash splits at `=` too."""
    words = [part for word in line.split(" ") for part in (re.split("(=)", word) if "=" in word else [word])]
    return shell_says(
        ["bash", "--norc", "-c"],
        f"source {script}; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _kvctl;"
        ' printf "%s\\n" "${COMPREPLY[@]}"',
    )


def zsh(script: Path, line: str) -> list[str]:
    """With stand-ins for zsh's own functions, which only work in a terminal."""
    words = line.split(" ")
    return shell_says(
        ["zsh", "-f", "-c"],
        f"source {script}; words=({shlex.join(words)}); CURRENT={len(words)};"
        "_describe() { [[ $1 == -o ]] && shift; print -l -- ${${(P)2}%%:*} }; compadd() { print -l -- $@ };"
        "_default() { : }; _kvctl",
    )


def fish(script: Path, line: str) -> list[str]:
    return shell_says(["fish", "--no-config", "-c"], f"source {script}; complete -C {shlex.quote(line)} | cut -f1")


SHELLS = [pytest.param(shell, marks=needs(shell.__name__), id=shell.__name__) for shell in (bash, zsh, fish)]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_offered(shell: Callable[[Path, str], list[str]], scripts: dict[str, Path]) -> None:
    def offers(line: str) -> set[str]:
        prefix = line.rpartition(" ")[2]
        found = shell(scripts[shell.__name__], line)
        return {word for word in found if word.startswith(prefix)}  # zsh chooses later

    assert {"get", "set", "exec-watch", "member", "completion", "help"} <= offers("kvctl ")
    assert offers("kvctl exec-w") == {"exec-watch"}
    assert {"--endpoints", "--output", "--help"} <= offers("kvctl --")
    assert "--recursive" not in offers("kvctl --")
    assert offers("kvctl member ") == {"list", "add", "remove", "update"}
    assert offers("kvctl --endpoints member --no-sync user re") == {"remove", "revoke"}
    assert offers("kvctl user grant --ro") == {"--roles"}
    assert offers("kvctl user get --ro") == set()
    assert offers("kvctl ls --rec") == {"--recursive"}
    assert offers("kvctl get /a --so") == {"--sort"}
    assert offers("kvctl set --ttl 5 /a --swap-with-v") == {"--swap-with-value"}
    assert offers("kvctl help mem") == {"member"}
    assert offers("kvctl -o j") == {"json"}
    assert offers("kvctl set /a -- --swap") == set()


def test_an_equals_sign_in_bash(scripts: dict[str, Path]) -> None:
    assert bash(scripts["bash"], "kvctl --endpoints=get mem") == ["member"]
    assert bash(scripts["bash"], "kvctl --output=ext") == ["extended"]


def test_every_command_and_flag_is_in_every_script(scripts: dict[str, Path]) -> None:
    for shell, path in scripts.items():
        text = path.read_text()
        for place in places():
            spelled = [name for name, _ in place.words]
            if shell != "fish":
                spelled += place.spellings
            assert [name for name in spelled if name not in text] == []


def test_another_shell() -> None:
    done = run("completion", "tcsh")
    assert (done.returncode, done.stderr) == (1, "Provide one of bash, zsh and fish\n")
