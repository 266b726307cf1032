"""A state machine that writes to an array in every way that there is, in any order, and compares it with numpy after each."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wkdask.formats import ArrayHandle, ArraySpec, Format
from wkdask.geometry.grid import Box, Index
from wkdask.testing.model import ArrayModel, Store, require, temporary_place
from wkdask.testing.strategies import boxes_in, voxels


class Interrupted(Exception):
    """What ends a ``with`` block early."""


class ArrayMachine(RuleBasedStateMachine):
    """Writes boxes, units and parts, gives up units, lets the array grow, opens and pickles it; reads through two handles.

    Derive from it to set what it needs.
    """

    form: ClassVar[Format]
    specs: ClassVar[st.SearchStrategy[ArraySpec]]
    stores: ClassVar[tuple[Store, ...]]
    renames_units: ClassVar[bool]
    model: ArrayModel
    early: ArrayHandle
    grown = False

    @initialize(data=st.data())
    def create(self, data: st.DataObject) -> None:
        """Create an array."""
        self._place = temporary_place(data.draw(st.sampled_from(self.stores), "store"))
        self.model = ArrayModel(self.form, self._place.__enter__(), data.draw(self.specs, "spec"))
        self.early = self.model.open()

    def teardown(self) -> None:
        """Delete the array."""
        try:
            if hasattr(self, "model"):
                if not (self.grown and self.renames_units):
                    self.model.require_listed()
                self.model.require_tidy()
        finally:
            if hasattr(self, "_place"):
                self._place.__exit__(None, None, None)

    def _chunks(self, data: st.DataObject, index: Index) -> list[Box]:
        """Draw some chunks of a unit, in any order."""
        tiles = self.model.spec.grid.chunks(self.model.unit_box(index))
        numbers = data.draw(st.permutations(range(len(tiles))), "chunks")
        return [tiles.box(n) for n in numbers[: data.draw(st.integers(0, len(tiles)), "count")]]

    @rule(data=st.data())
    def write_box(self, data: st.DataObject) -> None:
        """Write any box."""
        box = data.draw(boxes_in(self.model.spec.grid.box), "box")
        self.model.write(box, data.draw(voxels(box.shape, self.model.spec.dtype), "voxels"))

    @rule(data=st.data())
    def write_whole_unit(self, data: st.DataObject) -> None:
        """Write a unit in one go."""
        index = data.draw(st.sampled_from(self.model.units()), "unit")
        self.model.write_unit(index, data.draw(voxels(self.model.unit_box(index).shape, self.model.spec.dtype), "voxels"))

    @rule(data=st.data())
    def write_chunks_of_unit(self, data: st.DataObject) -> None:
        """Write some chunks of a unit, in any order; the others are gone then."""
        index = data.draw(st.sampled_from(self.model.units()), "unit")
        block = data.draw(voxels(self.model.unit_box(index).shape, self.model.spec.dtype), "voxels")
        self.model.write_unit(index, block, self._chunks(data, index))

    @precondition(lambda self: self.form.sharded and self.model.spec.chunk != self.model.spec.unit)
    @rule(data=st.data())
    def join_parts(self, data: st.DataObject) -> None:
        """Write a unit as parts of any chunks, some of none."""
        index = data.draw(st.sampled_from(self.model.units()), "unit")
        block = data.draw(voxels(self.model.unit_box(index).shape, self.model.spec.dtype), "voxels")
        chunks, count = self._chunks(data, index), data.draw(st.integers(1, 4), "parts")
        self.model.join_unit(index, block, [chunks[n::count] for n in range(count)])

    @rule(data=st.data())
    def write_some_of_unit(self, data: st.DataObject) -> None:
        """Write a unit of one region that fills no chunks; the rest of it is gone then."""
        model, index = self.model, data.draw(st.sampled_from(self.model.units()), "unit")
        region = data.draw(boxes_in(model.unit_box(index)), "region")
        block = data.draw(voxels(region.shape, model.spec.dtype), "voxels")
        with model.handle.unit(index, model.handle.scratch) as out:
            out.put(region, block)
        model.dense[model.unit_box(index).slices] = 0
        model.dense[region.slices] = block

    @rule(data=st.data())
    def give_up_unit(self, data: st.DataObject) -> None:
        """Begin a unit and fail: nothing changes, neither before nor after."""
        model, index = self.model, data.draw(st.sampled_from(self.model.units()), "unit")
        box, before = model.unit_box(index), model.handle.inspect(index)
        try:
            with model.handle.unit(index, model.handle.scratch) as out:
                out.put(box, data.draw(voxels(box.shape, model.spec.dtype), "voxels"))
                model.require_same(box)
                raise Interrupted
        except Interrupted:
            after = model.handle.inspect(index)
            require(after == before, f"unit {index} was given up, but went from {before} to {after}")

    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        """Let the array grow along one axis of space, by up to a unit."""
        spec = self.model.spec
        at = data.draw(st.sampled_from([i for i, axis in enumerate(spec.axes) if axis in "xyz"]), "axis")
        more = min(data.draw(st.integers(1, spec.unit[at]), "voxels"), max(0, 33 - spec.shape[at]))
        self.model.resize(tuple(n + more * (i == at) for i, n in enumerate(spec.shape)))
        self.early, self.grown = self.model.open(), True

    @rule()
    def open_anew(self) -> None:
        """Open the array by what lies on disk."""
        self.model.reopen()

    @rule()
    def pickle(self) -> None:
        """Go on in another process."""
        self.model.repickle()

    @rule(data=st.data())
    def read_box(self, data: st.DataObject) -> None:
        """Read any box."""
        self.model.require_same(data.draw(boxes_in(self.model.spec.grid.box), "box"))

    @invariant()
    def voxels_are_those_of_numpy(self) -> None:
        """Read all, also through a handle that was opened when the array got its size."""
        if hasattr(self, "model"):
            self.model.require_same()
            box = self.early.spec.grid.box.intersect(self.model.spec.grid.box)
            self.model.require_same(box, self.early)
