"""Many seeds on many processes. Each process runs a bounded number of seeds, so that whatever one of them keeps is
given back; a process that is killed ends the whole run with an error that names its seed.

`multiprocessing.Pool` waits for ever for the task of a worker that the kernel killed for its memory.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from kvstore.logs import ROOT
from tests.sim.run import Report

#: After this number of seeds a process is replaced.
SEEDS_A_PROCESS = 25


class WorkerDied(Exception):
    """A process ended while it ran `seed`; `status` is its exit status, negative for a signal."""

    def __init__(self, seed: int, status: int | None) -> None:
        how = f"status {status}"
        if status is not None and status < 0:
            how = f"signal {signal.Signals(-status).name}"
            if status == -signal.SIGKILL:
                how += ", as the kernel does when memory is short"
        super().__init__(f"the process that ran seed {seed} ended with {how}; replay it: --seed {seed}")
        self.seed = seed
        self.status = status


def quiet() -> None:
    """Members log through the ordinary loggers; a simulated cluster has no reader for that."""
    logging.getLogger(ROOT).setLevel(logging.CRITICAL)


def forget() -> None:
    """Return what the last seed left behind.

    A member that installs a snapshot freezes all objects of its process (`NodeDisk.load_snapshot`), which here are
    those of all members: without this they would stay until the process ends.
    """
    gc.unfreeze()
    gc.collect()


def run_many(
    seeds: Sequence[int],
    run: Callable[[int], Report],
    processes: int | None = None,
    seeds_a_process: int = SEEDS_A_PROCESS,
) -> Iterator[Report]:
    """The reports of all seeds, as they come. Raises WorkerDied.

    `run` is called in a forked process.
    """
    rest = iter(seeds)
    workers: dict[Connection, _Worker] = {}
    try:
        while True:
            while len(workers) < (processes or os.cpu_count() or 1) and (batch := [*islice(rest, seeds_a_process)]):
                worker = _Worker(batch, run)
                workers[worker.reports] = worker
            if not workers:
                return
            for reports in wait(list(workers)):
                assert isinstance(reports, Connection)
                report = workers[reports].next()
                if report is None:
                    workers.pop(reports).close()
                else:
                    yield report
    finally:
        for worker in workers.values():
            worker.close()


class _Worker:
    """One process and its batch of seeds, which it runs in order."""

    def __init__(self, batch: list[int], run: Callable[[int], Report]) -> None:
        context = multiprocessing.get_context("fork")
        self.reports, ours = context.Pipe(duplex=False)
        self._left = batch[::-1]
        self._process: BaseProcess = context.Process(target=_work, args=(batch, run, ours), daemon=True)
        self._process.start()
        ours.close()

    def next(self) -> Report | None:
        """The next report, None if the batch is over. Raises WorkerDied."""
        try:
            report = self.reports.recv()
        except EOFError:
            self._process.join()
            if self._left:
                raise WorkerDied(self._left[-1], self._process.exitcode) from None
            return None
        assert isinstance(report, Report)
        assert self._left.pop() == report.seed
        return report

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self.reports.close()


def _work(batch: list[int], run: Callable[[int], Report], reports: Connection) -> None:
    quiet()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends all of its workers
    for seed in batch:
        reports.send(run(seed))
        forget()
