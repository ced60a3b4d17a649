"""Go's syntax of flags, for programs that stand in for etcd's: -x v, --x v, -x=v; a boolean alone is true; the first
word that is no flag ends them, and so does `--`. The errors are Go's words. It does not know what a value means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

#: What ParseBool reads.
TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class FlagError(ValueError):
    """A command line that cannot be read; one line, Go's."""


class UndefinedFlag(FlagError):
    def __init__(self, name: str) -> None:
        super().__init__(f"flag provided but not defined: -{name}")
        self.name = name


class FlagNeedsValue(FlagError):
    def __init__(self, name: str) -> None:
        super().__init__(f"flag needs an argument: -{name}")
        self.name = name


class BadFlagSyntax(FlagError):
    def __init__(self, argument: str) -> None:
        super().__init__(f"bad flag syntax: {argument}")
        self.argument = argument


def take(arguments: list[str], boolean: Mapping[str, bool]) -> Iterator[tuple[str, str]]:
    """Takes the flags off the front of `arguments`, one name and value at a time; what is left there are the words.

    `boolean`: every known name, and whether its value may be left out. Raises FlagError where it meets one.
    """
    while arguments and len(arguments[0]) > 1 and arguments[0].startswith("-"):
        argument = arguments.pop(0)
        if argument == "--":
            return
        name, equals, value = argument.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise BadFlagSyntax(argument)
        if name not in boolean:
            raise UndefinedFlag(name)
        if not equals:
            if boolean[name]:
                value = "true"
            elif arguments:
                value = arguments.pop(0)
            else:
                raise FlagNeedsValue(name)
        yield name, value
