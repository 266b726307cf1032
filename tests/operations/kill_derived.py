"""Run as a program: as ``kill_driver``, for plans that make magnifications or layers of those that are there.

Usage: kill_derived.py SOURCE FOLDER CASE. The source is a dataset with the layers that the case needs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

from wkdask import Dataset, Mag
from wkdask.operations import Running, Sampling, SamplingModes, Storage
from wkdask.operations.merge import Over, plan_merge
from wkdask.operations.upsample import Finer, plan_upsample
from wkdask.storage import Location

STORAGE = Storage((8, 8, 8), (16, 16, 16))
OPTIONS = {"storage": STORAGE, "running": Running(2)}


def plan_upsampled(source: str, target: Path):
    """Two magnifications, in parts that are joined."""
    with mock.patch("wkdask.operations.upsample.TILE_BYTES", 1):
        return plan_upsample(
            Location(str(target)), "color", Finer(Mag(4)), sampling=Sampling(mode=SamplingModes.ISOTROPIC), **OPTIONS
        )


def plan_stored(source: str, target: Path):
    """A magnification that is kept, and coarser ones that are made anew."""
    with mock.patch("wkdask.operations.derived.TILE_BYTES", 1):
        return Dataset.open(source).get_layer("em").lazy().translate((2, 0, 0)).plan_store(target, "color", "keep", **OPTIONS)


def plan_merged(source: str, target: Path):
    """A layer over another, and a coarser magnification."""
    low, high = (Dataset.open(source).get_layer(name).lazy() for name in ("low", "high"))
    sampling = Sampling(coarsest=Mag(2), mode=SamplingModes.ISOTROPIC)
    with mock.patch("wkdask.operations.derived.TILE_BYTES", 1):
        return plan_merge(Location(str(target)), "color", [Over(high)], low, sampling=sampling, **OPTIONS)


PLANS = {"upsample": plan_upsampled, "store": plan_stored, "merge": plan_merged}

if __name__ == "__main__":
    import kill_driver  # beside this program; tests, which look into it for examples, run from elsewhere

    kill_driver.plan = PLANS[sys.argv[3]]
    if sys.argv[3] != "upsample":
        kill_driver.begin_with = lambda source, target: target
    kill_driver.main(sys.argv[1], Path(sys.argv[2]))
