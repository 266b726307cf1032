"""Chunks of checksummed compressors never give wrong voxels: not with a wrong checksum, nor with one that is cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.arrays import KINDS, fresh_place
from wkdask.errors import DamagedError
from wkdask.formats import Zarr2, Zarr2Array
from wkdask.geometry.grid import Box

SHAPE = (12, 10, 8)
VOXELS = np.random.default_rng(0).integers(0, 9, SHAPE).astype("uint16")
WHOLE = Box((0, 0, 0), SHAPE)
CHECKSUM_BYTES = {"gzip": 8, "zlib": 4, "bz2": 4}
"""At the end of their data; that of bz2 ends within a byte."""


def with_chunk(kind: str, folder: Path, name: str, data: bytes) -> Zarr2Array:
    """Return a Zarr 2 array whose only chunk has some bytes."""
    place = fresh_place(kind, folder)
    document = {"zarr_format": 2, "shape": SHAPE, "chunks": SHAPE, "dtype": "<u2", "order": "C", "fill_value": 0}
    settings: dict[str, Any] = {"compressor": {"id": name, "level": 5}, "filters": None}
    (place / ".zarray").write_bytes(json.dumps(document | settings).encode())
    (place / "0.0.0").write_bytes(data)
    return Zarr2().open(place)


@pytest.mark.parametrize("kind", KINDS)
@given(name=st.sampled_from(sorted(CHECKSUM_BYTES)), at=st.integers(0, VOXELS.size - 1), data=st.data())
def test_voxels_without_their_checksum_are_not_read(kind: str, folder: Path, name: str, at: int, data: st.DataObject) -> None:
    codec = numcodecs.get_codec({"id": name, "level": 5})
    assert np.array_equal(with_chunk(kind, folder, name, codec.encode(VOXELS)).read(WHOLE), VOXELS)
    other = VOXELS.copy()
    other.flat[at] ^= 64
    wrong, size = codec.encode(other), CHECKSUM_BYTES[name]
    cut = wrong[: len(wrong) - data.draw(st.integers(1, size))]
    swapped = wrong[:-size] + codec.encode(VOXELS)[-size:]
    for bad in (cut, swapped):
        with pytest.raises(DamagedError, match=r"0\.0\.0 is damaged"):
            with_chunk(kind, folder, name, bad).read(WHOLE)
