"""Run as a program: a command of wkdask, and what memory its process took beyond what it had when it began to write.

Usage: memory_driver.py ARGUMENT... Prints the JSON of the report with two further numbers: ``seen``, the most anonymous and
shared memory, looked at each few milliseconds, and ``began``, that of the process with all libraries loaded.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import threading

import numba  # noqa: F401 - loaded once, here
import tensorstore  # noqa: F401
import zarr  # noqa: F401

from wkdask.cli import main
from wkdask.plan.memory import used_bytes

began, ended = used_bytes(), threading.Event()
seen = [began]


def look() -> None:
    """Keep the maximum until the command has ended."""
    while not ended.wait(0.005):
        seen[0] = max(seen[0], used_bytes())


if __name__ == "__main__":  # else pytest, which looks for examples in all files, would run it
    looking = threading.Thread(target=look)
    looking.start()
    out = io.StringIO()
    sys.argv.append("--json")
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main()
    finally:
        ended.set()
        looking.join()
    print(json.dumps(json.loads(out.getvalue()) | {"seen": seen[0], "began": began}))
