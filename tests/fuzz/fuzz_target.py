"""Fuzz one target by atheris: ``python -m tests.fuzz.fuzz_target NAME FOLDER [options of libFuzzer]``.

What Python raises is noted in FOLDER/findings, once for each place that it comes from, and the search goes on. Where the
process itself dies, libFuzzer leaves the input in FOLDER.
"""

from __future__ import annotations

import faulthandler
import hashlib
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

LAST = "last"
"""The input that is tried, which tells what a process died of where libFuzzer can not."""
MORE_BYTES = 6 << 30
"""Of addresses, which the process may take beyond those it begins with."""
COMPILED = ["wkdask.formats.n5_lz4", "wkdask.kernels.compiled", "wkdask.kernels.loader", "wkdask.kernels.window"]
"""What numba compiles, which can not be instrumented."""


class Findings:
    """A folder of inputs that were not borne, each with what came of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, label: str, data: bytes, error: BaseException) -> None:
        """Note an input, unless one failed in the same way."""
        lines = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        ours = [line for line in lines if "/wkdask/" in line or "/tests/fuzz/" in line]
        kind = str(error).split(":")[0][:40] if type(error).__name__ == "Finding" else type(error).__name__
        name = hashlib.sha256(f"{kind} {ours[-1:]} {label.rsplit(maxsplit=1)[-1]}".encode()).hexdigest()[:12]
        if (self.folder / name).exists():
            return
        (self.folder / name).write_bytes(data)
        told = "".join(traceback.format_exception(error))
        (self.folder / f"{name}.txt").write_text(f"{label}\n{told}", errors="backslashreplace")
        print(f"FINDING {name} {label}: {type(error).__name__} {str(error)[:200]!r}", file=sys.stderr, flush=True)


def main() -> None:
    """Run until libFuzzer's options say that it is enough."""
    import atheris

    name, folder, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["wkdask"], exclude=COMPILED, enable_loader_override=False):
        from tests.fuzz.damage import limited
        from tests.fuzz.targets import Target
    work = Path(folder)
    findings = Findings(work / "findings")
    faulthandler.enable()
    files = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    target = Target(name, Path(files))
    (work / "seeds").mkdir(exist_ok=True)
    (work / "corpus").mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (work / "seeds" / str(number)).write_bytes(seed)

    def test_one_input(data: bytes) -> None:
        (work / LAST).write_bytes(data)
        try:
            target.check(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            findings.add(target.slot(data).label, data, error)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        plain: Any = lambda content: atheris.Mutate(content, max(1, most - 1))  # noqa: E731
        return target.mutate(data, seed, plain)[:most]

    arguments = [sys.argv[0], f"-artifact_prefix={folder}/", *options, str(work / "corpus"), str(work / "seeds")]
    atheris.Setup(arguments, test_one_input, custom_mutator=mutate, internal_libfuzzer=True)
    with limited(MORE_BYTES):
        atheris.Fuzz()


if __name__ == "__main__":
    main()
