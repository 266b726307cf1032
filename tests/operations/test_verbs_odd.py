"""Odd layers under every verb that writes: each makes the voxels that numpy makes, or refuses and leaves nothing half made."""

from __future__ import annotations

import itertools
import math
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import wkdask as wk
from tests.operations.verb_driver import Listed, listed
from tests.operations.verbs import TWO, rechunk, shapes, small_tiles, storage
from wkdask.errors import CorruptImageError, InputError, UnsupportedImageFormatError, WkdaskError
from wkdask.formats import FORMATS
from wkdask.geometry import Mag
from wkdask.images import find_images
from wkdask.metadata import VoxelSize
from wkdask.operations import Coarser, Into, Sampling, SamplingModes, plan_convert, plan_downsample
from wkdask.operations.copying import Origin, plan_copy_layer
from wkdask.operations.copying_shape import Wishes
from wkdask.operations.merge import Over, plan_merge
from wkdask.operations.store_map import BlockMap, plan_map
from wkdask.operations.upsample import Finer, plan_upsample
from wkdask.operations.verify import verify
from wkdask.plan import Plan
from wkdask.storage import WORK_FOLDER, Location

Array = np.ndarray[Any, Any]
Voxels = tuple[tuple[int, ...], Array]
SIZE = (4, 4, 35)


@dataclass(frozen=True)
class Odd:
    """A layer: its box in mag 1, its only magnification, its voxels' type, and which of them are stored."""

    name: str
    topleft: tuple[int, int, int]
    size: tuple[int, int, int]
    mag: int = 1
    dtype: str = "uint8"
    stored: Callable[[Array], Array] = lambda voxels: np.ones(voxels.shape, bool)

    def voxels(self, shape: tuple[int, ...], seed: int = 0) -> Array:
        """Return noise; of floats, some are not finite."""
        rng = np.random.default_rng([seed, *shape])
        if self.dtype == "uint8":
            made = rng.integers(1, 255, shape, endpoint=True).astype("uint8")
        else:
            made = rng.normal(size=shape).astype(self.dtype)
            for value, often in ((np.nan, 0.02), (np.inf, 0.1), (-np.inf, 0.1)):
                made[rng.random(shape) < often] = value
        return np.where(self.stored(made), made, made.dtype.type(0))

    def begin(self, place: Path, form: str, name: str = "em", seed: int = 0) -> wk.Layer:
        """Make the layer, and store of it no more than there is."""
        dataset = wk.Dataset(place, SIZE, exist_ok=True)
        box = wk.BoundingBox(self.topleft, self.size)
        layer = dataset.add_layer(name, "color", dtype=self.dtype, data_format=form, bounding_box=box)
        made = layer.add_mag(self.mag, **shapes(form)).array
        voxels = self.voxels(made.box.shape, seed)
        for z in range(made.box.shape[-1]):
            if voxels[..., z].any():
                at = replace(made.box, start=(*made.box.start[:3], z + made.box.start[3]))
                at = replace(at, stop=(*made.box.stop[:3], at.start[3] + 1))
                made.handle.write(at, voxels[..., z : z + 1])
        return layer


def low_half(voxels: Array) -> Array:
    """Whether a voxel lies in the lower half along z, so that units are holes."""
    return np.broadcast_to(np.arange(voxels.shape[-1]) < voxels.shape[-1] // 2, voxels.shape)


ODD = [
    Odd("not finite", (2, 4, 0), (17, 9, 10), dtype="float32"),
    Odd("empty", (0, 0, 0), (0, 0, 0)),
    Odd("flat to nothing", (3, 5, 1), (17, 0, 8)),
    Odd("one voxel", (7, 5, 3), (1, 1, 1)),
    Odd("a plane", (3, 5, 7), (19, 21, 1)),
    Odd("no multiples", (3, 5, 1), (19, 21, 13)),
    Odd("holes", (0, 0, 0), (9, 8, 40), stored=low_half),
    Odd("nothing stored", (1, 1, 1), (20, 9, 9), stored=lambda voxels: np.zeros(voxels.shape, bool)),
    Odd("only mag 4", (3, 5, 1), (37, 30, 21), mag=4),
    Odd("whole voxels of mag 4", (4, 8, 4), (36, 28, 20), mag=4),
    Odd("a plane in mag 4, not finite", (3, 5, 1), (37, 30, 1), mag=4, dtype="float32"),
]
ISOTROPIC = SamplingModes.ISOTROPIC


def halved(start: tuple[int, ...], voxels: Array, factor: tuple[int, ...] = (1, 2, 2, 2)) -> Voxels:
    """Return the median of each window; at odd ends of the box the last voxel stands for the missing one."""
    pads = [(a % f, -(a + n) % f) for a, n, f in zip(start, voxels.shape, factor, strict=True)]
    padded = np.pad(voxels, pads, mode="edge") if voxels.size else np.pad(voxels, pads)
    windows = padded.reshape([n for size, f in zip(padded.shape, factor, strict=True) for n in (size // f, f)])
    windows = windows.transpose(0, 2, 4, 6, 1, 3, 5, 7).reshape(*windows.shape[::2], math.prod(factor)).astype("f4")
    ordered, half = np.sort(windows, axis=-1), windows.shape[-1] // 2
    with np.errstate(invalid="ignore", over="ignore"):
        middle = (ordered[..., half - 1] + ordered[..., half]) * np.float32(0.5)
    middle[np.isnan(windows).any(axis=-1)] = np.nan
    return tuple(a // f for a, f in zip(start, factor, strict=True)), middle.astype(voxels.dtype)


@dataclass(frozen=True)
class Trying:
    """A verb on an odd layer in a format: what it begins with, its plan, and the voxels that it is to make."""

    odd: Odd
    form: str
    folder: Path

    @property
    def before(self) -> Voxels:
        """The layer that there is."""
        return listed(self.folder, "in")["em", str(Mag(self.odd.mag))]

    def named(self, layer: str, *made: Voxels) -> Listed:
        """Return magnifications, from the layer's own on, by their names."""
        return {(layer, str(Mag(self.odd.mag << n))): voxels for n, voxels in enumerate(made)}

    def sampled(self, layer: str, made: Voxels, depth: int | None = None) -> Listed:
        """Return a magnification and the next, where a sampling mode says which: planes, of depth 1, stay as they are."""
        if (depth or self.odd.size[2]) != 1:
            return self.named(layer, made, halved(*made))
        mag = self.odd.mag
        return self.named(layer, made) | {(layer, str(Mag((2 * mag, 2 * mag, mag)))): halved(*made, (1, 2, 2, 1))}

    @property
    def at(self) -> Location:
        """The dataset that is changed, a copy of the one to begin with."""
        if not (self.folder / "ds").exists():
            shutil.copytree(self.folder / "in", self.folder / "ds")
        return Location(self.folder / "ds")

    @property
    def sampling(self) -> Sampling:
        """One coarser magnification."""
        return Sampling(coarsest=Mag(2 * self.odd.mag), mode=ISOTROPIC)

    @property
    def options(self) -> dict[str, Any]:
        """Chunks, and the magnification."""
        return {"storage": storage(self.form), "sampling": self.sampling, "running": TWO}

    def downsample(self) -> tuple[Plan, Listed]:
        plan = plan_downsample(self.at, "em", Coarser(mags=(Mag(2 * self.odd.mag),)), storage=storage(self.form), running=TWO)
        return plan, self.named("em", self.before, halved(*self.before))

    def redownsample(self) -> tuple[Plan, Listed]:
        mags = (Mag(2 * self.odd.mag),)
        plan_downsample(self.at, "em", Coarser(mags=mags), storage=storage(self.form)).run()
        array = wk.Dataset.open(self.folder / "ds").get_layer("em").get_mag(self.odd.mag).array
        voxels = self.odd.voxels(array.box.shape, 1)
        array.handle.write(array.box, voxels)
        plan = plan_downsample(self.at, "em", Coarser(Mag(self.odd.mag), mags, (), True), running=TWO)
        return plan, self.named("em", (array.box.start, voxels), halved(array.box.start, voxels))

    def upsample(self) -> tuple[Plan, Listed]:
        plan = plan_upsample(
            self.at, "em", Finer(Mag(self.odd.mag)), storage=storage(self.form), sampling=Sampling(mode=ISOTROPIC), running=TWO
        )
        (start, voxels), wanted = self.before, self.named("em", self.before)
        for mag in (2, 1) if self.odd.mag == 4 else ():
            each = (mag, mag, 1 if self.odd.size[2] == 1 else mag)
            box = wk.BoundingBox(self.odd.topleft, self.odd.size).align_with_mag(Mag(each), ceil=True).in_mag(Mag(each))
            at = np.ix_(
                range(voxels.shape[0]),
                *(
                    np.arange(a, b) // (4 // m) - low
                    for a, b, low, m in zip(box.topleft, box.bottomright, start[1:], each, strict=True)
                ),
            )
            wanted["em", str(Mag(each))] = (0, *box.topleft), voxels[at]
        return plan, wanted

    def copy(self) -> tuple[Plan, Listed]:
        return self._copied(Wishes())

    def encode(self) -> tuple[Plan, Listed]:
        return self._copied(Wishes(chunk=(4, 4, 4) if self.form == "wkw" else (4, 8, 4)))

    def transcode(self) -> tuple[Plan, Listed]:
        return self._copied(Wishes("wkw" if self.form == "zarr3" else "zarr3"))

    def _copied(self, wishes: Wishes) -> tuple[Plan, Listed]:
        origin = Origin(Location(self.folder / "in"), "em")
        return plan_copy_layer(origin, Location(self.folder / "ds"), None, wishes, running=TWO), self.named("em", self.before)

    def rechunk(self) -> tuple[Plan, Listed]:
        wishes = Wishes(chunk=(4, 4, 4))
        assert self.at
        return rechunk(self.folder, wishes), self.named("em", self.before)

    def merge(self) -> tuple[Plan, Listed]:
        self.odd.begin(self.folder / "in", self.form, "high", 1)
        low, high = (wk.Dataset.open(self.folder / "in").get_layer(name).lazy() for name in ("em", "high"))
        plan = plan_merge(Location(self.folder / "ds"), "em", [Over(high)], low, **self.options)
        above, (start, below) = listed(self.folder, "in")["high", str(Mag(self.odd.mag))][1], self.before
        merged = start, np.where(above != 0, above, below)
        return plan, self.sampled("em", merged)

    def store(self) -> tuple[Plan, Listed]:
        view = wk.Dataset.open(self.folder / "in").get_layer("em").lazy().translate((8, 16, 8))
        plan = view.plan_store(self.folder / "ds", "em", "keep", storage=storage(self.form), running=TWO)
        start, voxels = self.before
        moved = tuple(a + by // self.odd.mag for a, by in zip(start, (0, 8, 16, 8), strict=True))
        return plan, self.named("em", (moved, voxels))

    def write_dask(self) -> tuple[Plan, Listed]:
        import dask.array as da

        start, voxels = self.before
        dataset = wk.Dataset(self.folder / "ds", SIZE)
        box = wk.BoundingBox([a * self.odd.mag for a in start[1:]], [n * self.odd.mag for n in voxels.shape[1:]])
        layer = dataset.add_layer("em", "color", dtype=self.odd.dtype, data_format=self.form, bounding_box=box)
        array = da.from_array(voxels, chunks=(1, 7, 9, 5), name="noise")
        more = {"downsample": True, "coarsest_mag": 2 * self.odd.mag, "sampling_mode": "isotropic", **shapes(self.form)}
        return layer.plan_write_dask(array, self.odd.mag, **more), self.sampled(
            "em", self.before, voxels.shape[3] * self.odd.mag
        )

    def map_blocks(self) -> tuple[Plan, Listed]:
        start, voxels = self.before
        made = start, negative(voxels)
        mapping = BlockMap(negative, "made", "em", depth=1, chunks=(8, 8, 8))
        wanted = self.named("em", self.before) | self.sampled("made", made)
        return plan_map(self.at, mapping, **self.options), wanted

    def convert(self) -> tuple[Plan, Listed]:
        start, voxels = self.before
        write_images(self.folder / "images", voxels)
        into = Into("em", dataset="ds", topleft=tuple(a * self.odd.mag for a in start[1:]), mag=Mag(self.odd.mag))
        plan = plan_convert(
            find_images(str(self.folder / "images")), self.folder / "ds", VoxelSize(SIZE), into=into, **self.options
        )
        return plan, self.sampled("em", self.before, voxels.shape[3] * self.odd.mag)

    def append(self) -> tuple[Plan, Listed]:
        mags = (Mag(2 * self.odd.mag),)
        plan_downsample(self.at, "em", Coarser(mags=mags), storage=storage(self.form)).run()
        start, voxels = self.before
        more = self.odd.voxels((1, *(max(1, n) for n in voxels.shape[1:3]), 3), 2)
        write_images(self.folder / "more", more)
        plan = wk.Dataset.open(self.folder / "ds").get_layer("em").plan_append_images(self.folder / "more", running=TWO)
        grown = start, np.concatenate([voxels, more], axis=3)
        return plan, self.named("em", grown, halved(*grown))


def negative(block: Array) -> Array:
    """Return the negative, of floats and ints."""
    return -block if block.dtype.kind == "f" else 255 - block


def write_images(folder: Path, voxels: Array) -> None:
    """Write sections."""
    folder.mkdir()
    for z in range(voxels.shape[-1]):
        with warnings.catch_warnings(action="ignore"):  # of pages without pixels
            tifffile.imwrite(folder / f"{z:02}.tif", voxels[0, ..., z].T)


VERBS = [name for name, member in vars(Trying).items() if callable(member) and name.islower() and name[0] != "_"]
VERBS = [name for name in VERBS if name not in ("named", "sampled")]
REFUSED: dict[tuple[str, str], type[WkdaskError]] = {
    ("write_dask", "empty"): InputError,
    ("write_dask", "flat to nothing"): InputError,
    ("convert", "empty"): UnsupportedImageFormatError,
    ("convert", "flat to nothing"): CorruptImageError,
    ("append", "empty"): InputError,
    ("append", "flat to nothing"): InputError,
    ("append", "only mag 4"): InputError,
    ("append", "a plane in mag 4, not finite"): InputError,
}


def cases(refused: bool) -> Iterator[Any]:
    """Yield every verb on every layer, each in one of the formats; where there is time, in all."""
    for (first, verb), (second, odd) in itertools.product(enumerate(VERBS), enumerate(ODD)):
        for number, form in enumerate(FORMATS):
            marks = [pytest.mark.soak] if number != (first + second) % len(FORMATS) else []
            if ((verb, odd.name) in REFUSED) is refused:
                yield pytest.param(verb, odd, form, marks=marks, id=f"{verb}-{odd.name}-{form}")


def check_whole(folder: Path) -> None:
    """All that lies in the dataset is listed, and good."""
    assert verify(Location(folder / "ds")).ok
    layers = wk.Dataset.open(folder / "ds").layers
    assert {path.name for path in (folder / "ds").iterdir() if path.is_dir()} <= {*layers, WORK_FOLDER}
    for name, layer in layers.items():
        own = folder / "ds" / name
        made = {path.name for path in own.iterdir() if path.is_dir()} if own.exists() else set()
        assert made == {view.array.handle.location.name for view in layer.mags.values()}


@pytest.mark.parametrize(("verb", "odd", "form"), cases(refused=False))
def test_odd_layers_become_what_numpy_makes_of_them(tmp_path, verb, odd, form):
    odd.begin(tmp_path / "in", form)
    with small_tiles():
        plan, wanted = getattr(Trying(odd, form, tmp_path), verb)()
        plan.run()
    found = listed(tmp_path)
    assert found.keys() == wanted.keys()
    for mag, (start, voxels) in wanted.items():
        assert found[mag][0] == start, mag
        np.testing.assert_array_equal(found[mag][1], voxels, str(mag))
        assert found[mag][1].dtype == voxels.dtype
    check_whole(tmp_path)


@pytest.mark.parametrize(("verb", "odd", "form"), cases(refused=True))
def test_odd_layers_that_no_verb_can_take_stay_as_they_are(tmp_path, verb, odd, form):
    odd.begin(tmp_path / "in", form)
    with small_tiles(), pytest.raises(REFUSED[verb, odd.name]):
        getattr(Trying(odd, form, tmp_path), verb)()
    if (tmp_path / "ds").exists():
        check_whole(tmp_path)
    else:
        assert verb == "convert"
