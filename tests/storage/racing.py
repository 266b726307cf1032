"""Several fresh processes that start the same piece of work at the same moment."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

GATE = """
import sys, time
from pathlib import Path
from wkdask.storage import *
folder, me = Path(sys.argv[1]), sys.argv[2]
(folder / f"ready-{me}").touch()
while not (folder / "go").exists():
    time.sleep(0.0005)
"""


def race(folder: Path, work: str, count: int = 8) -> list[str]:
    """Run ``work`` in processes that know ``folder`` and ``me``; return what each printed."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", GATE + work, str(folder), str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for n in range(count)
    ]
    while len(list(folder.glob("ready-*"))) < count and all(process.poll() is None for process in running):
        time.sleep(0.01)
    (folder / "go").touch()
    ended = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [(said[1], code) for said, code in ended] == [("", 0)] * count
    return [said[0].strip() for said, _ in ended]
