"""What formats must bear: documents and files that are not what they should be."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
from hypothesis import strategies as st

from wkdask.errors import WkdaskError
from wkdask.formats import ArrayHandle, ArraySpec
from wkdask.geometry.grid import Box
from wkdask.storage import Location
from wkdask.testing import strategies
from wkdask.testing.model import ArrayModel, bits, require
from wkdask.testing.suite import Suite


class HostileConformance(Suite):
    """Tests of damaged files; `wkdask.testing.FormatConformance` derives from it."""

    def test_damaged_documents(self) -> None:
        """Whatever an array's document says: an error of ours, or an array that reads, and no memory for mere claims."""

        def body(place: Location, spec: ArraySpec, data: st.DataObject) -> None:
            model = self.filled(place, spec)
            for name in sorted(model.documents):
                damaged = data.draw(strategies.mutated_document((place / name).read_bytes()), name)
                (place / name).write_bytes(damaged)
            with self.bounded():
                look_at(model)

        self.explore(body, self.specs(), st.data())

    def test_damaged_units(self) -> None:
        """Whatever a unit's file holds: an error of ours, or voxels of the right shape, with checksums the right ones."""

        def body(place: Location, spec: ArraySpec, data: st.DataObject) -> None:
            model = self.filled(place, spec)
            index = data.draw(st.sampled_from(model.units()))
            file, box = model.handle.unit_location(index), model.unit_box(index)
            file.write_bytes(data.draw(strategies.mutated_bytes(file.read_bytes())))
            sure = spec.codec is not None and spec.codec.name in self.finds_damage
            with self.bounded():
                found = read_or_refuse(model.open(), box)
                if found is not None and sure:
                    np.testing.assert_array_equal(bits(found), bits(model.dense[box.slices]))
                look_at(model)
                merge_or_refuse(model, box, sure=sure)

        self.explore(body, self.specs(), st.data())

    def test_names_of_files_that_are_no_units(self) -> None:
        """`unit_of` knows units by their only spelling."""
        model = ArrayModel(self.format, self.nowhere() / "names" / "1", self.plain())
        path = model.handle.unit_location(model.units()[-1]).url.removeprefix(f"{model.place.url}/")
        model.place.parent.delete()
        digits = [i for i, letter in enumerate(path) if letter.isdigit()]
        spellings = {f"{path[:i]}{odd}{path[i + 1 :]}" for i in digits for odd in ("01", "-1", "+1", "1_0", "٣", " 1", "1.0")}
        for other in {"", "/", "..", path[:-1], f"{path}~", f"{path}/0", f"/{path}", f"x{path}", *spellings}:
            found = model.handle.unit_of(other)
            where = None if found is None else model.handle.unit_location(found).url
            same = found is None or where == f"{model.place.url}/{other}"
            require(same, f"unit_of takes {other!r} for {found}, whose file is {where}")

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Fail where more memory is taken than `memory`."""
        tracemalloc.start()
        try:
            yield
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        require(peak <= self.memory, f"{peak} bytes were taken for one small array, expected at most {self.memory}")


def read_or_refuse(handle: ArrayHandle, box: Box) -> np.ndarray[Any, Any] | None:
    """Return the voxels of a box, or None where that is refused."""
    try:
        found = handle.read(box)
    except WkdaskError:
        return None
    require(found.shape == box.shape and found.dtype == handle.spec.dtype, f"{found.shape} {found.dtype} was read for {box}")
    return found


def look_at(model: ArrayModel) -> None:
    """Open an array that may be damaged, and ask it some things; errors of ours are right."""
    try:
        handle = model.open()
    except WkdaskError:
        return
    box = Box((0,) * len(handle.spec.shape), tuple(min(2, n) for n in handle.spec.shape))
    if box.size:
        read_or_refuse(handle, box)
    for index in model.units()[:2]:
        if len(index) == len(handle.spec.shape):
            try:
                handle.inspect(index)
                list(islice(handle.written_units(), 100))
            except WkdaskError:
                continue


def merge_or_refuse(model: ArrayModel, box: Box, *, sure: bool) -> None:
    """Write one voxel of a damaged unit: refused, or it is written, and others stay where damage is found."""
    one = Box(box.start, tuple(a + 1 for a in box.start))
    block = np.full(one.shape, 111, model.spec.dtype)
    handle = model.open()
    try:
        handle.write(one, block)
    except WkdaskError:
        return
    wanted = model.dense.copy()
    wanted[one.slices] = block
    found = read_or_refuse(handle, box)
    if found is not None and sure:
        np.testing.assert_array_equal(bits(found), bits(wanted[box.slices]))
