"""Looking at some voxels before all are converted: a picture's range, what a volume means, which codec is worth its time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import lz4.block
import numpy as np
import numpy.typing as npt

from wkdask.errors import InputError
from wkdask.formats import Codec, find_format
from wkdask.geometry.grid import Box
from wkdask.operations.choices import Storage

Array = npt.NDArray[Any]

BOXES = 20
BOX_EDGE = 16
VOXELS_PER_VALUE = 200
"""Labels have fewer than one value for so many voxels."""
SAMPLE_VOXELS = 1 << 18
"""Voxels of a sample that count for percentiles: 2 MB of float64."""
LZ4_LOSS = 0.02


def sample_planes(read: Callable[[int], Array], depth: int, most: int = 16) -> Iterator[Array]:
    """Yield some planes of a stack, evenly spaced, the first and the last among them; one is read at a time.

    Parameters
    ----------
    read
        Returns the plane of an index along z.
    depth
        Planes there are.
    most
        Planes to read at most; of one alone it is the first.

    Examples
    --------
    >>> [int(plane[0]) for plane in sample_planes(lambda z: np.array([z]), 101, most=5)]
    [0, 25, 50, 75, 100]
    """
    number = min(depth, most)
    for i in range(number):
        yield read(i * (depth - 1) // max(1, number - 1))


def percentile_window(samples: Iterable[Array], low: float = 0.1, high: float = 99.9) -> tuple[float, float]:
    """Return two percentiles of all finite voxels of some samples, interpolated linearly.

    Of a sample with more than 262,144 voxels, every n-th is taken.

    Parameters
    ----------
    samples
        Blocks of any shapes; they are gone through once, one at a time.
    low, high
        Percent, from 0 to 100.

    Raises
    ------
    InputError
        Where no voxel is finite, or both percentiles are the same value.

    Examples
    --------
    >>> percentile_window([np.arange(101)], 10, 90)
    (10.0, 90.0)
    """
    thinned = [_some(sample) for sample in samples]
    voxels = np.concatenate(thinned or [np.empty(0)], dtype=np.float64)
    hint = "Give the values themselves: --rescale MIN,MAX."
    if not voxels.size:
        raise InputError(f"The samples hold no finite voxel, of which percentiles could be taken. {hint}")
    least, greatest = (float(v) for v in np.percentile(voxels, (low, high), overwrite_input=True))
    if not least < greatest:
        raise InputError(f"The percentiles {low:g} and {high:g} of the samples are both {least:g}, not a range. {hint}")
    return least, greatest


def _some(sample: Array) -> Array:
    """Return finite voxels of a sample, not more than count for percentiles."""
    flat = sample.reshape(-1)
    step = -(-flat.size // SAMPLE_VOXELS) | 1  # an odd one meets all columns of an image whose width is a power of two
    taken = flat[::step]
    return taken[np.isfinite(taken)]


def guess_category(
    read_block: Callable[[Box], Array], shape: Sequence[int], dtype: str, channels: int = 1, rng_seed: int = 0
) -> str:
    """Tell pictures from labels.

    Twenty boxes of 16^3 voxels (fewer along an axis that is shorter) are drawn at random. In each, the voxels that are
    neither 0 nor the greatest value of the dtype are counted, and how many values they take. The volume is a colour layer
    where all boxes together have more than one value for 200 such voxels; values that are in several boxes count in each.
    It is one also where no voxel counts, since then nothing speaks for labels.

    Segments that are smaller than 200 voxels look like a picture to this, and a picture of fewer than 20 values like labels.

    Volumes of several channels and of floats are colour, those of bool are a segmentation; they are not read.

    Parameters
    ----------
    read_block
        Returns the voxels of a box along the axes of ``shape``; called at most 20 times, never twice for one box.
    shape
        Voxels along each axis, such as x, y, z.
    dtype
        Of the voxels.
    channels
        Of each voxel.
    rng_seed
        Together with the shape it decides which boxes are drawn.

    Returns
    -------
    str
        ``color`` or ``segmentation``.

    Examples
    --------
    >>> labels = np.repeat(np.arange(1, 9, dtype="uint32"), 8**3).reshape(64, 8, 8)
    >>> guess_category(lambda box: labels[box.slices], labels.shape, "uint32")
    'segmentation'
    """
    kind = np.dtype(dtype).kind
    if channels > 1 or kind not in "iub":
        return "color"
    if kind == "b":
        return "segmentation"
    greatest = np.iinfo(dtype).max
    values = counted = 0
    for box in _random_boxes(shape, rng_seed):
        block = read_block(box)
        voxels = block[(block != 0) & (block != greatest)]
        values += np.unique(voxels).size
        counted += voxels.size
    return "segmentation" if counted and values * VOXELS_PER_VALUE <= counted else "color"


def _random_boxes(shape: Sequence[int], seed: int) -> Iterable[Box]:
    """Return boxes at random places, each once; of a small volume these are few."""
    if not all(shape):
        return ()
    rng = np.random.default_rng([seed, *shape])
    size = [min(n, BOX_EDGE) for n in shape]
    room = [n - s + 1 for n, s in zip(shape, size, strict=True)]
    starts = dict.fromkeys(tuple(row) for row in rng.integers(0, room, (BOXES, len(room))).tolist())
    return [Box(start, tuple(a + s for a, s in zip(start, size, strict=True))) for start in starts]


def prefer_lz4(blocks: Iterable[Array]) -> bool:
    """Return whether LZ4 makes some chunks hardly larger than LZ4HC does, which takes many times as long.

    Parameters
    ----------
    blocks
        Chunks of the volume, which are compressed as they lie in memory.

    Returns
    -------
    bool
        Whether LZ4 comes within 2 % of LZ4HC; False where there are no chunks.

    Examples
    --------
    >>> prefer_lz4([np.random.default_rng(0).integers(0, 256, (32, 32, 32), "uint8")])
    True
    """
    quick = small = 0
    for block in blocks:
        voxels = block.tobytes("A")
        quick += len(lz4.block.compress(voxels, store_size=False))
        small += len(lz4.block.compress(voxels, mode="high_compression", store_size=False))
    return 0 < quick <= small * (1 + LZ4_LOSS)


def with_probed_codec(storage: Storage, category: str, chunks: Callable[[], Iterable[Array]]) -> Storage:
    """Return the storage with LZ4 for segmentations that LZ4HC hardly makes smaller, where no codec was chosen."""
    if storage.codec != "usual" or category != "segmentation" or find_format(storage.data_format).usual_codec.name != "lz4hc":
        return storage
    return replace(storage, codec=Codec("lz4")) if prefer_lz4(chunks()) else storage


def diagonal(box: Box, shape: Sequence[int], most: int = 8) -> Iterator[Box]:
    """Yield some boxes of a shape along the diagonal of a box, the first and the last at its corners.

    Examples
    --------
    >>> [one.start for one in diagonal(Box((0, 8), (100, 24)), (10, 16), most=3)]
    [(0, 8), (45, 8), (90, 8)]
    """
    for i in range(most):
        room = [max(0, b - a - s) for a, b, s in zip(box.start, box.stop, shape, strict=True)]
        start = tuple(a + r * i // max(1, most - 1) for a, r in zip(box.start, room, strict=True))
        yield Box(start, tuple(a + s for a, s in zip(start, shape, strict=True))).intersect(box)
