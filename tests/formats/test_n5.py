"""N5 as every format must be."""

from __future__ import annotations

import json
import lzma
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from wkdask.errors import DamagedError
from wkdask.formats import N5, ArraySpec
from wkdask.geometry.grid import Box
from wkdask.storage import Location
from wkdask.testing import FormatConformance


class TestN5(FormatConformance):
    """Arrays that we make."""

    format: ClassVar[N5] = N5()


def test_blocks_are_not_filled_up_to_what_the_document_claims() -> None:
    """A block is as large as its file; only a chunk that is written to becomes as large as the document says."""
    place = Location("memory://n5-claims/color/1")
    voxels = np.arange(1, 65, dtype="uint8").reshape((1, 4, 4, 4), order="F")
    N5().create(place, ArraySpec((1, 4, 4, 4), "uint8", ("c", "x", "y", "z"), (1, 4, 4, 4), (1, 4, 4, 4))).write(
        Box((0,) * 4, (1, 4, 4, 4)), voxels
    )
    document = json.loads((place / "attributes.json").read_bytes())
    (place / "attributes.json").write_bytes(json.dumps(document | {"blockSize": [1 << 20, 8, 8, 8]}).encode())
    array = N5().open(place)
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(array.read(Box((0,) * 4, (1, 4, 4, 4))), voxels)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_short_blocks_are_filled_up_before_they_grow() -> None:
    place = Location("memory://n5-grown/color/1")
    spec = ArraySpec((1, 5, 5, 5), "uint8", ("c", "x", "y", "z"), (1, 8, 8, 8), (1, 8, 8, 8))
    array = N5().create(place, spec)
    array.write(spec.grid.box, np.ones((1, 5, 5, 5), "uint8"))
    array.resize((1, 7, 7, 7))
    array = N5().open(place)
    array.write(Box((0, 6, 6, 6), (1, 7, 7, 7)), np.full((1, 1, 1, 1), 2, "uint8"))
    expected = np.zeros((1, 7, 7, 7), "uint8")
    expected[:, :5, :5, :5], expected[0, 6, 6, 6] = 1, 2
    np.testing.assert_array_equal(array.read(array.spec.grid.box), expected)


def test_large_blocks_take_no_more_memory_than_their_files_on_disks_either(tmp_path: Path) -> None:
    """Where tensorstore would make room for a whole block: its memory is not Python's, so that a process is looked at."""
    place = Location(str(tmp_path / "a" / "color" / "1"))
    spec = ArraySpec((1, 4, 4, 4), "uint16", ("c", "x", "y", "z"), (1, 4, 4, 4), (1, 4, 4, 4))
    N5().create(place, spec).write(spec.grid.box, np.full((1, 4, 4, 4), 7, "uint16"))
    document = json.loads((place / "attributes.json").read_bytes())
    (place / "attributes.json").write_bytes(json.dumps(document | {"blockSize": [1 << 20, 8, 8, 8]}).encode())
    code = """
import resource, sys
from wkdask.formats import N5
from wkdask.storage import Location
array = N5().open(Location(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert (array.read(array.spec.grid.box) == 7).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", code, place.url], capture_output=True, check=True).stdout)
    assert grown * (1 if sys.platform == "darwin" else 1024) < 100 << 20


@pytest.mark.parametrize("cut", [1, 20, -3])
def test_damaged_xz_data_is_an_error(tmp_path: Path, cut: int) -> None:
    """And not the end of the process, as it is for tensorstore where a block says that it has no voxels."""
    place = Location(str(tmp_path / "a" / "color" / "1"))
    spec = ArraySpec((1, 8, 8, 8), "uint8", ("c", "x", "y", "z"), (1, 8, 8, 8), (1, 8, 8, 8))
    N5().create(place, spec)
    document = json.loads((place / "attributes.json").read_bytes()) | {"compression": {"type": "xz", "preset": 1}}
    (place / "attributes.json").write_bytes(json.dumps(document).encode())
    voxels = np.arange(512, dtype="uint8").reshape((1, 8, 8, 8), order="F")
    packed = lzma.compress(voxels.tobytes(order="F"))
    array, file = N5().open(place), place / "0/0/0/0"
    file.write_bytes(struct.pack(">HH4I", 0, 4, 1, 8, 8, 8) + packed)
    np.testing.assert_array_equal(array.read(spec.grid.box), voxels)
    file.write_bytes(struct.pack(">HH4I", 0, 4, 1, 8, 8, 8) + packed[:cut])
    with pytest.raises(DamagedError, match="0/0/0/0 is damaged: lzma data"):
        array.read(spec.grid.box)
    file.write_bytes(struct.pack(">HH4I", 0, 4, 1, 8, 8, 0) + packed[:cut])
    assert not array.read(spec.grid.box).any()
