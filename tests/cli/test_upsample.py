"""``wkdask upsample``: choices of layers and magnifications, what it says, exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest

import wkdask as wk

SMALL = ("--chunk-shape", "8", "--shard-shape", "16", "--progress", "none")
BOX = wk.BoundingBox((0, 0, 0), (32, 32, 16))


@pytest.fixture
def dataset(tmp_path):
    """One layer of mag 4-4-2, one of mag 1 alone."""
    made = wk.Dataset(tmp_path / "ds", (11, 11, 25))
    coarse = made.add_layer("em", "color", bounding_box=BOX).add_mag("4-4-2", chunk_shape=8, shard_shape=16)
    coarse.write(np.random.default_rng(0).integers(1, 9, (8, 8, 8)).astype("uint8"))
    made.add_layer("cells", "segmentation", bounding_box=BOX).add_mag(1)
    return tmp_path / "ds"


def mags(dataset, layer="em"):
    return [str(mag) for mag in wk.Dataset.open(dataset).get_layer(layer).mags]


def test_layers_that_have_the_magnification(cli, dataset):
    done = cli("upsample", dataset, "--from-mag", "4-4-2", *SMALL)
    assert done.code == 0 and "upsample ds/em from mag 4-4-2" in done.out
    assert done.err == "note: layer 'cells' has no magnification 4-4-2, so it is left out\n"
    assert mags(dataset) == ["1", "2-2-1", "4-4-2"]
    layer = wk.Dataset.open(dataset).get_layer("em")
    coarse = layer.get_mag("4-4-2").read()
    np.testing.assert_array_equal(layer.get_mag(1).read(), coarse.repeat(4, 1).repeat(4, 2).repeat(2, 3))
    assert layer.get_mag(1).spec.unit == (1, 16, 16, 16)


def test_options(cli, dataset, files):
    before = files(dataset)
    dry = cli("upsample", dataset, "--from-mag", "4-4-2", "--layer-name", "em", "--dry-run", "--json", *SMALL)
    assert dry.code == 0 and json.loads(dry.out) and files(dataset) == before
    named = ("upsample", dataset, "--layer-name", "em", "--from-mag", "4-4-2", *SMALL)
    assert cli(*named, "--finest-mag", "2-2-1", "--sampling-mode", "isotropic", "--no-align").code == 0
    assert mags(dataset) == ["2-2-1", "4-4-2"]
    again = cli(*named, "--finest-mag", "2-2-1")
    assert again.code != 0 and "--overwrite-existing" in again.err
    assert cli(*named, "--finest-mag", "2-2-1", "--overwrite-existing").code == 0
    assert cli("upsample", dataset, "--layer-name", "cells", "--from-mag", "4", *SMALL).code != 0
    assert cli("upsample", dataset).code == 2
