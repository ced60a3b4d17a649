"""Standard input, output and error, as bytes, whatever state they are in: closed, full, a pipe that nobody reads."""

from __future__ import annotations

import sys


class OutputFailed(Exception):
    """Standard output takes no more; the text says why."""


def put(text: str) -> None:
    """To standard output, at once. BrokenPipeError, OutputFailed; a closed one is none to write to."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"kvctl: standard output: {error.strerror}") from None


def complain(text: str) -> None:
    """To standard error. BrokenPipeError; there is nowhere to say anything else."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stderr.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError:
        pass


def read_all() -> bytes:
    """All of standard input; nothing when it is closed."""
    return sys.stdin.buffer.read() if sys.stdin is not None else b""


def read_line() -> bytes:
    return sys.stdin.buffer.readline() if sys.stdin is not None else b""
