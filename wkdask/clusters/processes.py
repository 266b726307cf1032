"""Processes of this machine, for tasks that hold the interpreter lock."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType

import cloudpickle

from wkdask.clusters.interrupts import held_back
from wkdask.clusters.unguarded import without_main
from wkdask.plan import Batch, Plan, Pool, Receipt
from wkdask.plan.execute import execute
from wkdask.plan.stage import stopping

STOP_SECONDS = 0.5
"""How long tasks may take to hear that they should stop; then their processes are killed, which costs what is in flight."""

_plan: list[Plan] = []
"""The plan of this worker process, sent once when it starts."""


def _start(plan: bytes, stop: ctypes.c_bool, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C, and asks us to stop
    _plan[:] = [pickle.loads(plan)]

    def watch() -> None:
        while not stop.value:
            time.sleep(0.2)
            if os.getppid() != parent:  # it was killed: nobody will ever take our results
                os._exit(1)
        stopping.set()

    threading.Thread(target=watch, daemon=True, name="wkdask-watch").start()


def _run(batch: Batch) -> tuple[Receipt, ...]:
    return execute(_plan[0], batch)


class ProcessPool(Pool):
    """As many processes as jobs, each with one task at a time; started afresh, never forked."""

    slots = processes = 1

    def __init__(self, slots: int) -> None:
        self.slots, self.processes = slots, slots + 1
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> ProcessPool:
        self._context = multiprocessing.get_context("spawn")
        self._stop = self._context.RawValue(ctypes.c_bool, False)  # an Event would wait for those who were killed waiting
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._executor is None:
            return
        if kind is not None:
            self._stop.value = True
            workers = list((self._executor._processes or {}).values())  # Python 3.14 has kill_workers
            self._executor.shutdown(wait=False, cancel_futures=True)
            deadline = time.monotonic() + STOP_SECONDS
            for worker in workers:
                worker.join(max(0.0, deadline - time.monotonic()))
                if worker.is_alive():
                    worker.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor = None

    def start(self, plan: Plan, batches: Sequence[Batch]) -> Sequence[Future[tuple[Receipt, ...]]]:
        """Start batches; the first ones start the processes, as do those after a process was killed."""
        return [self._start(plan, batch) for batch in batches]

    def _start(self, plan: Plan, batch: Batch) -> Future[tuple[Receipt, ...]]:
        with held_back(), without_main():
            if self._executor is not None:
                try:
                    return self._executor.submit(_run, batch)
                except BrokenProcessPool:
                    self._executor.shutdown(wait=True)
            sent = cloudpickle.dumps(plan)  # with functions of the user's script, which these processes do not run
            self._executor = ProcessPoolExecutor(self.slots, self._context, _start, (sent, self._stop, os.getpid()))
            return self._executor.submit(_run, batch)
