"""A hash of a dataset's voxels that is the same however they are stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wkdask.arrays.opening import open_mag_array, read_properties
from wkdask.clusters import open_pool
from wkdask.errors import DamagedError, LayerNotFoundError, MagNotFoundError, PlanRefusedError
from wkdask.geometry import Mag
from wkdask.metadata import LayerProperties, MagProperties, Properties, mag_name
from wkdask.operations.canonical import Canonical, Tiles
from wkdask.operations.cell_hash import DIGEST, Cells, Digests, as_digests, hash_cells, in_order
from wkdask.operations.content_tree import ContentTree, LayerTree, MagTree, VolumeTree
from wkdask.operations.read_only import Reading, Run, Seen, read_through
from wkdask.plan import Receipt, Stage, default_limit, format_bytes
from wkdask.storage import Location

PIECE_BYTES = 64 << 20
LEAST_PIECE_BYTES = 1 << 20
COPIES = 4
"""Of a piece in memory, at most: its encoded chunks, the decoded ones, the result, and whole cells of it."""
TREE_BYTES = 4 * (24 + DIGEST)
"""Of memory for each cell, while the tree is put together."""

At = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Chosen:
    """What of a dataset is looked at: names of layers, and magnifications; empty means all.

    A layer that lacks a magnification is left out for that one.
    """

    layers: tuple[str, ...] = ()
    mags: tuple[Mag, ...] = ()

    def of(self, place: Location, properties: Properties) -> list[tuple[LayerProperties, list[MagProperties]]]:
        """Return the layers in the order of the document, each with its magnifications, finest first.

        Raises
        ------
        LayerNotFoundError, MagNotFoundError
            Where one that is named is not there.
        """
        for name in self.layers:
            if name not in properties.layer_names:
                there = ", ".join(properties.layer_names) or "none"
                raise LayerNotFoundError(f"{place} has no layer '{name}'; it has {there}. Choose one of those.")
        layers = [x for x in properties.data_layers if x.name in self.layers or not self.layers]
        wanted = {mag.to_tuple() for mag in self.mags}
        for triple in sorted(wanted - {mag.mag for layer in layers for mag in layer.mags}):
            there = ", ".join(f"{layer.name}/{mag.name}" for layer in layers for mag in layer.mags) or "none"
            raise MagNotFoundError(f"{place} has no magnification {mag_name(triple)}; it has {there}. Choose one of those.")
        return [(x, [mag for mag in x.finest_first if mag.mag in wanted or not wanted]) for x in layers]


ALL = Chosen()


def piece_room(run: Run, limit: int) -> int:
    """Return the bytes that a piece may have, so that some of them fit into the memory."""
    return max(LEAST_PIECE_BYTES, min(PIECE_BYTES, limit // (2 * COPIES * run.pool.slots)))


@dataclass(frozen=True, slots=True)
class Hashed(Seen):
    """What became of hashing a tile: for each volume, its cells and their hashes, as bytes."""

    found: tuple[tuple[At, bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class HashTiles(Reading):
    """Hashes the cells of one tile with each task; see `wkdask.plan.Operation`."""

    mag: Canonical
    tiles: Tiles = field(repr=False, compare=False)

    @property
    def count(self) -> int:
        """Tiles."""
        return len(self.tiles.rows)

    @property
    def bytes_needed(self) -> int:
        """Copies of a piece, and the hashes of a tile."""
        return memory_of((self.mag,), self.tiles)

    @property
    def bytes_in(self) -> int:
        """Bytes of the voxels of all tiles."""
        return self.tiles.voxels * self.mag.spec.itemsize

    def run(self, stage: int, number: int) -> Receipt:
        """Hash one tile."""
        try:
            found = self._hash(number)
        except DamagedError as error:
            return Hashed(stage, number, damage=str(error))
        box = self.tiles.box(number)
        return Hashed(stage, number, bytes_in=box.size * self.mag.spec.itemsize, found=found)

    def _hash(self, number: int) -> tuple[tuple[At, bytes, bytes], ...]:
        parts: dict[At, list[tuple[Cells, Digests]]] = defaultdict(list)
        for piece in self.tiles.pieces(number):
            block = self.mag.read(piece)
            z, y, x = piece.start[-3:]
            for at, volume in volumes(block, self.mag.axes, piece.start):
                parts[at].append(hash_cells(volume, (z, y, x)))
        joined = (
            (at, np.concatenate([c for c, _ in found]), np.concatenate([d for _, d in found])) for at, found in parts.items()
        )
        return tuple((at, cells.tobytes(), digests.tobytes()) for at, cells, digests in joined if len(cells))

    def describe(self) -> str:
        """Return what the tasks do."""
        return f"hashed in pieces of {self.tiles.piece}"


def memory_of(mags: tuple[Canonical, ...], tiles: Tiles) -> int:
    """Return the memory that a task takes: copies of a piece of each magnification, and what it finds in a tile."""
    piece = int(np.prod([float(n) for n in tiles.piece]))
    cells = tiles.cells // max(1, len(tiles.rows))
    return sum(COPIES * piece * mag.spec.itemsize for mag in mags) + TREE_BYTES * cells


def volumes(block: np.ndarray[Any, Any], axes: tuple[str, ...], start: tuple[int, ...]) -> Iterator[tuple[At, Any]]:
    """Yield the volumes of a block, each with its position along the axes before z, y, x.

    Examples
    --------
    >>> [at for at, _ in volumes(np.zeros((2, 1, 1, 1)), ("c", "z", "y", "x"), (0, 8, 8, 8))]
    [(('c', 0),), (('c', 1),)]
    """
    for index in np.ndindex(block.shape[:-3]):
        yield tuple((axis, n + i) for axis, n, i in zip(axes, start, index, strict=False)), block[index]


def content_tree(place: Location, chosen: Chosen = ALL, run: Run | None = None) -> ContentTree:
    """Hash the voxels of a dataset, all of it or some layers and magnifications. Nothing is written.

    Parameters
    ----------
    place
        The dataset.
    chosen
        What of it.
    run
        Where it runs; default: a thread for each core.

    Raises
    ------
    DatasetNotFoundError, LayerNotFoundError, MagNotFoundError
        Where something is not there.
    DamagedError
        At the first file that does not decode.
    PlanRefusedError
        Where chunks, or the tree, do not fit into the memory.

    Examples
    --------
    >>> tree = content_tree(Location("brain"), Chosen(mags=(Mag(1),)))
    >>> tree.cells, tree.hash
    (4, 'a8488822db30a7e2af11930194afa1b6')
    """
    run = run or Run(open_pool("threads"))
    limit = run.memory_limit or default_limit()
    properties = read_properties(place)
    layers = chosen.of(place, properties)
    arrays = [(x, mag, Canonical(open_mag_array(place, properties, x, mag.mag))) for x, mags in layers for mag in mags]
    room = piece_room(run, limit)
    operations = [HashTiles(seen, Tiles.of((seen,), room)) for _, _, seen in arrays]
    _require_room(operations, limit, place)
    stages = tuple(Stage(f"hash {x.name}/{mag.name}", op) for (x, mag, _), op in zip(arrays, operations, strict=True))
    found: list[dict[At, list[tuple[bytes, bytes]]]] = [defaultdict(list) for _ in stages]

    def take(receipt: Receipt) -> None:
        if isinstance(receipt, Hashed):
            for at, cells, digests in receipt.found:
                found[receipt.stage][at].append((cells, digests))

    read_through(f"hash {place.name}", (place,), stages, take, run)
    trees: dict[str, list[MagTree]] = defaultdict(list)
    for (x, mag, seen), volume in zip(arrays, found, strict=True):
        trees[x.name].append(_mag_tree(x, mag, seen, volume))
    boxes = {x.name: (x.bounding_box.top_left, x.bounding_box.bottom_right) for x, _ in layers}
    done = tuple(LayerTree(name, box, tuple(trees[name])) for name, box in boxes.items())
    size = properties.voxel_size
    return ContentTree(str(place), size.factor, str(size.unit), done)


def _require_room(operations: list[HashTiles], limit: int, place: Location) -> None:
    """Refuse where the hashes of all cells would not fit into the memory."""
    needed = TREE_BYTES * sum(operation.tiles.cells for operation in operations)
    if needed > limit:
        raise PlanRefusedError(
            f"The tree of hashes of {place} may take {format_bytes(needed)}, but the limit is {format_bytes(limit)}. "
            "Choose a layer or a magnification, or give more with --memory-limit."
        )


def about(layer: LayerProperties, mag: MagProperties, seen: Canonical) -> dict[str, Any]:
    """Return what holds of all voxels of a magnification; its box is that of the layer, rounded outwards."""
    *_, z, y, x = zip(seen.box.start, seen.box.stop, strict=True)
    box = [[x[0], y[0], z[0]], [x[1], y[1], z[1]]]
    axes = {axis.name: list(axis.bounds) for axis in layer.additional_axes or ()}
    return {"mag": list(mag.mag), "dtype": seen.spec.dtype, "channels": layer.num_channels, "box": box, "axes": axes}


def _mag_tree(
    layer: LayerProperties, mag: MagProperties, seen: Canonical, found: dict[At, list[tuple[bytes, bytes]]]
) -> MagTree:
    trees = []
    for at in sorted(found):
        cells, digests = (b"".join(parts) for parts in zip(*found.pop(at), strict=True))
        rows = np.frombuffer(cells, np.int64).reshape(-1, 3)
        trees.append(VolumeTree(at, *in_order(rows, as_digests(digests))))
    return MagTree(layer.name, mag.name, about(layer, mag, seen), tuple(trees))
