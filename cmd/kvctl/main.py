"""From the command line to an exit status: which command, its flags, and what becomes of what it raises.

Nothing that an operator can cause ends in a traceback. It does not know what any command does.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from kvctl.command import (
    BAD_ARGUMENTS,
    BAD_AUTHENTICATION,
    NOT_HEALTHY,
    OWN_FAILURE,
    SERVER_ERROR,
    Command,
    Context,
    Failure,
)
from kvctl.flags import TwoForms, Values, arrange, parse, reorder
from kvctl.streams import OutputFailed, complain, put
from kvctl.table import GLOBAL, VERSION_FLAG, find
from kvstore.client import ClientError, InvalidTls
from kvstore.client.document import TOO_DEEP
from kvstore.goflags import FlagError
from kvstore.version import VERSION


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: etcdctl's, 0 to 5."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a command that has something to put in order takes it itself
    try:
        return _program(list(sys.argv[1:] if arguments is None else arguments))
    except Failure as failure:
        complain(f"{failure}{failure.end}")
        return failure.status
    except OutputFailed as failure:
        complain(f"{failure}\n")
        return BAD_ARGUMENTS
    except BrokenPipeError:
        return _end_by(signal.SIGPIPE)
    except KeyboardInterrupt:
        return _end_by(signal.SIGINT)


def _end_by(number: signal.Signals) -> int:
    """Ends this process by a signal, as a program would that does not handle it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def _program(arguments: list[str]) -> int:
    try:
        options = parse(arguments, (*GLOBAL, VERSION_FLAG))
    except FlagError as error:
        return _wrong_usage(error, _program_help(), ". ")
    if options.switch("help"):
        put(_program_help() + "\n")
        return 0
    if options.switch("version"):
        put(f"kvctl version: {VERSION}\nAPI version: 2\n")
        return 0
    return _command(options, arguments)


def _command(options: Values, arguments: list[str]) -> int:
    if not arguments:
        put(_program_help() + "\n")
        return 0
    name, *rest = arguments
    if name in ("help", "h"):
        return _show_help(rest)
    entry = find(name)
    if entry is None:
        raise Failure(f"No help topic for '{name}'", BAD_AUTHENTICATION)
    command = entry.load()
    if command.subcommands:
        return _subcommand(options, name, entry.summary, command, rest)
    if command.is_ours:
        return _run_ours(options, name, entry.summary, command, rest)
    return _run(options, name, entry.summary, command, rest)


def _subcommand(options: Values, name: str, summary: str, command: Command, arguments: list[str]) -> int:
    try:
        flags = parse(arguments, ())
    except FlagError as error:
        return _wrong_usage(error, _help(name, summary, command), ". ")
    if not arguments or flags.switch("help"):
        put(_help(name, summary, command) + "\n")
        return 0
    if arguments[0] in ("help", "h"):
        return _show_help([name, *arguments[1:]])
    for sub in command.subcommands:
        if sub.name == arguments[0]:
            return _run(options, f"{name} {sub.name}", sub.summary, sub.command, arguments[1:])
    raise Failure(f"No help topic for '{arguments[0]}'", BAD_AUTHENTICATION)


def _run(options: Values, name: str, summary: str, command: Command, raw: list[str]) -> int:
    words = reorder(raw, command.flags)
    try:
        flags = parse(words, command.flags)
    except FlagError as error:
        return _wrong_usage(error, _help(name, summary, command), ": ")
    if flags.switch("help"):
        put(_help(name, summary, command) + "\n")
        return 0
    context = Context(options, flags, words, raw, os.environ)
    try:
        return _finish(command, context)
    except InvalidTls as error:
        raise Failure(str(error)) from None
    except ClientError as error:
        context.complain(context.words_for(error))
        return SERVER_ERROR
    except RecursionError:  # of a printed tree; the client has its own words for one that it cannot read
        raise Failure(f"Error:  {TOO_DEEP}", SERVER_ERROR) from None


def _run_ours(options: Values, name: str, summary: str, command: Command, raw: list[str]) -> int:
    """As `_run`, for what etcdctl does not have: each error is one line, and never has the status of a command."""
    try:
        words, command_line = arrange(raw, command.flags)
        flags = parse(words, command.flags)
        if flags.switch("help"):
            put(_help(name, summary, command) + "\n")
            return 0
        return _finish(command, Context(options, flags, words, raw, os.environ, command_line))
    except FlagError as error:
        failure = Failure(f"{error}; see kvctl help {name}")
    except ClientError as error:
        status = BAD_ARGUMENTS if isinstance(error, InvalidTls) else SERVER_ERROR
        failure = Failure(str(error).strip().replace("\n", ""), status)
    except RecursionError:
        failure = Failure(TOO_DEEP, SERVER_ERROR)
    except Failure as error:
        failure = error
    status = OWN_FAILURE if command.runs_command and failure.status <= NOT_HEALTHY else failure.status
    raise Failure(f"kvctl: {failure}", status)


def _finish(command: Command, context: Context) -> int:
    assert command.run is not None
    outcome = command.run(context)
    if outcome is None or isinstance(outcome, int):
        return outcome or 0
    import asyncio

    async def wait() -> int | None:
        return await outcome

    return asyncio.run(wait()) or 0


def _show_help(words: Sequence[str]) -> int:
    """`help`, `help NAME`, `help NAME SUBCOMMAND`."""
    if not words:
        put(_program_help() + "\n")
        return 0
    entry = find(words[0])
    if entry is None:
        raise Failure(f"No help topic for '{words[0]}'", BAD_AUTHENTICATION)
    command = entry.load()
    for sub in command.subcommands:
        if sub.name in words[1:2]:
            put(_help(f"{entry.name} {sub.name}", sub.summary, sub.command) + "\n")
            return 0
    put(_help(entry.name, entry.summary, command) + "\n")
    return 0


def _wrong_usage(error: FlagError, usage: str, behind: str) -> int:
    """The error goes to standard error, and with the help to standard output: etcdctl's way."""
    first = f"{error}" if isinstance(error, TwoForms) else f"Incorrect Usage{behind}{error}\n"
    put(f"{first}\n{usage}\n")
    complain(f"{error}\n")
    return BAD_ARGUMENTS


def _program_help() -> str:
    from kvctl import help as texts

    return texts.of_program()


def _help(name: str, summary: str, command: Command) -> str:
    from kvctl import help as texts

    return texts.of_command(name, summary, command)
