"""The cubic filter: against Pillow, against a dense model of whole arrays, and through the pyramids of layers."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import wkdask as wk
from tests.conftest import examples
from wkdask import kernels
from wkdask.errors import InputError
from wkdask.metadata import LayerProperties
from wkdask.operations.choices import Running, Sampling
from wkdask.operations.downsample import Coarser

Triple = tuple[int, int, int]


def keys(distance: Fraction) -> Fraction:
    """Keys' kernel with a = -1/2, in the terms of his paper."""
    t, a = abs(distance), Fraction(-1, 2)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else Fraction(0)


def dense(volume: np.ndarray, start: tuple[int, ...], factor: tuple[int, ...]) -> np.ndarray:
    """Filter a whole array with mirrored ends, each axis by one matrix over all of it."""
    values = volume.astype(np.float64)
    for axis, (a, f) in enumerate(zip(start, factor, strict=True)):
        if f == 1:
            continue
        stop, n = a + values.shape[axis], values.shape[axis]
        matrix = np.zeros((-(-stop // f) - a // f, n))
        for row in range(len(matrix)):
            centre = (a // f + row) * f + Fraction(f, 2)
            for fine in range(int(centre) - 2 * f - 1, int(centre) + 2 * f + 2):
                at = (fine - a) % (2 * n)
                matrix[row, min(at, 2 * n - 1 - at)] += float(keys((fine + Fraction(1, 2) - centre) / f) / f)
        values = np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)
    if volume.dtype.kind == "f":
        return values.astype(volume.dtype)
    limits = np.iinfo(volume.dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(volume.dtype)


def reduced(block: np.ndarray, factor: tuple[int, ...], axes: tuple[str, ...] | None = None) -> np.ndarray:
    return kernels.reduce(block, factor, "bicubic", axes=axes)


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_the_filter_is_pillows(factor: int) -> None:
    (halo,), edge = kernels.halo("bicubic", (factor,)), 7
    block = np.random.default_rng(0).normal(size=(edge * factor + 2 * halo,) * 2).astype(np.float32)
    beside = -(-halo // factor)
    padded = np.pad(block, beside * factor - halo)
    images = Image.fromarray(padded).resize((edge + 2 * beside,) * 2, Image.Resampling.BICUBIC)
    wanted = np.asarray(images)[beside : beside + edge, beside : beside + edge]
    np.testing.assert_allclose(reduced(block, (factor, factor)), wanted, atol=1e-6)


@settings(max_examples=examples(40), deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 3)] * 3),
    factor=st.tuples(*[st.sampled_from([1, 2, 4])] * 3),
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "f4", ">u2"]),
    order=st.permutations(range(4)),
    seed=st.integers(0, 99),
)
def test_blocks_of_any_order(size: Triple, factor: Triple, dtype: str, order: list[int], seed: int) -> None:
    rng, factors = np.random.default_rng(seed), (1, *factor)
    reaches = kernels.halo("bicubic", factors)
    shape = [n * f + 2 * h for n, f, h in zip((2, *size), factors, reaches, strict=True)]
    limits = np.iinfo(dtype) if dtype != "f4" else np.iinfo("i1")
    block = rng.choice([limits.min, limits.max, 0, 1, 3], shape).astype(dtype)
    inside = tuple(slice(-(-h // f), -(-h // f) + n) for n, f, h in zip((2, *size), factors, reaches, strict=True))
    start = tuple(f * -(-h // f) - h for f, h in zip(factors, reaches, strict=True))  # so that windows begin at multiples
    wanted = dense(block, start, factors)[inside]
    names = tuple("cxyz"[i] for i in order)
    found = reduced(block.transpose(order), tuple(factors[i] for i in order), names)
    np.testing.assert_array_equal(found.transpose(np.argsort(order)), wanted)
    assert found.dtype == block.dtype


@settings(max_examples=examples(20), deadline=None)
@given(factor=st.tuples(*[st.integers(1, 4)] * 3), dtype=st.sampled_from(["u1", "f4", "f8"]), cut=st.integers(1, 40))
def test_any_cut_gives_the_same_voxels(factor: Triple, dtype: str, cut: int) -> None:
    rng = np.random.default_rng(0)
    reaches = kernels.halo("bicubic", factor)
    shape = [n * f + 2 * h for n, f, h in zip((41, 5, 3), factor, reaches, strict=True)]
    block = np.asfortranarray((rng.random(shape) * 255).astype(dtype))
    halo = 2 * reaches[0]
    parts = reduced(block[: cut * factor[0] + halo], factor), reduced(block[cut * factor[0] :], factor)
    np.testing.assert_array_equal(np.concatenate(parts), reduced(block, factor))


@pytest.mark.parametrize("dtype", ["u1", "i4", "u8", "i8", "f4"])
@pytest.mark.parametrize("factor", [(2, 2, 1), (2, 2, 2), (3, 4, 2)])
def test_what_is_constant_stays(dtype: str, factor: Triple) -> None:
    limits = np.iinfo(dtype) if dtype != "f4" else np.iinfo("i1")
    for value in (limits.min, limits.max, 0, 77):
        block = np.full([2 * f + 2 * h for f, h in zip(factor, kernels.halo("bicubic", factor), strict=True)], value, dtype)
        assert (reduced(block, factor) == block[0, 0, 0]).all()


def test_ints_are_rounded_and_clipped() -> None:
    edge = np.repeat([0, 255], 8).astype(np.uint8)[:, None]
    assert set(reduced(edge, (2, 1)).ravel().tolist()) >= {0, 255}  # and no overshoot that wraps round
    halves = np.zeros((8, 3), np.int16)
    halves[3] = 128, 384, -128  # times 111 / 256
    assert reduced(halves, (2, 1)).tolist() == [[56, 166, -56]]  # of 55.5, 166.5, -55.5


def test_blocks_without_halo_are_refused() -> None:
    for shape in ((4, 4), (7, 7), (9, 8)):
        with pytest.raises(InputError, match="more at both ends"):
            reduced(np.zeros(shape), (2, 2))
    with pytest.raises(InputError):
        reduced(np.zeros((8, 8), bool), (2, 2))
    assert reduced(np.zeros((6, 8), "u1"), (2, 2)).shape == (0, 1)
    assert reduced(np.ones((3, 3), "u1"), (1, 1)).tolist() == [[1] * 3] * 3


def layer_of(folder: Path, start: Triple, volume: np.ndarray, data_format: str) -> wk.Layer:
    dataset = wk.Dataset(folder, (4, 4, 35))
    box = (start, volume.shape[1:])
    properties = LayerProperties.new("em", "color", str(volume.dtype), volume.shape[0], data_format, box, [])
    dataset._store.update(lambda old: old.with_layer(properties))
    mag = dataset.get_layer("em").add_mag(1, chunk_shape=8, shard_shape=16)
    mag.array.handle.write(mag.array.box, volume)
    return dataset.get_layer("em")


def voxels(layer: wk.Layer) -> dict[str, np.ndarray]:
    arrays = {str(mag): view.array for mag, view in layer.mags.items()}
    return {name: array.read(array.box) for name, array in arrays.items()}


places = st.tuples(*[st.integers(0, 9)] * 3)
sizes = st.tuples(st.integers(1, 45), st.integers(1, 30), st.integers(1, 20))
chains = st.sampled_from([("2", "4"), ("2-2-1", "4-4-1", "8-8-2"), ("4", "8")])
few_voxels = st.sampled_from([1, 1 << 12, 1 << 26])


@settings(max_examples=examples(15), deadline=None)
@given(
    start=places, size=sizes, mags=chains, dtype=st.sampled_from(["uint8", "float32"]), tile=few_voxels, seed=st.integers(0, 9)
)
def test_pyramids_are_those_of_whole_arrays(
    start: Triple, size: Triple, mags: tuple[str, ...], dtype: str, tile: int, seed: int
) -> None:
    volume = np.random.default_rng(seed).integers(0, 256, (2, *size)).astype(dtype)
    with tempfile.TemporaryDirectory() as folder, mock.patch("wkdask.operations.downsample.TILE_BYTES", tile):
        layer = layer_of(Path(folder) / "ds", start, volume, "zarr3")
        coarser = Coarser(mags=tuple(map(wk.Mag, mags)))
        plan = layer.plan_downsample(
            coarser, Sampling(interpolation="bicubic"), chunk_shape=8, shard_shape=16, running=Running(2)
        )
        assert not plan.run().failed
        at, finer = (0, *start), wk.Mag(1)
        for name in mags:
            factor = (1, *(wk.Mag(name) // finer).to_tuple())
            volume = dense(volume, at, factor)
            np.testing.assert_allclose(voxels(layer)[name], volume, atol=0 if dtype == "uint8" else 1e-4)
            at, finer = tuple(a // f for a, f in zip(at, factor, strict=True)), wk.Mag(name)


@settings(max_examples=examples(15), deadline=None)
@given(start=places, size=sizes, mags=chains, corner=places, extent=places, tile=few_voxels)
def test_updates_reach_as_far_as_the_filter(
    start: Triple, size: Triple, mags: tuple[str, ...], corner: Triple, extent: Triple, tile: int
) -> None:
    rng = np.random.default_rng(0)
    box = wk.BoundingBox(start, size)
    met = wk.BoundingBox([a + b for a, b in zip(start, corner, strict=True)], [n + 1 for n in extent]).intersected_with(
        box, dont_assert=True
    )
    if met.is_empty():
        return
    with tempfile.TemporaryDirectory() as folder, mock.patch("wkdask.operations.downsample.TILE_BYTES", tile):
        layer = layer_of(Path(folder) / "ds", start, rng.integers(0, 256, (1, *size)).astype("uint8"), "zarr3")
        coarser = Coarser(mags=tuple(map(wk.Mag, mags)))
        layer.plan_downsample(coarser, Sampling(interpolation="bicubic"), chunk_shape=8, shard_shape=8).run()
        layer.get_mag(1).write(rng.integers(0, 256, (1, *met.size)).astype("uint8"), absolute_offset=met.topleft)
        layer.update_pyramid(met, "bicubic")
        found = voxels(layer)
        layer.redownsample("bicubic")
        np.testing.assert_equal(found, voxels(layer))
