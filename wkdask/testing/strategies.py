"""Hypothesis strategies: boxes, magnifications, arrays, voxels, writes, and damaged documents and files.

What is drawn shrinks towards boxes of one voxel, plain arrays and voxels of zero. Arrays are small, some thousand voxels in at
most a dozen units, so that many of them are tried in a second.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from wkdask.errors import InputError
from wkdask.formats import ArraySpec, Codec, Format, parse_codec
from wkdask.formats.codecs import NAMES
from wkdask.geometry import BoundingBox, Mag
from wkdask.geometry.grid import Box, Grid
from wkdask.storage import Location

Array = np.ndarray[Any, Any]

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
"""Of voxels."""
AXES = (("c", "x", "y", "z"),)
"""That every format stores."""
FURTHER_AXES = (("x", "y", "z"), ("c", "z", "y", "x"), ("t", "c", "x", "y", "z"), ("c", "t", "z", "y", "x"))
"""That formats store besides where they say `further_axes`."""
SPACE = frozenset("xyz")
MOST_UNITS = 12
"""Of an array that is drawn."""


@st.composite
def bounding_boxes(draw: st.DrawFn, *, edge: int = 64, far: int = 1 << 20) -> BoundingBox:
    """Draw a box in mag-1 voxels; one in ten is empty along some axis, and corners may be negative.

    Parameters
    ----------
    edge, far
        The longest edge, and the farthest corner.
    """
    corner = draw(st.tuples(*[st.one_of(st.integers(0, edge), st.integers(-far, far))] * 3))
    least = draw(st.sampled_from([1] * 9 + [0]))
    return BoundingBox(corner, draw(st.tuples(*[st.integers(least, edge)] * 3)))


def mags(*, most: int = 64) -> st.SearchStrategy[Mag]:
    """Draw a magnification whose components are powers of two up to a number."""
    powers = st.sampled_from([1 << n for n in range(most.bit_length())])
    return st.tuples(powers, powers, powers).map(Mag)


@st.composite
def boxes_in(draw: st.DrawFn, box: Box, *, least: int = 1) -> Box:
    """Draw a box within another, of at least so many voxels along each axis."""
    start = tuple(draw(st.integers(a, b - least)) for a, b in zip(box.start, box.stop, strict=True))
    return Box(start, tuple(draw(st.integers(a + least, b)) for a, b in zip(start, box.stop, strict=True)))


@st.composite
def boxes_around(draw: st.DrawFn, grid: Grid, *, beyond: int = 5) -> Box:
    """Draw a box in or around an array, counted from its first voxel: see `_interval` for where its ends may lie.

    Parameters
    ----------
    grid
        Of the array.
    beyond
        Voxels by which a box may begin before the array and end behind it.
    """
    ends = [draw(_interval(n, u, beyond)) for n, u in zip(grid.shape, grid.unit, strict=True)]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


@st.composite
def _interval(draw: st.DrawFn, size: int, unit: int, beyond: int) -> tuple[int, int]:
    """Draw an interval: the whole axis, one voxel, across the edge of a unit, any, outside altogether, or empty."""
    kind = draw(st.sampled_from(["any", "whole", "voxel", "edge", "any", "before", "behind", "empty"]))
    at = draw(st.integers(-beyond, size + beyond))
    if kind == "whole":
        return 0, size
    if kind == "edge":
        edge = at // unit * unit
        return edge - draw(st.integers(0, 2)), edge + draw(st.integers(1, 2))
    if kind == "before":
        return -beyond, draw(st.integers(-beyond, 0))
    if kind == "behind":
        return size, size + draw(st.integers(0, beyond))
    length = {"voxel": st.just(1), "empty": st.just(0)}.get(kind, st.integers(1, size + beyond))
    return at, at + draw(length)


@st.composite
def array_specs(
    draw: st.DrawFn,
    *,
    dtypes: Sequence[str] = DTYPES,
    codecs: Sequence[str] = ("none",),
    axes: Sequence[Sequence[str]] = AXES,
    cubic: bool = False,
    sharded: bool = True,
) -> ArraySpec:
    """Draw a small array: its shape is seldom a multiple of chunks or units, and has at most three units along an axis.

    Parameters
    ----------
    dtypes, axes
        To choose from.
    codecs
        To choose from, as `parse_codec` reads them.
    cubic, sharded
        See `wkdask.formats.Format`.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(array_specs(cubic=True, dtypes=["uint16"]))
    ... def test(spec):
    ...     assert spec.itemsize == 2 and len({*spec.chunk[1:]}) == 1 <= len(spec.grid.units()) <= MOST_UNITS
    >>> test()
    """
    names = tuple(draw(st.sampled_from(list(axes))))
    edges, most = st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4] if sharded else [1])
    cube = draw(st.tuples(edges, most)) if cubic else None
    shape, chunk, unit, room = [], [], [], MOST_UNITS
    for axis in names:
        if axis in SPACE:
            piece, count = cube or draw(st.tuples(edges, most))
            size = draw(st.integers(1, min(2 * piece * count + 1, room * piece * count)))
        else:
            size, count = draw(st.integers(1, min(3, room))), 1
            piece = draw(st.sampled_from([size, 1])) if axis == "c" else 1
        shape.append(size)
        chunk.append(piece)
        unit.append(piece * count)
        room //= -(-size // unit[-1])
    codec = codec_of(draw(st.sampled_from(list(codecs))))
    return ArraySpec(tuple(shape), draw(st.sampled_from(list(dtypes))), names, tuple(chunk), tuple(unit), codec)


def codec_of(text: str) -> Codec | None:
    """Return the codec of a name, with or without a level; formats may have some that `parse_codec` does not know."""
    return parse_codec(text) if text.partition(":")[0] in ("none", *NAMES) else Codec(text)


@st.composite
def specs_of(draw: st.DrawFn, /, form: Format, **choices: Any) -> ArraySpec:
    """Draw an array that a format can store.

    Parameters
    ----------
    form
        What it refuses with an `InputError` is not drawn.
    choices
        Of `array_specs`: dtypes, codecs, axes; default what the format says of itself.
    """
    axes = (*AXES, *FURTHER_AXES) if form.further_axes else AXES
    found = {"codecs": form.codecs, "axes": axes, "cubic": form.cubic, "sharded": form.sharded} | choices
    spec = draw(array_specs(**found))
    assume(accepts(form, spec))
    return spec


def accepts(form: Format, spec: ArraySpec) -> bool:
    """Whether a format can store such an array."""
    try:
        form.at(Location("memory://wkdask-testing/nowhere/layer/1"), spec)
    except InputError:
        return False
    return True


@st.composite
def voxels(draw: st.DrawFn, shape: Sequence[int], dtype: str) -> Array:
    """Draw voxels: zeros, one value throughout, sparse, noise in every bit, or the ends of the dtype and whatever is odd.

    Noise is made of a drawn seed, so that blocks of any size cost the same to draw. Floats have NaN, infinities and -0.0 among
    the odd ones.
    """
    kind, rng = draw(st.sampled_from(["zero", "constant", "sparse", "noise", "odd"])), np.random.default_rng(draw(_SEEDS))
    noise = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype="uint8").view(dtype)[..., 0]
    if kind == "noise":
        return np.asarray(noise)
    found = np.zeros(tuple(shape), dtype)
    if kind == "constant":
        found[...] = rng.choice(odd_values(dtype)[1:])
    elif kind == "sparse":
        np.copyto(found, noise, where=rng.random(tuple(shape)) < 0.02)
    elif kind == "odd":
        found[...] = rng.choice(odd_values(dtype), tuple(shape))
    return found


_SEEDS = st.integers(0, 1 << 30)


def odd_values(dtype: str) -> Array:
    """Return the values of a dtype that code gets wrong first; 0 comes first."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        ends = np.finfo(kind)
        return np.array([0, 1, -0.0, np.nan, np.inf, -np.inf, ends.max, ends.min, ends.tiny], kind)
    numbers = np.iinfo(kind)
    return np.array([0, 1, numbers.max, numbers.min, numbers.max // 2], kind)


@st.composite
def writes(draw: st.DrawFn, spec: ArraySpec, *, most: int = 4) -> list[tuple[Box, Array]]:
    """Draw boxes within an array, and what is written to them one after another."""
    boxes = draw(st.lists(boxes_in(spec.grid.box), min_size=1, max_size=most))
    return [(box, draw(voxels(box.shape, spec.dtype))) for box in boxes]


ODD_JSON: tuple[Any, ...] = (
    None, True, 0, -1, 1, 3, 1 << 16, 1 << 31, 1 << 63, 10**40, 0.5, -0.0, float("nan"), float("inf"),
    "", "x", "../..", "\0", "0", [], {}, [[]], [0], [1, 1, 1, 1], {"name": "x"}, "9" * 5000,
)  # fmt: skip
"""Values that no document has where they are put."""


@st.composite
def mutated_json(draw: st.DrawFn, document: Any) -> Any:
    """Draw a document that differs in one to three members: gone, odd, doubled, or another of its own members instead.

    Parameters
    ----------
    document
        What `json.loads` returns; it stays as it is.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(mutated_json({"shape": [1, 2]}))
    ... def test(found):
    ...     json.dumps(found)
    >>> test()
    """
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        paths = _paths(found)
        if not paths:
            return draw(st.sampled_from(ODD_JSON))
        kind = draw(st.sampled_from(["number", "number", "gone", "odd", "other", "wrapped"]))
        numbers = [path for path in paths if type(_member(found, path)) is int]
        *head, key = draw(st.sampled_from(numbers if kind == "number" and numbers else paths))
        at = _member(found, head)
        if kind == "gone":
            del at[key]
        elif kind == "odd":
            at[key] = copy.deepcopy(draw(st.sampled_from(ODD_JSON)))
        elif kind == "other":
            at[key] = copy.deepcopy(_member(found, draw(st.sampled_from(paths))))
        elif kind == "wrapped":
            at[key] = [at[key], at[key]]
        elif numbers:
            at[key] = draw(st.sampled_from([at[key] - 1, at[key] + 1, -at[key], 1 << 14, 1 << 20, 1 << 31, 1 << 40]))
    return found


def _paths(node: Any, head: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all members of a document, at any depth."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, below in inner for found in [(*head, key), *_paths(below, (*head, key))]]


def _member(node: Any, path: Sequence[Any]) -> Any:
    for key in path:
        node = node[key]
    return node


@st.composite
def mutated_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw the bytes of a damaged file: cut off, flipped, zeroed, doubled, with bytes put in. It is not empty before."""
    kind = draw(st.sampled_from(["cut", "flip", "zero", "insert", "append", "double", "remove", "empty", "noise"]))
    at = draw(st.integers(0, len(data) - 1))
    size = draw(st.integers(1, 40))
    some = draw(st.binary(min_size=1, max_size=40))
    found = {
        "cut": data[:at],
        "flip": data[:at] + bytes([data[at] ^ 1 << size % 8]) + data[at + 1 :],
        "zero": data[:at] + bytes(len(data[at : at + size])) + data[at + size :],
        "insert": data[:at] + some + data[at:],
        "append": data + some,
        "double": data[:at] + data,
        "remove": data[:at] + data[at + size :],
        "empty": b"",
        "noise": data[:at] + some + data[at + len(some) :],
    }[kind]
    assume(found != data)
    return found


@st.composite
def claiming_json(draw: st.DrawFn, document: Any) -> Any:
    """Draw a document of which one number is far larger, so that all else is sound; one without numbers as `mutated_json`."""
    numbers = [path for path in _paths(document) if type(_member(document, path)) is int]
    if not numbers:
        return draw(mutated_json(document))
    found, (*head, key) = copy.deepcopy(document), draw(st.sampled_from(numbers))
    _member(found, head)[key] = draw(st.sampled_from([1 << n for n in (14, 20, 31, 40, 53)]))
    return found


def mutated_document(data: bytes) -> st.SearchStrategy[bytes]:
    """Draw the bytes of a document that was damaged, as JSON where it is JSON, or as any bytes."""
    try:
        document = json.loads(data)
    except ValueError:
        return mutated_bytes(data)
    as_json = st.one_of(claiming_json(document), mutated_json(document))
    return st.one_of(as_json.map(lambda found: json.dumps(found).encode()), mutated_bytes(data))
