"""Progress of long work: one line on a terminal that renews itself, and nothing where standard error is none."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from kvctl.streams import complain

#: The line is written again at most this often.
RENEW_SECONDS = 0.1


class Progress:
    """`with Progress("importing") as progress: progress.show(done, total)`; the line is gone afterwards."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._is_on = sys.stderr is not None and sys.stderr.isatty()
        self._shown = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._write("")

    def show(self, done: int, total: int) -> None:
        """Of something that is counted."""
        share = f" ({100 * done // total}%)" if total else ""
        self.tell(f"{done} of {total}{share}")

    def tell(self, text: str) -> None:
        """Of something that takes its time."""
        now = time.monotonic()
        if self._is_on and now - self._shown >= RENEW_SECONDS:
            self._shown = now
            self._write(f"{self._what}: {text}")

    def _write(self, line: str) -> None:
        complain(f"\r\x1b[K{line}")
