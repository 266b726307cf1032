"""A plan of toys: tasks that write a small file each, of their number and the files that they wait for.

Run as a program, it works on the plan, by default as one of several: toys.py TARGET WIDTH THREADS [DRIVER]. It prints the
report's numbers as JSON, and writes each publication of a result into ``published`` beside the target. Tasks obey files beside
the target: ``fail-STAGE-NUMBER`` makes a task fail until it is deleted, ``once-STAGE-NUMBER`` is used up by a failure,
``die-STAGE-NUMBER`` is used up by the death of the process, ``hold-STAGE-NUMBER`` makes a task wait till it is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from wkdask.errors import InputError, WkdaskError
from wkdask.plan import FileRecord, Journal, LeasePool, Plan, Receipt, Stage, ThreadPool, stop_if_asked
from wkdask.storage import Location, observe


@dataclass(frozen=True)
class Toys:
    """Each task writes what it read and its own number."""

    target: Location
    stage: int
    count: int
    every: int = 0

    bytes_needed = bytes_in = bytes_out = scratch_needed = parts_bytes = 0

    def file(self, stage, number):
        return self.target / "toys" / f"{stage}-{number}"

    def dependencies(self, number):
        return [(self.stage - 1, n) for n in range(number * self.every, (number + 1) * self.every)]

    def consumes(self, number):
        return ()

    def retire(self, number):
        pass

    def _sign(self, kind, number) -> Path:
        return Path(f"{self.target.parent}/{kind}-{self.stage}-{number}")

    def run(self, stage, number):
        for kind, kill in (("die", True), ("once", False)):
            try:
                self._sign(kind, number).unlink()
            except FileNotFoundError:
                continue
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise WkdaskError(f"toy {stage}-{number} failed once")
        if self._sign("fail", number).exists():
            raise InputError(f"toy {stage}-{number} always fails")
        if self._sign("hold", number).exists():
            self._sign("held", number).touch()
            while self._sign("hold", number).exists():
                stop_if_asked()
                time.sleep(0.005)
        text = b"".join(self.file(*need).read_bytes() for need in self.dependencies(number)) + f"{stage}-{number}\n".encode()
        place = self.file(stage, number)
        place.write_bytes(text, self.target / "scratch")
        stat = place.stat()
        files = (FileRecord(f"toys/{stage}-{number}", stat.size, stat.mtime_ns, 0),)
        return Receipt(stage, number, "done", files, low=number, high=number)

    def is_intact(self, record):
        stat = (self.target / record.path).stat()
        return stat is not None and stat.mtime_ns == record.stamp

    def describe(self):
        return "toys"


@dataclass(frozen=True)
class Shelf:
    """What must be there before."""

    target: Location
    restart_by = "--restart"

    def check(self):
        pass

    clear = check

    def create(self):
        self.target.make_folder()

    def sweep(self, keep):
        pass

    def finish(self, journal):
        (self.target / "toys" / "all").write_bytes(b"".join(sorted({f"{r.stage}-{r.number}\n".encode() for r in journal})))


@dataclass(frozen=True)
class Listed:
    """Writes down that it was committed, and the extremes."""

    target: Location
    stage: int

    @property
    def name(self):
        return f"toys/{self.stage}"

    def check(self):
        pass

    def commit(self, low, high):
        (self.target / "toys" / f"listed-{self.stage}").write_bytes(f"{low} {high}".encode())


class Pairs(Plan):
    """A plan whose tasks travel in twos."""

    batch_size = 2


def toy_plan(target, width=12, name="toys", key="toys", kind=Plan):
    """Three stages: so many toys, one for each three of them, one for all of those."""
    place = Location(str(target))
    toys = (Toys(place, 0, width), Toys(place, 1, width // 3, 3), Toys(place, 2, 1, width // 3))
    stages = tuple(Stage(f"stage{toy.stage}", toy) for toy in toys)
    milestones = (Listed(place, 0), Listed(place, 2))
    return kind(name, Journal(place, key), {"width": width}, "", stages, milestones, Shelf(place), 2)


DRIVERS = {
    "window": lambda plan, threads: plan.run(pool=ThreadPool(threads)),
    "graph": lambda plan, threads: plan.compute(scheduler="threads", num_workers=threads),
    "leases": lambda plan, threads: plan.run(pool=LeasePool(threads)),
}


def main(target, width, threads, driver="leases"):
    """Work on the plan."""
    log = Location(f"{target}-published")

    def note(event, url):
        if event == "publish" and "/toys/" in url:
            log.append(url.rpartition("/")[2].encode() + b"\n")

    code = 0
    with observe(note):
        report = {}
        try:
            found = DRIVERS[driver](toy_plan(target, width), threads)
            report = {"done": found.done, "kept": found.kept}
        except WkdaskError as error:
            code = error.exit_code
            print(error, file=sys.stderr)
    print(json.dumps(report))
    raise SystemExit(code)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
