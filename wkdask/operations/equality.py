"""Whether two datasets have the same layers with the same voxels, however they are stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.clusters import open_pool
from wkdask.errors import DamagedError
from wkdask.geometry.grid import Index
from wkdask.metadata import LayerProperties, MagProperties, Properties
from wkdask.operations.canonical import Canonical, Tiles
from wkdask.operations.cell_hash import CELL
from wkdask.operations.content_hash import ALL, Chosen, memory_of, piece_room, volumes
from wkdask.operations.content_tree import Triple, told_box
from wkdask.operations.read_only import EnoughError, Reading, Run, Seen, read_through
from wkdask.plan import Receipt, Stage, default_limit, format_bytes
from wkdask.storage import Location

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that differs.

    Parameters
    ----------
    layer, mag
        Names; empty where it is the dataset's or the layer's.
    what
        ``voxel``, or what else differs, such as ``bounding box``.
    source, target
        Both values, as text.
    at
        Channel, and positions along further axes, of a voxel.
    voxel, voxel_mag1
        Its x, y, z in the magnification, and of its first voxel in mag 1.
    """

    layer: str
    mag: str
    what: str
    source: str
    target: str
    at: tuple[tuple[str, int], ...] = ()
    voxel: Triple | None = None
    voxel_mag1: Triple | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "at": dict(self.at)}

    def __str__(self) -> str:
        name = "/".join(filter(None, (self.layer, self.mag))) or "dataset"
        where = ""
        if self.voxel is not None:
            at = ", ".join(f"{axis}={n}" for axis, n in self.at)
            where = f" {self.voxel} ({at}; in mag 1 {self.voxel_mag1})"
        return f"{name}: {self.what}{where} is {self.source} and {self.target}"


@dataclass(frozen=True)
class Comparison:
    """The outcome of a comparison.

    Parameters
    ----------
    source, target
        The datasets.
    differences
        What differs: in the documents all, of voxels the first of each magnification; without ``all`` the first alone.
    cells, voxels
        How many differ, where all were looked for; a cell has 32 voxels along each edge.
    bytes
        Of voxels that were looked at in each of both.
    seconds
        How long it took.

    Examples
    --------
    >>> print(Comparison("a", "b", bytes=2_000_000))
    a and b are equal: 2.0 MB of voxels compared in 0.0 s
    """

    source: str
    target: str
    differences: tuple[Difference, ...] = ()
    cells: int | None = None
    voxels: int | None = None
    bytes: int = 0
    seconds: float = 0.0

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        names = ("source", "target", "equal", "cells", "voxels", "bytes", "seconds")
        found = {name: getattr(self, name) for name in names}
        return {**found, "differences": [difference.to_dict() for difference in self.differences]}

    def __str__(self) -> str:
        if self.equal:
            read = f"{format_bytes(self.bytes)} of voxels compared in {self.seconds:.1f} s"
            return f"{self.source} and {self.target} are equal: {read}"
        lines = [f"{self.source} and {self.target} differ:", *map(str, self.differences)]
        if self.cells is not None:
            lines.append(f"{self.voxels} voxels in {self.cells} blocks of {CELL}^3 differ")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Compared(Seen):
    """What became of comparing a tile: the first voxel that differs, its values, and how many cells and voxels do."""

    first: tuple[Index, str, str] | None = None
    cells: int = 0
    voxels: int = 0


@dataclass(frozen=True, slots=True)
class CompareTiles(Reading):
    """Compares one tile of two magnifications with each task; see `wkdask.plan.Operation`."""

    source: Canonical
    target: Canonical
    tiles: Tiles = field(repr=False, compare=False)
    every: bool = False

    @property
    def count(self) -> int:
        """Tiles."""
        return len(self.tiles.rows)

    @property
    def bytes_needed(self) -> int:
        """Copies of a piece of both."""
        return memory_of((self.source, self.target), self.tiles)

    @property
    def bytes_in(self) -> int:
        """Bytes of the voxels of all tiles, of one of both."""
        return self.tiles.voxels * self.source.spec.itemsize

    def run(self, stage: int, number: int) -> Receipt:
        """Compare one tile."""
        try:
            return self._compare(stage, number)
        except DamagedError as error:
            return Compared(stage, number, damage=str(error))

    def _compare(self, stage: int, number: int) -> Compared:
        first, cells, voxels, read = None, 0, 0, 0
        for piece in self.tiles.pieces(number):
            a, b = self.source.read(piece), self.target.read(piece)
            read += piece.size * self.source.spec.itemsize
            other = bits(a) != bits(b)
            if not other.any():
                continue
            where = np.unravel_index(int(other.argmax()), other.shape)
            found = tuple(int(i) + n for i, n in zip(where, piece.start, strict=True))
            first = first or (found, told(a[where]), told(b[where]))
            if not self.every:
                break
            voxels += int(other.sum())
            cells += sum(differing_cells(v, piece.start[-3:]) for _, v in volumes(other, self.source.axes, piece.start))
        return Compared(stage, number, bytes_in=read, first=first, cells=cells, voxels=voxels)

    def describe(self) -> str:
        """Return what the tasks do."""
        return f"compared in pieces of {self.tiles.piece}"


def bits(block: Array) -> Array:
    """Return voxels as whole numbers of the same bits, so that NaN equals NaN and 0.0 is not -0.0.

    Examples
    --------
    >>> values = np.array([np.nan, 0.0])
    >>> bits(values) == bits(np.array([np.nan, -0.0]))
    array([ True, False])
    """
    return block.view(f"u{block.dtype.itemsize}")


def told(value: np.generic) -> str:
    """Return a voxel for people: of NaN also the bits, as there are many.

    Examples
    --------
    >>> told(np.uint8(7)), told(np.float32("nan"))
    ('7', 'nan (0x7fc00000)')
    """
    text = str(value)
    digits = 2 * value.dtype.itemsize
    return f"{text} (0x{int(np.asarray(value).view(f'u{value.dtype.itemsize}')):0{digits}x})" if text == "nan" else text


def differing_cells(other: Array, start: Index) -> int:
    """Return how many cells have a voxel that differs, of a block in the order z, y, x that begins at a voxel."""
    first = [a // CELL * CELL for a in start]
    for axis, (a, b) in enumerate(zip(start, first, strict=True)):
        edges = np.maximum(np.arange(b, a + other.shape[axis], CELL) - a, 0)
        other = np.logical_or.reduceat(other, edges, axis=axis)
    return int(other.sum())


def check_equality(
    source: Location, target: Location, chosen: Chosen = ALL, *, every: bool = False, run: Run | None = None
) -> Comparison:
    """Compare two datasets, all of them or some layers and magnifications. Nothing is written.

    Voxels are compared by their bits; neither where nor how they are stored counts. Voxels that are stored in neither are not
    looked at.

    Parameters
    ----------
    source, target
        The datasets.
    chosen
        What of them; it must be there in the source.
    every
        Whether to go on after the first difference, and count all that differ.
    run
        Where it runs; default: a thread for each core.

    Raises
    ------
    DatasetNotFoundError, LayerNotFoundError, MagNotFoundError
        Where something is not there.
    DamagedError
        At the first file that does not decode.

    Examples
    --------
    >>> check_equality(Location("brain"), Location("brain")).equal
    True
    """
    begin = time.perf_counter()
    run = run or Run(open_pool("threads"))
    a, b = read_properties(source), read_properties(target)
    found = _Found(every)
    pairs: list[_Pair] = []
    for difference in _documents(source, target, (a, b), chosen, pairs):
        found.documents.append(difference)
        if not every:
            break
    done = Comparison(str(source), str(target))
    if every or not found.documents:
        room = piece_room(run, run.memory_limit or default_limit()) // 2
        found.pairs = [pair for pair in pairs if pair.comparable]
        operations = [CompareTiles(p.source, p.target, Tiles.of((p.source, p.target), room), every) for p in found.pairs]
        names = (f"compare {pair.layer.name}/{pair.mag.name}" for pair in found.pairs)
        stages = tuple(Stage(name, operation) for name, operation in zip(names, operations, strict=True))
        found.waiting = [(n, i) for n, stage in enumerate(stages) for i in range(stage.count)][::-1]
        read_through(f"compare {source.name}", (source, target), stages, found.take, run)
        done = replace(done, bytes=found.bytes)
    if every:
        done = replace(done, cells=found.cells, voxels=found.voxels)
    return replace(done, differences=tuple(found.differences()), seconds=time.perf_counter() - begin)


@dataclass(frozen=True)
class _Pair:
    """A magnification in both datasets."""

    layer: LayerProperties
    mag: MagProperties
    source: Canonical
    target: Canonical

    @property
    def comparable(self) -> bool:
        """Whether their voxels lie at the same places and have the same type."""
        same = self.source.axes == self.target.axes and self.source.box == self.target.box
        return same and self.source.spec.dtype == self.target.spec.dtype

    def difference(self, first: tuple[Index, str, str]) -> Difference:
        """Return what is known of a voxel that differs."""
        index, a, b = first
        z, y, x = index[-3:]
        fine = x * self.mag.mag[0], y * self.mag.mag[1], z * self.mag.mag[2]
        at = tuple(zip(self.source.axes, index[:-3], strict=False))
        return Difference(self.layer.name, self.mag.name, "voxel", a, b, at, (x, y, z), fine)


class _Found:
    """What was found so far. The first difference is the one of the first task, whichever ended first."""

    def __init__(self, every: bool) -> None:
        self._every = every
        self.documents: list[Difference] = []
        self.pairs: list[_Pair] = []
        self.waiting: list[tuple[int, int]] = []
        self._ended: set[tuple[int, int]] = set()
        self._first: dict[tuple[int, int], tuple[Index, str, str]] = {}
        self.cells = self.voxels = self.bytes = 0

    def take(self, receipt: Receipt) -> None:
        """Note what became of a tile; stop when no earlier one can tell of a difference any more."""
        if not isinstance(receipt, Compared):
            return
        key = receipt.stage, receipt.number
        self.bytes += receipt.bytes_in
        self.cells += receipt.cells
        self.voxels += receipt.voxels
        if receipt.first is not None:
            self._first[key] = receipt.first
        self._ended.add(key)
        while self.waiting and self.waiting[-1] in self._ended:
            ended = self.waiting.pop()
            self._ended.discard(ended)
            if ended in self._first and not self._every:
                raise EnoughError

    def differences(self) -> Iterator[Difference]:
        """Yield those of the documents, then the first voxel of each magnification; only one of them where that is enough."""
        yield from self.documents
        seen: set[int] = set()
        for key in sorted(self._first):
            if key[0] not in seen and (self._every or not seen):
                seen.add(key[0])
                yield self.pairs[key[0]].difference(self._first[key])


def _documents(
    source: Location, target: Location, both: tuple[Properties, Properties], chosen: Chosen, pairs: list[_Pair]
) -> Iterator[Difference]:
    """Yield what the documents say differently; magnifications that are in both are added to the pairs."""
    a, b = both
    if a.voxel_size != b.voxel_size:
        yield Difference("", "", "voxel size", str(a.voxel_size), str(b.voxel_size))
    ours = {layer.name: mags for layer, mags in chosen.of(source, a)}
    theirs = [name for name in b.layer_names if name in chosen.layers or not chosen.layers]
    if sorted(ours) != sorted(theirs):
        yield Difference("", "", "list of layers", ", ".join(ours), ", ".join(theirs))
    for name in filter(theirs.__contains__, ours):
        layers = a.layer(name), b.layer(name)
        yield from _layers(layers[0], layers[1])
        wanted = {mag.to_tuple() for mag in chosen.mags}
        there = {mag.mag: mag for mag in layers[1].finest_first if mag.mag in wanted or not wanted}
        if [mag.mag for mag in ours[name]] != list(there):
            left, right = (", ".join(mag.name for mag in mags) or "none" for mags in (ours[name], there.values()))
            yield Difference(name, "", "list of magnifications", left, right)
        for mag in ours[name]:
            if mag.mag in there:
                first = Canonical(open_mag_array(source, a, layers[0], mag.mag))
                second = Canonical(open_mag_array(target, b, layers[1], mag.mag))
                pairs.append(_Pair(layers[0], mag, first, second))
                if first.spec.dtype != second.spec.dtype:
                    yield Difference(name, mag.name, "dtype", first.spec.dtype, second.spec.dtype)


def _layers(a: LayerProperties, b: LayerProperties) -> Iterator[Difference]:
    """Yield what is said differently of a layer."""
    boxes = [told_box((x.bounding_box.top_left, x.bounding_box.bottom_right)) for x in (a, b)]
    axes = [", ".join(f"{x.name} {x.bounds[0]} to {x.bounds[1]}" for x in _axes(layer)) or "none" for layer in (a, b)]
    said = {
        "number of channels": [str(a.num_channels), str(b.num_channels)],
        "dtype": [a.dtype, b.dtype],
        "bounding box": boxes,
        "list of further axes": axes,
    }
    for what, (left, right) in said.items():
        if left != right:
            yield Difference(a.name, "", what, left, right)


def _axes(layer: LayerProperties) -> list[Any]:
    return sorted(layer.additional_axes or (), key=lambda axis: axis.name)
