"""Datasets of one layer that is stored in many ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from wkdask.formats import FORMATS
from wkdask.geometry import Mag
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties, MagProperties, Properties, VoxelSize
from wkdask.operations import Storage
from wkdask.operations.pyramid import new_arrays
from wkdask.storage import Location

ORDERS = ("cxyz", "czyx", "zyxc")
FURTHER = ("tcxyz", "ctzyx", "cxyzt")


@st.composite
def layouts(draw: st.DrawFn, further: bool = False) -> tuple[str, str, Storage]:
    """Draw a format, an order of axes and how voxels are stored."""
    name = draw(st.sampled_from([n for n in FORMATS if FORMATS[n].further_axes or not further]))
    form = FORMATS[name]
    plain = name in ("wkw", "neuroglancerPrecomputed")
    axes = "cxyz" if plain else draw(st.sampled_from(FURTHER if further else ORDERS))
    chunk = draw(st.sampled_from([8, 16, 32]))
    shard = chunk * draw(st.sampled_from([1, 2, 4]))
    codec = draw(st.sampled_from(["usual", None]))
    return name, axes, Storage((chunk,) * 3, (shard,) * 3 if form.sharded else None, codec, name)


def store(
    folder: Path,
    voxels: np.ndarray,
    layout: tuple[str, str, Storage] = ("zarr3", "cxyz", Storage((16,) * 3, (32,) * 3)),
    topleft: tuple[int, int, int] = (0, 0, 0),
    mag: int = 1,
    name: str = "em",
) -> Location:
    """Make a dataset of voxels (c, x, y, z) or (t, c, x, y, z), with a box that begins at a voxel of mag 1."""
    data_format, axes, storage = layout
    have = "tcxyz"[-voxels.ndim :]
    size = dict(zip(have, voxels.shape, strict=True))
    further = [("t", (0, size["t"]), axes.index("t"))] if "t" in axes else []
    box = (topleft, tuple(size[a] * mag for a in "xyz"))
    layer = LayerProperties.new(name, "color", voxels.dtype, size["c"], data_format, box, further).with_axis_order(axes)
    place = Location.of(folder)
    ((_, array),) = new_arrays(layer, place / name, [Mag(mag)], storage).items()
    FORMATS[data_format].create(array.location, array.spec)
    stored = voxels.transpose([have.index(a) for a in axes])
    at = dict(zip("xyz", (n // mag for n in topleft), strict=True))
    start = tuple(at.get(a, 0) for a in axes)
    own = Box(start, tuple(a + n for a, n in zip(start, stored.shape, strict=True))).relative_to(array.spec.offset)
    array.write(own, np.asfortranarray(stored))
    order = {axis: axes.index(axis) for axis in "cxyz"}
    cube = array.spec.unit[1] if data_format == "wkw" else None
    path = f"./{name}/{Mag(mag).to_layer_name()}"
    listed = layer.with_mag(MagProperties.new(mag, path=path, axis_order=order, cube_length=cube))
    document = Properties.new("ds", VoxelSize((4.0, 4.0, 8.0))).with_layer(listed)
    (place / "datasource-properties.json").write_bytes(document.to_json())
    return place
