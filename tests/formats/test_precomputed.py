"""Neuroglancer volumes that we write: any writes equal a dense model, and tensorstore reads what we read."""

from __future__ import annotations

import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.formats.arrays import KINDS, Array, bits, boxes_in, filled_chunks, fresh_place, noise
from wkdask.errors import ConflictError, DamagedError, DatasetExistsError, InputError
from wkdask.formats import ArraySpec, Codec, open_array, precomputed_chunks
from wkdask.formats.precomputed import Precomputed, PrecomputedArray
from wkdask.formats.precomputed_info import DTYPES, encodable
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties, MagProperties, VoxelSize
from wkdask.storage import Location

NAME = "neuroglancerPrecomputed"


def spec_of(
    size: tuple[int, int, int] = (20, 17, 9), dtype: str = "uint8", codec: str = "none", *, channels: int = 1, edge: int = 8
) -> ArraySpec:
    """Return an array of cubic chunks."""
    chunk = (channels, edge, edge, edge)
    return ArraySpec((channels, *size), dtype, tuple("cxyz"), chunk, chunk, None if codec == "none" else Codec(codec))


def make(place: Location, spec: ArraySpec | None = None) -> PrecomputedArray:
    return Precomputed().create(place, spec or spec_of())


def whole(array: PrecomputedArray) -> Array:
    return array.read(array.spec.grid.box)


def listed(array: PrecomputedArray, mags: tuple[str, ...] = ("1",), category: str = "color") -> None:
    """List magnifications of the array's layer, as the end of a plan does."""
    size = array.spec.shape[1:]
    layer = LayerProperties.new(array.volume.name, category, array.spec.dtype, array.spec.shape[0], NAME, ((0, 0, 0), size))
    for mag in mags:
        layer = layer.with_mag(MagProperties.new(mag, path=f"./{array.volume.name}/{mag}"))
    Precomputed().write_groups(array.volume.parent, layer, VoxelSize((4.0, 4.0, 40.0)))


def by_tensorstore(volume: str, index: int = 0) -> Array:
    """Read a listed scale of a local volume by tensorstore, in the axes (c, x, y, z)."""
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": volume + "/"}, "scale_index": index}
    return np.asarray(tensorstore.open(spec, open=True).result().read().result()).transpose(3, 0, 1, 2)


def downloaded(array: PrecomputedArray, folder: Path) -> str:
    """Return a local folder with the volume's listed files."""
    if array.location.is_local:
        return array.volume.url
    target = Location(tempfile.mkdtemp(dir=folder))
    for name in ["info", *(f"{array.scale.key}/{name}" for name in array.location.names())]:
        (target / name).write_bytes((array.volume / name).read_bytes())
    return target.url


@st.composite
def specs(draw: st.DrawFn) -> ArraySpec:
    """Draw any array of a few thousand voxels that we can write."""
    dtype, channels = draw(st.sampled_from(sorted(DTYPES))), draw(st.sampled_from([1, 3]))
    codecs = [c for c in ("compressed_segmentation", "png") if encodable(c, dtype, channels)]
    size = tuple(draw(st.integers(1, 19)) for _ in "xyz")
    chunk = (channels, *(draw(st.sampled_from([3, 4, 8, 16])) for _ in "xyz"))
    codec = draw(st.sampled_from([None, *map(Codec, codecs)]))
    return ArraySpec((channels, *size), dtype, tuple("cxyz"), chunk, chunk, codec)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_writes_equal_a_dense_model(kind: str, folder: Path, data: st.DataObject) -> None:
    spec = data.draw(specs())
    array = make(fresh_place(kind, folder), spec)
    dense = np.zeros(spec.shape, spec.dtype)
    for seed in range(data.draw(st.integers(1, 4))):
        box = data.draw(boxes_in(spec.grid.box))
        block = noise(box, spec.dtype, seed) if data.draw(st.integers(0, 3)) else np.zeros(box.shape, spec.dtype)
        array.write(box, block if data.draw(st.booleans()) else np.asfortranarray(block))
        dense[box.slices] = block
    for _ in range(3):
        box = data.draw(boxes_in(spec.grid.box))
        found = array.read(box)
        assert found.dtype == spec.dtype and found.flags.f_contiguous
        np.testing.assert_array_equal(bits(found), bits(dense[box.slices]))
    assert set(array.written_units()) == filled_chunks(spec, dense)
    assert open_array(array.location, NAME) == array  # before it is listed
    listed(array)
    assert open_array(array.location, NAME) == array and pickle.loads(pickle.dumps(array)) == array
    np.testing.assert_array_equal(bits(by_tensorstore(downloaded(array, folder))), bits(dense))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_units_of_whole_chunks(kind: str, folder: Path, data: st.DataObject) -> None:
    spec = data.draw(specs())
    array = make(fresh_place(kind, folder), spec)
    units = spec.grid.units()
    index = units.cell(data.draw(st.integers(0, len(units) - 1)))
    box = units.box_at(index)
    block = noise(box, spec.dtype)
    with array.unit(index, array.scratch) as out:
        out.put(box, block)
    place = array.unit_location(index)
    ends = [f"{a}-{b}" for a, b in zip(box.start[1:], box.stop[1:], strict=True)]
    assert place.name == "_".join(ends) and array.unit_of(place.name) == index
    assert array.inspect(index) == (out.written if bits(block).any() else None)
    part = array.scratch / "a.part"
    with array.part(index, part) as piece:
        piece.put(box, block)
    before = place.read_bytes() if place.is_file() else None
    empty = array.scratch / "b.part"
    with array.part(index, empty):
        pass
    joined = array.join(index, [empty, part])
    assert (place.read_bytes() if place.is_file() else None) == before and joined.digest == out.written.digest
    np.testing.assert_array_equal(bits(array.read(box)), bits(block))
    assert array.join(index, [empty]).size == 0 and not place.is_file()


def test_chunks_of_zeros_leave_no_file_and_negative_zeros_do(folder: Path) -> None:
    array = make(fresh_place("local", folder), spec_of(dtype="float32"))
    box = array.spec.grid.box
    array.write(box, np.full(box.shape, -0.0, "float32"))
    assert len(list(array.written_units())) == len(array.spec.grid.units())
    assert np.signbit(whole(array)).all()
    array.write(box, np.zeros(box.shape, "float32"))
    assert array.location.names() == ["scale.json"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(15))
@given(data=st.data())
def test_growing_keeps_each_voxel(kind: str, folder: Path, data: st.DataObject) -> None:
    spec = data.draw(specs())
    array = make(fresh_place(kind, folder), spec)
    box = data.draw(boxes_in(spec.grid.box))
    block = noise(box, spec.dtype)
    array.write(box, block)
    if data.draw(st.booleans()):
        listed(array)
    grown = (spec.shape[0], *(n + data.draw(st.integers(0, 20)) for n in spec.shape[1:]))
    array.resize(grown)
    again = open_array(array.location, NAME)
    dense = np.zeros(grown, spec.dtype)
    dense[box.slices] = block
    assert again.spec.shape == grown
    np.testing.assert_array_equal(bits(again.read(again.spec.grid.box)), bits(dense))
    assert set(again.written_units()) == filled_chunks(again.spec, dense)
    np.testing.assert_array_equal(bits(whole(array)), bits(dense[array.spec.grid.box.slices]))  # for those who have it open
    listed(array)
    np.testing.assert_array_equal(bits(by_tensorstore(downloaded(array, folder))), bits(dense))


def test_growing_after_a_run_that_was_killed_before_the_documents_were_written(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    grown = (1, 24, 17, 9)
    stray = array.location / "16-24_0-8_0-8"
    stray.write_bytes(b"\7" * 8**3)  # its chunk is zero now
    array.write(Box((0, 16, 8, 0), (1, 20, 16, 8)), np.ones((1, 4, 8, 8), "uint8"))
    (array.location / "16-24_8-16_0-8").write_bytes(b"\7" * 8**3)
    array.resize(grown)
    again = Precomputed().open(array.location)
    assert whole(again).sum() == 4 * 8 * 8 and whole(again).max() == 1


def test_files_of_old_names_go_when_the_array_grows_again(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    array.write(array.spec.grid.box, np.ones(array.spec.shape, "uint8"))
    for size in (21, 22, 23):
        array.resize((1, size, 17, 9))
        assert len(array.location.names()) == 1 + 18 + 6
    assert whole(Precomputed().open(array.location)).sum() == 20 * 17 * 9


def test_arrays_neither_shrink_nor_change_their_channels(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    for shape in ((1, 19, 17, 9), (2, 20, 17, 9), (20, 17, 9)):
        with pytest.raises(InputError, match="20, 17, 9"):
            array.resize(shape)
    array.resize(array.spec.shape)
    assert Precomputed().open(array.location) == array


def test_a_handle_from_before_a_resize_does_not_write_chunks_that_nobody_finds(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    array.resize((1, 40, 17, 9))
    inner = Box((0, 0, 0, 0), (1, 8, 8, 8))
    array.write(inner, np.ones(inner.shape, "uint8"))
    with pytest.raises(ConflictError, match="Open it again"):
        array.write(Box((0, 19, 0, 0), (1, 20, 1, 1)), np.ones((1, 1, 1, 1), "uint8"))
    assert whole(Precomputed().open(array.location)).sum() == 8**3


@pytest.mark.parametrize(
    ("dtype", "codec"),
    [("uint8", None), ("int16", None), ("float32", None)]
    + [(dtype, Codec("compressed_segmentation")) for dtype in ("uint32", "uint64")],
)
def test_the_usual_codec_is_that_of_the_dtype(dtype: str, codec: Codec | None) -> None:
    spec = spec_of(dtype=dtype, codec=str(Precomputed().usual_codec))
    assert Precomputed().at(Location("memory://usual/a/1"), spec).spec.codec == codec


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (spec_of(dtype="float64"), "float64"),
        (spec_of(dtype="int64"), "int64"),
        (spec_of(dtype="int16", codec="png"), "png"),
        (spec_of(dtype="uint8", codec="png", channels=5), "png"),
        (spec_of(dtype="uint16", codec="compressed_segmentation"), "compressed_segmentation"),
        (spec_of(codec="jpeg"), "jpeg"),
        (spec_of(codec="zstd"), "zstd"),
        (ArraySpec((1, 8, 8, 8), "uint8", tuple("cxyz"), (1, 4, 4, 4), (1, 8, 8, 8)), "no shards"),
        (ArraySpec((2, 8, 8, 8), "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 8, 8, 8)), "channels"),
        (ArraySpec((8, 8, 8), "uint8", tuple("xyz"), (8, 8, 8), (8, 8, 8)), "axes"),
        (ArraySpec((1, 8, 8, 8), "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 8, 8, 8), None, (0, 8, 0, 0)), "offset"),
    ],
)
def test_what_can_not_be_stored_is_refused(spec: ArraySpec, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Precomputed().at(Location("memory://refused/a/1"), spec)


def test_chunks_that_their_encoding_can_not_tell_apart_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = make(fresh_place("local", folder), spec_of(dtype="uint64", codec="compressed_segmentation"))
    box = Box((0, 0, 0, 0), (1, 8, 8, 8))
    monkeypatch.setattr(precomputed_chunks, "SEGMENTATION_BYTES", 4000)
    array.write(box, np.ones(box.shape, "uint64"))
    with pytest.raises(InputError, match="Use smaller chunks"):
        array.write(box, np.arange(512, dtype="uint64").reshape(box.shape))
    assert (array.read(box) == 1).all()


def test_blocks_that_do_not_fit_are_refused(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    box = Box((0, 0, 0, 0), (1, 8, 8, 8))
    for block in (np.zeros((1, 8, 8, 1), "uint8"), np.zeros((1, 8, 8, 8), "int8"), np.zeros((8, 8, 8), "uint8")):
        with pytest.raises(InputError, match="Cut or cast"):
            array.write(box, block)
        with pytest.raises(InputError, match="Cut or cast"), array.unit((0, 0, 0, 0)) as out:
            out.put(box, block)
    with pytest.raises(InputError, match="own chunks"), array.unit((0, 1, 0, 0)) as out:
        out.put(box, np.ones(box.shape, "uint8"))
    assert list(array.written_units()) == []


# ------------------------------------------------------------------------------------------- info


def info_of(array: PrecomputedArray) -> dict[str, object]:
    found: dict[str, object] = json.loads((array.volume / "info").read_bytes())
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_info_lists_what_the_layer_lists(kind: str, folder: Path) -> None:
    array = make(fresh_place(kind, folder), spec_of(dtype="uint64", codec="compressed_segmentation"))
    listed(array, ())
    assert not (array.volume / "info").is_file()
    with pytest.raises(DatasetExistsError):
        make(array.location, array.spec)
    coarse = make(array.volume / "2-2-1", spec_of((10, 9, 9), dtype="uint64"))
    listed(array, ("2-2-1", "1"), "segmentation")
    assert info_of(array) == {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation",
        "data_type": "uint64",
        "num_channels": 1,
        "scales": [
            {
                "key": "1",
                "size": [20, 17, 9],
                "voxel_offset": [0, 0, 0],
                "chunk_sizes": [[8, 8, 8]],
                "encoding": "compressed_segmentation",
                "compressed_segmentation_block_size": [8, 8, 8],
                "resolution": [4, 4, 40],
            },
            {
                "key": "2-2-1",
                "size": [10, 9, 9],
                "voxel_offset": [0, 0, 0],
                "chunk_sizes": [[8, 8, 8]],
                "encoding": "raw",
                "resolution": [8, 8, 40],
            },
        ],
    }
    coarse.location.delete()
    assert not Precomputed().detect(coarse.location)
    make(coarse.location, spec_of((10, 9, 9), dtype="uint64", codec="compressed_segmentation"))
    assert [scale["key"] for scale in info_of(array)["scales"]] == ["1"]  # type: ignore[attr-defined]
    assert Precomputed().open(coarse.location).spec.codec == Codec("compressed_segmentation")
    coarse.location.delete()
    array.location.delete()
    listed(array, ())
    assert not (array.volume / "info").is_file()


def test_what_others_wrote_into_info_stays(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    listed(array)
    document = info_of(array)
    foreign = {"key": "far", "size": [1, 1, 1], "resolution": [8, 8, 40], "chunk_sizes": [[1, 1, 1]], "encoding": "raw", "x": 1}
    scales = [{**document["scales"][0], "hidden": True}, foreign]  # type: ignore[index]
    (array.volume / "info").write_bytes(json.dumps({**document, "mesh": "meshes", "scales": scales}).encode())
    (array.volume / "far").make_folder()
    listed(array)
    found = info_of(array)
    assert found["mesh"] == "meshes" and found["scales"] == scales
    (array.volume / "far").delete()
    listed(array)
    assert info_of(array)["scales"] == scales[:1]
    array.location.delete()
    listed(array, ())
    assert info_of(array) == {**document, "mesh": "meshes", "scales": []}


def test_a_volume_is_of_one_dtype(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    listed(array)
    for spec in (spec_of(dtype="uint16"), spec_of(channels=3)):
        with pytest.raises(InputError, match="1 x uint8"):
            make(array.volume / "2", spec)


def test_a_folder_that_was_renamed_is_found_by_its_own_document(folder: Path) -> None:
    array = make(fresh_place("local", folder))
    array.write(array.spec.grid.box, noise(array.spec.grid.box, "uint8"))
    expected = whole(array)
    array.location.local_path.rename(array.volume.local_path / "other")
    np.testing.assert_array_equal(whole(Precomputed().open(array.volume / "other")), expected)


def test_paths_that_are_no_units() -> None:
    array = Precomputed().at(Location("memory://paths/a/1"), spec_of())
    for path in (
        "0-8_0-8",
        "0-8_0-8_0-7",
        "00-8_0-8_0-8",
        "-8-0_0-8_0-8",
        "24-32_0-8_0-8",
        "0-8_0-8_0-8/x",
        "1-9_0-8_0-8",
        "info",
    ):
        assert array.unit_of(path) is None
    assert array.unit_of("16-20_16-17_8-9") == (0, 2, 2, 1)


@pytest.mark.parametrize("codec", ["none", "png", "compressed_segmentation"])
def test_merging_into_a_damaged_chunk_is_refused(codec: str, folder: Path) -> None:
    dtype = "uint32" if codec == "compressed_segmentation" else "uint8"
    array = make(fresh_place("local", folder), spec_of(dtype=dtype, codec=codec))
    box = Box((0, 0, 0, 0), (1, 8, 8, 8))
    array.write(box, noise(box, dtype))
    place = array.unit_location((0, 0, 0, 0))
    place.write_bytes(place.read_bytes()[:-60])
    with pytest.raises(DamagedError, match="0-8_0-8_0-8"):
        array.write(Box((0, 1, 1, 1), (1, 2, 2, 2)), np.ones((1, 1, 1, 1), dtype))
