"""Flags of commands, declared as values, and read in Go's syntax with Go's words for what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from kvstore.goflags import FALSE, TRUE, FlagError, take

_NUMBER = re.compile(r"([+-]?)(0[xX]|0[oO]|0[bB]|0)?(_?[0-9a-fA-F][0-9a-fA-F_]*)?")
_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


class Flag(NamedTuple):
    """`names`: the flag's name, then shorter ones, comma-separated. `kind` is one of those below.

    `shown` is the default as the help shows it, where that is not `default` itself; `value` is what the help calls
    the value.
    """

    names: str
    text: str
    kind: str = "switch"
    default: Any = None
    shown: str = ""
    value: str = "value"

    @property
    def name(self) -> str:
        return self.names.partition(",")[0]

    @property
    def spellings(self) -> list[str]:
        return [name.strip() for name in self.names.split(",")]


#: Kinds of flags, and what a flag is that was not given.
SWITCH, TEXT, NUMBER, SECONDS, MANY = "switch", "text", "number", "seconds", "many"
_NOT_GIVEN: Mapping[str, Any] = {SWITCH: False, TEXT: "", NUMBER: 0, SECONDS: 0.0, MANY: ()}

HELP = Flag("help, h", "show help")


class Values:
    """What the flags of one command are. The methods say which kind the flag is of."""

    def __init__(self, flags: Sequence[Flag], given: Mapping[str, Any]) -> None:
        self.given = given
        self._values = {flag.name: _NOT_GIVEN[flag.kind] if flag.default is None else flag.default for flag in flags}
        self._values.update(given)

    def is_given(self, name: str) -> bool:
        return name in self.given

    def switch(self, name: str) -> bool:
        return bool(self._values[name])

    def text(self, name: str) -> str:
        return str(self._values[name])

    def number(self, name: str) -> int:
        return int(self._values[name])

    def seconds(self, name: str) -> float:
        return float(self._values[name])

    def many(self, name: str) -> tuple[str, ...]:
        return tuple(self._values[name])


def parse(arguments: list[str], flags: Sequence[Flag]) -> Values:
    """Takes the flags off the front of `arguments`. Raises FlagError."""
    spelled = {name: flag for flag in (*flags, HELP) for name in flag.spellings}
    given: dict[str, Any] = {}
    used: dict[str, str] = {}
    boolean = {name: flag.kind == SWITCH for name, flag in spelled.items()}
    twice: FlagError | None = None
    for name, text in take(arguments, boolean):
        flag = spelled[name]
        value = _READ[flag.kind](name, text)
        if used.setdefault(flag.name, name) != name:
            first, second = sorted((used[flag.name], name), key=flag.spellings.index, reverse=True)
            twice = twice or TwoForms(f"Cannot use two forms of the same flag: {first} {second}")
        given[flag.name] = (*given.get(flag.name, ()), value) if flag.kind == MANY else value
    if twice is not None:
        raise twice
    return Values((*flags, HELP), given)


class TwoForms(FlagError):
    """One flag was given by two of its names."""


def reorder(arguments: Sequence[str], flags: Sequence[Flag]) -> list[str]:
    """Flags of the command that stand behind words come to the front, each with what is behind it, and so does `--`.

    etcdctl does so, and does not look whether the flag takes a value: of `get a --sort b`, `b` comes to the front too,
    and is the key.
    """
    known = {name for flag in (*flags, HELP) for name in flag.spellings}
    front: list[str] = []
    rest: list[str] = []
    value_follows = False
    for place, argument in enumerate(arguments):
        is_flag = (
            len(argument) > 1
            and argument.startswith("-")
            and argument.removeprefix("-").removeprefix("-").partition("=")[0] in known
        )
        if value_follows and not is_flag:
            value_follows = False
            front.append(argument)
        elif is_flag:
            front.append(argument)
            value_follows = "=" not in argument
        elif argument == "--":
            front.append(argument)
            rest += arguments[place + 1 :]
            break
        else:
            rest.append(argument)
    return front + rest


def arrange(arguments: Sequence[str], flags: Sequence[Flag]) -> tuple[list[str], list[str]]:
    """Flags with their values and then words; and apart from them what stands behind the first `--`, untouched.

    For the commands that etcdctl does not have: it knows which flags take a value.
    """
    is_switch = {name: flag.kind == SWITCH for flag in (*flags, HELP) for name in flag.spellings}
    front: list[str] = []
    words: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return front + words, rest
        if len(argument) > 1 and argument.startswith("-"):
            front.append(argument)
            if rest and not is_switch.get(argument.removeprefix("-").removeprefix("-"), True):
                front.append(rest.pop(0))
        else:
            words.append(argument)
    return front + words, []


def _invalid(name: str, text: str, why: str = "parse error") -> FlagError:
    return FlagError(f'invalid value "{text}" for flag -{name}: {why}')


def _switch(name: str, text: str) -> bool:
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise FlagError(f'invalid boolean value "{text}" for -{name}: parse error')


def _number(name: str, text: str) -> int:
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise _invalid(name, text)
    sign, prefix, digits = match[1], match[2] or "", match[3] or ""
    base = {"0x": 16, "0o": 8, "0b": 2, "0": 8, "": 10}[prefix.lower()]
    if not prefix:
        digits = digits if not digits.startswith("_") else "_"
    elif prefix == "0":
        digits = "0" + digits
    try:
        value = int(sign + digits.removeprefix("_"), base)
    except ValueError:
        raise _invalid(name, text) from None
    if not -(1 << 63) <= value < 1 << 63:
        raise _invalid(name, text, "value out of range")
    return value


def _seconds(name: str, text: str) -> float:
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    total, place = 0.0, 0
    while place < len(rest):
        match = _DURATION.match(rest, place)
        if match is None:
            raise _invalid(name, text)
        total += float(match[1]) * _SECONDS[match[2]]
        place = match.end()
    if not rest or not math.isfinite(total) or total > (1 << 63) / 1e9:
        raise _invalid(name, text)
    return sign * total


def _text(_name: str, text: str) -> str:
    return text


_READ: Mapping[str, Callable[[str, str], Any]] = {
    SWITCH: _switch,
    TEXT: _text,
    NUMBER: _number,
    SECONDS: _seconds,
    MANY: _text,
}
