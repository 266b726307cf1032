"""Dask arrays over mag arrays: their blocks lie on the disk's chunks, their graphs are quick and their names are stable."""

from __future__ import annotations

import pickle
import tracemalloc
from itertools import accumulate

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.arrays.memory_handle import huge_array, memory_array
from tests.conftest import examples
from wkdask.arrays.dask_view import auto_chunk
from wkdask.errors import InputError
from wkdask.geometry.grid import Box, Grid


@settings(deadline=None, max_examples=examples(40))
@given(st.data())
def test_blocks_lie_on_chunks_and_hold_the_box(data: st.DataObject) -> None:
    axes = data.draw(st.sampled_from(("cxyz", "tzyx", "xyz")))
    shape = tuple(data.draw(st.integers(1, 40)) if a in "xyz" else 2 for a in axes)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    array = memory_array(shape, axes, Box(start, stop))
    grid = array.handle.spec.grid
    with dask.config.set({"array.chunk-size": data.draw(st.sampled_from(("300 B", "2 KiB", "10 MiB")))}):
        lazy = array.to_dask()
        limit = dask.utils.parse_bytes(dask.config.get("array.chunk-size"))
    assert lazy.shape == array.shape
    assert lazy.dtype == array.dtype
    assert all(0 not in sizes for sizes in lazy.chunks)
    for sizes, first, last, chunk in zip(lazy.chunks, start, stop, grid.chunk, strict=True):
        borders = list(accumulate(sizes, initial=first))
        assert borders[-1] == last
        assert not any(border % chunk for border in borders[1:-1])
    block = auto_chunk(Grid(array.shape, grid.chunk, grid.unit), 4, limit)
    assert all(u % b == 0 and b % c == 0 for u, b, c in zip(grid.unit, block, grid.chunk, strict=True))
    assert max(x.nbytes for x in (lazy.blocks[(0,) * lazy.ndim], lazy.blocks[(-1,) * lazy.ndim])) <= max(
        limit, np.prod(grid.chunk) * 4
    )
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), array.read(array.box))


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (8, ((1,), (6, 8, 6), (8, 8, 4), (8, 8, 4))),
        (-1, ((1,), (20,), (20,), (20,))),
        ((1, 10, (5, 15), -1), ((1,), (8, 10, 2), (5, 15), (20,))),
        ({"x": None, "z": (2, 18), "y": 20}, ((1,), (20,), (20,), (2, 18))),
    ],
)
def test_chunks_given(chunks: object, expected: object) -> None:
    array = memory_array((1, 22, 20, 20), box=Box((0, 2, 0, 0), (1, 22, 20, 20)))
    lazy = array.to_dask(chunks)  # type: ignore[arg-type]
    assert lazy.chunks == expected
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), array.read(array.box))


@pytest.mark.parametrize("chunks", [{"q": 1}, (1, 2), 0, {"x": (1, 2)}])
def test_chunks_that_do_not_fit(chunks: object) -> None:
    with pytest.raises(InputError):
        memory_array((1, 20, 20, 20)).to_dask(chunks)  # type: ignore[arg-type]


def test_single_chunk_files_are_grouped() -> None:
    assert auto_chunk(Grid((4096,) * 3, (32,) * 3, (32,) * 3), 1, 2**24) == (256, 256, 256)
    assert auto_chunk(Grid((4096,) * 3, (32,) * 3, (64,) * 3), 1, 2**24) == (64, 64, 64)


def test_names_are_stable_and_distinct() -> None:
    names = {huge_array((1, 4096, 4096, 4096)).to_dask(chunks).name for chunks in (256, 256, 512)}
    assert len(names) == 2
    assert huge_array((1, 4096, 4096, 2048)).to_dask(256).name not in names
    one, two = memory_array((1, 8, 8, 8)), memory_array((1, 8, 8, 8))
    assert one.to_dask().name == two.to_dask().name


def test_a_million_blocks_take_little_memory() -> None:
    array = huge_array((1, 2**17, 2**17, 2**15))
    array.to_dask(2**12)
    tracemalloc.start()
    lazy = array.to_dask({"x": 1024, "y": 1024, "z": 512})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lazy.npartitions == 2**20
    assert len(lazy.dask.layers) == 1
    assert peak < 2e6
    small = lazy[:, :3, :3, -5:]
    assert small.compute(scheduler="sync").shape == (1, 3, 3, 5)
    assert len(pickle.dumps(next(iter(lazy.dask.layers.values())))) < 50_000


def test_processes_can_run_it() -> None:
    lazy = pickle.loads(pickle.dumps(memory_array((1, 8, 8, 8)).to_dask(4)))
    assert int(lazy.sum().compute(scheduler="threads", num_workers=2)) == 512 * 513 // 2
    assert isinstance(lazy._meta, np.ndarray)
    assert da.concatenate([lazy, lazy], axis=1).shape == (1, 16, 8, 8)
