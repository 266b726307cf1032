"""An array beside a dense numpy array that says what its voxels should be."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal
from uuid import uuid4

import numpy as np

from wkdask.formats import ArrayHandle, ArraySpec, Format, UnitWriter, Written
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location

Array = np.ndarray[Any, Any]
Store = Literal["local", "memory"] | Location
"""Where arrays are made: in a temporary folder, in memory, or below a folder of any store."""


@contextmanager
def temporary_place(store: Store = "local") -> Iterator[Location]:
    """Give the place of a magnification in a dataset of its own, which is deleted afterwards.

    Examples
    --------
    >>> with temporary_place("memory") as place:
    ...     place.name, place.parent.names()
    ('1', [])
    """
    if store != "local":
        name = f"wkdask-testing-{uuid4().hex}"
        root = Location(f"memory://{name}") if store == "memory" else store / name
        try:
            yield root / "layer" / "1"
        finally:
            if root.is_folder():
                root.delete()
        return
    with tempfile.TemporaryDirectory(prefix="wkdask-testing-") as folder:
        yield Location(folder) / "dataset" / "layer" / "1"


def require(condition: object, message: str) -> None:
    """Fail the test that runs where something does not hold."""
    if not condition:
        raise AssertionError(message)


def bits(array: Array) -> Array:
    """Return the bits of voxels, so that -0.0 differs from 0 and NaN equals itself."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def require_voxels(found: Array, wanted: Array, what: str) -> None:
    """Fail where two arrays differ in shape, dtype or any bit."""
    require(
        found.dtype == wanted.dtype and found.shape == wanted.shape,
        f"{what}: {found.shape} {found.dtype} was read, expected {wanted.shape} {wanted.dtype}",
    )
    np.testing.assert_array_equal(bits(found), bits(wanted), err_msg=what)


def files_below(folder: Location, head: str = "") -> Iterator[str]:
    """Yield the paths of all files below a folder."""
    for name in folder.names():
        place, path = folder / name, f"{head}{name}"
        if place.is_file():
            yield path
        else:
            yield from files_below(place, f"{path}/")


class ArrayModel:
    """An array of a format, and what its voxels should be.

    Parameters
    ----------
    form
        The format.
    place
        Where nothing is yet.
    spec
        Of the array that is created there.

    Examples
    --------
    >>> from wkdask.formats import find_format
    >>> spec = ArraySpec((1, 16, 8, 8), "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 8, 8, 8))
    >>> with temporary_place("memory") as place:
    ...     model = ArrayModel(find_format("zarr3"), place, spec)
    ...     model.write_unit((0, 0, 0, 0), np.ones((1, 8, 8, 8), "uint8"))
    ...     model.require_same()
    """

    def __init__(self, form: Format, place: Location, spec: ArraySpec) -> None:
        self.form, self.place = form, place
        self.handle: ArrayHandle = form.create(place, spec)
        self.spec = spec
        self.dense = np.full(spec.shape, spec.fill, spec.dtype)
        self.documents = frozenset(files_below(place))

    def units(self) -> list[Index]:
        """Return all units of the array, stored or not."""
        tiles = self.spec.grid.units()
        return [tiles.cell(n) for n in range(len(tiles))]

    def unit_box(self, index: Index) -> Box:
        """Return the voxels of the array that a unit holds."""
        return self.spec.grid.unit_box(index).intersect(self.spec.grid.box)

    def open(self) -> ArrayHandle:
        """Open the array anew, with the names of its axes, as a dataset does."""
        ends = dict(zip(self.spec.axes, self.spec.box.stop, strict=True))
        return self.form.open(self.place, [ends[axis] for axis in "xyz"]).with_axes(self.spec.axes)

    def reopen(self) -> None:
        """Go on with the array as it is found; where its format stores no shape it may have become larger, by zeros."""
        self.handle = self.open()
        self.spec = self.handle.spec
        room = np.zeros(self.spec.shape, self.spec.dtype)
        room[tuple(map(slice, self.dense.shape))] = self.dense
        self.dense = room

    def resize(self, shape: Index) -> None:
        """Let the array grow, and open it anew."""
        self.handle.resize(shape)
        self.spec = replace(self.spec, shape=shape)
        self.reopen()
        large = all(a >= b for a, b in zip(self.spec.shape, shape, strict=True))
        require(large, f"the array was given the shape {shape}, but has {self.spec.shape} when opened")

    def repickle(self) -> None:
        """Go on with what other processes get of the handle."""
        self.handle = pickle.loads(pickle.dumps(self.handle))

    def write(self, box: Box, block: Array) -> None:
        """Write a box within the array."""
        self.handle.write(box, block)
        self.dense[box.slices] = block

    def write_unit(self, index: Index, block: Array, regions: Sequence[Box] | None = None) -> None:
        """Write a whole unit: all of it, or some whole chunks of it, in the order given; the rest of it becomes the fill value.

        ``block`` are the voxels of `unit_box`.
        """
        box = self.unit_box(index)
        with self.handle.unit(index, self.handle.scratch) as out:
            self.put(out, box, block, regions)
        self._wrote(index, block, regions, out.written)

    def join_unit(self, index: Index, block: Array, groups: Sequence[Sequence[Box]]) -> None:
        """Write a whole unit as parts, each of some whole chunks, and join them."""
        box, folder = self.unit_box(index), self.handle.scratch.parent / "parts"
        places = [folder / f"{n}.part" for n in range(len(groups))]
        for place, regions in zip(places, groups, strict=True):
            with self.handle.part(index, place, self.handle.scratch) as part:
                self.put(part, box, block, regions)
        written = self.handle.join(index, places, self.handle.scratch)
        for place in places:
            if place.is_file():
                place.delete()
        self._wrote(index, block, [region for regions in groups for region in regions], written)

    @staticmethod
    def put(out: UnitWriter, box: Box, block: Array, regions: Sequence[Box] | None = None) -> None:
        """Put regions of a box, whose voxels are given, or all of it."""
        for region in [box] if regions is None else regions:
            out.put(region, block[region.relative_to(box.start).slices])

    def _wrote(self, index: Index, block: Array, regions: Sequence[Box] | None, written: Written) -> None:
        box = self.unit_box(index)
        self.dense[box.slices] = self.spec.fill
        for region in [box] if regions is None else regions:
            self.dense[region.slices] = block[region.relative_to(box.start).slices]
        found = self.handle.inspect(index)
        require(
            found == (written if written.size else None),
            f"unit {index}: {written} was written, but inspect says {found}",
        )

    def require_same(self, box: Box | None = None, handle: ArrayHandle | None = None) -> None:
        """Fail where the voxels of a box within the array (default: all) are not what they should be."""
        box = box or self.spec.grid.box
        found = (handle or self.handle).read(box)
        require_voxels(found, self.dense[box.slices], f"{box} of {self.spec}")

    def require_listed(self) -> None:
        """Fail where files, `written_units`, `unit_of` and `inspect` contradict each other, or there are further files."""
        below = f"{self.place.url}/"
        paths = {self.handle.unit_location(index).url.removeprefix(below): index for index in self.units()}
        found = set(files_below(self.place))
        left = found - self.documents - paths.keys()
        require(not left, f"{sorted(left)} are left in {self.place}: neither units nor documents of the array")
        listed = list(self.handle.written_units())
        stored = {index for path, index in paths.items() if path in found}
        require(len(listed) == len(set(listed)), f"written_units yields {listed}, some of them twice")
        require(set(listed) == stored, f"written_units yields {sorted(listed)}, but there are files of {sorted(stored)}")
        for path, index in paths.items():
            require(self.handle.unit_of(path) == index, f"{path} is unit {index}, but unit_of says {self.handle.unit_of(path)}")
            seen = self.handle.inspect(index)
            require((seen is not None) == (index in stored), f"inspect says {seen} of {index}, stored are {sorted(stored)}")
            require(index in stored or not self._any(index), f"unit {index} has voxels, but is not stored")
        for path in self.documents:
            require(self.handle.unit_of(path) is None, f"unit_of takes the document {path} for {self.handle.unit_of(path)}")

    def _any(self, index: Index) -> bool:
        voxels = self.dense[self.unit_box(index).slices]
        return bool((bits(voxels) != bits(np.full_like(voxels, self.spec.fill))).any())

    def require_tidy(self) -> None:
        """Fail where unfinished files lie in the dataset's work folder; locks may stay."""
        left = [name for name in self.handle.scratch.names() if not name.endswith(".lock")]
        require(not left, f"{left} are left in {self.handle.scratch}")
