"""The table of what is exchanged with other programs; ``python -m tests.interop.matrix`` writes the page of it anew."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

from wkdask.formats import FORMATS
from wkdask.testing.strategies import DTYPES

PAGE = Path(__file__).parents[2] / "docs/interop.md"
PEERS = ("tensorstore", "zarr-python", "wkw", "webknossos")
WAYS = ("reads ours", "is read by us")
SIZE = {"x": 11, "y": 9, "z": 7, "t": 2}
CXYZ = ("c", "x", "y", "z")
AXES = (CXYZ, ("x", "y", "z"), ("c", "z", "y", "x"), ("t", "c", "x", "y", "z"), ("c", "t", "z", "y", "x"))


@dataclass(frozen=True)
class Cell:
    """One kind of array."""

    format: str
    dtype: str
    channels: int
    axes: tuple[str, ...]
    codec: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.channels if axis == "c" else SIZE[axis] for axis in self.axes)

    @property
    def chunk(self) -> tuple[int, ...]:
        return tuple(4 if axis in "xyz" else n for axis, n in zip(self.axes, self.shape, strict=True))

    @property
    def unit(self) -> tuple[int, ...]:
        several = FORMATS[self.format].sharded
        return tuple(8 if axis in "xyz" and several else n for axis, n in zip(self.axes, self.chunk, strict=True))


@cache
def cells() -> tuple[Cell, ...]:
    """Return the table: all codecs of all formats with their dtypes, and any two of dtype, channels, axes, codec together."""
    found: list[Cell] = []
    for name, form in FORMATS.items():
        axes = AXES if form.further_axes else AXES[:1]
        pairs = [(codec, dtype) for n, codec in enumerate(form.codecs) for dtype in dtypes_of(name, codec, n)]
        every = {
            cell: {*itertools.combinations(astuple(cell), 2)}
            for (codec, dtype), names in itertools.product(pairs, axes)
            for channels in ((1, 2, 3) if "c" in names else (1,))
            for cell in [Cell(name, dtype, channels, names, codec)]
        }
        missing = set().union(*every.values())
        for pair in itertools.chain(pairs, itertools.repeat(None)):
            if not pair and not missing:
                break
            choice = [cell for cell in every if pair in (None, (cell.codec, cell.dtype))]
            found.append(max(choice, key=lambda cell: len(every[cell] & missing)))  # the first of those that add most
            missing -= every[found[-1]]
    return tuple(found)


def dtypes_of(name: str, codec: str, number: int) -> list[str]:
    """Return the dtypes of a codec: all of them without compression and with the usual one, some with the others."""
    form = FORMATS[name]
    if name == "neuroglancerPrecomputed":
        takes = {"none": {*DTYPES} - {"float64", "int64"}, "compressed_segmentation": {"uint32", "uint64"}}
        return [dtype for dtype in DTYPES if dtype in takes.get(codec, {"uint8", "uint16"})]
    return list(DTYPES if codec in ("none", form.usual_codec.name) else DTYPES[number % 4 :: 4])


def reason(peer: str, way: str, cell: Cell) -> str | None:
    """Return why a peer can not, or None where it can."""
    if peer == "zarr-python":
        return None if cell.format in ("zarr", "zarr3") else "knows Zarr alone"
    if peer == "wkw":
        return None if cell.format == "wkw" else "knows WKW alone"
    if peer == "tensorstore" and cell.format == "wkw":
        return "knows no WKW"
    if cell.format == "n5" and cell.codec == "lz4":
        return "knows no lz4 in N5"
    return webknossos_reason(way, cell) if peer == "webknossos" else None


def webknossos_reason(way: str, cell: Cell) -> str | None:
    """Return why the webknossos library can not."""
    if way == WAYS[0]:
        return None
    if cell.axes != CXYZ:
        return "is asked to write the axes c, x, y, z alone"
    if cell.format not in ("zarr3", "wkw"):
        return "writes Zarr 3 and WKW alone"
    if cell.codec not in ("none", FORMATS[cell.format].usual_codec.name):
        return "chooses the codec itself"
    return "has no color layers of this dtype" if cell.dtype in ("uint64", "int64", "float64") else None


def counted() -> Iterator[tuple[str, str, str, int, Counter[str]]]:
    """Yield peer, way, format, how many cells are exchanged, and why the others are not."""
    for peer, way, name in itertools.product(PEERS, WAYS, FORMATS):
        why = [reason(peer, way, cell) for cell in cells() if cell.format == name]
        yield peer, way, name, why.count(None), Counter(filter(None, why))


def page() -> str:
    """Return the documentation's page."""
    lines = [
        "# Interoperability",
        "",
        "What other programs write, wkdask reads, and the reverse, voxel by voxel. `tests/interop/test_matrix.py` tries each",
        "of the arrays that are counted here. Of each format they are chosen so that any two of dtype, number of channels,",
        "axes and codec occur together, as far as the format has them.",
        "",
        f"| format | arrays | {' | '.join(f'{peer} {way}' for peer in PEERS for way in WAYS)} |",
        f"|---|---|{'---|' * len(PEERS) * len(WAYS)}",
    ]
    found = {(peer, way, name): (count, why) for peer, way, name, count, why in counted()}
    for name in FORMATS:
        counts = [found[peer, way, name][0] for peer in PEERS for way in WAYS]
        total = sum(cell.format == name for cell in cells())
        lines.append(f"| `{name}` | {total} | {' | '.join(str(n or '–') for n in counts)} |")
    lines += ["", "Why others are not exchanged:", "", "| program | way | format | reason | arrays |", "|---|---|---|---|---|"]
    for (peer, way, name), (_, why) in found.items():
        lines += [f"| {peer} | {way} | `{name}` | {text} | {n} |" for text, n in sorted(why.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
