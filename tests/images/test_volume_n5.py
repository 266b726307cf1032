"""N5 as its many writers describe it: axes by name, in either order, and numbers that no voxel size can have."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.images.test_volume_find import SIZES, seen, whole
from tests.images.volume_files import noise, write_n5, write_ome
from wkdask.errors import MetadataError
from wkdask.images import find_layers

HUGE = 10**400


def transform(edges: dict[str, float], order: str, place: dict[str, float]) -> dict:
    """What COSEM writes of a level."""
    values = {"scale": [edges[a] for a in order], "translate": [place[a] for a in order], "units": ["nm"] * 3}
    return {"axes": list(order), "ordering": "C", **values}


@given(order=st.permutations("xyz").map("".join), listed=st.booleans())
def test_pyramids_of_cosem(tmp_path_factory, order, listed):
    group = tmp_path_factory.mktemp("cosem") / "jrc.n5" / "em" / "fibsem"
    voxels, edges, place = noise("xyz", SIZES), {"x": 4, "y": 5, "z": 5.25}, {"x": 8, "y": 0, "z": 21}
    told = transform(edges, order, place)
    write_n5(group / "s0", voxels, transform=told)
    write_n5(group / "s1", voxels[::2, ::2, ::2] * 0)
    datasets = [{"path": "s1", "transform": told}, {"path": "s0", "transform": told}]
    pixel = {"dimensions": [4, 5, 5.25], "unit": "nm"}
    above = {"axes": ["x", "y", "z"], "pixelResolution": pixel, "multiscales": [{"name": "fibsem", "datasets": datasets}]}
    (group / "attributes.json").write_text(json.dumps(above if listed else {}))
    [layer] = find_layers(group.parent.parent)
    assert (layer.name, layer.voxel_size, layer.offset) == ("em_fibsem", (4, 5, 5.25), (2, 0, 4))
    np.testing.assert_array_equal(whole(layer.stack), seen(voxels, "xyz"))


def test_transforms_of_other_axes_say_nothing(tmp_path):
    for wrong in ({"axes": ["a", "b", "c"]}, {"axes": ["x", "y"]}, {"scale": [1, 2]}, {"scale": [1, HUGE, 1]}, {"axes": 5}):
        told = transform(dict.fromkeys("xyz", 7), "zyx", dict.fromkeys("xyz", 0)) | wrong
        write_n5(tmp_path / "a.n5", noise("xyz", SIZES), transform=told, resolution=[1, 2, 3], units=["nm"] * 3)
        [layer] = find_layers(tmp_path / "a.n5")
        assert (layer.voxel_size, layer.stack.axes) == ((1, 2, 3), tuple("xyz"))


@pytest.mark.parametrize("named", [True, False])
def test_ome_metadata_count_axes_from_the_slowest(tmp_path, named):
    axes = "zyx" if named else "tczyx"
    voxels = noise(axes[::-1], SIZES | {"c": 1})
    write_n5(tmp_path / "a.n5" / "0", voxels)
    multiscale = {"datasets": [{"path": "0"}], "version": "0.4" if named else "0.2"}
    if named:
        multiscale["axes"] = [{"name": a, "type": "space", "unit": "nanometer"} for a in axes]
        steps = [{"type": "scale", "scale": [40, 5, 4]}, {"type": "translation", "translation": [80, 0, 12]}]
        multiscale["datasets"][0]["coordinateTransformations"] = steps
    (tmp_path / "a.n5" / "attributes.json").write_text(json.dumps({"multiscales": [multiscale]}))
    [layer] = find_layers(tmp_path / "a.n5")
    np.testing.assert_array_equal(whole(layer.stack), seen(voxels, axes[::-1]))
    assert (layer.voxel_size, layer.offset) == (((4, 5, 40), (3, 0, 2)) if named else (None, None))


@pytest.mark.parametrize("told", [{"resolution": [HUGE, 1, 1]}, {"resolution": [1, 1, 1], "downsamplingFactors": [HUGE, 1, 1]}])
def test_numbers_beyond_all_measure_in_n5(tmp_path, told):
    write_n5(tmp_path / "a.n5", noise("xyz", SIZES), units=["nm"] * 3, **told)
    [layer] = find_layers(tmp_path / "a.n5")
    assert layer.voxel_size in (None, (1, 1, 1))


def test_numbers_beyond_all_measure_in_ome(tmp_path):
    write_ome(tmp_path / "a.zarr", noise("zyx", SIZES), "zyx", scale={"z": HUGE}, coarser=False)
    with pytest.raises(MetadataError, match="multiscales"):
        find_layers(tmp_path / "a.zarr")
    window = {"channels": [{"window": {"start": 0, "end": HUGE}}]}
    write_ome(tmp_path / "b.zarr", noise("zyx", SIZES), "zyx", attributes={"omero": window})
    assert find_layers(tmp_path / "b.zarr")[0].window is None
