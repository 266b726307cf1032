"""Every kind of readable file gives the voxels that were written, in any band of rows."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import examples
from wkdask.errors import CorruptImageError, InputError, StorageError
from wkdask.images import find_images
from wkdask.images.picture import forget_parsed

KINDS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "bigtiff": {"bigtiff": True, "rowsperstrip": 5},
    "zlib": {"compression": "zlib", "rowsperstrip": 6},
    "zlib one strip": {"compression": "zlib", "rowsperstrip": 1000},
    "zlib tiles": {"compression": "zlib", "tile": (16, 16)},
    "zlib predictor": {"compression": "zlib", "predictor": True, "rowsperstrip": 8},
    "lzw": {"compression": "lzw", "rowsperstrip": 9},
    "packbits": {"compression": "packbits", "rowsperstrip": 4},
    "big endian": {"byteorder": ">"},
    "big endian tiles": {"byteorder": ">", "tile": (16, 16)},
    "big endian zlib": {"byteorder": ">", "compression": "zlib", "rowsperstrip": 6},
    "big endian predictor": {"byteorder": ">", "compression": "zlib", "predictor": True},
}
DTYPES = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64"]


def voxels(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    """Asymmetric content: no flip, transposition or shift of it equals itself."""
    random = np.random.default_rng(7)
    values = np.arange(math.prod(shape)).reshape(shape) % 89 + random.integers(0, 30, shape)
    return values.astype(dtype)


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    forget_parsed()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["uint8", "uint32"])
def test_every_kind_of_tiff_in_bands(tmp_path: Path, kind: str, dtype: str) -> None:
    expected = voxels(3, 37, 41, dtype=dtype)
    tifffile.imwrite(tmp_path / "pages.tif", expected, photometric="minisblack", **KINDS[kind])
    stack = find_images(tmp_path / "pages.tif")
    assert (stack.shape, stack.channels, stack.dtype) == ((3, 37, 41), 1, dtype)
    assert stack.bytes == expected.nbytes
    result = stack.read(0, 3, 0, 37)
    assert result.flags.c_contiguous and result.dtype == np.dtype(dtype) and result.dtype.isnative
    assert np.array_equal(result[..., 0], expected)
    for y0, y1 in [(0, 1), (5, 23), (36, 37), (16, 32), (11, 11)]:
        assert np.array_equal(stack.read(1, 3, y0, y1)[..., 0], expected[1:3, y0:y1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_every_dtype(tmp_path: Path, dtype: str, byteorder: Any) -> None:
    expected = voxels(9, 8, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", expected, byteorder=byteorder, photometric="minisblack")
    assert np.array_equal(find_images(tmp_path / "a.tif").read(0, 1, 2, 7)[0, ..., 0], expected[2:7])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("more", [{}, {"tile": (16, 16)}, {"compression": "zlib", "rowsperstrip": 6}, {"rowsperstrip": 5}])
def test_rgb_is_never_taken_for_a_stack(tmp_path: Path, planar: Any, more: dict[str, Any]) -> None:
    expected = voxels(23, 19, 3, dtype="uint8")
    data = expected if planar == "contig" else np.moveaxis(expected, 2, 0)
    for z in range(2):
        tifffile.imwrite(tmp_path / f"{z}.tif", data + z, photometric="rgb", planarconfig=planar, **more)
    stack = find_images(tmp_path)
    assert (stack.shape, stack.channels) == ((2, 23, 19), 3)
    assert np.array_equal(stack.read(0, 2, 4, 21), np.stack([expected, expected + 1])[:, 4:21])


def test_rgb_pages(tmp_path: Path) -> None:
    expected = voxels(4, 6, 5, 3, dtype="uint8")
    tifffile.imwrite(tmp_path / "a.tif", expected, photometric="rgb")
    assert np.array_equal(find_images(tmp_path / "a.tif").read(0, 4, 0, 6), expected)


def test_slices_encoded_in_many_ways_share_no_decoder(tmp_path: Path) -> None:
    expected = voxels(20, 31)
    ways: list[dict[str, Any]] = [{"predictor": predictor, "byteorder": order} for predictor in (True, False) for order in "<>"]
    for z, way in enumerate(ways * 2):
        tifffile.imwrite(tmp_path / f"{z}.tif", expected + z, compression="zlib" if z < 4 else "lzw", rowsperstrip=8, **way)
    assert np.array_equal(find_images(tmp_path).read(0, 8, 3, 19)[..., 0], np.stack([expected + z for z in range(8)])[:, 3:19])


def test_strips_that_do_not_lie_in_order(tmp_path: Path) -> None:
    expected = voxels(12, 31)
    tifffile.imwrite(tmp_path / "a.tif", expected, rowsperstrip=4, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        offsets = file.pages.first.dataoffsets
        file.pages.first.tags[273].overwrite(offsets[::-1])
    result = find_images(tmp_path / "a.tif").read(0, 1, 2, 11)[0, ..., 0]
    assert np.array_equal(result, np.concatenate([expected[8:], expected[4:8], expected[:4]])[2:11])


def test_uncompressed_differences(tmp_path: Path) -> None:
    expected = voxels(12, 31)
    tifffile.imwrite(tmp_path / "a.tif", expected, metadata=None, rowsperstrip=12, extratags=[(65001, 3, 1, 2, True)])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at = file.pages.first.tags[65001].offset
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[at : at + 2] = (317).to_bytes(2, "little")  # predictor: horizontal differences
    (tmp_path / "a.tif").write_bytes(content)
    result = find_images(tmp_path / "a.tif").read(0, 1, 2, 11)[0, ..., 0]
    assert np.array_equal(result, np.cumsum(expected, axis=1, dtype="uint16")[2:11])


def test_jpeg_pages(tmp_path: Path) -> None:
    expected = voxels(4, 16, 16, 3, dtype="uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=">") as writer:
        for plane in expected:
            writer.write(plane, photometric="rgb", compression="jpeg", compressionargs={"level": 95}, metadata=None)
    stack = find_images(tmp_path / "a.tif")
    assert np.array_equal(stack.read(0, 4, 0, 16), tifffile.imread(tmp_path / "a.tif"))


def test_imagej_stack_with_a_single_directory(tmp_path: Path) -> None:
    expected = voxels(5, 6, 7)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, expected, imagej=True, metadata={"axes": "ZYX"})
    assert np.array_equal(find_images(path).read(1, 5, 1, 6)[..., 0], expected[1:5, 1:6])


def test_pages_appended_one_by_one(tmp_path: Path) -> None:
    expected = voxels(12, 6, 7)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in expected:
            writer.write(page, compression="zlib", metadata=None)
    assert np.array_equal(find_images(tmp_path / "a.tif").read(0, 12, 0, 6)[..., 0], expected)


@pytest.mark.parametrize("extension", ["png", "bmp", "gif"])
def test_pillow_grey(tmp_path: Path, extension: str) -> None:
    expected = voxels(3, 11, 13, dtype="uint8")
    for z, plane in enumerate(expected):
        Image.fromarray(plane).save(tmp_path / f"{z}.{extension.upper()}")
    stack = find_images(tmp_path)
    assert not stack.rows_alone and stack.decodes(4) == 3.0
    assert np.array_equal(stack.read(0, 3, 3, 9)[..., 0], expected[:, 3:9])


def test_pillow_rgb_and_16_bit_and_jpeg(tmp_path: Path) -> None:
    colour, deep = voxels(11, 13, 3, dtype="uint8"), voxels(11, 13, dtype="uint16") * 300
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(np.full((8, 9, 3), (200, 100, 50), "uint8")).save(tmp_path / "a.jpeg", quality=95)
    assert np.array_equal(find_images(tmp_path / "colour.png").read(0, 1, 2, 9)[0], colour[2:9])
    assert np.array_equal(find_images(tmp_path / "deep.png").read(0, 1, 2, 9)[0, ..., 0], deep[2:9])
    assert np.allclose(find_images(tmp_path / "a.jpeg").read(0, 1, 0, 8)[0, 4, 4], (200, 100, 50), atol=3)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bands_of_random_files_equal_the_whole(tmp_path: Path, data: st.DataObject) -> None:
    depth, height, width = data.draw(st.tuples(*[st.integers(1, 5), st.integers(1, 70), st.integers(1, 70)]))
    channels = data.draw(st.sampled_from([1, 3]))
    dtype = "uint8" if channels == 3 else data.draw(st.sampled_from(["uint8", "uint16"]))
    expected = voxels(depth, height, width, channels, dtype=dtype)
    more: dict[str, Any] = {"byteorder": data.draw(st.sampled_from(["<", ">"]))}
    more["compression"] = data.draw(st.sampled_from([None, "zlib", "lzw"]))
    shape = data.draw(st.sampled_from(["strips", "tiles"]))
    more |= {"tile": (16, 32)} if shape == "tiles" else {"rowsperstrip": data.draw(st.integers(1, 80))}
    more["photometric"] = "rgb" if channels == 3 else "minisblack"
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=more.pop("byteorder")) as writer:
        for plane in expected:
            writer.write(plane if channels == 3 else plane[..., 0], metadata=None, **more)
    forget_parsed()
    stack = find_images(tmp_path / "a.tif")
    z0, y0 = data.draw(st.integers(0, depth)), data.draw(st.integers(0, height))
    z1, y1 = data.draw(st.integers(z0, depth)), data.draw(st.integers(y0, height))
    assert np.array_equal(stack.read(z0, z1, y0, y1), expected[z0:z1, y0:y1])
    band = data.draw(st.integers(1, height))
    steps = range(0, height, stack.row_step)
    touched = sum(y < s + stack.row_step and s < y + band for y in range(0, height, band) for s in steps)
    assert stack.decodes(band) == (1.0 if stack.row_step == 1 else touched / len(steps))


def test_natural_order_and_junk(tmp_path: Path) -> None:
    for z in range(12):
        tifffile.imwrite(tmp_path / f"s_{z}.TIF", np.full((3, 4), z, "uint8"))
    for name in ("Thumbs.db", ".DS_Store", "._s_1.tif", "readme.txt"):
        (tmp_path / name).write_bytes(b"junk")
    stack = find_images(tmp_path)
    assert stack.read(0, 12, 1, 2)[:, 0, 2, 0].tolist() == list(range(12))
    assert [name for name, _, _ in stack.identity()] == [f"s_{z}.TIF" for z in range(12)]
    assert stack.identity()[0][1] == os.path.getsize(tmp_path / "s_0.TIF")


@pytest.mark.parametrize(("missing", "expected"), [("zeros", [7, 0, 0, 9]), ("repeat", [7, 7, 7, 9]), ("ignore", [7, 9])])
def test_gaps_are_filled_as_asked(tmp_path: Path, missing: str, expected: list[int]) -> None:
    for number, value in [(411, 7), (414, 9)]:
        tifffile.imwrite(tmp_path / f"slice_{number:04}.tif", np.full((3, 4), value, "uint8"))
    stack = find_images(tmp_path, missing)
    assert stack.read(0, len(expected), 0, 3)[:, 2, 3, 0].tolist() == expected
    assert stack.read(1, 2, 0, 1)[0, 0, 0, 0] == expected[1]
    assert "412, 413" in stack.notes[0]
    assert pickle.loads(pickle.dumps(stack)) == stack


def test_rows_alone(tmp_path: Path) -> None:
    plane = voxels(64, 16)
    for name, more in {
        "raw": {},
        "strips": {"compression": "zlib", "rowsperstrip": 16},
        "one": {"compression": "zlib"},
    }.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", plane, **more)
    raw, strips, one = (find_images(tmp_path / f"{name}.tif") for name in ("raw", "strips", "one"))
    assert (raw.rows_alone, raw.row_step, raw.decodes(3)) == (True, 1, 1.0)
    assert (strips.rows_alone, strips.row_step, strips.decodes(32), strips.decodes(8)) == (True, 16, 1.0, 2.0)
    assert (one.rows_alone, one.row_step, one.decodes(16), one.decodes(64)) == (False, 64, 4.0, 1.0)


def test_only_the_needed_strips_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels(64, 16), compression="zlib", rowsperstrip=16)
    with tifffile.TiffFile(path) as file:
        last = file.pages.first.dataoffsets[3]
    damage(path, last, 20)
    stack = find_images(path)
    assert np.array_equal(stack.read(0, 1, 0, 48)[0, ..., 0], voxels(64, 16)[:48])
    with pytest.raises(CorruptImageError, match="Page 0"):
        stack.read(0, 1, 0, 49)


def damage(path: Path, offset: int, size: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        old = file.read(size)
        file.seek(offset)
        file.write(bytes(byte ^ 0x5A for byte in old))


def test_many_threads_read_the_same(tmp_path: Path) -> None:
    expected = voxels(8, 50, 40)
    for name, more in {"zlib": {"compression": "zlib", "rowsperstrip": 7}, "lzw": {"compression": "lzw"}, "raw": {}}.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", expected, photometric="minisblack", **more)
        stack = find_images(tmp_path / f"{name}.tif")
        forget_parsed()
        ranges = [(z % 7, z % 7 + 2, z % 13, 30 + z % 20) for z in range(200)]
        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(lambda one, stack=stack: stack.read(*one), ranges))
        for (z0, z1, y0, y1), result in zip(ranges, results, strict=True):
            assert np.array_equal(result[..., 0], expected[z0:z1, y0:y1])


def test_pickled_to_a_fresh_process(tmp_path: Path) -> None:
    for z in range(1, 1200):
        (tmp_path / f"slice_{z:05}.tif").symlink_to(tmp_path / "one")
    tifffile.imwrite(tmp_path / "one", voxels(9, 7), compression="zlib")
    stack = find_images(tmp_path)
    pickled = pickle.dumps(stack)
    assert len(pickled) < 400
    code = (
        "import pickle, sys; stack = pickle.loads(sys.stdin.buffer.read());"
        "sys.stdout.buffer.write(stack.read(700, 701, 2, 8).tobytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True, timeout=60)
    assert done.stdout == voxels(9, 7)[2:8].tobytes()


def test_a_buffer_is_filled(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels(9, 7))
    stack = find_images(tmp_path / "a.tif")
    buffer = np.zeros((1, 4, 7, 1), "uint16")
    assert stack.read(0, 1, 3, 7, out=buffer) is buffer
    assert np.array_equal(buffer[0, ..., 0], voxels(9, 7)[3:7])
    for wrong in (buffer[:, :3], buffer.astype("uint8"), buffer.transpose(0, 2, 1, 3)):
        with pytest.raises(InputError, match="was expected"):
            stack.read(0, 1, 3, 7, out=wrong)


def test_ranges_outside_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels(9, 7))
    stack = find_images(tmp_path / "a.tif")
    for wrong in [(0, 2, 0, 9), (0, 1, 0, 10), (-1, 1, 0, 9), (1, 0, 0, 9), (0, 1, 5, 4)]:
        with pytest.raises(InputError, match="leaves the image stack"):
            stack.read(*wrong)


def test_a_file_that_changes_or_vanishes_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels(9, 7))
    stack = find_images(path)
    tifffile.imwrite(path, voxels(9, 7)[::-1])
    os.utime(path, ns=(1, 1))
    assert np.array_equal(stack.read(0, 1, 0, 9)[0, ..., 0], voxels(9, 7)[::-1])
    tifffile.imwrite(path, voxels(7, 9))
    with pytest.raises(CorruptImageError, match="was changed"):
        stack.read(0, 1, 0, 9)
    tifffile.imwrite(path, np.stack([voxels(9, 7)] * 2), photometric="minisblack")
    with pytest.raises(CorruptImageError, match="has 2 pages"):
        stack.read(0, 1, 0, 9)
    path.unlink()
    with pytest.raises(StorageError, match="can not be read"):
        stack.read(0, 1, 0, 9)


def test_importing_loads_no_reader() -> None:
    code = "import sys, wkdask.images; print([name for name in ('tifffile', 'PIL', 'imagecodecs') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_files_of_other_programs(fixtures_folder: Path) -> None:
    for name in ("rgb_tiff/test_rgb.tif", "various_tiff_formats/test_I.tif", "tiff/test.0000.tiff"):
        path = fixtures_folder / name
        expected, stack = tifffile.imread(path), find_images(path)
        assert np.array_equal(stack.read(0, stack.shape[0], 0, stack.shape[1]).squeeze(), expected.squeeze())


@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_folder_of_files_with_several_pages(tmp_path: Path, data: st.DataObject) -> None:
    depths = data.draw(st.lists(st.integers(2, 4), min_size=2, max_size=4))
    more: dict[str, Any] = data.draw(st.sampled_from([{}, {"compression": "zlib", "rowsperstrip": 4}, {"tile": (16, 16)}]))
    expected = np.random.default_rng(0).integers(0, 9999, (sum(depths), 17, 21), "uint16")
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    for number, depth in enumerate(depths):
        start = sum(depths[:number])
        tifffile.imwrite(folder / f"s{number + 8}.tif", expected[start : start + depth], photometric="minisblack", **more)
    stack = find_images(folder)
    assert (stack.shape, stack.multipage) == (expected.shape, False)
    z0, z1 = sorted(data.draw(st.tuples(st.integers(0, len(expected)), st.integers(0, len(expected)))))
    y0, y1 = sorted(data.draw(st.tuples(st.integers(0, 17), st.integers(0, 17))))
    assert np.array_equal(stack.read(z0, z1, y0, y1)[..., 0], expected[z0:z1, y0:y1])
