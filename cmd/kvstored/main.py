"""The entry point: what to do, and with which exit status.

0: done, or stopped as asked. 1: `check` found damage, or the server had to stop. 2: the command line, environment or
file is wrong, and nothing was touched. Knows no setting by name; gathering is `kvstored.settings`, serving is
`kvstore.server`.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from kvstore import logs
from kvstore.collector import no_collections
from kvstore.settings import Settings, SettingsError
from kvstore.version import ETCD_SERVER_VERSION, VERSION
from kvstored import flags
from kvstored.settings import gather

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # as a shell reports a process that SIGINT ended

_CHECK_FLAGS = {"data-dir": False, "wal-dir": False}


def main() -> NoReturn:
    """The console script."""
    try:
        status = run(sys.argv[1:], os.environ)
        sys.stdout.flush()
    except BrokenPipeError:
        # `kvstored --help | head`: nobody reads on, which is no error; spare the interpreter its own complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_OK
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    sys.exit(status)


def run(
    arguments: Sequence[str], environment: Mapping[str, str], serve: Callable[[Settings], int] | None = None
) -> int:
    """Does what the arguments say and returns the exit status; `serve` stands in for the server in tests."""
    try:
        if arguments and arguments[0] == "check":
            return _check(arguments[1:])
        values, words = flags.parse(arguments)
        if _asks(values, "help") or _asks(values, "h"):
            print(flags.usage())
            return EXIT_OK
        if _asks(values, "version"):
            print(_version())
            return EXIT_OK
        _no_words(arguments, words)
        settings, warnings = gather(values, environment)
    except SettingsError as error:
        print(f"kvstored: {error}", file=sys.stderr)
        return EXIT_USAGE
    logs.configure(settings.log_level, settings.log_format)
    log = logs.get("main")
    for warning in warnings:
        log.warning(warning)
    try:
        return (serve or _serve)(settings)
    except Exception:
        log.exception("stops because of a bug in kvstored; please report it")
        return EXIT_FAILED


def _serve(settings: Settings) -> int:
    # Only here: --help, --version and check need not wait for the whole server to be loaded.
    with no_collections():
        from kvstore import server

    return server.run(settings)


def _check(arguments: Sequence[str]) -> int:
    """`check`: verifies a data folder offline and prints what it holds."""
    from kvstore.rehearsal import poison
    from kvstore.storage.check import check
    from kvstore.storage.errors import StorageError

    values, words = flags.parse(arguments, _CHECK_FLAGS)
    if _asks(values, "help") or _asks(values, "h"):
        print(flags.usage())
        return EXIT_OK
    _no_words(arguments, words)
    folder = values.get("data-dir")
    if not folder:
        raise SettingsError("check needs --data-dir")
    try:
        report = check(folder, wal_folder=values.get("wal-dir", ""))
        if report.sound:
            skipped, poisoned = poison(folder, wal_folder=values.get("wal-dir", ""))
            report.holds.extend(skipped)
            report.damage.extend(poisoned)
    except StorageError as problem:
        print(f"kvstored: {problem}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as problem:
        print(f"kvstored: {problem.filename or folder}: {problem.strerror}", file=sys.stderr)
        return EXIT_FAILED
    print("\n".join(report.format()))
    return EXIT_OK if report.sound else EXIT_FAILED


def _asks(values: dict[str, str], switch: str) -> bool:
    """Takes a switch such as --help out of the values and says whether it was on."""
    return flags.parse_boolean(f"--{switch}", values.pop(switch, "false"))


def _no_words(arguments: Sequence[str], words: Sequence[str]) -> None:
    if not words:
        return
    before = arguments[len(arguments) - len(words) - 1] if len(words) < len(arguments) else ""
    name = before.lstrip("-")
    hint = f" (write {before}={words[0]})" if flags.KNOWN.get(name) and words[0] in flags.GO_BOOLEANS else ""
    raise SettingsError(f"unexpected argument {words[0]!r}{hint}")


def _version() -> str:
    return (
        f"kvstored {VERSION}\n"
        f"etcd API: v2, as etcd {ETCD_SERVER_VERSION}\n"
        f"Python: {platform.python_version()}\n"
        f"OS/Arch: {platform.system().lower()}/{platform.machine()}"
    )
