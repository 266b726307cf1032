"""What every format must be able to do, as tests to derive from."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st

from wkdask.errors import DatasetExistsError, DatasetNotFoundError, InputError
from wkdask.formats import ArraySpec
from wkdask.geometry.grid import Box
from wkdask.storage import Location
from wkdask.testing import strategies
from wkdask.testing.hostile import HostileConformance
from wkdask.testing.model import ArrayModel, require, require_voxels, temporary_place
from wkdask.testing.reading import ReadConformance
from wkdask.testing.units import UnitConformance

PICKLE_BYTES = 4096


class FormatConformance(UnitConformance, ReadConformance, HostileConformance):
    """Derive a test class and set `format`; pytest does the rest.

    Attributes
    ----------
    format
        What is tested.
    dtypes, axes
        That it stores; default all dtypes, and the axes c, x, y, z, with others where it says `further_axes`.
    codecs
        To test, as `parse_codec` reads them, and only lossless ones; default all of the format.
    stores
        Where arrays are made: "local", "memory", or folders of other stores.
    examples
        Of each test; default as Hypothesis is set up.
    keeps_shape
        Whether its documents say an array's exact shape; else an opened array may end with its last unit.
    shrinks
        Whether arrays can become smaller; else that is refused.
    renames_units
        Whether files get other names when an array grows, so that those of before may stay for others to read.
    names_axes
        Whether axes can be named; else the format itself says which is which.
    finds_damage
        Codecs whose checksums find any change of a unit's file; for others voxels may become wrong, but never of another shape.
    memory
        Bytes that reading one voxel of a damaged array may take at most.
    steps
        Of one run of the state machine.

    Examples
    --------
    >>> from wkdask.formats import find_format
    >>> class TestZarr3(FormatConformance):
    ...     format = find_format("zarr3")
    """

    def test_all_choices_are_taken(self) -> None:
        """Every dtype with each codec that takes it, and all axes, are stored and come back."""
        pairs = [(dtype, codec) for dtype in self.dtypes for codec in self.all_codecs()]
        taken = [pair for pair in pairs if strategies.accepts(self.format, self.plain(*pair))]
        for what, wanted, found in zip(
            ("dtypes", "codecs"), (self.dtypes, self.all_codecs()), zip(*taken, strict=True), strict=True
        ):
            require(set(wanted) == set(found), f"of the {what} {wanted} only {sorted(set(found))} are taken")
        for spec in [*(self.plain(*pair) for pair in taken), *(self.plain(axes=axes) for axes in self.all_axes())]:
            with temporary_place(self.stores[0]) as place:
                self.filled(place, spec).require_same()

    def test_what_it_says_of_itself_is_so(self) -> None:
        """The usual chunk and codec are among what it can write, and pieces that it says it can not have are refused."""
        usual, form = self.format.usual_codec, self.format
        require(strategies.accepts(form, replace(self.plain(), codec=usual)), f"the usual codec {usual} is refused")
        require(not form.cubic or len(set(form.usual_chunk)) == 1, f"the usual chunk {form.usual_chunk} is no cube")
        spec = self.plain()
        shard = replace(spec, unit=tuple(2 * n if axis in "xyz" else n for n, axis in zip(spec.unit, spec.axes, strict=True)))
        flat = tuple(2 if axis == "z" else n for n, axis in zip(spec.chunk, spec.axes, strict=True))
        refused = [shard] if not form.sharded else []
        refused += [replace(spec, chunk=flat)] if form.cubic else []
        for wrong in [*refused, replace(spec, dtype="complex64")]:
            with pytest.raises(InputError):
                form.at(self.nowhere(), wrong)

    def test_arrays_are_found_opened_and_made_once(self) -> None:
        """An array is detected once it is created, opened, and not created over another."""
        for store in self.stores:
            with temporary_place(store) as place:
                require(not self.format.detect(place), "an array was detected where nothing is")
                with pytest.raises(DatasetNotFoundError):
                    self.format.open(place)
                self.format.at(place, self.plain())
                require(not self.format.detect(place), "`at` made an array, which is for `create` to do")
                model = self.filled(place, self.plain())
                require(self.format.detect(place), "no array was detected where one is")
                with pytest.raises(DatasetExistsError):
                    self.format.create(place, self.plain())
                model.require_same(handle=model.open())

    def test_specs_come_back(self) -> None:
        """What is opened has the spec that was created, but for levels of codecs, which not all formats store."""

        def body(place: Location, spec: ArraySpec) -> None:
            model = ArrayModel(self.format, place, spec)
            found = model.open().spec
            require(len(self.format.open(place).spec.axes) == len(spec.axes), "the number of axes changed")
            for name in ("dtype", "axes", "chunk", "unit", "offset", "fill"):
                a, b = getattr(found, name), getattr(spec, name)
                require(a == b, f"{name} was {b}, but is {a} when opened")
            codecs = [s.codec.name if s.codec else "none" for s in (spec, found)]
            require(codecs[0] == codecs[1], f"the codec was {codecs[0]}, but is {codecs[1]} when opened")
            reach = zip(found.shape, spec.shape, spec.unit, strict=True)
            same = all(a == b or (not self.keeps_shape and a == -(-b // u) * u) for a, b, u in reach)
            require(same, f"the shape was {spec.shape}, but is {found.shape} when opened")

        self.explore(body, self.specs())

    def test_offsets_and_fill_values_are_kept_or_refused(self) -> None:
        """An array that begins elsewhere, or is not zero where nothing is stored, stays so; or can not be made."""

        def body(place: Location, spec: ArraySpec, fill: int, offset: int) -> None:
            moved = tuple(offset if axis in "xyz" else 0 for axis in spec.axes)
            given = replace(spec, fill=fill, offset=moved)
            if not strategies.accepts(self.format, given):
                return
            model = ArrayModel(self.format, place, given)
            again = model.open()
            require(again.spec.offset == moved, f"the offset was {moved}, but is {again.spec.offset} when opened")
            require(again.spec.fill == fill, f"the fill value was {fill}, but is {again.spec.fill} when opened")
            for handle in (model.handle, again):
                model.require_same(handle=handle)
            index = model.units()[-1]
            model.write_unit(index, np.zeros(model.unit_box(index).shape, spec.dtype))
            model.require_same()
            first = Box((0,) * len(spec.shape), (1,) * len(spec.shape))
            model.write(first, np.full(first.shape, 3, spec.dtype))
            model.require_same(handle=model.open())

        self.explore(body, self.specs(), st.sampled_from([0, 0, 1, 7]), st.sampled_from([0, 0, 1, 64]))

    def test_blocks_belong_to_the_caller(self) -> None:
        """A block that was read lies in one piece, in Fortran's or C's order, and changing it changes no other."""

        def body(place: Location, spec: ArraySpec, data: st.DataObject) -> None:
            model = self.filled(place, spec)
            box = data.draw(strategies.boxes_in(spec.grid.box))
            found = model.handle.read(box, keep=data.draw(st.booleans()))
            require(found.flags.forc, f"{box} was read in another order than Fortran's or C's")
            if found.flags.writeable:
                found[...] = 0
            model.require_same(box)

        self.explore(body, self.specs(), st.data())

    def test_handles_pickle_small(self) -> None:
        """A handle goes to another process in less than 4 KB, and reads and writes there."""

        def body(place: Location, spec: ArraySpec) -> None:
            model = self.filled(place, spec)
            for handle in (model.handle, model.open()):
                size = len(pickle.dumps(handle))
                require(size < PICKLE_BYTES, f"the handle pickles to {size} bytes, expected less than {PICKLE_BYTES}")
            model.repickle()
            model.require_same()
            model.write(spec.grid.box, model.dense + 1)
            model.require_same()

        self.explore(body, self.specs())

    def test_blocks_that_do_not_fit_are_refused(self) -> None:
        """Another shape, dtype or byte order than the region's is an `InputError`, and changes nothing."""

        def body(place: Location, spec: ArraySpec, data: st.DataObject) -> None:
            model = self.filled(place, spec)
            index = data.draw(st.sampled_from(model.units()))
            box = model.unit_box(index)
            right = np.ones(box.shape, spec.dtype)
            other = right.astype("float64" if spec.dtype != "float64" else "uint8")
            wrong = [other, right[..., None], right[..., :0], np.ones(tuple(n + 1 for n in box.shape), spec.dtype)]
            wrong += [right.astype(right.dtype.newbyteorder())] if spec.itemsize > 1 else []
            block = data.draw(st.sampled_from(wrong))
            with pytest.raises(InputError):
                model.handle.write(box, block)
            with pytest.raises(InputError), model.handle.unit(index, model.handle.scratch) as out:
                out.put(box, block)
            model.require_same()
            model.require_listed()
            model.require_tidy()

        self.explore(body, self.specs(), st.data())

    def test_arrays_shrink_and_grow(self) -> None:
        """After `resize` the array has the shape, voxels that lie in both shapes stay, and units beyond are none of it."""

        def body(place: Location, spec: ArraySpec, data: st.DataObject) -> None:
            model = self.filled(place, spec)
            smaller = tuple(
                data.draw(st.integers(1, n)) if a in "xyz" else n for n, a in zip(spec.shape, spec.axes, strict=True)
            )
            if not self.shrinks and smaller != spec.shape:
                with pytest.raises(InputError):
                    model.handle.resize(smaller)
                model.require_same(handle=model.open())
                return
            model.handle.resize(smaller)
            model.spec = replace(spec, shape=smaller)
            found = model.open()
            if self.keeps_shape:
                require(found.spec.shape == smaller, f"the array was given {smaller}, but has {found.spec.shape}")
            kept = Box((0,) * len(smaller), smaller)
            require_voxels(found.read(kept), model.dense[kept.slices], "what was left after shrinking")
            with pytest.raises(InputError):
                found.resize(smaller[1:])

        self.explore(body, self.specs(), st.data())

    def test_axes_are_named(self) -> None:
        """`with_axes` gives other names, and changes nothing else."""
        with temporary_place(self.stores[0]) as place:
            model = self.filled(place, self.plain())
            names = tuple(f"axis{n}" for n in range(len(model.spec.axes)))
            named = model.handle.with_axes(names)
            wanted = replace(model.spec, axes=names) if self.names_axes else model.spec
            require(named.spec == wanted, f"{named.spec} is more than {model.spec} with other names")
            model.require_same(handle=named)
