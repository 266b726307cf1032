"""What the units of formats must be: all or nothing, in any order, by any number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from wkdask.formats import ArraySpec, UnitWriter
from wkdask.geometry.grid import Box, Index
from wkdask.storage import Location
from wkdask.testing import strategies
from wkdask.testing.machine import ArrayMachine, Interrupted
from wkdask.testing.model import ArrayModel, require
from wkdask.testing.suite import Suite


class UnitConformance(Suite):
    """Tests of units; `wkdask.testing.FormatConformance` derives from it."""

    def test_any_writes_read_like_numpy(self) -> None:
        """Boxes, units and parts in any order, given up, grown, opened and pickled between: voxels are those of numpy."""
        attributes = {"form": self.format, "specs": self.specs(), "stores": self.stores, "renames_units": self.renames_units}
        machine = type("Machine", (ArrayMachine,), attributes)
        run_state_machine_as_test(machine, settings=self.settings(self.steps))

    def test_units_appear_when_they_are_whole(self) -> None:
        """Inside the ``with`` nothing is to be seen; after an exception there is nothing, or what was there before."""

        def body(place: Location, spec: ArraySpec, there: bool, data: st.DataObject) -> None:
            model = self.filled(place, spec) if there else ArrayModel(self.format, place, spec)
            index = data.draw(st.sampled_from(model.units()))
            box = model.unit_box(index)
            block = np.full(box.shape, 101, spec.dtype)
            before = model.handle.inspect(index)
            with pytest.raises(Interrupted), model.handle.unit(index, model.handle.scratch) as out:
                self.put_and_look(model, out, box, block, Interrupted())
            require(model.handle.inspect(index) == before, "a unit that was given up changed what was there")
            model.require_same()
            with model.handle.unit(index, model.handle.scratch) as out:
                self.put_and_look(model, out, box, block)
                require(model.handle.inspect(index) == before, "a unit is there before its `with` block has ended")
            model.dense[box.slices] = block
            model.require_same()
            require(model.handle.inspect(index) == out.written, "`written` is not what inspect finds")
            model.require_tidy()
            model.require_listed()

        self.explore(body, self.specs(), st.booleans(), st.data())

    @staticmethod
    def put_and_look(
        model: ArrayModel, out: UnitWriter, box: Box, block: np.ndarray[Any, Any], error: Exception | None = None
    ) -> None:
        """Put all chunks of a unit, look that none of them is to be seen, and fail where an error is given."""
        chunks = model.spec.grid.chunks(box)
        model.put(out, box, block, [chunks.box(n) for n in range(len(chunks))])
        model.require_same(box)
        if error:
            raise error

    def test_units_that_become_zero_are_zero(self) -> None:
        """Zeros over voxels leave zeros: by a unit, by parts, by a box; and so does a unit that nothing was put into."""

        def body(place: Location, spec: ArraySpec, data: st.DataObject) -> None:
            model = self.filled(place, spec)
            zeros = np.zeros(spec.shape, spec.dtype)
            for index in model.units():
                box, way = model.unit_box(index), data.draw(st.sampled_from(["unit", "none", "box", "parts"]))
                block = zeros[box.slices]
                if way == "box":
                    model.write(box, block)
                elif way == "parts" and spec.unit != spec.chunk:
                    model.join_unit(index, block, [[box], []])
                else:
                    model.write_unit(index, block, [] if way == "none" else None)
            model.require_same()
            require(not model.handle.read(spec.grid.box).any(), "voxels are left where zeros were written")
            model.require_listed()

        self.explore(body, self.specs(), st.data())

    def test_units_are_written_in_any_order_by_threads(self) -> None:
        """Units that threads write at the same time, and boxes of several threads in one unit, lose nothing."""

        def body(place: Location, spec: ArraySpec, data: st.DataObject) -> None:
            model = ArrayModel(self.format, place, spec)
            wanted = np.random.default_rng(0).integers(1, 100, spec.shape).astype(spec.dtype)
            units = data.draw(st.permutations(model.units()))
            axis = max(range(len(spec.shape)), key=lambda i: spec.shape[i])
            columns = [(*spec.grid.box.slices[:axis], slice(i, i + 1)) for i in range(min(6, spec.shape[axis]))]

            def write_unit(index: Index) -> None:
                box = model.unit_box(index)
                with model.handle.unit(index, model.handle.scratch) as out:
                    out.put(box, wanted[box.slices])

            def write_column(at: int) -> None:
                start, stop = list(spec.grid.box.start), list(spec.grid.box.stop)
                start[axis], stop[axis] = at, at + 1
                model.handle.write(Box(tuple(start), tuple(stop)), wanted[columns[at]] + 1)

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(write_unit, units))
                model.dense[...] = wanted
                model.require_same()
                list(pool.map(write_column, range(len(columns))))
            for column in columns:
                model.dense[column] += 1
            model.require_same()
            model.require_listed()
            model.require_tidy()

        self.explore(body, self.specs(), st.data())

    def test_parts_are_joined(self) -> None:
        """Parts of any chunks, in any order, some of them empty, become the unit."""

        def body(place: Location, spec: ArraySpec, data: st.DataObject) -> None:
            model = ArrayModel(self.format, place, spec)
            index = data.draw(st.sampled_from(model.units()))
            box = model.unit_box(index)
            tiles = spec.grid.chunks(box)
            chunks = data.draw(st.permutations([tiles.box(n) for n in range(len(tiles))]))
            block, count = np.full(box.shape, 77, spec.dtype), data.draw(st.integers(1, 4))
            model.join_unit(index, block, [chunks[n::count] for n in range(count)])
            model.require_same()
            model.require_listed()
            model.require_tidy()

        if self.format.sharded:
            self.explore(body, self.specs().filter(lambda spec: spec.chunk != spec.unit), st.data())

    def test_regions_that_fill_no_chunks(self) -> None:
        """A region may begin and end inside of chunks: what it lacks of them is zero."""

        def body(place: Location, spec: ArraySpec, data: st.DataObject) -> None:
            model = self.filled(place, spec)
            index = data.draw(st.sampled_from(model.units()))
            region = data.draw(strategies.boxes_in(model.unit_box(index)))
            with model.handle.unit(index, model.handle.scratch) as out:
                out.put(region, np.full(region.shape, 77, spec.dtype))
            model.dense[model.unit_box(index).slices] = 0
            model.dense[region.slices] = 77
            model.require_same()

        self.explore(body, self.specs(), st.data())
