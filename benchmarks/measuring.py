"""Run a command to its end and say what it took; imports nothing heavy, so that a child's peak is its own."""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Run:
    """What a command took.

    Parameters
    ----------
    wall, cpu
        Seconds; of the processor: user and system, of all processes of the tree.
    peak
        Bytes of anonymous and shared pages of the tree, sampled every 20 ms.
    resident
        Bytes that the first process had in memory at most, files and libraries included.
    out
        What it printed.
    """

    wall: float
    cpu: float
    peak: int
    resident: int
    out: str = ""


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all that it started, as far as they are alive."""
    todo = [pid]
    while todo:
        one = todo.pop()
        yield one
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                todo += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())


def tree_bytes(pid: int) -> int:
    """Return the anonymous and shared memory of a tree of processes."""
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) * 1024
    return total


def run(command: Sequence[object], *, sampled: bool = True) -> Run:
    """Run a command.

    Parameters
    ----------
    command
        Program and arguments.
    sampled
        Whether to watch its memory.

    Raises
    ------
    RuntimeError
        If it fails; with what it said.
    """
    words = [str(word) for word in command]
    peak, done = 0, threading.Event()

    def watch(pid: int) -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, tree_bytes(pid))

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.perf_counter()
        child = subprocess.Popen(words, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        watcher = threading.Thread(target=watch, args=(child.pid,), daemon=True)
        if sampled:
            watcher.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        finally:
            done.set()
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        said = [file.seek(0) or file.read().decode(errors="replace") for file in (out, err)]
    if child.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {child.returncode}: {said[1][-2000:] or said[0][-2000:]}")
    resident = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Run(wall, usage.ru_utime + usage.ru_stime, peak, resident, said[0])


def median(runs: Sequence[Run]) -> Run:
    """Return the medians of several runs, and the last one's output."""
    numbers = zip(*(astuple(one)[:4] for one in runs), strict=True)
    wall, cpu, peak, resident = map(statistics.median, numbers)
    return Run(wall, cpu, int(peak), int(resident), runs[-1].out)


def wkdask(*arguments: object) -> list[object]:
    """Return the command line of wkdask, of the Python that runs this."""
    return [sys.executable, "-m", "wkdask", *arguments]


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return (wall seconds, processor seconds of this process, result) of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def forget_peak() -> None:
    """Let `peak_megabytes` begin anew, on Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes() -> float:
    """Return the most memory that this process has held since `forget_peak`; on other systems, since it began."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def bytes_on_disk(folder: Path) -> int:
    """Return what the files below a folder take on disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def machine() -> str:
    """Say how many cores there are, and how busy they are with other work."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}"


def print_rows(rows: Sequence[Sequence[object]]) -> None:
    """Print a table: the first row is its head, the first column is text."""
    cells = [[str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *rest in cells:
        print(first.ljust(widths[0]), *(value.rjust(width) for value, width in zip(rest, widths[1:], strict=True)), sep="  ")
