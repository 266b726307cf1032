"""One `read(box)` for all: any box of any array of any format, through a dataset, is numpy's, and zero elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import wkdask as wk
from wkdask.errors import BoxError
from wkdask.formats import FORMATS
from wkdask.geometry import BoundingBox
from wkdask.geometry.grid import Box
from wkdask.metadata import AxisProperties, LayerProperties, MagProperties, Properties, VoxelSize
from wkdask.storage import Location
from wkdask.testing import ArrayModel, temporary_place
from wkdask.testing.model import require_voxels
from wkdask.testing.strategies import boxes_around, mags, specs_of, voxels

ALL = [("c", "x", "y", "z"), ("x", "y", "z"), ("c", "z", "y", "x"), ("t", "c", "x", "y", "z"), ("c", "t", "z", "y", "x")]


def opened(root: Location, model: ArrayModel, form: str, mag: wk.Mag) -> wk.MagView:
    """List an array in a dataset's JSON, with its axes, and open it from there."""
    size = dict(zip(model.spec.axes, model.spec.shape, strict=True))
    box = BoundingBox((0, 0, 0), [size[axis] * n for axis, n in zip("xyz", mag.to_tuple(), strict=True)])
    further = [
        AxisProperties(name=axis, bounds=(0, size[axis]), index=at)
        for at, axis in enumerate(model.spec.axes)
        if axis not in "cxyz"
    ]
    layer = LayerProperties.new("layer", "color", model.spec.dtype, size.get("c", 1), form, box, further)
    order = {axis: at for at, axis in enumerate(model.spec.axes) if axis in "cxyz"}
    cube = model.spec.unit[-1] if FORMATS[form].cubic else None
    listed = layer.with_mag(MagProperties.new(mag.to_tuple(), path="./layer/1", axis_order=order, cube_length=cube))
    properties = Properties.new("dataset", VoxelSize((4, 4, 4))).with_layer(listed)
    (root / "datasource-properties.json").write_bytes(properties.to_json())
    return wk.Dataset.open(root).get_layer("layer").get_mag(mag)


def wanted(model: ArrayModel, box: Box) -> np.ndarray:
    """Voxel by voxel what an array of zeros without end has, in which the array lies."""
    found = np.zeros(box.shape, model.spec.dtype)
    inside = box.intersect(model.spec.grid.box)
    found[inside.relative_to(box.start).slices] = model.dense[inside.slices]
    return found


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data(), store=st.sampled_from(["local", "memory"]), mag=mags(most=4))
def test_any_box_is_read(form: str, data: st.DataObject, store: str, mag: wk.Mag) -> None:
    axes = ALL if FORMATS[form].further_axes else ALL[:1]
    spec = data.draw(specs_of(FORMATS[form], axes=axes, codecs=FORMATS[form].codecs[:1]))
    assume(spec.dtype not in ("int64", "float64") or form != "neuroglancerPrecomputed")
    with temporary_place(store) as place:
        model = ArrayModel(FORMATS[form], place, spec)
        model.write(spec.grid.box, data.draw(voxels(spec.shape, spec.dtype)))
        view = opened(place.parent.parent, model, form, mag)
        assert view.array.axes == spec.axes
        for _ in range(3):
            box = data.draw(boxes_around(spec.grid))
            require_voxels(view.array.read(box), wanted(model, box), f"{box} of {spec}")
        at = {axis: (a, b) for axis, a, b in zip(spec.axes, box.start, box.stop, strict=True)}
        shape = dict(zip(spec.axes, spec.shape, strict=True))
        start, stop = ([at[axis][end] * n for axis, n in zip("xyz", mag.to_tuple(), strict=True)] for end in (0, 1))
        if min(start) < 0 or min(b - a for a, b in zip(start, stop, strict=True)) < 1:
            with pytest.raises(BoxError):
                view.read(absolute_offset=start, size=[b - a for a, b in zip(start, stop, strict=True)])
            return
        found = view.read(absolute_offset=start, size=[b - a for a, b in zip(start, stop, strict=True)])
        ends = [at[axis] if axis in "xyz" else (0, shape[axis]) for axis in spec.axes]
        whole = Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
        require_voxels(found, wanted(model, whole), f"{whole} of {spec} in mag {mag}")
