"""Chunked volumes become layers: which, with what axes, voxel size, place, colours, and what is refused."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.images.volume_files import noise, write_array, write_group, write_n5, write_ome, write_precomputed, zipped
from wkdask.errors import (
    CorruptImageError,
    InputError,
    MetadataError,
    StorageError,
    UnsupportedImageDataError,
    UnsupportedImageFormatError,
    WkdaskError,
)
from wkdask.images import Selection, Volume, find_layers

SIZES = {"t": 2, "c": 2, "z": 21, "y": 34, "x": 19}


def seen(voxels: np.ndarray, axes: str) -> np.ndarray:
    """Return voxels along any axes as (t, z, y, x, c), by numpy alone."""
    order = [axes.index(a) for a in "tzyxc" if a in axes]
    return voxels.transpose(order).reshape([voxels.shape[axes.index(a)] if a in axes else 1 for a in "tzyxc"])


def whole(volume) -> np.ndarray:
    """Return all voxels as (t, z, y, x, c)."""
    return np.stack([volume.read(0, volume.shape[0], 0, volume.shape[1], t=t) for t in range(volume.times)])


def orders() -> st.SearchStrategy[str]:
    """Any axes in any order, x and y among them."""
    sets = st.sets(st.sampled_from("tcz")).map(lambda more: ["x", "y", *sorted(more)])
    return sets.flatmap(st.permutations).map("".join)


@settings(max_examples=examples(30))
@given(orders(), st.sampled_from(["0.4", "0.5"]), st.data())
def test_all_axis_orders(tmp_path_factory, axes, version, data):
    folder = tmp_path_factory.mktemp("orders")
    sizes = SIZES | {"c": 1}
    voxels = noise(axes, sizes)
    scale = {"x": 0.25, "y": 0.5, "z": 2.0}
    write_ome(folder / "a.ome.zarr", voxels, axes, version, scale=scale)
    [layer] = find_layers(folder / "a.ome.zarr")
    wanted = seen(voxels, axes)
    assert (layer.name, layer.stack.shape, layer.stack.times) == ("a", wanted.shape[1:4], wanted.shape[0])
    np.testing.assert_array_equal(whole(layer.stack), wanted)
    assert layer.voxel_size == (250.0, 500.0, 2000.0 if "z" in axes else 250.0)
    (z, y, x) = wanted.shape[1:4]
    ends = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in (z, y, x)]
    (z0, z1), (y0, y1), (x0, x1) = ends
    again = pickle.loads(pickle.dumps(layer.stack))
    np.testing.assert_array_equal(again.read(z0, z1, y0, y1, x0, x1), wanted[0, z0:z1, y0:y1, x0:x1])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["yx", "zyx", "czyx", "tczyx"])
def test_bare_arrays_have_the_usual_axes(tmp_path, version, axes):
    voxels = noise(axes, SIZES | {"c": 1})
    write_array(tmp_path / "a.zarr", voxels, version)
    for source in (tmp_path / "a.zarr", tmp_path / "a.zarr" / ("zarr.json" if version == 3 else ".zarray")):
        [layer] = find_layers(source)
        np.testing.assert_array_equal(whole(layer.stack), seen(voxels, axes))
        assert (layer.name, layer.voxel_size, layer.offset) == ("a", None, None)


def test_names_of_axes_are_taken(tmp_path):
    voxels = noise("xzyt", SIZES)
    write_array(tmp_path / "3.zarr", voxels, 3, dimension_names=("X", "z", "y", "time"))
    write_array(tmp_path / "2.zarr", voxels, 2, attributes={"_ARRAY_DIMENSIONS": ["x", "z", "y", "t"]})
    for name in ("3.zarr", "2.zarr"):
        [layer] = find_layers(tmp_path / name)
        np.testing.assert_array_equal(whole(layer.stack), seen(voxels, "xzyt"))


def test_the_user_names_axes(tmp_path):
    voxels = noise("xyz", SIZES)
    write_array(tmp_path / "a.zarr", voxels, dimension_names=("lat", "lon", "depth"))
    with pytest.raises(UnsupportedImageDataError, match=r"lat, lon, depth.*--axes"):
        find_layers(tmp_path / "a.zarr")
    [layer] = find_layers(tmp_path / "a.zarr", Selection(axes="x,y,z"))
    np.testing.assert_array_equal(whole(layer.stack), seen(voxels, "xyz"))
    with pytest.raises(UnsupportedImageDataError, match="has 3 axes, but 2 are named"):
        find_layers(tmp_path / "a.zarr", Selection(axes="yx"))
    for wrong in ("zyy", "zq", "zy", "zyxx"):
        with pytest.raises(InputError, match="expected letters"):
            Selection(axes=wrong)


@settings(max_examples=examples(40))
@given(
    st.lists(st.floats(0.01, 100), min_size=3, max_size=3),
    st.lists(st.integers(0, 500), min_size=3, max_size=3),
    st.sampled_from([("nanometer", 1), ("micrometer", 1e3), ("millimeter", 1e6), ("angstrom", 0.1), (None, None)]),
    st.lists(st.floats(0.5, 4), min_size=3, max_size=3),
)
def test_scale_and_translation(tmp_path_factory, scale, offset, unit, outer):
    from wkdask.images.volume_ome import chosen_dataset

    name, nanometers = unit
    axes = [{"name": a, "type": "space"} | ({"unit": name} if name else {}) for a in "zyx"]
    moved = [o * s for o, s in zip(offset, scale, strict=True)]
    first = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": moved}]
    coarse = [{"type": "scale", "scale": [2 * s for s in scale]}]
    first = first if any(offset) else first[:1]
    levels = [{"path": "c", "coordinateTransformations": coarse}, {"path": "f", "coordinateTransformations": first}]
    above = [{"type": "scale", "scale": outer}]
    path, told = chosen_dataset({"multiscales": [{"axes": axes, "datasets": levels, "coordinateTransformations": above}]}, "a")
    assert path == "f"
    wanted = [s * o * (nanometers or 0) for s, o in zip(scale, outer, strict=True)]
    assert told.voxel_size == (pytest.approx(tuple(wanted[::-1])) if name else None)
    assert told.offset == ((tuple(offset[::-1]), "") if any(offset) else (None, ""))


def test_translations_that_can_not_be_kept_are_said(tmp_path):
    write_ome(tmp_path / "a.zarr", noise("zyx", SIZES), "zyx", translation={"x": 1.5}, unit="nanometer")
    write_ome(tmp_path / "b.zarr", noise("zyx", SIZES), "zyx", translation={"x": -2}, unit="nanometer")
    for name in ("a.zarr", "b.zarr"):
        [layer] = find_layers(tmp_path / name)
        assert layer.offset is None and "translation" in " ".join(layer.stack.notes)


def test_channels_that_say_less_than_others(tmp_path):
    """Those without a colour get the usual one of their place, those without a name of their own a number."""
    told = [{"color": "0000FF", "label": "dapi"}, {"label": "gfp"}, {"color": "FF00FF", "label": "gfp"}, {"color": "no"}]
    voxels = noise("czyx", SIZES | {"c": 4}, "uint16")
    write_ome(tmp_path / "a.zarr", voxels, "czyx", attributes={"omero": {"channels": told}})
    layers = find_layers(tmp_path / "a.zarr")
    assert [layer.name for layer in layers] == ["a_dapi", "a__channel1", "a__channel2", "a__channel3"]
    assert [layer.color for layer in layers] == [(0, 0, 255), (0, 255, 0), (255, 0, 255), (255, 223, 0)]


OMERO = {
    "channels": [
        {"label": "DAPI", "color": "0000FF", "window": {"min": 0, "max": 65535, "start": 10, "end": 90}},
        {"label": "GFP x", "color": "00ff00", "window": {"start": 5, "end": "?"}},
    ]
}


def test_channels_have_the_colours_windows_and_names_of_omero(tmp_path):
    voxels = noise("czyx", SIZES)
    write_ome(tmp_path / "a.zarr", voxels, "czyx", attributes={"omero": OMERO})
    first, second = find_layers(tmp_path / "a.zarr")
    assert (first.name, first.color, first.window) == ("a_DAPI", (0, 0, 255), (10, 90))
    assert (second.name, second.color, second.window) == ("a_GFPx", (0, 255, 0), None)
    np.testing.assert_array_equal(whole(second.stack)[0, ..., 0], voxels[1])
    [one] = find_layers(tmp_path / "a.zarr", Selection(channel=0, layer_name="b"))
    assert (one.name, one.color, one.window) == ("b", (0, 0, 255), (10, 90))
    with pytest.raises(InputError, match="no channel 2"):
        find_layers(tmp_path / "a.zarr", Selection(channel=2))


def test_three_channels_of_uint8_are_one_layer_and_time_points_are_chosen(tmp_path):
    voxels = noise("tczyx", SIZES | {"c": 3}, "uint8")
    write_ome(tmp_path / "a.zarr", voxels, "tczyx", "0.4", attributes={"omero": {"channels": "no list"}})
    [layer] = find_layers(tmp_path / "a.zarr", Selection(timepoint=1))
    assert (layer.stack.channels, layer.stack.times) == (3, 1)
    np.testing.assert_array_equal(whole(layer.stack), seen(voxels, "tczyx")[1:])
    with pytest.raises(InputError, match="no time point 2"):
        find_layers(tmp_path / "a.zarr", Selection(timepoint=2))


def test_labels_are_segmentations(tmp_path):
    place = tmp_path / "cells.ome.zarr"
    write_ome(place, noise("zyx", SIZES), "zyx")
    write_group(place / "labels", {"labels": ["nuclei", "walls"]})
    for name in ("nuclei", "walls"):
        write_ome(place / "labels" / name, noise("zyx", SIZES, "uint32"), "zyx", attributes={"image-label": {}})
    found = [(layer.name, layer.declared) for layer in find_layers(place)]
    assert found == [("cells", None), ("cells_nuclei", "segmentation"), ("cells_walls", "segmentation")]
    assert [layer.name for layer in find_layers(place / "labels")] == ["nuclei", "walls"]
    assert find_layers(place / "labels" / "walls")[0].declared == "segmentation"
    [alone] = find_layers(place, Selection(allow_multiple_layers=False, merge=True))
    assert alone.declared is None and "labels/nuclei" in alone.stack.notes[0]
    with pytest.raises(UnsupportedImageDataError, match="holds 2 volumes"):
        find_layers(place / "labels", Selection(allow_multiple_layers=False))


def test_series_of_bioformats2raw_are_layers(tmp_path):
    place = write_group(tmp_path / "b.zarr", {"bioformats2raw.layout": 3}, "0.4")
    write_group(place / "OME", {"series": ["0", "1"]}, "0.4")
    for name in ("0", "1", "10"):
        write_ome(place / name, noise("zyx", SIZES), "zyx", "0.4")
    assert [layer.name for layer in find_layers(place)] == ["b_0", "b_1", "b_10"]


def test_arrays_of_a_group_are_layers(tmp_path):
    root = zarr.create_group(tmp_path / "g.zarr")
    root.create_group("deep")
    for path in ("raw", "deep/labels"):
        write_array(tmp_path / "g.zarr" / path, noise("zyx", SIZES, "uint8"))
    found = find_layers(tmp_path / "g.zarr")
    assert [(layer.name, layer.category) for layer in found] == [("deep_labels", "segmentation"), ("raw", None)]
    named = find_layers(tmp_path / "g.zarr", Selection(layer_name="new"))
    assert [layer.name for layer in named] == ["new_deep_labels", "new_raw"]
    with pytest.raises(InputError, match="2 layers or more; 1 at most"):
        find_layers(tmp_path / "g.zarr", Selection(max_layers=1))


@pytest.mark.parametrize(("what", "attributes"), [("plate", {"plate": {"wells": []}}), ("well", {"well": {"images": []}})])
def test_plates_are_refused(tmp_path, what, attributes):
    write_group(tmp_path / "p.zarr", attributes)
    with pytest.raises(UnsupportedImageDataError, match=f"is a {what} of a screen.*Give a field"):
        find_layers(tmp_path / "p.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("name", "top"), [("a.ozx", ""), ("a.zip", "a.ome.zarr/")])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_files_are_read_in_place(tmp_path, version, name, top, method):
    voxels = noise("czyx", SIZES | {"c": 1})
    write_ome(tmp_path / "folder", voxels, "czyx", version, scale={"z": 3})
    path = zipped(tmp_path / "folder", tmp_path / name, top, method)
    [layer] = find_layers(path)
    assert (layer.name, layer.voxel_size, list(layer.stack.paths)) == ("a", (1000, 1000, 3000), [str(path)])
    before = layer.stack.identity()
    np.testing.assert_array_equal(whole(pickle.loads(pickle.dumps(layer.stack))), seen(voxels, "czyx"))
    write_ome(tmp_path / "folder", voxels + 1, "czyx", version, scale={"z": 3})
    zipped(tmp_path / "folder", path, top, method)
    [layer] = find_layers(path)
    np.testing.assert_array_equal(whole(layer.stack), seen(voxels + 1, "czyx"))
    assert layer.stack.identity() != before
    path.unlink()
    with pytest.raises(StorageError):
        layer.stack.identity()


def test_zip_files_that_are_made_to_harm_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "out.ozx", "w") as file:
        file.writestr("zarr.json", "{}")
        file.writestr("../evil", "")
    with pytest.raises(CorruptImageError, match="leads out"):
        find_layers(tmp_path / "out.ozx")
    with zipfile.ZipFile(tmp_path / "none.ozx", "w") as file:
        file.writestr("readme", "")
    with pytest.raises(UnsupportedImageFormatError, match="holds no OME-Zarr"):
        find_layers(tmp_path / "none.ozx")
    with zipfile.ZipFile(tmp_path / "bomb.ozx", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zarr.json", b" " * (17 << 20))
    with pytest.raises(MetadataError, match="bytes, at most"):
        find_layers(tmp_path / "bomb.ozx")
    (tmp_path / "text.ozx").write_text("text")
    with pytest.raises(CorruptImageError):
        find_layers(tmp_path / "text.ozx")
    with zipfile.ZipFile(tmp_path / "name.ozx", "w") as file:
        file.writestr("zarr.json", json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"a": "b" * 20_000}}))
        file.writestr("more", "c" * 20_000)
    data = (tmp_path / "name.ozx").read_bytes()
    (tmp_path / "name.ozx").write_bytes(data[:26] + b"\x20\x4e" + data[28:])  # a header whose name is most of the file
    with pytest.raises(CorruptImageError, match=r"name\.ozx' is damaged") as caught:
        find_layers(tmp_path / "name.ozx")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("method", [12, 93, 95])
def test_members_of_zip_files_that_say_twice_how_they_are_compressed(tmp_path, method):
    """The directory says that they are stored, their own headers say something else."""
    write_ome(tmp_path / "a.zarr", noise("zyx", SIZES), "zyx", coarser=False)
    path = zipped(tmp_path / "a.zarr", tmp_path / "a.ozx", "", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    at = data.index(b"/c/0") - data[: data.index(b"/c/0")][::-1].index(b"\x04\x03KP"[::1]) - 4
    assert data[at : at + 4] == b"PK\x03\x04"
    data[at + 8] = method
    path.write_bytes(data)
    with pytest.raises(CorruptImageError, match=r"a\.ozx' is damaged: '0/c/0/0/0' does not lie at byte"):
        find_layers(path)


def test_members_of_zip_files_with_names_of_no_encoding(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ozx", "w") as file:
        file.writestr("zarr.json", "{}")
    data = bytearray((tmp_path / "a.ozx").read_bytes())
    data[30], data[7] = 0xB5, 0x08  # in the member's own header, whose flag says that it is UTF-8
    (tmp_path / "a.ozx").write_bytes(data)
    with pytest.raises(CorruptImageError, match=r"a\.ozx' is damaged"):
        find_layers(tmp_path / "a.ozx")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_zip_files_are_refused_by_name(tmp_path, method):
    write_ome(tmp_path / "a.zarr", noise("zyx", SIZES), "zyx", coarser=False)
    sound = zipped(tmp_path / "a.zarr", tmp_path / "sound.ozx", "", method).read_bytes()
    path = tmp_path / "damaged.ozx"
    at = sound.index(b"zarr.json") + 14  # in the first document
    begin = sound.rindex(b"PK\x01\x02")
    names = [sound.replace(b"zarr.json", b"zarr.jso_"), sound[:begin] + sound[begin:].replace(b"zarr.json", b"zarr\0json")]
    flipped = [sound[:i] + bytes([sound[i] ^ 1 << bit]) + sound[i + 1 :] for i in range(at, at + 60, 3) for bit in (0, 6)]
    header = [sound[:i] + bytes([sound[i] ^ 1 << bit]) + sound[i + 1 :] for i in range(begin, begin + 46) for bit in (0, 5)]
    for data in [*names, *flipped, *header]:
        path.write_bytes(data)
        try:
            find_layers(path)
        except WkdaskError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_members_of_zip_files_without_a_name_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("zarr.json", "{}")
        file.filelist[0].filename = file.filelist[0].orig_filename = ""
    with pytest.raises(CorruptImageError, match=f"'{path}' has a member without a name"):
        find_layers(path)


@pytest.mark.parametrize("several", [True, False])
def test_volumes_that_claim_more_channels_than_can_be_listed(tmp_path, several):
    write_array(tmp_path / "a.zarr", noise("czyx", SIZES))
    document = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
    document["shape"][0] = 1 << 50
    (tmp_path / "a.zarr/zarr.json").write_text(json.dumps(document))
    wanted = f"become {1 << 50} layers; 20 at most" if several else f"has {1 << 50} channels"
    with pytest.raises(InputError, match=wanted):
        find_layers(tmp_path / "a.zarr", Selection(allow_multiple_layers=several))


def test_scales_of_a_precomputed_volume_that_are_no_list(tmp_path):
    write_precomputed(tmp_path / "a", noise("xyzc", SIZES))
    for scales in (True, 7, "abc", {"key": "fine"}, None, []):
        document = json.loads((tmp_path / "a/info").read_text()) | {"scales": scales}
        (tmp_path / "a/info").write_text(json.dumps(document))
        with pytest.raises(MetadataError, match="lists no scales"):
            find_layers(tmp_path / "a")


def test_n5(tmp_path):
    voxels = noise("xyz", SIZES)
    write_n5(tmp_path / "bare.n5", voxels)
    [bare] = find_layers(tmp_path / "bare.n5")
    np.testing.assert_array_equal(whole(bare.stack), seen(voxels, "xyz"))
    write_n5(tmp_path / "a.n5" / "em" / "s0", voxels, pixelResolution={"dimensions": [4, 5, 40], "unit": "nm"})
    write_n5(tmp_path / "a.n5" / "em" / "s1", voxels[::2, ::2])
    write_n5(
        tmp_path / "a.n5" / "b",
        noise("zyxc", SIZES | {"c": 1}),
        axes=["z", "y", "x", "c"],
        resolution=[3, 2, 1, 1],
        units=["um"] * 4,
    )
    (tmp_path / "a.n5" / "attributes.json").write_text('{"n5": "4.0.0"}')
    b, em = find_layers(tmp_path / "a.n5")
    assert (em.name, em.voxel_size, em.stack.shape) == ("em", (4, 5, 40), (21, 34, 19))
    np.testing.assert_array_equal(whole(em.stack), seen(voxels, "xyz"))
    assert (b.name, b.voxel_size, b.stack.shape) == ("b", (1000, 2000, 3000), (21, 34, 19))


def test_precomputed(tmp_path):
    voxels = noise("xyzc", SIZES | {"c": 1}, "uint32")
    write_precomputed(tmp_path / "seg", voxels, "segmentation", offset=(5, 6, 7))
    [layer] = find_layers(tmp_path / "seg")
    assert (layer.declared, layer.voxel_size, layer.offset) == ("segmentation", (4, 4, 40), (5, 6, 7))
    np.testing.assert_array_equal(whole(layer.stack), seen(voxels, "xyzc"))


def test_a_changed_volume_has_another_identity(tmp_path):
    voxels = noise("zyx", SIZES)
    write_array(tmp_path / "a.zarr", voxels)
    [layer] = find_layers(tmp_path / "a.zarr")
    before = layer.stack.identity()
    assert before == layer.stack.identity() and len(before) == 1 + 2 * 3 * 2
    chunk = next(p for p in sorted((tmp_path / "a.zarr").rglob("*")) if p.is_file() and p.name != "zarr.json")
    chunk.unlink()
    assert before != layer.stack.identity()


def test_many_chunks_are_not_all_looked_at(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(10**6, 10**6, 10**6), chunks=(10, 10, 10), dtype="uint8")
    [layer] = find_layers(tmp_path / "a.zarr")
    assert len(layer.stack.identity()) == 257
    write_precomputed(tmp_path / "more", noise("xyzc", SIZES | {"c": 1}))
    document = json.loads((tmp_path / "more/info").read_text())
    document["scales"][0]["size"] = [2**60, 2**60, 2**40]  # more chunks than Python's `len` can say
    (tmp_path / "more/info").write_text(json.dumps(document))
    [layer] = find_layers(tmp_path / "more")
    assert len(layer.stack.identity()) == 257


def broken(change):
    """Return a function that changes the metadata of an OME-Zarr 0.5."""

    def apply(place):
        document = json.loads((place / "zarr.json").read_text())
        change(document["attributes"]["ome"]["multiscales"][0])
        (place / "zarr.json").write_text(json.dumps(document))

    return apply


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda m: m["datasets"][0].update(path="../../a"), MetadataError, "expected one below it"),
        (lambda m: m["datasets"][0].update(path="7"), MetadataError, "which is not there"),
        (lambda m: m.update(datasets=[]), MetadataError, "no multiscales"),
        (lambda m: m.update(datasets=5), MetadataError, "no multiscales"),
        (lambda m: m["axes"][0].update(name="q"), UnsupportedImageDataError, "axes q, y, x"),
        (lambda m: m["axes"].pop(0), MetadataError, "scale"),
        (lambda m: m.update(axes="zyx"), None, ""),
        (lambda m: m["datasets"][0]["coordinateTransformations"][0].update(scale=[1, 0, 1]), MetadataError, "above 0"),
        (
            lambda m: m["datasets"][0].update(coordinateTransformations=[{"type": "affine"}]),
            UnsupportedImageDataError,
            "affine",
        ),
        (lambda m: m["datasets"][0]["coordinateTransformations"][0].update(scale=["a", 0, 1]), MetadataError, "multiscales"),
    ],
)
def test_wrong_metadata_are_refused(tmp_path, change, error, match):
    write_ome(tmp_path / "a.zarr", noise("zyx", SIZES), "zyx")
    broken(change)(tmp_path / "a.zarr")
    if error is None:
        assert isinstance(find_layers(tmp_path / "a.zarr")[0].stack, Volume)
        return
    with pytest.raises(error, match=match):
        find_layers(tmp_path / "a.zarr")


def test_foreign_codecs_and_damaged_chunks_are_refused(tmp_path):
    place = write_array(tmp_path / "a.zarr", noise("zyx", SIZES))
    document = json.loads((place / "zarr.json").read_text())
    document["codecs"][-1] = {"name": "pcodec", "configuration": {}}
    (place / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(UnsupportedImageFormatError, match=r"can not be (read|decoded)"):
        find_layers(place)
    place = write_array(tmp_path / "b.zarr", noise("zyx", SIZES))
    (place / "c/0/0/0").write_bytes(b"nothing")
    with pytest.raises(UnsupportedImageFormatError, match="can not be decoded"):
        find_layers(place)


KEYS = st.sampled_from(["path", "scale", "type", "name", "axes", "datasets", "unit"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


@settings(max_examples=examples(150))
@given(st.sampled_from(["multiscales", "omero", "labels", "axes", "datasets", "coordinateTransformations"]), JSON)
def test_whatever_metadata_say_there_is_a_clear_error_or_a_layer(tmp_path_factory, key, value):
    place = tmp_path_factory.getbasetemp() / "hostile.zarr"
    if not place.exists():
        write_ome(place, noise("zyx", SIZES), "zyx", coarser=False)
    fresh = json.loads((place / "zarr.json").read_text())
    ome = json.loads(json.dumps(fresh))["attributes"]["ome"]
    (ome if key in ("multiscales", "omero", "labels") else ome["multiscales"][0])[key] = value
    (place / "zarr.json").write_text(json.dumps({**fresh, "attributes": {"ome": ome}}))
    try:
        assert find_layers(place)
    except WkdaskError as error:
        assert len(str(error)) < 2000  # noqa: PT017 - or no error at all
    finally:
        (place / "zarr.json").write_text(json.dumps(fresh))
