"""Ctrl-C: the run is asked to stop; where it does not within a second, the process ends, which costs what is in flight."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

SAID = "error: Stopped. Run the same again to go on.\n"
SECONDS = 0.9

_heard = threading.Event()


def listen() -> None:
    """Hear Ctrl-C from now on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us wants it ignored
        signal.signal(signal.SIGINT, _stop)
        quiet = "ignore:resource_tracker"  # of multiprocessing, which counts what an ended process had no time to give back
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), quiet)))


def heard() -> bool:
    """Whether there was a Ctrl-C."""
    return _heard.is_set()


def _stop(number: int, frame: FrameType | None) -> None:
    if _collects(frame):  # what is raised there is printed, and goes no further
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
    _heard.set()
    last = threading.Timer(SECONDS, _end_in_the_middle)
    last.daemon = True
    last.start()
    raise KeyboardInterrupt


def _collects(frame: FrameType | None) -> bool:
    """Whether a frame belongs to a callback of garbage collection."""
    codes = {getattr(getattr(callback, "__func__", callback), "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False


def _end_in_the_middle() -> None:
    sys.stderr.write(SAID)
    end()


def end() -> None:
    """End at once, whatever runs: no file is half-made, and a lease whose process is gone is void.

    What is still to be done is done, as where a Ctrl-C came between the start of a cluster and the block that ends it.
    """
    interrupts: Any = sys.modules.get("wkdask.clusters.interrupts")
    for last in [*interrupts.LAST.values()] if interrupts else ():
        for pause in (0.0, 0.3):  # a job may just be on its way
            time.sleep(pause)
            with suppress(Exception):
                last()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(130)
