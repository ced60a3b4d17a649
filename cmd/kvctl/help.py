"""The texts of help, laid out as etcdctl's, with an example for each command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kvctl.command import Command
from kvctl.flags import HELP, SWITCH, Flag
from kvctl.table import GLOBAL, TABLE, VERSION_FLAG
from kvstore.version import VERSION


def of_program() -> str:
    commands = [(entry.name, entry.summary) for entry in TABLE]
    commands.append(("help, h", "Shows a list of commands or help for one command"))
    lines = ["NAME:", "   kvctl - A simple command line client for kvstored and etcd's v2 API.", ""]
    lines += ["USAGE:", "   kvctl [global options] command [command options] [arguments...]", ""]
    lines += ["VERSION:", f"   {VERSION}", ""]
    lines += ["COMMANDS:", *_columns(commands), ""]
    lines += ["GLOBAL OPTIONS:", *_options((*GLOBAL, HELP, VERSION_FLAG)), ""]
    lines += ["EXAMPLE:", "   kvctl --endpoints http://127.0.0.1:2379 set /message hello"]
    return "\n".join(lines)


def of_command(name: str, summary: str, command: Command) -> str:
    """`name` is all of it, as `member list`."""
    lines = ["NAME:", f"   kvctl {name} - {summary}", "", "USAGE:"]
    if command.subcommands:
        lines += [f"   kvctl {name} command [command options] [arguments...]", "", "COMMANDS:"]
        lines += [*_columns((sub.name, sub.summary) for sub in command.subcommands), ""]
        lines += ["OPTIONS:", *_options((HELP,))]
    else:
        lines.append(f"   kvctl {name} {'[command options] ' if command.flags else ''}{command.usage or ' '}")
        if command.description:
            lines += ["", "DESCRIPTION:", f"   {command.description}"]
        if command.flags:
            lines += ["", "OPTIONS:", *_options(command.flags)]
    lines += ["", "EXAMPLE:", *(f"   {line}" for line in command.example.splitlines())]
    return "\n".join(lines)


def _options(flags: Sequence[Flag]) -> Iterator[str]:
    return _columns((_spelled(flag), _text(flag)) for flag in flags)


def _spelled(flag: Flag) -> str:
    behind = "" if flag.kind == SWITCH else f" {flag.value}"
    return ", ".join(("-" if len(name) == 1 else "--") + name + behind for name in flag.spellings)


def _text(flag: Flag) -> str:
    text = flag.text.replace("`", "", 2) if flag.value == "simple" else flag.text
    return f"{text} (default: {flag.shown})" if flag.shown else text


def _columns(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    rows = list(rows)
    width = max(len(left) for left, _ in rows)
    return (f"   {left:<{width}}  {right}" for left, right in rows)
