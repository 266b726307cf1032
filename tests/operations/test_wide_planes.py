"""Pages far larger than a task's share of memory: each kind of file by the way that suits it, within the limit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import wkdask as wk
from wkdask.images import find_images, tiff_layout
from wkdask.images.deflate import DeflateStream
from wkdask.images.pillow import PillowPicture
from wkdask.metadata import VoxelSize
from wkdask.operations import Into, Running, Sampling, Storage, plan_convert

EDGE = 2000
LIMIT = 40_000_000
"""Two threads have room for 8 MB each: a page of 4 MB and its copy, but not two pages beside what decoding them takes."""
FORMS = {
    "png": None,
    "lzw": {"compression": "lzw"},
    "deflate": {"compression": "zlib", "compressionargs": {"level": 1}},
    "raw": {},
    "strips": {"compression": "lzw", "rowsperstrip": 64},
    "tiles": {"compression": "zlib", "compressionargs": {"level": 1}, "tile": (256, 256)},
}


def page(edge, z):
    """A plane whose rows all differ; z makes it another one."""
    base = np.random.default_rng(z).integers(100, 140, (1000, 1000), dtype=np.uint8)
    plane = np.tile(base, (-(-edge // 1000),) * 2)[:edge, :edge]
    plane += (np.arange(edge)[:, None] // 977).astype(np.uint8)
    return plane


def write(folder, form, edge, slices):
    """Write pages of one form; one strip each unless it says otherwise."""
    folder.mkdir()
    for z in range(slices):
        if form == "png":
            Image.fromarray(page(edge, z)).save(folder / f"s{z}.png", compress_level=1)
        else:
            tifffile.imwrite(folder / f"s{z}.tif", page(edge, z), **{"rowsperstrip": edge, **FORMS[form]})
    return folder


def counted(counts, read, key):
    """Return a function that counts its calls by a key of their arguments."""

    def call(*arguments):
        counts[key(*arguments)] += 1
        return read(*arguments)

    return call


@pytest.fixture
def decoded(monkeypatch):
    """How often each strip or tile, and each picture, is decoded."""
    counts = Counter()
    segments = counted(counts, tiff_layout._decoded, lambda picture, data, segment, rows: (Path(picture.path).name, segment))
    monkeypatch.setattr(tiff_layout, "_decoded", segments)
    pictures = counted(counts, PillowPicture.read, lambda picture, *_: (Path(picture.path).name, 0))
    monkeypatch.setattr(PillowPicture, "read", pictures)
    monkeypatch.setattr(tiff_layout, "STREAMED_FROM", 1 << 20)
    streams = counted(counts, DeflateStream.skip, lambda stream, size: ("stream", size))
    monkeypatch.setattr(DeflateStream, "skip", streams)
    return counts


def plan(source, target, coarsest=None, limit=LIMIT):
    options = {"storage": Storage(), "sampling": Sampling(coarsest is not None, coarsest), "running": Running(2, limit)}
    return plan_convert(find_images(source), target, VoxelSize((4, 4, 35)), into=Into("em"), **options)


def check(target, edge, slices, rows=None):
    """Compare the finest magnification with the pages, and the next with the median of their rows."""
    layer = wk.Dataset.open(target).get_layer("em")
    for z in range(slices):
        wanted = page(edge, z)
        for y in rows or range(0, edge, 1000):
            box = wk.BoundingBox((0, y, z), (edge, min(1000, edge - y), 1))
            found = layer.get_mag(1).read(absolute_bounding_box=box)[0, ..., 0].T
            np.testing.assert_array_equal(found, wanted[y : y + 1000])
            if len(layer.mags) > 1:
                half = layer.get_mag("2-2-1").read(absolute_bounding_box=box)[0, ..., 0].T
                blocks = found.reshape(len(found) // 2, 2, edge // 2, 2).transpose(0, 2, 1, 3).reshape(*half.shape, 4)
                np.testing.assert_array_equal(half, np.median(blocks, axis=-1).astype("uint8"))


@pytest.mark.parametrize("coarsest", [None, wk.Mag(4)])
@pytest.mark.parametrize(
    ("form", "limit", "way", "pieces", "most"),
    [
        ("png", 43_000_000, "2 pages decoded once to", 1, 1),
        ("lzw", 60_000_000, "2 pages decoded once to", 1, 1),
        ("lzw", LIMIT, "2 pages decoded 2 times to", 1, 2),
        ("deflate", LIMIT, "2 pages decoded once to", 0, 0),
        ("raw", LIMIT, "2 pages, each decoded once", 0, 0),
        ("strips", LIMIT, "2 pages, each decoded once", 32, 1),
        ("tiles", LIMIT, "2 pages, each decoded once", 64, 1),
    ],
)
def test_each_form_is_read_by_the_way_that_suits_it(tmp_path, decoded, form, limit, way, pieces, most, coarsest):
    source = write(tmp_path / "in", form, EDGE, 2)
    one = plan(source, tmp_path / "ds", coarsest, limit)
    assert way in str(one)
    assert all(stage.operation.bytes_needed * 2 <= limit for stage in one.stages if "join" not in stage.name)
    decoded.clear()
    assert one.run().bytes_in == one.bytes_in
    check(tmp_path / "ds", EDGE, 2)
    assert len(decoded) == 2 * pieces and set(decoded.values()) <= {most}


def test_streams_are_decoded_in_few_bands(tmp_path, decoded):
    source = write(tmp_path / "in", "deflate", EDGE, 1)
    one = plan(source, tmp_path / "ds", limit=30_000_000)
    assert "decode pages" not in [stage.name for stage in one.stages]
    said = re.search(r"1 page, each decoded ([0-9.]+) times", str(one))
    decoded.clear()
    one.run()
    check(tmp_path / "ds", EDGE, 1)
    count = one.stages[0].count
    begins = {skip for name, skip in decoded if name == "stream"}
    rows = one.stages[0].operation.tile[2]
    assert said and float(said[1]) == count > 1
    assert begins == {band * rows * EDGE for band in range(count)}


RUN = """
import re, sys, time
from pathlib import Path
from wkdask.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())
print("peak", int(peak[1]) * 1024, round(time.process_time(), 1), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.soak
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc: Linux tells a process's peak there")
@pytest.mark.parametrize("form", ["png", "lzw", "deflate", "strips", "tiles"])
def test_planes_of_400_megabytes_fit_into_two_gigabytes(tmp_path, form):
    edge, limit = 20_000, 2_000_000_000
    source = write(tmp_path / "in", form, edge, 2)
    for sampling in (["--no-downsample"], ["--max-mag", "4"]):
        target = tmp_path / sampling[0]
        command = [
            sys.executable,
            "-c",
            RUN,
            "convert",
            str(source),
            str(target),
            "--voxel-size",
            "4,4,35",
            "--layer-name",
            "em",
        ]
        command += [*sampling, "--memory-limit", str(limit), "--json", "--progress", "none"]
        start = time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        peak, processor = re.search(r"peak (\d+) ([0-9.]+)", done.stderr).groups()
        report = json.loads(done.stdout)
        print(
            form,
            *sampling,
            f"{time.perf_counter() - start:.1f} s, processor {processor} s, peak {int(peak) / 1e6:.0f} MB",
            report,
        )
        assert int(peak) < limit
        check(target, edge, 2, rows=(0, edge // 2, edge - 1000))
