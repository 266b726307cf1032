"""Any box of a unit, put in any pieces and any order, against numpy."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.conftest import examples
from tests.formats.arrays import bits, boxes_in, filled_chunks, fresh_place, noise, specs
from tests.formats.test_wkw import make
from tests.formats.test_wkw import specs as wkw_specs
from wkdask.formats import ArraySpec, Wkw, Zarr3, writing
from wkdask.geometry.grid import Box, Tiling


@pytest.mark.parametrize("group_bytes", [0, 4 << 20], ids=["one by one", "two along each axis"])
@pytest.mark.parametrize("name", ["wkw", "zarr3"])
@hypothesis.settings(max_examples=examples(60), suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_any_pieces_in_any_order(
    name: str, group_bytes: int, data: st.DataObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "GROUP_BYTES", group_bytes)
    spec: ArraySpec = data.draw(wkw_specs() if name == "wkw" else specs())
    array = (Wkw() if name == "wkw" else Zarr3()).create(fresh_place("memory", tmp_path), spec)
    units = spec.grid.units()
    index = units.cell(data.draw(st.integers(0, len(units) - 1)))
    box = spec.grid.unit_box(index).intersect(spec.grid.box)
    wanted = np.zeros(spec.shape, spec.dtype)
    region = data.draw(boxes_in(box))
    if name == "wkw":  # all channels are one chunk, and one block
        region = Box((0, *region.start[1:]), (spec.shape[0], *region.stop[1:]))
    voxels = noise(region, spec.dtype, 1)
    chunks = spec.grid.chunks(region)
    for number in data.draw(st.lists(st.integers(0, len(chunks) - 1), max_size=8)):
        voxels[chunks.box(number).relative_to(region.start).slices] = 0
    wanted[region.slices] = voxels
    pieces = Tiling(region, tuple(c * data.draw(st.sampled_from([1, 2, 3, 8])) for c in spec.chunk))
    order = data.draw(st.permutations(range(len(pieces)))) if len(pieces) < 20 else range(len(pieces))
    voxels = np.asarray(voxels, order=data.draw(st.sampled_from("CF")))
    with array.unit(index) as out:
        for number in order:
            piece = pieces.box(number)
            out.put(piece, voxels[piece.relative_to(region.start).slices])
    np.testing.assert_array_equal(bits(array.read(spec.grid.box)), bits(wanted))
    filled = filled_chunks(spec, wanted)
    assert (array.inspect(index) is not None) == bool(filled)
    if name == "zarr3":
        assert out.written.chunks == len(filled)


def test_raw_blocks_that_do_not_follow_each_other_are_written_to_their_places(tmp_path: Path) -> None:
    for axis in (1, 2, 3):
        for pieces in (1, 2, 3):
            array = make(fresh_place("local", tmp_path), "none")
            stop = [4, 4, 4]
            stop[axis - 1] = 4 * pieces
            box = Box((0, 0, 0, 0), (1, *stop))
            voxels = noise(box, "uint8", axis)
            with array.unit((0, 0, 0, 0)) as out:
                out.put(box, voxels)
            wanted = np.zeros(array.spec.shape, "uint8")
            wanted[box.slices] = voxels
            np.testing.assert_array_equal(array.read(array.spec.grid.box), wanted)


def test_empty_boxes_look_at_no_file(tmp_path: Path) -> None:
    array = make(fresh_place("local", tmp_path), "lz4")
    array.unit_location((0, 0, 0, 0)).write_bytes(b"no WKW")
    assert array.read(Box((0, 5, 5, 5), (1, 5, 9, 5))).shape == (1, 0, 4, 0)
