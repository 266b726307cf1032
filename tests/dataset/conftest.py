"""A dataset with one layer of small shards."""

from __future__ import annotations

import numpy as np
import pytest

import wkdask as wk

SIZE = (40, 24, 20)


@pytest.fixture
def dataset(tmp_path):
    return wk.Dataset(tmp_path / "ds", (4, 4, 35))


@pytest.fixture
def voxels():
    return np.random.default_rng(3).integers(1, 255, SIZE).astype("uint8")


@pytest.fixture
def layer(dataset):
    """A layer that starts at (8, 4, 2), with the magnifications 1 and 2-2-1 in 16^3 chunks and 32^3 shards."""
    layer = dataset.add_layer("em", "color", bounding_box=wk.BoundingBox((8, 4, 2), SIZE))
    for mag in (1, "2-2-1"):
        layer.add_mag(mag, chunk_shape=16, shard_shape=32)
    return layer


@pytest.fixture
def mag(layer, voxels):
    mag = layer.get_mag(1)
    mag.write(voxels)
    return mag
