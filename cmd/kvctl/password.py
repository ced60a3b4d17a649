"""Asking an operator for a password: nothing of it is shown on a terminal, and a pipe will do as well."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kvctl.command import Context
from kvctl.streams import put, read_line


def ask(context: Context, prompt: str) -> str:
    """The next line of standard input; empty at its end. The prompt goes to standard output, as etcdctl's does."""
    with _no_echo():  # before the prompt: who sees it may type at once
        put(prompt)
        line = read_line()
    context.say("")
    return line.rstrip(b"\r\n").decode(errors="surrogateescape")


@contextmanager
def _no_echo() -> Iterator[None]:
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    import termios

    taken = signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C must not leave the terminal mute
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    quiet = termios.tcgetattr(terminal)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
        signal.signal(signal.SIGINT, taken)
