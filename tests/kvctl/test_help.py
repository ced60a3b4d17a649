"""Every command explains itself, with an example; and a start imports no more than it needs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from kvctl import help as texts
from kvctl.command import Command
from kvctl.flags import HELP, parse, reorder
from kvctl.table import GLOBAL, TABLE
from tests.kvctl.process import run, surroundings

COMMANDS = [(entry.name, entry.summary, entry.load()) for entry in TABLE]
COMMANDS += [(f"{name} {sub.name}", sub.summary, sub.command) for name, _, one in COMMANDS for sub in one.subcommands]

#: Nobody may come to import these on the way to a `get`: each costs more than all of kvctl.
HEAVY = {
    "aiohttp",
    "argparse",
    "dns",
    "email",
    "http.client",
    "jinja2",
    "msgpack",
    "uvloop",
    "yaml",
    "kvstore.settings",
}


@pytest.mark.parametrize(("name", "summary", "command"), COMMANDS, ids=[name for name, _, _ in COMMANDS])
def test_each_help_is_whole(name: str, summary: str, command: Command) -> None:
    text = texts.of_command(name, summary, command)
    assert text.startswith(f"NAME:\n   kvctl {name} - {summary}\n\nUSAGE:\n   kvctl {name} ")
    assert "\nEXAMPLE:\n   " in text
    for flag in command.flags:
        assert flag.text
        assert all(f"{'-' if len(one) == 1 else '--'}{one}" in text for one in flag.spellings)
    assert max(map(len, text.splitlines())) <= 140


@pytest.mark.parametrize(("name", "summary", "command"), COMMANDS, ids=[name for name, _, _ in COMMANDS])
def test_each_example_is_a_command_line(name: str, summary: str, command: Command) -> None:
    mine = [line for line in command.example.splitlines() if f"{name} " in f"{line} "]
    assert mine
    for line in mine:
        words = shlex.split(line.partition("<(")[2].rstrip(")") or line.partition("|")[0] if "<(" in line else line)
        words = words[words.index("kvctl") + 1 :]
        parse(words, (*GLOBAL, HELP))
        for word in name.split():
            assert words.pop(0) == word
        words = reorder(words, command.flags)
        parse(words, command.flags)


def test_the_program_names_every_command_and_flag() -> None:
    text = run("--help").stdout
    assert all(f"   {entry.name} " in text and entry.summary in text for entry in TABLE)
    assert all(f"--{flag.name}" in text for flag in GLOBAL)
    assert "\nEXAMPLE:\n   kvctl " in text


def test_a_get_imports_nothing_heavy() -> None:
    script = (
        "import json, sys; from kvctl.main import main; "
        "main(['--no-sync', '--endpoints', 'http://127.0.0.1:1', 'get', '/a']); print(json.dumps([*sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=surroundings(), capture_output=True, text=True, timeout=30, check=True
    )
    loaded = json.loads(done.stdout)
    assert HEAVY.intersection(loaded) == set()
    others = {entry.where.partition(":")[0] for entry in TABLE if entry.name not in ("get", "ls")}
    assert others.intersection(loaded) == set()
