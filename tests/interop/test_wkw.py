"""WKW files: ours are read by the `wkw` library, its files by us, with equal voxels; and real datasets are written alike."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from wkdask.formats import ArraySpec, Wkw, open_array, parse_codec
from wkdask.formats.wkw_header import DTYPES
from wkdask.geometry.grid import Box
from wkdask.storage import Location

CODECS = {1: "none", 2: "lz4", 3: "lz4hc"}
SIZES = [(8, 2), (2, 8), (1, 4), (16, 1)]
CASES = [
    (dtype, kind, 1 + (n + kind) % 4, *SIZES[(n + kind) % len(SIZES)])
    for n, (dtype, kind) in enumerate(itertools.product(DTYPES, CODECS))
]

THEIRS = """
import json, sys
import numpy as np, wkw
folder, cases = sys.argv[1], json.loads(sys.argv[2])
for n, (dtype, kind, channels, block, blocks) in enumerate(cases):
    voxels = np.load(f"{folder}/{n}.npy")
    header = wkw.Header(np.dtype(dtype).type, channels, block_len=block, file_len=blocks, block_type=kind)
    made = wkw.Dataset.create(f"{folder}/theirs{n}/color/1", header)
    unit, size = block * blocks, voxels.shape[1]
    whole = np.zeros((channels, *[-(-size // unit) * unit] * 3), dtype, order="F")
    whole[:, :size, :size, :size] = voxels
    made.write((0, 0, 0), whole)
    for ours in ("unit", "join", "write"):
        found = wkw.Dataset.open(f"{folder}/{ours}{n}/color/1")
        header = found.header
        said = (np.dtype(header.voxel_type).name, header.block_type, header.num_channels, header.block_len, header.file_len)
        assert list(said) == cases[n], (n, ours, said)
        read = found.read((0, 0, 0), voxels.shape[1:])
        assert read.tobytes() == np.asfortranarray(voxels).tobytes() and np.array_equal(read, voxels), (n, ours, cases[n])
print("all", len(cases))
"""


def voxels_of(dtype: str, channels: int, block: int, blocks: int) -> np.ndarray:
    """Voxels of a file and some more, blocks of zeros among them."""
    unit = block * blocks
    size = unit + block + 1
    voxels = np.random.default_rng(unit).integers(0, 100, (channels, size, size, size)).astype(dtype)
    voxels[:, :block, : 2 * block] = 0
    voxels[:, unit:, unit:] = 0
    return voxels


def write_ours(folder: Path, n: int, case: tuple) -> np.ndarray:
    """Write the voxels of a case in each of our ways."""
    dtype, kind, channels, block, blocks = case
    voxels = voxels_of(dtype, channels, block, blocks)
    chunk, unit = (channels, *[block] * 3), (channels, *[block * blocks] * 3)
    spec = ArraySpec(voxels.shape, dtype, tuple("cxyz"), chunk, unit, parse_codec(CODECS[kind]))
    arrays = {way: Wkw().create(Location(str(folder / f"{way}{n}/color/1")), spec) for way in ("unit", "join", "write")}
    arrays["write"].write(spec.grid.box, voxels)
    units = spec.grid.units()
    for number in range(len(units)):
        index, box = units.cell(number), units.box(number)
        with arrays["unit"].unit(index) as out:
            out.put(box, voxels[box.slices])
        places = []
        for z in range(box.start[3], box.stop[3], block):
            slab = Box((*box.start[:3], z), (*box.stop[:3], min(z + block, box.stop[3])))
            places.append(arrays["join"].location / f"parts/{z}")
            with arrays["join"].part(index, places[-1]) as part:
                part.put(slab, voxels[slab.slices])
        arrays["join"].join(index, places)
    return voxels


@pytest.mark.oracle("webknossos")
@pytest.mark.timeout(300)
def test_the_library_and_we_read_each_other(webknossos_python: Path, tmp_path: Path) -> None:
    written = []
    for n, case in enumerate(CASES):
        written.append(write_ours(tmp_path, n, case))
        np.save(tmp_path / f"{n}.npy", written[-1])
        (tmp_path / f"theirs{n}/color").mkdir(parents=True)
    command = [str(webknossos_python), "-c", THEIRS, str(tmp_path), json.dumps(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"all {len(CASES)}\n"
    for n, (case, voxels) in enumerate(zip(CASES, written, strict=True)):
        array = open_array(Location(str(tmp_path / f"theirs{n}/color/1")), "wkw", voxels.shape[1:])
        box = Box((0, 0, 0, 0), voxels.shape)
        np.testing.assert_array_equal(array.read(box), voxels, err_msg=str(case))
        box = Box((0, 1, 2, 3), tuple(size - (axis > 0) for axis, size in enumerate(voxels.shape)))
        np.testing.assert_array_equal(array.read(box), voxels[box.slices], err_msg=str(case))


def test_a_real_dataset_is_written_alike(fixtures_folder: Path, tmp_path: Path) -> None:
    source = open_array(Location(str(fixtures_folder / "simple_wkw_dataset/color/1")), "wkw")
    [index] = source.written_units()
    box = source.spec.grid.unit_box(index)
    voxels = source.read(box)
    assert voxels.shape == (3, 32, 32, 32) and not voxels.any()
    target = Wkw().create(Location(str(tmp_path / "ds/color/1")), source.spec)
    target.write(box, voxels + 1)
    target.write(box, voxels)
    for name in ("header.wkw", "z0/y0/x0.wkw"):
        assert (target.location / name).read_bytes() == (source.location / name).read_bytes()


def test_an_old_dataset_without_files_is_zero(fixtures_folder: Path) -> None:
    for mag in ("1", "2"):
        array = open_array(Location(str(fixtures_folder / "old_wkw_dataset/color" / mag)), "wkw", (40, 40, 40))
        assert array.spec.unit[1] <= array.spec.shape[1] and not list(array.written_units())
        assert not array.read(Box((0, 0, 0, 0), (array.spec.shape[0], 40, 40, 40))).any()
