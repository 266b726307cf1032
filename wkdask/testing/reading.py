"""What readers see who come by another way than the writer: another process, another machine, a web server."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import strategies as st

from wkdask.errors import DatasetNotFoundError
from wkdask.formats import ArrayHandle, ArraySpec
from wkdask.storage import Location
from wkdask.testing import strategies
from wkdask.testing.model import ArrayModel, require
from wkdask.testing.suite import Suite


class ReadConformance(Suite):
    """Tests of reading alone; `wkdask.testing.FormatConformance` derives from it.

    Derived by itself it tests formats where nothing can be written: arrays are made at `stores`, and read where `seen` says.
    """

    def test_others_see_what_was_written(self) -> None:
        """Units that are there and units that are not, read at another URL, are those that were written."""

        def body(place: Location, spec: ArraySpec, data: st.DataObject) -> None:
            with pytest.raises(DatasetNotFoundError):
                self.opened_elsewhere(place, spec)
            model = ArrayModel(self.format, place, spec)
            units = model.units()
            for index in data.draw(st.lists(st.sampled_from(units), min_size=1, unique=True), "units"):
                block = np.random.default_rng(len(units)).integers(1, 100, model.unit_box(index).shape)
                model.write_unit(index, block.astype(spec.dtype))
            handle = self.opened_elsewhere(place, spec)
            for there in (handle, pickle.loads(pickle.dumps(handle))):
                model.require_same(handle=there)
                model.require_same(data.draw(strategies.boxes_in(spec.grid.box), "box"), there)
            for index in units:
                found, wanted = handle.inspect(index), model.handle.inspect(index)
                require(
                    (found and found.size) == (wanted and wanted.size),
                    f"unit {index} is {wanted}, but others see {found}",
                )

        self.explore(body, self.specs(), st.data())

    def opened_elsewhere(self, place: Location, spec: ArraySpec) -> ArrayHandle:
        """Open an array where others see it."""
        ends = dict(zip(spec.axes, spec.box.stop, strict=True))
        return self.format.open(self.seen(place), [ends[axis] for axis in "xyz"]).with_axes(spec.axes)
