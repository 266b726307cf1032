"""Imports: what images become, voxel by voxel, against numpy; categories, codecs, sizes and resumption of several layers."""

from __future__ import annotations

import contextlib
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.errors import InputError, LayerExistsError
from wkdask.formats import Codec
from wkdask.geometry.grid import Box
from wkdask.images import Selection, find_images, find_layers
from wkdask.metadata import VoxelSize
from wkdask.operations import Orientation, Running, Sampling, Storage, Treatment, parse_rescale, plan_imports, run_plans
from wkdask.operations.source import FromImages
from wkdask.operations.values import ValueMap
from wkdask.plan import unfinished_jobs
from wkdask.storage import Location, observe

SIZE = VoxelSize((4, 4, 35))
FLAT = Sampling(downsample=False)
COLOR = Treatment("color")
STORAGES = {"zarr3": Storage((16, 16, 16), (32, 32, 32)), "wkw": Storage((16, 16, 16), (32, 32, 32), data_format="wkw")}
TINY = Running(2, memory_limit=1)
"""Tiles of a MiB: images are read in bands."""

LAYOUTS = {
    "rows": {},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "whole": {"rowsperstrip": 10**6, "compression": "zlib", "predictor": True},
    "tiles": {"tile": (32, 16)},
    "small tiles": {"tile": (16, 16), "compression": "zlib"},
}


def noise(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Voxels in (t, z, y, x, c), or fewer axes, of which no two slices have the same extremes."""
    rng = np.random.default_rng(math.prod(shape))
    return rng.integers(3, 1000 if dtype != "uint8" else 250, shape).astype(dtype)


def slices(folder: Path, volume: np.ndarray, **options: object) -> Path:
    """Write (z, y, x) or (z, y, x, c) as a file for each z."""
    folder.mkdir(parents=True)
    photometric = "rgb" if volume.ndim == 4 else "minisblack"
    for z, plane in enumerate(volume):
        tifffile.imwrite(folder / f"s{z:03}.tif", plane, photometric=photometric, **options)
    return folder


def seen(volume: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Return (z, y, x, c) or (t, z, y, x, c) as ([t,] c, x, y, z) the way numpy turns it."""
    turned = np.moveaxis(volume, [-1, -2, -3, -4], [-4, -3, -2, -1])
    if orientation.swap_xy:
        turned = turned.swapaxes(-3, -2)
    for axis, flip in zip((-3, -2, -1), orientation.flip, strict=True):
        turned = np.flip(turned, axis) if flip else turned
    return turned


def voxels(target: object, layer: str, mag: object = 1) -> np.ndarray:
    view = wk.Dataset.open(target).get_layer(layer).get_mag(mag)
    return view.array.read(view.array.box)


def imported(source: object, target: object, treatment: Treatment = COLOR, *, selection=None, **options):
    """Import with small shards, without a pyramid, and return the plans."""
    usual = {"storage": STORAGES["zarr3"], "sampling": FLAT, "running": Running(2), **options}
    size = usual.pop("voxel_size", SIZE)
    plans = plan_imports(find_layers(source, selection), Location.of(target), size, treatment, **usual)
    run_plans(plans)
    return plans


# ------------------------------------------------------------------------------------- orientation, places and values


class Stacks(dict):
    """Names, and stacks with their voxels."""

    def __repr__(self) -> str:
        return "stacks"


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """Stacks of odd shapes in all layouts, with their voxels as (t, z, y, x, c)."""
    folder, found = tmp_path_factory.mktemp("stacks"), Stacks()
    for number, (name, options) in enumerate(LAYOUTS.items()):
        volume = noise(3, 37 + number, 53)
        found[name] = find_images(slices(folder / name, volume, **options)), volume[None, ..., None]
    colour = noise(5, 18, 31, 3, dtype="uint8")
    found["rgb"] = find_images(slices(folder / "rgb", colour)), colour[None]
    film = noise(3, 4, 21, 34)
    tifffile.imwrite(folder / "film.tif", film, metadata={"axes": "TZYX"}, photometric="minisblack")
    found["film"] = find_images(folder / "film.tif"), film[..., None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wkdask.operations.source.BAND_VOXELS", 400)  # windows of slices are found in several bands
        yield found


def rescaled(volume: np.ndarray, how: str) -> np.ndarray:
    """Return a volume (t, z, y, x, c) in uint8, as plain numpy makes it."""
    wide = volume.astype(np.float64)
    if how == "slices":
        low, high = (f(wide, axis=(2, 3, 4), keepdims=True) for f in (np.min, np.max))
    else:
        low, high = 100, 900
    new = np.rint((wide.clip(low, high) - low) * 255 / (high - low)).astype(np.uint8)
    return 255 - new if how == "dark" else new


MAPS = {
    "window": {"window": (100, 900)},
    "dark": {"window": (100, 900), "invert": True},
    "slices": {"per_slice": True},
}


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_boxes_of_a_source_are_numpys(stacks, data):
    name = data.draw(st.sampled_from(sorted(stacks)))
    stack, volume = stacks[name]
    orientation = Orientation(data.draw(st.tuples(*[st.booleans()] * 3)), data.draw(st.booleans()))
    origin = data.draw(st.tuples(*[st.integers(0, 70)] * 3))
    how = data.draw(st.sampled_from(["stay", *MAPS]))
    values = None if how == "stay" else ValueMap(stack.dtype, "uint8", **MAPS[how])
    whole = seen(volume if values is None else rescaled(volume, how), orientation)
    whole = whole if stack.times > 1 else whole[0]
    ends = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in whole.shape]
    ends = [(a, max(b, a + 1)) if a < n else (a - 1, a) for (a, b), n in zip(ends, whole.shape, strict=True)]
    ends[-4] = 0, whole.shape[-4]  # channels lie in one chunk
    offset = (0,) * (whole.ndim - 3) + origin
    box = Box(*(tuple(e + o for e, o in zip(row, offset, strict=True)) for row in zip(*ends, strict=True)))
    found = FromImages(stack, orientation, origin, values).read(box)
    assert found.flags.f_contiguous
    np.testing.assert_array_equal(found, whole[tuple(slice(a, b) for a, b in ends)])


@pytest.mark.parametrize(
    ("layout", "how", "data_format"),
    [
        ("rows", "stay", "zarr3"),
        ("rows", "slices", "wkw"),
        ("whole", "slices", "zarr3"),
        ("whole", "dark", "wkw"),
        ("small tiles", "slices", "wkw"),
        ("small tiles", "dark", "zarr3"),
    ],
)
def test_bands_are_the_same_voxels(tmp_path, layout, how, data_format):
    """Planes that do not fit into a task: read row by row, decoded whole, or in tiles."""
    volume = noise(17, 201, 1803 if layout == "rows" else 403)
    source = slices(tmp_path / "em", volume, **LAYOUTS[layout])
    orientation = Orientation((True, False, True), swap_xy=layout != "rows")
    rescale = None if how == "stay" else parse_rescale("per-slice" if how == "slices" else "100,900")
    treatment = Treatment("color", None, orientation, dtype=rescale and "uint8", rescale=rescale, invert=how == "dark")
    storage = Storage((32, 32, 32), (64, 64, 64), data_format=data_format)
    (plan,) = imported(source, tmp_path / "ds", treatment, storage=storage, running=TINY)
    assert max(stage.count for stage in plan.stages) > 2
    volume = volume[None, ..., None]
    expected = seen(volume if how == "stay" else rescaled(volume, how), orientation)[0]
    np.testing.assert_array_equal(voxels(tmp_path / "ds", "em"), expected)


def test_pages_are_decoded_as_often_however_they_lie(tmp_path):
    """Scratch is worth its cost by the rows of the images, be they y or x."""
    source = slices(tmp_path / "em", noise(16, 403, 1009), **LAYOUTS["whole"])
    for running, spools in [(TINY, True), (Running(2, memory_limit=8 << 30), False)]:
        for swap_xy in (False, True):
            treatment = Treatment("color", orientation=Orientation(swap_xy=swap_xy))
            given = {"storage": STORAGES["zarr3"], "sampling": FLAT, "running": running}
            (plan,) = plan_imports(find_layers(source), Location.of(tmp_path / "ds"), SIZE, treatment, **given)
            assert ("decode pages" in [stage.name for stage in plan.stages]) is spools, swap_xy


@pytest.mark.parametrize("data_format", STORAGES)
@pytest.mark.parametrize(("mag", "topleft"), [("1", (3, 5, 7)), ("1", (0, 33, 1)), ("2", (6, 10, 2)), ("2-2-1", (34, 2, 5))])
def test_places(tmp_path, data_format, mag, topleft):
    """The box is in mag-1 voxels; coarser magnifications begin where it falls between their voxels, and mirror there."""
    volume = noise(11, 30, 41)
    mag = wk.Mag(mag)
    treatment = Treatment("color", topleft=topleft, mag=mag)
    coarser = wk.Mag([2 * n for n in mag])
    sampling = Sampling(coarsest=coarser, mode=wk.SamplingModes.CONSTANT_Z)
    imported(slices(tmp_path / "em", volume), tmp_path / "ds", treatment, storage=STORAGES[data_format], sampling=sampling)
    layer = wk.Dataset.open(tmp_path / "ds").get_layer("em")
    size = [n * m for n, m in zip(volume.shape[::-1], mag, strict=True)]
    assert layer.bounding_box == wk.BoundingBox(topleft, size)
    fine = volume.transpose()
    np.testing.assert_array_equal(voxels(tmp_path / "ds", "em", mag)[0], fine)
    first, second = layer.mags
    assert (first, second) == (mag, wk.Mag((2 * mag.x, 2 * mag.y, mag.z)))
    ends = [(t // m % 2, (t // m + n) % 2) for t, m, n in zip(topleft[:2], mag, fine.shape, strict=False)]
    padded = np.pad(fine, [*ends, (0, 0)], mode="symmetric")
    x, y, z = padded.shape
    blocks = padded.reshape(x // 2, 2, y // 2, 2, z).transpose(0, 2, 4, 1, 3).reshape(x // 2, y // 2, z, 4)
    np.testing.assert_array_equal(voxels(tmp_path / "ds", "em", second)[0], np.median(blocks, axis=-1).astype("uint16"))


@pytest.mark.parametrize(("mag", "topleft"), [("1", (-1, 0, 0)), ("2", (1, 0, 0)), ("2-2-1", (0, 3, 1))])
def test_places_between_voxels_are_refused(tmp_path, mag, topleft):
    source = slices(tmp_path / "em", noise(2, 8, 9))
    with pytest.raises(InputError, match=r"can not begin at \(.*\) in mag .*multiples of the mag"):
        imported(source, tmp_path / "ds", Treatment("color", topleft=topleft, mag=wk.Mag(mag)))
    assert not (tmp_path / "ds").exists()


def test_percentiles_of_large_planes_are_sampled_in_bands(tmp_path, monkeypatch):
    """Every voxel is as likely to count as in a plane that is read at once."""
    monkeypatch.setattr("wkdask.operations.imports.SAMPLE_VOXELS", 64 * 20)
    ramp = np.add.outer(np.arange(64), 100 * np.arange(641)).astype("uint16").T  # 641 rows, brighter downwards
    source = slices(tmp_path / "em", np.stack([ramp, ramp]))
    most = []
    read = type(find_images(source)).read

    def watched(self, *args, **options):
        block = read(self, *args, **options)
        most.append(block.size)
        return block

    monkeypatch.setattr("wkdask.images.ImageStack.read", watched)
    treatment = Treatment("color", dtype="uint8", rescale=parse_rescale("percentiles:10,90"))
    plan_imports(find_layers(source), Location.of(tmp_path / "ds"), SIZE, treatment, sampling=FLAT)
    assert max(most) <= 64 * 20
    assert sum(most) == 2 * ramp.size
    (plan,) = imported(source, tmp_path / "ds", treatment)
    low, high = np.percentile(ramp, [10, 90])
    found = voxels(tmp_path / "ds", "em")[0, :, :, 0].T
    middle = (ramp.astype(float) - low) * 255 / (high - low)
    np.testing.assert_allclose(found, middle.clip(0, 255), atol=2)
    assert plan.settings["values"] != "as they are"


# ------------------------------------------------------------------------------------------------ categories and codecs


def labels(shape: tuple[int, int, int] = (20, 64, 64), dtype: str = "uint32") -> np.ndarray:
    cells = np.random.default_rng(0).integers(1, 200, [n // 16 + 1 for n in shape])
    return cells[np.ix_(*(np.arange(n) // 16 for n in shape))].astype(dtype)


@pytest.mark.parametrize(
    ("name", "kind", "dtype", "expected"),
    [
        ("em", "labels", "uint8", "color"),
        ("em", "labels", "uint16", "color"),
        ("em", "labels", "uint32", "segmentation"),
        ("em", "noise", "uint32", "color"),
        ("em", "noise", "uint64", "segmentation"),
        ("em", "labels", "float32", "color"),
        ("my_labels", "labels", "uint8", "segmentation"),
        ("my_labels", "noise", "uint16", "color"),
        ("Segmentation", "labels", "uint16", "segmentation"),
        ("labels", "noise", "float32", "color"),
    ],
)
def test_categories_are_guessed(tmp_path, name, kind, dtype, expected):
    volume = labels(dtype=dtype) if kind == "labels" else np.random.default_rng(1).integers(1, 250, (20, 64, 64)).astype(dtype)
    imported(slices(tmp_path / name, volume), tmp_path / "ds", Treatment())
    layer = wk.Dataset.open(tmp_path / "ds").get_layer(name)
    assert layer.category == expected
    np.testing.assert_array_equal(voxels(tmp_path / "ds", name)[0], volume.transpose())


def test_colour_images_are_no_labels(tmp_path):
    imported(slices(tmp_path / "labels", noise(2, 8, 9, 3, dtype="uint8")), tmp_path / "ds", Treatment())
    assert wk.Dataset.open(tmp_path / "ds").get_layer("labels").category == "color"
    with pytest.raises(InputError, match="3 channels; a segmentation has one"):
        imported(tmp_path / "labels", tmp_path / "other", Treatment("segmentation"))


def test_lz4_is_chosen_for_segmentations_that_it_makes_as_small(tmp_path):
    smooth = np.add.outer(np.add.outer(np.arange(32) // 3, np.arange(64) // 5), np.arange(64) // 7).astype("uint32")
    for name, volume, category, expected in [
        ("noise", np.random.default_rng(0).integers(0, 2**32, (32, 64, 64), "uint32"), "segmentation", "lz4"),
        ("smooth", smooth, "segmentation", "lz4hc"),
        ("noise", None, "color", "lz4hc"),
    ]:
        source = tmp_path / name if volume is None else slices(tmp_path / name, volume)
        wkw = Storage((32, 32, 32), (64, 64, 64), data_format="wkw")
        imported(source, tmp_path / f"{name}-{category}", Treatment(category), storage=wkw)
        codec = wk.Dataset.open(tmp_path / f"{name}-{category}").get_layer(name).get_mag(1).spec.codec
        assert codec.name == expected, (name, category)


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (Storage(codec=Codec("lz4")), "format zarr3 has no codec 'lz4'; it has none, "),
        (Storage(codec=Codec("zstd", 5), data_format="wkw"), "format wkw has no codec 'zstd'; it has none, "),
        (Storage((16, 16, 32), data_format="wkw"), "no cube, but wkw has cubes only"),
        (Storage((16, 16, 16), (32, 32, 64), data_format="wkw"), "no cube, but wkw has cubes only"),
        (Storage((0, 16, 16)), "power of two"),
        (Storage((-16, -16, -16), data_format="wkw"), "power of two"),
        (Storage((64, 64, 64), (32, 32, 32)), "no multiple of the chunk shape"),
        (Storage(data_format="tiff"), "There is no format 'tiff' here; there are n5, .*wkw.*zarr3"),
    ],
)
def test_storages_that_can_not_be(tmp_path, storage, words):
    source = slices(tmp_path / "em", labels((2, 8, 9)))
    with pytest.raises(InputError, match=words):
        imported(source, tmp_path / "ds", Treatment("segmentation"), storage=storage)
    assert not (tmp_path / "ds").exists()


def test_probing_reads_little_however_large_chunks_are(tmp_path, monkeypatch):
    source = slices(tmp_path / "em", labels((80, 200, 200), "uint8"))
    most = []
    read = type(find_images(source)).read
    monkeypatch.setattr("wkdask.images.ImageStack.read", lambda *a, **o: most.append(0) or _noted(most, read(*a, **o)))
    storage = Storage((512, 512, 512), (512, 512, 512), data_format="wkw")
    plan_imports(find_layers(source), Location.of(tmp_path / "ds"), SIZE, Treatment("segmentation"), storage=storage)
    assert 0 < max(most) <= 64**3


def _noted(sizes: list[int], block: np.ndarray) -> np.ndarray:
    sizes.append(block.size)
    return block


# ------------------------------------------------------------------------------------------------------- voxel sizes


def ome(path: Path, size: tuple[float, float, float], volume: np.ndarray | None = None, unit: str = "nm") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    edges = {f"PhysicalSize{axis}": edge for axis, edge in zip("XYZ", size, strict=True)}
    units = {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    volume = noise(3, 8, 9) if volume is None else volume
    tifffile.imwrite(path, volume, ome=True, photometric="minisblack", metadata={"axes": "ZYX", **edges, **units})
    return path


def test_voxel_size_of_the_metadata(tmp_path):
    source = ome(tmp_path / "a.ome.tif", (0.011, 0.012, 0.025), unit="µm")
    (plan,) = imported(source, tmp_path / "ds", voxel_size=None)
    np.testing.assert_allclose(wk.Dataset.open(tmp_path / "ds").voxel_size, (11, 12, 25))
    assert [note for note in plan.notes if "voxel size 11 x 12 x 25 nanometer" in note and "metadata" in note]
    imported(source, tmp_path / "coarse", Treatment("color", mag=wk.Mag("2-2-1")), voxel_size=None)
    np.testing.assert_allclose(wk.Dataset.open(tmp_path / "coarse").voxel_size, (5.5, 6, 25))
    (given_one,) = imported(source, tmp_path / "given")
    assert wk.Dataset.open(tmp_path / "given").voxel_size_with_unit == SIZE
    assert not given_one.notes


def test_voxel_size_of_imagej(tmp_path):
    options = {"imagej": True, "resolution": (1 / 0.02, 1 / 0.04), "metadata": {"axes": "ZYX", "spacing": 0.05, "unit": "um"}}
    tifffile.imwrite(tmp_path / "a.tif", noise(3, 8, 9), **options)
    imported(tmp_path / "a.tif", tmp_path / "ds", voxel_size=None)
    np.testing.assert_allclose(wk.Dataset.open(tmp_path / "ds").voxel_size, (20, 40, 50))


def test_voxel_sizes_that_contradict_each_other(tmp_path):
    for name, size in (("a", (4, 4, 40)), ("b", (4, 4, 35))):
        ome(tmp_path / "two" / f"{name}.ome.tif", size)
    with pytest.raises(InputError, match=r"4 x 4 x 35 nanometer and 4 x 4 x 40 nanometer\. Give it as voxel_size="):
        imported(tmp_path / "two", tmp_path / "ds", voxel_size=None)
    assert not (tmp_path / "ds").exists()
    (plan,) = imported(tmp_path / "two", tmp_path / "ds", voxel_size=None, selection=Selection(merge=True))
    assert wk.Dataset.open(tmp_path / "ds").voxel_size == (4, 4, 40)
    assert any("different voxel sizes" in note for note in plan.notes)


def test_voxel_size_that_nobody_knows(tmp_path):
    source = slices(tmp_path / "em", noise(2, 8, 9))
    with pytest.raises(InputError, match=r"they do not say it\. Give it as voxel_size=\(X, Y, Z\), or --voxel-size X,Y,Z"):
        imported(source, tmp_path / "ds", voxel_size=None)


def test_voxel_size_of_the_dataset_comes_before_that_of_images(tmp_path):
    wk.Dataset(tmp_path / "ds", (1, 2, 3))
    imported(ome(tmp_path / "a.ome.tif", (4, 4, 40)), tmp_path / "ds", voxel_size=None)
    assert wk.Dataset.open(tmp_path / "ds").voxel_size == (1, 2, 3)
    with pytest.raises(InputError, match="voxels of 1 x 2 x 3 nanometer, not 4 x 4 x 35"):
        imported(slices(tmp_path / "em", noise(2, 8, 9)), tmp_path / "ds")


# ---------------------------------------------------------------------------------------------------- several layers


@pytest.fixture
def channels(tmp_path):
    """A file of three channels of 16 bits; its voxels are (z, c, y, x)."""
    volume = noise(5, 3, 40, 33)
    tifffile.imwrite(tmp_path / "cells.tif", volume, metadata={"axes": "ZCYX"}, photometric="minisblack")
    return tmp_path / "cells.tif", volume


def all_files(target: Path) -> dict[str, bytes]:
    found = (path for path in target.rglob("*") if path.is_file() and ".wkdask" not in path.parts)
    return {str(path.relative_to(target)): path.read_bytes() for path in found}


NAMES = ["em__channel0", "em__channel1", "em__channel2"]


@pytest.mark.parametrize("data_format", STORAGES)
def test_channels_are_layers_of_their_own(tmp_path, channels, data_format):
    source, volume = channels
    plans = imported(source, tmp_path / "ds", selection=Selection(layer_name="em"), storage=STORAGES[data_format])
    assert [plan.journal.key for plan in plans] == NAMES
    dataset = wk.Dataset.open(tmp_path / "ds")
    assert list(dataset.layers) == NAMES
    for channel, name in enumerate(NAMES):
        np.testing.assert_array_equal(voxels(tmp_path / "ds", name)[0], volume[:, channel].transpose())
        view = dataset.get_layer(name).properties.to_dict()["defaultViewConfiguration"]
        assert view["color"] == [255 * (channel == c) for c in range(3)]
        assert (view["min"], view["max"]) == (volume[:, channel].min(), volume[:, channel].max())


class Killed(BaseException):
    """Nobody catches this."""


@pytest.mark.parametrize("data_format", STORAGES)
@pytest.mark.parametrize("after", ["em__channel0", "em__channel1", "middle"])
def test_finished_layers_are_kept(tmp_path, channels, data_format, after):
    source, _ = channels
    options = {"storage": STORAGES[data_format], "sampling": FLAT, "running": Running(1)}
    selection, target = Selection(layer_name="em"), tmp_path / "ds"
    imported(source, tmp_path / "whole" / "ds", selection=selection, **options)

    def kill(event, url):
        if event == "publish" and "em__channel1" in url and "/journal" not in url and "json" not in url:
            raise Killed

    plans = plan_imports(find_layers(source, selection), Location.of(target), SIZE, COLOR, **options)
    if after == "middle":
        with observe(kill), pytest.raises(Killed):
            run_plans(plans)
    else:
        run_plans(plans[: NAMES.index(after) + 1])
    done = {"em__channel0": 1, "em__channel1": 2, "middle": 1}[after]
    assert list(wk.Dataset.open(target).layers) == NAMES[:done]
    before = {path: path.stat().st_mtime_ns for path in target.glob("em__channel0/**/*") if path.is_file()}
    again = imported(source, target, selection=selection, **options)
    assert [plan.journal.key for plan in again] == NAMES[done:]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert all_files(target) == all_files(tmp_path / "whole" / "ds")
    with pytest.raises(LayerExistsError, match="em__channel0"):
        imported(source, target, selection=selection, **options)


@pytest.mark.parametrize("data_format", STORAGES)
def test_ended_after_any_change_an_import_goes_on(tmp_path, data_format):
    """Two layers of one unit each; whatever the last change was, the same call completes both."""
    volume = noise(2, 2, 9, 12)
    tifffile.imwrite(tmp_path / "two.tif", volume, metadata={"axes": "ZCYX"}, photometric="minisblack")
    options = {"storage": STORAGES[data_format], "running": Running(1)}
    imported(tmp_path / "two.tif", tmp_path / "whole" / "ds", **options)
    whole, left, k = all_files(tmp_path / "whole" / "ds"), 0, 0
    while left <= 0:
        k, left, target = k + 1, k + 1, tmp_path / str(k) / "ds"

        def count(event, url):
            nonlocal left
            left -= event in ("publish", "append", "commit", "delete")
            if left <= 0:
                raise Killed

        with observe(count), contextlib.suppress(Killed):
            imported(tmp_path / "two.tif", target, **options)
        if left <= 0:
            with contextlib.suppress(LayerExistsError):  # all was done
                imported(tmp_path / "two.tif", target, **options)
        assert all_files(target) == whole, k
        assert not unfinished_jobs(Location.of(target)), k
    assert k > 20


def test_a_layer_of_other_images_is_not_taken_for_a_finished_one(tmp_path, channels):
    source, volume = channels
    selection = Selection(layer_name="em")
    plans = plan_imports(find_layers(source, selection), Location.of(tmp_path / "ds"), SIZE, COLOR, sampling=FLAT)
    run_plans(plans[:1])
    tifffile.imwrite(source, volume + 1, metadata={"axes": "ZCYX"}, photometric="minisblack")
    with pytest.raises(LayerExistsError, match="em__channel0"):
        imported(source, tmp_path / "ds", selection=selection)
    assert list(wk.Dataset.open(tmp_path / "ds").layers) == NAMES[:1]


def test_no_layer_is_begun_where_one_can_not_be(tmp_path, channels):
    source, _ = channels
    imported(slices(tmp_path / "other", noise(2, 8, 9)), tmp_path / "ds", selection=Selection(layer_name="em__channel2"))
    before = all_files(tmp_path / "ds")
    with pytest.raises(LayerExistsError, match="em__channel2"):
        imported(source, tmp_path / "ds", selection=Selection(layer_name="em"))
    assert all_files(tmp_path / "ds") == before


def test_plans_of_imports_pickle(tmp_path, channels):
    source, _ = channels
    treatment = Treatment("color", orientation=Orientation((True, False, False)), rescale=parse_rescale("0,900"), dtype="uint8")
    for plan in plan_imports(find_layers(source), Location.of(tmp_path / "ds"), SIZE, treatment):
        assert pickle.loads(pickle.dumps(plan)).fingerprint == plan.fingerprint


# ------------------------------------------------------------------------------------------------------------- time


@pytest.fixture
def film(tmp_path):
    """A file of 3 time points; its voxels are (t, z, c, y, x)."""
    volume = noise(3, 5, 2, 40, 33, dtype="uint8")
    tifffile.imwrite(tmp_path / "film.tif", volume, metadata={"axes": "TZCYX"}, photometric="minisblack")
    return tmp_path / "film.tif", volume


def test_time_is_an_axis_of_zarr(tmp_path, film):
    source, volume = film
    sampling = Sampling(coarsest=wk.Mag(2), mode=wk.SamplingModes.CONSTANT_Z, interpolation="max")
    imported(source, tmp_path / "ds", Treatment("color", topleft=(4, 2, 1)), sampling=sampling)
    for channel in range(2):
        layer = wk.Dataset.open(tmp_path / "ds").get_layer(f"film__channel{channel}")
        (axis,) = layer.properties.to_dict()["additionalAxes"]
        assert (axis["name"], axis["bounds"]) == ("t", [0, 3])
        spec = layer.get_mag(1).spec
        assert spec.axes == ("t", "c", "x", "y", "z")
        assert (spec.chunk[:2], spec.unit[:2]) == ((1, 1), (1, 1))
        expected = volume[:, :, channel].transpose(0, 3, 2, 1)
        np.testing.assert_array_equal(voxels(tmp_path / "ds", layer.name)[:, 0], expected)
        coarse = np.pad(expected, [(0, 0), (0, 1), (0, 0), (0, 0)], mode="edge").reshape(3, 17, 2, 20, 2, 5).max(axis=(2, 4))
        np.testing.assert_array_equal(voxels(tmp_path / "ds", layer.name, "2-2-1")[:, 0], coarse)


def test_time_is_refused_by_wkw_but_for_one_point(tmp_path, film):
    source, volume = film
    with pytest.raises(
        InputError, match=r"3 time points, which the format wkw can not store\. Use the format zarr3, or .*timepoint"
    ):
        imported(source, tmp_path / "ds", storage=STORAGES["wkw"])
    assert not (tmp_path / "ds").exists()
    imported(source, tmp_path / "ds", storage=STORAGES["wkw"], selection=Selection(timepoint=2, channel=1))
    np.testing.assert_array_equal(voxels(tmp_path / "ds", "film")[0], volume[2, :, 1].transpose())
