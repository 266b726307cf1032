"""What notebooks show: well-formed, escaped, quick to make, with the right voxels, and never an error."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import wkdask as wk
from tests.conftest import examples
from wkdask.arrays import MagArray
from wkdask.dataset.grid_drawing import DEPTH, EDGE, GAP, THINNEST, draw_grid
from wkdask.dataset.html import MAX_LAYERS, MAX_THUMBNAILS
from wkdask.dataset.thumbnail import MAX_BYTES, color_segments, draw_thumbnail
from wkdask.errors import InputError, InterruptedRunError
from wkdask.formats import ArraySpec, Codec, Zarr3, Zarr3Array
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties
from wkdask.plan.html import Markup, escape, facts, join, panel, row, table
from wkdask.storage import Location

JSON = "datasource-properties.json"
SVG = "{http://www.w3.org/2000/svg}"
TAGS = {"div", "b", "table", "thead", "tbody", "tr", "th", "td", "img", "svg", "path", "text"}
HOSTILE = "<script>alert('1')</script>\"&amp;\x00\x1b\u202e\ud800" + "x" * 10_000


def parsed(shown):
    """Parse what an object shows, after looking for what must not be in it."""
    html = shown if isinstance(shown, str) else shown._repr_html_()
    html.encode()  # a lone surrogate would fail here, and in the notebook
    tree = ET.fromstring(html)
    for element in tree.iter():
        assert element.tag.removeprefix(SVG) in TAGS
        for name, value in element.items():
            assert name in {"style", "alt", "src"} or element.tag.startswith(SVG)
            assert name not in {"href", "id"} and not name.startswith("on") and "url(" not in value
            assert name != "src" or value.startswith("data:image/png;base64,")
    return tree


def text(tree):
    return " ".join(part.strip() for part in tree.itertext() if part.strip())


def pictures(tree):
    return [Image.open(io.BytesIO(base64.b64decode(img.get("src").partition(",")[2]))) for img in tree.iter("img")]


def rows(tree, number=-1):
    """Return the texts of a table's cells."""
    return [[text(cell) for cell in line] for line in list(tree.iter("table"))[number].iter("tr")]


@pytest.fixture
def big(tmp_path):
    """Layers whose finest mag is large and whose coarsest is a ramp along x, or segments."""
    dataset = wk.Dataset(tmp_path / "big", (4, 4, 35))
    for name, category, dtype in (("em", "color", "uint8"), ("seg", "segmentation", "uint32")):
        box = wk.BoundingBox((0, 0, 0), (8192, 4096, 64))
        layer = dataset.add_layer(name, category, dtype=dtype, bounding_box=box)
        for mag in (1, "32-32-2", "128-128-8"):
            layer.add_mag(mag, chunk_shape=32, shard_shape=256)
        layer.get_mag(1).write(np.ones((64, 64, 32), dtype), offset=(4096, 2048, 0))
        ramp = np.broadcast_to(np.arange(256)[:, None, None], (256, 128, 32))
        layer.get_mag("32-32-2").write(ramp.astype(dtype), offset=(0, 0, 0))
    return dataset


@pytest.fixture
def reads(monkeypatch):
    """What was read of arrays: folder and box."""
    seen, read = [], Zarr3Array.read

    def spy(self, box, **options):
        seen.append((self.location.name, box))
        return read(self, box, **options)

    monkeypatch.setattr(Zarr3Array, "read", spy)
    return seen


# ------------------------------------------------------------------------------------------------------ pieces


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_all_text_is_escaped(value):
    pieces = [
        escape(value),
        panel(value, value, value),
        row(value, "b"),
        facts([(value, value)]),
        table([value], [[value], [value]]),
        join(value, Markup("<i />")),
    ]
    for piece in pieces:
        tree = ET.fromstring(f"<p>{piece}</p>")
        assert {e.tag for e in tree.iter()} <= {"p", "div", "b", "i", "table", "thead", "tbody", "tr", "th", "td"}
        piece.encode()
    plain = "".join(ET.fromstring(f"<p>{escape(value)}</p>").itertext())
    if value.isprintable() and len(value) <= 200:
        assert plain == value
    assert len(plain) <= 200


boxes = st.tuples(*[st.tuples(st.integers(0, 5000), st.integers(1, 5000))] * 3)
shapes = st.tuples(*[st.sampled_from([1, 8, 32, 256])] * 3)


@given(boxes, shapes, shapes, st.tuples(*[st.floats(1e-3, 1e6)] * 3))
def test_drawings_have_a_line_for_each_border_unless_dense(spans, chunk, factors, voxel):
    box = Box(tuple(a for a, _ in spans), tuple(a + n for a, n in spans))
    unit = tuple(c * f for c, f in zip(chunk, factors, strict=True))
    tree = ET.fromstring(f"<p>{draw_grid(box, unit, chunk, voxel)}</p>")
    paths = [path.get("d") for path in tree.iter(f"{SVG}path") if path.get("stroke-opacity")]
    assert len(paths) == (1 if unit == chunk else 2)
    expected_cuts = []
    for path, (starts, stops), piece in zip(paths, ((box.start, box.stop), ((0, 0, 0), unit)), (unit, chunk), strict=False):
        extent = [(b - a) * e for a, b, e in zip(starts, stops, voxel, strict=True)]
        pixels = [max(THINNEST, EDGE * e / max(extent)) for e in extent]
        pixels[2] *= DEPTH
        borders = [[i for i in range(-(-a // n) * n, b, n) if i > a] for a, b, n in zip(starts, stops, piece, strict=True)]
        dense = [p * n / (b - a) for p, a, b, n in zip(pixels, starts, stops, piece, strict=True)]
        assume(all(abs(gap - GAP) > 1e-6 for gap in dense))
        shown = [lines if gap > GAP else [] for lines, gap in zip(borders, dense, strict=True)]
        assert path.count("M") == sum(map(len, shown))
        x = [float(n) for n in re.findall(r"M([0-9.]+) [0-9.]+v-", path)]
        assert x == pytest.approx([(i - starts[0]) / (stops[0] - starts[0]) * pixels[0] for i in shown[0]], abs=0.051)
        expected_cuts.append(" x ".join(str(len(lines) + 1) for lines in borders))
    words = ["chunks"] if unit == chunk else ["shards", "chunks in a shard"]
    assert [text(div) for div in tree.iter("div") if div.get("style", "").startswith("opacity")] == [
        f"{count} {word}" for count, word in zip(expected_cuts, words, strict=True)
    ]


@pytest.mark.parametrize("voxel", [(1e308, 1e308, 1e308), (float("inf"), 1, 1), (5e-324, 5e-324, 5e-324)])
def test_drawings_of_absurd_sizes(voxel):
    drawing = draw_grid(Box((0, 0, 0), (2**60, 3, 1)), (32, 32, 32), (32, 32, 32), voxel)
    ET.fromstring(f"<p>{drawing}</p>")
    assert "nan" not in drawing and "inf" not in drawing
    assert draw_grid(Box((0, 0, 0), (0, 3, 1)), (32, 32, 32), (32, 32, 32), (1, 1, 1)) == ""


def test_segments_keep_their_colours():
    ids = np.arange(2000, dtype="uint32")
    colors = color_segments(ids)
    assert colors[0].tolist() == [0, 0, 0]
    assert colors[1:].min() >= 64
    assert len(np.unique(colors, axis=0)) > 1990
    assert (color_segments(ids.astype("int64")) == colors).all()
    assert color_segments(np.array([1, 2**63], "uint64")).tolist() == [[101, 203, 221], [202, 78, 165]]


# -------------------------------------------------------------------------------------------------- thumbnails

layouts = st.permutations(("t", "c", "z", "y", "x")).map(tuple) | st.permutations(("z", "y", "x")).map(tuple)


def array_of(folder, voxels, axes, start=None, chunk=16):
    """Store voxels, whose box begins somewhere."""
    start = start or (0,) * voxels.ndim
    box = Box(tuple(start), tuple(a + n for a, n in zip(start, voxels.shape, strict=True)))
    pieces = tuple(chunk if a in "xyz" else 1 for a in axes)
    shape = tuple(-(-n // u) * u for n, u in zip(box.stop, pieces, strict=True))
    spec = ArraySpec(shape, str(voxels.dtype), axes, pieces, pieces, Codec("zstd", 1))
    handle = Zarr3().create(Location(os.fspath(folder)), spec)
    handle.write(box, np.asfortranarray(voxels))
    return MagArray(handle, (1, 1, 1), box)


def layer_of(category="color", dtype="uint8", channels=1, **view):
    layer = LayerProperties.new("a", category, dtype, channels, "zarr3", ((0, 0, 0), (8, 8, 8)))
    return layer.with_view_configuration(**view) if view else layer


def drawn(array, layer, edge=256):
    return np.asarray(Image.open(io.BytesIO(draw_thumbnail(array, layer, edge))))


@settings(max_examples=examples(10))
@given(layouts, st.tuples(*[st.integers(1, 40)] * 3), st.tuples(*[st.integers(0, 20)] * 3), st.data())
def test_the_middle_section_in_any_order_of_axes(tmp_path_factory, axes, size, origin, data):
    sizes = dict(zip("xyz", size, strict=True)) | {"c": 2, "t": 3}
    starts = dict(zip("xyz", origin, strict=True)) | {"c": 0, "t": 0}
    voxels = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 256, [sizes[a] for a in axes]).astype("uint8")
    array = array_of(tmp_path_factory.mktemp("a") / "1", voxels, axes, [starts[a] for a in axes])
    middle = np.moveaxis(voxels, [axes.index(a) for a in "yx"], [0, 1]).copy()
    rest = [a for a in axes if a not in "yx"]
    middle = middle[(slice(None), slice(None), *(sizes["z"] // 2 if a == "z" else 0 for a in rest))]
    layer = layer_of(channels=2 if "c" in axes else 1, intensity_range=(0, 255))
    np.testing.assert_array_equal(drawn(array, layer), middle)


def test_one_time_and_one_section_are_read(tmp_path, reads):
    voxels = np.zeros((4, 2, 20, 30, 9), "uint8")
    draw_thumbnail(array_of(tmp_path / "1", voxels, ("t", "c", "x", "y", "z")), layer_of(channels=2))
    assert [box.shape for _, box in reads] == [(1, 2, 20, 30, 1)]


def test_the_middle_of_what_is_large(tmp_path):
    x = np.arange(600)[:, None, None] % 251
    voxels = np.broadcast_to(x, (600, 300, 3)).astype("uint8")
    found = drawn(array_of(tmp_path / "1", voxels, ("x", "y", "z"), chunk=64), layer_of(intensity_range=(0, 255)))
    np.testing.assert_array_equal(found, voxels[172:428, 22:278, 1].T)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ({}, lambda v: (v - 50) / 200),  # the section's own range
        ({"intensity_range": (0, 510)}, lambda v: v / 510),
        ({"intensity_range": (100, 200)}, lambda v: np.clip((v - 100) / 100, 0, 1)),
        ({"is_inverted": True}, lambda v: 1 - (v - 50) / 200),
        ({"color": (255, 0, 51), "intensity_range": (0, 255)}, lambda v: v[..., None] / 255 * [1, 0, 0.2]),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32"])
def test_windows(tmp_path, dtype, view, expected):
    plane = np.linspace(50, 250, 30 * 20).round().reshape(30, 20)
    array = array_of(tmp_path / "1", plane[..., None].astype(dtype), ("x", "y", "z"))
    np.testing.assert_allclose(drawn(array, layer_of(dtype=dtype, **view)), expected(plane.T) * 255, atol=0.51)


@pytest.mark.parametrize("values", [[np.nan, 1, 3, np.inf], [np.nan] * 4, [0] * 4, [-np.inf, 1e308, -1e308, 0], [5] * 4])
def test_odd_floats_give_no_warning_and_nan_is_black(tmp_path, values):
    array = array_of(tmp_path / "1", np.array(values).reshape(2, 2, 1), ("x", "y", "z"))
    found = drawn(array, layer_of(dtype="float64")).T.ravel()
    assert all(found[i] == 0 for i, value in enumerate(values) if np.isnan(value) or set(values) == {0})
    if 3 in values:
        assert found.tolist() == [0, 0, 255, 255]
    if 5 in values:
        assert found.tolist() == [255] * 4


def test_three_channels_of_bytes_are_colours(tmp_path):
    voxels = np.random.default_rng(1).integers(0, 256, (3, 20, 30, 5)).astype("uint8")
    array = array_of(tmp_path / "1", voxels, ("c", "x", "y", "z"))
    np.testing.assert_array_equal(drawn(array, layer_of(channels=3)), voxels[..., 2].transpose(2, 1, 0))


def test_segments(tmp_path):
    ids = np.random.default_rng(1).integers(0, 9, (40, 30, 1)).astype("uint64") << np.uint64(40)
    array = array_of(tmp_path / "1", ids, ("x", "y", "z"))
    np.testing.assert_array_equal(drawn(array, layer_of("segmentation", "uint64")), color_segments(ids[..., 0].T))
    small = drawn(array, layer_of("segmentation", "uint64"), 10)
    assert small.shape == (8, 10, 3)
    assert {tuple(c) for c in small.reshape(-1, 3)} <= {tuple(c) for c in color_segments(np.unique(ids))}  # none mixed


@pytest.mark.parametrize("shape", [(2**20, 2**20, 2**20), (1024, 1024, 64)])
def test_large_chunks_are_not_read(tmp_path, reads, shape):
    piece = tuple(min(n, 512) for n in shape)
    handle = Zarr3().create(Location(str(tmp_path / "1")), ArraySpec(shape, "uint8", ("x", "y", "z"), piece, piece))
    array = MagArray(handle, (1, 1, 1), Box((0, 0, 0), shape))
    assert np.prod(piece) >= MAX_BYTES or shape == (1024, 1024, 64)
    with pytest.raises(InputError, match="Read a smaller box"):
        draw_thumbnail(array, layer_of())
    assert not reads


# ----------------------------------------------------------------------------------------------------- objects


def test_a_dataset(big, reads):
    tree = parsed(big)
    header, *lines = rows(tree)
    assert [line[1:] for line in lines] == [
        ["em", "color", "uint8", "(0, 0, 0)", "8192 x 4096 x 64", "1, 32-32-2, 128-128-8", "2.1 GB"],
        ["seg", "segmentation", "uint32", "(0, 0, 0)", "8192 x 4096 x 64", "1, 32-32-2, 128-128-8", "8.6 GB"],
    ]
    assert "4 x 4 x 35 nanometer" in text(tree)
    em, seg = pictures(tree)
    assert em.size == seg.size == (64, 32)
    ramp = np.asarray(em)
    np.testing.assert_allclose(ramp[0], np.arange(64) * 4 + 1.5, atol=1)
    assert (ramp == ramp[0]).all()
    assert (np.asarray(seg)[0] == color_segments(np.arange(64) * 4 + 2)).all()
    assert [name for name, _ in reads] == ["32-32-2"] * 2  # the coarsest in which there is something to see
    assert all(box.size <= 256 * 256 for _, box in reads)


def test_a_layer(big, reads):
    tree = parsed(big.get_layer("seg"))
    assert rows(tree)[1:] == [
        ["1", "8192 x 4096 x 64", "4 x 4 x 35", "32 x 32 x 32", "256 x 256 x 256", "zstd:5", "8.6 GB"],
        ["32-32-2", "256 x 128 x 32", "128 x 128 x 70", "32 x 32 x 32", "256 x 256 x 256", "zstd:5", "4.2 MB"],
        ["128-128-8", "64 x 32 x 8", "512 x 512 x 280", "32 x 32 x 32", "256 x 256 x 256", "zstd:5", "65.5 kB"],
    ]
    assert "32.77 µm x 16.38 µm x 2.24 µm" in text(tree)
    assert "32 x 16 x 1 shards" in text(tree) and "8 x 8 x 8 chunks in a shard" in text(tree)
    (picture,) = pictures(tree)
    assert (np.asarray(picture)[0] == color_segments(np.arange(256))).all()
    assert [name for name, _ in reads] == ["32-32-2"]


def test_a_magnification(big, reads):
    tree = parsed(big.get_layer("em").get_mag(1))
    shown = dict(rows(tree))
    assert shown["shape"] == "1 x 8192 x 4096 x 64 (c, x, y, z)"
    assert shown["voxel"] == "4 nm x 4 nm x 35 nm"
    assert shown["bytes of voxels"] == "2.1 GB"
    (picture,) = pictures(tree)
    assert picture.size == (256, 256)  # the middle, of one section
    assert reads[0][1].shape == (1, 256, 256, 1)


def test_sizes_agree_with_the_arrays(layer, mag):
    for line, view in zip(rows(parsed(layer))[1:], layer.mags.values(), strict=True):
        assert line[1] == " x ".join(map(str, view.array.shape[1:]))
    assert "0 B" not in text(parsed(mag))


def test_no_folder_is_listed(big, monkeypatch):
    monkeypatch.setattr(Location, "names", lambda self: pytest.fail("listed"))
    for shown in (big, *big.layers.values(), big.get_layer("em").get_mag(1)):
        assert pictures(parsed(shown))


def test_other_datasets_than_local_ones_have_no_pictures(voxels, monkeypatch):
    dataset = wk.Dataset("memory://html", (4, 4, 35), exist_ok=True)
    layer = dataset.add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), voxels.shape))
    layer.add_mag(1, chunk_shape=16, shard_shape=32).write(voxels)
    for shown in (dataset, layer, layer.get_mag(1)):
        tree = parsed(shown)
        assert "em" in text(tree)
        assert not pictures(tree)
    assert "zstd:5" in text(parsed(layer))
    monkeypatch.setattr(wk.Layer, "open_array", lambda *_: pytest.fail("opened an array"))
    parsed(dataset)


def test_many_layers(tmp_path):
    dataset = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    layer = dataset.add_layer("l", "color", bounding_box=wk.BoundingBox((0, 0, 0), (8, 8, 8)))
    layer.add_mag(1, chunk_shape=8, shard_shape=8)
    document = json.loads((tmp_path / "ds" / JSON).read_text())
    first = document["dataLayers"][0]
    document["dataLayers"] = [{**first, "name": f"l{i}"} for i in range(150)]
    for mag in document["dataLayers"]:
        mag["mags"] = [{**first["mags"][0], "path": "./l/1"}]
    (tmp_path / "ds" / JSON).write_text(json.dumps(document))
    tree = parsed(dataset)
    assert len(rows(tree)) == 1 + MAX_LAYERS
    assert "… and 50 more layers" in text(tree)
    assert len(pictures(tree)) == MAX_THUMBNAILS


def test_without_layers_and_mags(dataset):
    assert "layers 0" in text(parsed(dataset))
    layer = dataset.add_layer("em", "color")
    assert "no magnifications" in text(parsed(layer))
    assert "none" in text(parsed(dataset))


# ---------------------------------------------------------------------------------------------- hostile datasets


def change(dataset, function):
    place = Path(dataset.path) / JSON
    document = json.loads(place.read_text())
    function(document)
    place.write_text(json.dumps(document))


def test_hostile_names(dataset, layer, mag, monkeypatch):
    touched = []
    monkeypatch.setattr("wkdask.storage.remote.remote_files", lambda *a: touched.append(a) or pytest.fail("asked a host"))

    def spoil(document):
        document["id"]["name"] = HOSTILE
        first = document["dataLayers"][0]
        first["mags"][1]["path"] = "https://127.0.0.1:9/<b>x</b>"
        first["defaultViewConfiguration"] = {"color": [1e308, -5, 3], "intensityRange": [10**300, 0], "isInverted": True}

    change(dataset, spoil)
    shown = wk.Dataset.open(dataset.path)
    assert "alert('1')" in text(parsed(shown))
    assert len(text(parsed(shown))) < 2000
    assert "https://127.0.0.1:9/<b>x</b>" in text(parsed(shown.get_layer("em")))
    assert not touched


def files_of(dataset):
    return sorted(path for path in Path(dataset.path).rglob("*") if path.is_file() and path.stat().st_size)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 99), st.sampled_from(["empty", "missing", "torn", "flipped", "noise", "folder"]), st.integers(0, 10**6))
def test_damaged_files_never_raise(dataset, layer, mag, which, damage, seed):
    files = files_of(dataset)
    file = files[which % len(files)]
    good = file.read_bytes()
    rng = np.random.default_rng(seed)
    bad = bytearray(good)
    bad[rng.integers(len(bad))] ^= int(rng.integers(1, 256))
    content = {"empty": b"", "torn": good[: rng.integers(len(good))], "flipped": bad, "noise": rng.bytes(99)}.get(damage)
    view = layer.get_mag(1)
    try:
        file.unlink()
        if damage == "folder":
            file.mkdir()
        elif content is not None:
            file.write_bytes(content)
        for shown in (dataset, layer, mag, view):
            parsed(shown)
    finally:
        if file.is_dir():
            file.rmdir()
        file.write_bytes(good)


def test_what_is_missing_is_told(dataset, layer, mag):
    (Path(dataset.path) / "em/1/zarr.json").unlink()
    line = rows(parsed(layer))[1]
    assert line[:2] == ["1", "40 x 24 x 20"] and "zarr.json is missing" in line[5]
    assert rows(parsed(layer))[2][5] == "zstd:5"  # of the other magnification
    assert "can not be shown" in text(parsed(layer.get_mag(1))) and "zarr.json is missing" in text(parsed(layer.get_mag(1)))
    (Path(dataset.path) / JSON).unlink()
    for shown in (dataset, layer):
        assert "can not be shown" in text(parsed(shown)) and "is no dataset" in text(parsed(shown))


@pytest.mark.timeout(20)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_in_place_of_a_shard_does_not_hang(dataset, layer, mag):
    shard = next(path for path in files_of(dataset) if path.parent.parent.name == "0")
    for place in files_of(dataset):
        if "c" in place.parts[len(Path(dataset.path).parts) :]:
            place.unlink()
            os.mkfifo(place)
    assert not shard.is_file()
    for shown in (dataset, layer, mag):
        parsed(shown)
    assert not pictures(parsed(mag))
    assert rows(parsed(dataset))[1][1] == "em"  # all but the picture


# ------------------------------------------------------------------------------------------------------- plans


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "em").mkdir()
    for z in range(20):
        tifffile.imwrite(tmp_path / "em" / f"{z}.tif", np.full((40, 50), z, "uint8"))
    return wk.Dataset.plan_from_images(
        tmp_path / "em", tmp_path / "ds", (4, 4, 35), layer_name="em", chunk_shape=8, shard_shape=16, downsample=True, jobs=1
    )


def done(tree):
    """Return what the column of tasks done says."""
    header, *lines = rows(tree)
    return [line[header.index("done")] for line in lines]


def test_a_plan_before_a_run(plan):
    tree = parsed(plan)
    header, *lines = rows(tree)
    assert [line[:2] for line in lines] == [[stage.name, f"{stage.count:,}"] for stage in plan.stages]
    assert "in the dataset" not in text(tree)
    assert "done already" not in text(tree)
    assert done(tree) == [""] * len(plan.stages)
    assert not Path(plan.target.url).exists()


def interrupted(plan, after):
    def stop(plan, report, receipt):
        if report.done >= after:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        from wkdask.plan import run

        run(plan, progress=stop)
    return {(r.stage, r.number) for r in plan.journal.read()}


def test_a_plan_amid_a_run(plan):
    keys = interrupted(plan, 2)
    assert keys
    tree = parsed(plan)
    assert f"{len(keys)} tasks by the journal" in text(tree)
    assert done(tree) == [str(sum(stage == i for stage, _ in keys)) for i in range(len(plan.stages))]
    journal = plan.journal.folder / "journal"
    (journal / "torn.jsonl").write_bytes(b'{"stage": 0, "num')
    lines = b"".join((journal / name).read_bytes() for name in journal.names())
    (journal / "again.jsonl").write_bytes(lines + lines.replace(b'"stage":0', b'"stage":77'))
    assert f"{len(keys)} tasks by the journal" in text(parsed(plan))


def test_a_long_journal_is_not_read(plan, monkeypatch):
    interrupted(plan, 2)
    monkeypatch.setattr("wkdask.plan.html.MAX_JOURNAL_BYTES", 100)
    monkeypatch.setattr("wkdask.plan.journal.Receipt.of_line", lambda line: pytest.fail("read"))
    assert "begun; running it goes on" in text(parsed(plan))


def test_another_run_is_told(plan):
    interrupted(plan, 2)
    place = Path(plan.journal.folder.url) / "plan.json"
    document = json.loads(place.read_text())
    place.write_text(json.dumps({**document, "fingerprint": "0"}))
    assert "another run for the same layer is unfinished" in text(parsed(plan))
    assert done(parsed(plan)) == [""] * len(plan.stages)
    place.write_text(json.dumps({**document, "layout": "other"}))
    assert "begun in other tiles" in text(parsed(plan))


def test_a_plan_after_a_run(plan):
    plan.run()
    assert text(parsed(plan)).count("(in the dataset)") == len(plan.milestones)
    (Path(plan.target.url) / JSON).write_text("{")
    assert "can not be shown" in text(parsed(plan))
