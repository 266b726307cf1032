"""Datasets on web servers: what is asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

import wkdask as wk
from tests.formats.served import serving
from wkdask.formats.fetching import INDEXES


def test_a_cut_out_asks_once_for_the_json(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (64, 64, 64)).astype("uint8")
    layer = wk.Dataset(str(tmp_path / "brain"), voxel_size=(4, 4, 35)).add_layer(
        "color", "color", bounding_box=wk.BoundingBox((0, 0, 0), (64, 64, 64))
    )
    layer.add_mag(1).write(voxels)
    INDEXES.clear()
    with serving(tmp_path) as served:
        mag = wk.Dataset.open(f"{served.url}/brain").get_layer("color").get_mag(1)
        mag.read(absolute_offset=(0, 0, 0), size=(32, 32, 32))
        served.forget()
        found = mag.read(absolute_offset=(32, 0, 0), size=(32, 32, 32))
        asked = Counter((method, path.rpartition("/")[2]) for method, path, _ in served.seen)
    np.testing.assert_array_equal(found[0], voxels[32:, :32, :32])
    assert asked == {("HEAD", "datasource-properties.json"): 1, ("GET", "0"): 1}
