"""Every verb that writes by a plan, over small data: what it begins with, and the plan. Faults are tried on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tifffile

import wkdask as wk
from wkdask.formats import FORMATS
from wkdask.geometry import Mag
from wkdask.images import find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import Coarser, Into, Running, Sampling, SamplingModes, Storage, plan_convert, plan_downsample
from wkdask.operations.compressing import is_needed, plan_rechunk
from wkdask.operations.copying import Origin, plan_copy_layer
from wkdask.operations.copying_shape import Wishes
from wkdask.operations.merge import Over, plan_merge
from wkdask.operations.store_map import BlockMap, plan_map
from wkdask.operations.upsample import Finer, plan_upsample
from wkdask.plan import Plan
from wkdask.storage import Location

TILING = ("append", "convert", "copying_stages", "derived", "downsample", "store", "store_map", "upsample")
DOCUMENTS = frozenset().union(*(form.documents for form in FORMATS.values()))
BOX = ((3, 5, 1), (18, 9, 8))
TWO = Running(2)
ISOTROPIC = Sampling(coarsest=Mag(2), mode=SamplingModes.ISOTROPIC)
ANEW = Coarser(Mag(1), (Mag(2),), (), True)


@dataclass(frozen=True)
class Verb:
    """A verb.

    Parameters
    ----------
    name
        Of the verb, and of the format where there are several.
    begin
        Makes in a folder what it begins with: ``in`` where it reads that, ``ds`` where it changes that.
    make
        Plans it there, with results in ``ds``.
    reads
        Which files, below the folder, it reads; none where it can not know them.
    keeps
        Whether it puts voxels into units beside those that are there, which nobody can make again.
    """

    name: str
    begin: Callable[[Path], None]
    make: Callable[[Path], Plan]
    reads: str = ""
    keeps: bool = False

    def plan(self, folder: Path) -> Plan:
        """Plan it in tiles that are as small as they can be, so that units are written in parts."""
        with small_tiles():
            return self.make(folder)

    def is_needed(self, plan: Plan) -> bool:
        """Whether the plan does anything."""
        return bool(plan.stages) or is_needed(plan)

    def source(self, folder: Path) -> Path:
        """Return a file that is read, in the middle of all."""
        places = (*folder.glob(self.reads), *folder.glob(self.reads.replace("/1/", "/1-1-1/")))
        found = sorted(path for path in places if path.is_file() and path.name not in DOCUMENTS)
        return found[len(found) // 2]


@contextmanager
def small_tiles() -> Iterator[None]:
    """Let tiles have one byte, which they round up to what they must have."""
    with ExitStack() as stack:
        for module in TILING:
            stack.enter_context(mock.patch(f"wkdask.operations.{module}.TILE_BYTES", 1, create=True))
        yield


def noise(seed: int, size: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return voxels, none of which is 0."""
    return np.random.default_rng(seed).integers(1, 200, size).astype("uint8")


def images(folder: Path, first: int, count: int, size: tuple[int, int] = BOX[1][:2]) -> None:
    """Write sections of noise."""
    folder.mkdir(parents=True)
    for z in range(first, first + count):
        tifffile.imwrite(folder / f"{z:02}.tif", noise(z, size).T)


def storage(form: str, **options: Any) -> Storage:
    """Return chunks of 8, and where the format has them, shards of 16."""
    edge = 16 if FORMATS[form].sharded else 8
    return Storage((8, 8, 8), (edge,) * 3, data_format=form, **options)


def shapes(form: str) -> dict[str, int]:
    """Return the same as options of a layer."""
    return {"chunk_shape": 8, **({"shard_shape": 16} if FORMATS[form].sharded else {})}


def dataset(place: Path, form: str, mags: tuple[int, ...] = (1,), name: str = "em", **options: Any) -> wk.Layer:
    """Make a dataset, or one more layer of it, with noise."""
    found = wk.Dataset(place, (4, 4, 35), exist_ok=True)
    layer = found.add_layer(name, "color", dtype="uint8", data_format=form, bounding_box=wk.BoundingBox(*BOX))
    for mag in mags:
        made = layer.add_mag(mag, **{**shapes(form), **options})
        made.array.handle.write(made.array.box, noise(mag + 10 * len(found.layers), made.array.box.shape))
    return layer


def begin_convert(folder: Path) -> None:
    """Write images."""
    images(folder / "in", 0, BOX[1][2])


def convert(folder: Path, form: str) -> Plan:
    """Convert them, with a magnification."""
    into = Into("em", dataset="ds", topleft=(3, 5, 1))
    options = {"into": into, "storage": storage(form), "sampling": ISOTROPIC, "running": TWO}
    return plan_convert(find_images(str(folder / "in")), folder / "ds", VoxelSize((4, 4, 35)), **options)


def begin_append(folder: Path, form: str) -> None:
    """Convert some sections; leave others."""
    images(folder / "in", 0, 5)
    convert(folder, form).run()
    images(folder / "more", 5, 6)


def append(folder: Path) -> Plan:
    """Add sections to the magnifications that there are."""
    return wk.Dataset.open(folder / "ds").get_layer("em").plan_append_images(folder / "more", running=TWO)


def begin_in_place(folder: Path, form: str, mags: tuple[int, ...], **options: Any) -> None:
    """Make the dataset that is changed."""
    dataset(folder / "ds", form, mags, **options)


def begin_source(folder: Path, form: str) -> None:
    """Make a dataset to read from."""
    dataset(folder / "in", form, (1, 2))


def begin_update(folder: Path, form: str) -> None:
    """Make a pyramid, and write other voxels into its finest magnification."""
    layer = dataset(folder / "ds", form, (1,))
    plan_downsample(Location(folder / "ds"), "em", Coarser(Mag(1), (Mag(2),)), storage=storage(form)).run()
    layer.get_mag(1).write(noise(99, (5, 9, 8)), absolute_offset=(3, 5, 1))


def downsample(folder: Path, form: str, coarser: Coarser) -> Plan:
    """Make magnifications, or make them anew."""
    return plan_downsample(Location(folder / "ds"), "em", coarser, storage=storage(form), sampling=ISOTROPIC, running=TWO)


def upsample(folder: Path, form: str) -> Plan:
    """Make two finer magnifications."""
    sampling = Sampling(mode=SamplingModes.ISOTROPIC)
    return plan_upsample(Location(folder / "ds"), "em", Finer(Mag(4)), storage=storage(form), sampling=sampling, running=TWO)


def copy(folder: Path, wishes: Wishes) -> Plan:
    """Copy a layer."""
    return plan_copy_layer(Origin(Location(folder / "in"), "em"), Location(folder / "ds"), None, wishes, running=TWO)


def rechunk(folder: Path, wishes: Wishes) -> Plan:
    """Store a layer in another way, in its place."""
    return plan_rechunk(Location(folder / "ds"), "em", wishes, running=TWO)


def begin_merge(folder: Path) -> None:
    """Make two layers."""
    dataset(folder / "in", "zarr3", (1,), "low")
    dataset(folder / "in", "wkw", (1,), "high")


def merge(folder: Path) -> Plan:
    """Lay one over the other."""
    low, high = (wk.Dataset.open(folder / "in").get_layer(name).lazy() for name in ("low", "high"))
    high = high.translate((2, 0, 0))
    options = {"storage": storage("zarr3"), "sampling": ISOTROPIC, "running": TWO}
    return plan_merge(Location(folder / "ds"), "em", [Over(high)], low, **options)


def store(folder: Path, form: str) -> Plan:
    """Store a moved view, with the magnification that can be kept."""
    view = wk.Dataset.open(folder / "in").get_layer("em").lazy().translate((2, 0, 0))
    return view.plan_store(folder / "ds", "em", "keep", storage=storage(form), running=TWO)


def begin_dask(folder: Path, form: str) -> None:
    """Make a layer without magnifications."""
    dataset(folder / "ds", form, ())


def write_dask(folder: Path, form: str) -> Plan:
    """Store a dask array whose blocks do not end with chunks."""
    import dask.array as da

    array = da.from_array(noise(7, BOX[1]), chunks=(7, 9, 5), name="noise")
    layer = wk.Dataset.open(folder / "ds").get_layer("em")
    return layer.plan_write_dask(array, downsample=True, coarsest_mag=2, sampling_mode="isotropic", **shapes(form))


def inverted(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the negative."""
    return 255 - block


def map_blocks(folder: Path, form: str) -> Plan:
    """Make a new layer of another one's voxels and their neighbours."""
    mapping = BlockMap(inverted, "made", "em", depth=1, chunks=(8, 8, 8))
    return plan_map(Location(folder / "ds"), mapping, storage=storage(form), sampling=ISOTROPIC, running=TWO)


def _verbs() -> Iterator[Verb]:
    for form in FORMATS:
        yield Verb(f"convert-{form}", begin_convert, partial(convert, form=form), "in/*.tif")
        some = partial(begin_in_place, form=form, mags=(1,))
        yield Verb(
            f"downsample-{form}", some, partial(downsample, form=form, coarser=Coarser(Mag(1), (Mag(2),))), "ds/em/1/**/*"
        )
    for form in ("zarr3", "wkw"):
        begin = partial(begin_update, form=form)
        within = replace(ANEW, within=wk.BoundingBox((3, 5, 1), (5, 9, 8)))
        yield Verb(f"redownsample-{form}", begin, partial(downsample, form=form, coarser=ANEW), "ds/em/1/**/*")
        yield Verb(f"update-{form}", begin, partial(downsample, form=form, coarser=within), "ds/em/1/**/*")
        yield Verb(f"append-{form}", partial(begin_append, form=form), append, "more/*.tif", keeps=True)
        begin = partial(begin_in_place, form=form, mags=(4,))
        yield Verb(f"upsample-{form}", begin, partial(upsample, form=form), "ds/em/4/**/*")
        begin = partial(begin_source, form=form)
        yield Verb(f"copy-{form}", begin, partial(copy, wishes=Wishes()), "in/em/1/**/*")
        other = Wishes(chunk=(4, 4, 4) if form == "wkw" else (4, 8, 4))
        yield Verb(f"encode-{form}", begin, partial(copy, wishes=other), "in/em/1/**/*")
        begin = partial(begin_in_place, form=form, mags=(1, 2), compress=False)
        yield Verb(f"compress-{form}", begin, partial(rechunk, wishes=Wishes(codec="compressed")), "ds/em/1/**/*")
    yield Verb("transcode", partial(begin_source, form="zarr3"), partial(copy, wishes=Wishes("wkw")), "in/em/1/**/*")
    begin = partial(begin_in_place, form="zarr3", mags=(1, 2))
    yield Verb("rechunk", begin, partial(rechunk, wishes=Wishes(chunk=(8, 4, 8))), "ds/em/1/**/*")
    yield Verb("merge", begin_merge, merge, "in/high/1/**/*")
    yield Verb("store", partial(begin_source, form="zarr3"), partial(store, form="wkw"), "in/em/1/**/*")
    yield Verb("write-dask", partial(begin_dask, form="zarr3"), partial(write_dask, form="zarr3"))
    begin = partial(begin_in_place, form="zarr3", mags=(1,))
    yield Verb("map-blocks", begin, partial(map_blocks, form="zarr3"), "ds/em/1/**/*")


VERBS = {verb.name: verb for verb in _verbs()}
