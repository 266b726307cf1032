"""Agglomerate views: which segments belong together, as arrays, and as a group of Zarr 3 arrays on disk.

Segments have the ids 1 to n without a gap; 0 is background. Agglomerates are numbered from 1 on, by their smallest segments.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from wkdask.errors import DatasetExistsError, InputError, MetadataError
from wkdask.formats import ArrayHandle, open_array
from wkdask.geometry.grid import Box
from wkdask.storage import WORK_FOLDER, Lease, Location

Integers = npt.NDArray[Any]

DTYPES = ("uint32", "uint64")
_KINDS = {"agglomerate_to_affinities": "fui", "agglomerate_to_positions": "fui"}
"""Kinds of numbers in arrays that hold other than whole ones."""
MAX_ROWS = 100_000_000
"""Segments or edges of a view that is read as a whole."""
SCHEMA_VERSION = 4
_CHUNK_BYTES = 256 << 10
_OFFSETS_CHUNK_BYTES = 64 << 10
_SHARD_BYTES = 64 << 20
"""Of decoded values, which are in memory while a shard is written."""


@dataclass(frozen=True, slots=True, eq=False)
class AgglomerateGraphData:
    """A graph of segments as arrays.

    Parameters
    ----------
    segments
        (n) the ids 1 to n.
    edges
        (m, 2) ids of segments, each pair once.
    positions
        (n, 3) a voxel of each segment: x, y, z.
    affinities
        (m) the weight of each edge.
    """

    segments: Integers
    edges: Integers
    positions: Integers
    affinities: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class AgglomerateView:
    """Which segments belong together, by what edges, and where each lies.

    Parameters
    ----------
    segment_to_agglomerate
        (n + 1) the agglomerate of each segment, 0 of background.
    agglomerate_to_segments_offsets, agglomerate_to_segments
        (a + 2) where the segments of each agglomerate begin among all (n), which ascend in each.
    agglomerate_to_edges_offsets, agglomerate_to_edges
        (a + 2) where its edges begin among all (m, 2), which are pairs of places in its list of segments, ascending.
    agglomerate_to_affinities
        (m) the weight of each edge.
    agglomerate_to_positions
        (n, 3) a voxel of each segment, x, y, z, in the order of the lists.
    """

    segment_to_agglomerate: Integers
    agglomerate_to_segments_offsets: Integers
    agglomerate_to_segments: Integers
    agglomerate_to_edges_offsets: Integers
    agglomerate_to_edges: Integers
    agglomerate_to_affinities: npt.NDArray[np.float32]
    agglomerate_to_positions: Integers

    @classmethod
    def of(cls, graph: AgglomerateGraphData) -> AgglomerateView:
        """Return the view of a graph; segment ids have the dtype that they have there.

        Raises
        ------
        InputError
            An edge leads to a segment that is not there, or from one to itself; or a value does not fit.

        Examples
        --------
        >>> ids = np.arange(1, 6, dtype="uint32")
        >>> edges = np.array([(1, 3), (3, 5), (2, 4)])
        >>> view = AgglomerateView.of(AgglomerateGraphData(ids, edges, np.zeros((5, 3)), np.ones(3)))
        >>> view.segment_to_agglomerate.tolist(), view.agglomerate_to_edges.tolist()
        ([0, 1, 2, 1, 2, 1], [[0, 1], [1, 2], [0, 1]])
        """
        ids = np.dtype(graph.segments.dtype)
        if ids.name not in DTYPES:
            raise InputError(f"Segment ids can not be {ids.name} in an agglomerate view. Use {' or '.join(DTYPES)}.")
        places = _checked_positions(graph.positions)
        count = len(places)
        if not np.array_equal(graph.segments, np.arange(1, count + 1)):
            raise InputError(f"The segments are not 1 to {count}, each once and ascending. Number them so.")
        pairs, weights = _checked_edges(graph.edges, graph.affinities, count)
        _, owner = np.unique(_components(count, pairs), return_inverse=True)
        order = np.argsort(owner, kind="stable")
        starts = _offsets(owner)
        local = np.empty(count, dtype=np.int64)
        local[order] = np.arange(count) - starts[1:][owner[order]].astype(np.int64)
        of_edge, within = owner[pairs[:, 0]], np.sort(local[pairs], axis=1)
        sorting = np.lexsort((within[:, 1], within[:, 0], of_edge))
        return cls(
            np.concatenate([[0], owner + 1]).astype(np.uint64),
            starts,
            (order + 1).astype(ids),
            _offsets(of_edge, len(starts) - 2),
            within[sorting].astype(ids),
            weights[sorting],
            places[order],
        )

    def edges(self) -> Integers:
        """Return the edges as pairs of segment ids, (m, 2)."""
        counts = _counts(self.agglomerate_to_edges_offsets)
        begin = np.repeat(self.agglomerate_to_segments_offsets[:-1].astype(np.int64), counts)
        found: Integers = self.agglomerate_to_segments[self.agglomerate_to_edges.astype(np.int64) + begin[:, None]]
        return found


def _checked_positions(positions: Any) -> Integers:
    try:
        found = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    except (TypeError, ValueError, OverflowError):
        raise InputError("The positions of segments are not three numbers each. Give x, y, z.") from None
    rounded = np.floor(found)
    if not (np.isfinite(found).all() and (np.abs(rounded) < 2**31).all()):
        raise InputError("A position does not fit in 32 bits. Give voxels: x, y, z.")
    return rounded.astype(np.int32)


def _checked_edges(edges: Any, affinities: Any, count: int) -> tuple[Integers, npt.NDArray[np.float32]]:
    """Return edges as pairs of segments counted from 0, and their weights."""
    try:
        pairs = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
        weights = np.asarray(affinities, dtype=np.float32).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        raise InputError("The edges are not pairs of segment ids with a number each. Give those.") from None
    if len(pairs) != len(weights):
        raise InputError(f"There are {len(pairs)} edges and {len(weights)} affinities. Give one for each.")
    wrong = (pairs < 1).any(axis=1) | (pairs > count).any(axis=1) | (pairs[:, 0] == pairs[:, 1])
    if wrong.any():
        u, v = pairs[int(wrong.argmax())].tolist()
        raise InputError(f"An edge leads from {u} to {v}, expected two different segments of 1 to {count}. Correct it.")
    return pairs - 1, weights


def _components(count: int, pairs: Integers) -> Integers:
    """Return the smallest segment that each is connected with."""
    label = np.arange(count)
    while len(pairs):
        ends = label[pairs]
        low, high = ends.min(axis=1), ends.max(axis=1)
        if (low == high).all():
            break
        np.minimum.at(label, high, low)
        while not np.array_equal(label, shorter := label[label]):
            label = shorter
    return label


def _offsets(owner: Integers, groups: int | None = None) -> Integers:
    """Return where the members of each group begin, counted from 1; group 0 is empty."""
    counts = np.bincount(owner, minlength=groups or 0)
    return np.concatenate([[0, 0], np.cumsum(counts)]).astype(np.uint64)


def _counts(offsets: Integers) -> npt.NDArray[np.int64]:
    """Return the members of each group."""
    found = offsets.astype(np.int64)
    return found[1:] - found[:-1]


def write_view(view: AgglomerateView, place: Location) -> None:
    """Write a view as a group of Zarr 3 arrays, the group's document last.

    Raises
    ------
    DatasetExistsError
        Something is there already.
    LockedError
        Another process is about to write one there.
    """
    import zarr
    from zarr.codecs import ZstdCodec

    with _claimed(place):
        for field in fields(view):
            values = getattr(view, field.name)
            offsets = field.name.endswith("offsets") or field.name == "segment_to_agglomerate"
            chunk, shard = _rows(values, _OFFSETS_CHUNK_BYTES if offsets else _CHUNK_BYTES)
            store: dict[str, Any] = {}
            array = zarr.create_array(
                store,
                name=field.name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=(chunk, *values.shape[1:]),
                shards=(shard, *values.shape[1:]),
                compressors=ZstdCodec(level=5, checksum=True),
            )
            if len(values):
                array[:] = values
            for key, data in store.items():
                if key != "zarr.json":
                    (place / key).write_bytes(data.to_bytes())
        (place / "zarr.json").write_bytes(json.dumps(_group_document(), indent=4).encode())


@contextmanager
def _claimed(place: Location) -> Iterator[None]:
    """Let nobody else write where nothing is yet; where the block fails, nothing is left there."""
    there = DatasetExistsError(f"{place} is there already. Give another place, or delete it first.")
    if place.is_file() or place.is_folder():
        raise there
    work = place / WORK_FOLDER
    with Lease(work / "run.json", f"writing the agglomerate view {place.name!r}"):
        others = set(place.names()) - {WORK_FOLDER}  # made since we looked
        try:
            if others:
                raise there
            yield
        except BaseException:
            (work if others else place).delete()
            raise
        work.delete()


def _rows(values: npt.NDArray[Any], chunk_bytes: int) -> tuple[int, int]:
    """Return rows of a chunk and of a shard."""
    row = values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
    chunk = max(1, chunk_bytes // row)
    wanted = -(-max(1, len(values)) // chunk)
    return chunk, chunk * min(wanted, _SHARD_BYTES // chunk_bytes)


def _group_document() -> dict[str, Any]:
    about = {
        "artifact_schema_version": SCHEMA_VERSION,
        "artifact_class": "AgglomerateViewArtifact",
    }
    return {"zarr_format": 3, "node_type": "group", "attributes": {"voxelytics": about}}


def read_view(place: Location) -> AgglomerateView:
    """Read a view, with its arrays held against each other.

    Raises
    ------
    DatasetNotFoundError
        An array is missing.
    MetadataError
        The arrays do not fit together, or are too large.
    """
    handles = {field.name: open_array(place / field.name, "zarr3") for field in fields(AgglomerateView)}
    shapes = {name: handle.spec.shape for name, handle in handles.items()}
    _require_shapes(shapes, place)
    for name, handle in handles.items():
        if np.dtype(handle.spec.dtype).kind not in _KINDS.get(name, "ui"):
            raise MetadataError(f"{place / name} holds {handle.spec.dtype}, expected whole numbers. Make the view again.")
    view = AgglomerateView(**{name: _read(handle) for name, handle in handles.items()})
    _require_sound(view, place)
    return view


def _read(handle: ArrayHandle) -> npt.NDArray[Any]:
    shape = handle.spec.shape
    if 0 in shape:
        return np.zeros(shape, handle.spec.dtype)
    found = np.ascontiguousarray(handle.read(Box((0,) * len(shape), shape), keep=False))
    is_place = found.dtype.kind == "i" and not handle.location.name.endswith("positions")
    return found.view(found.dtype.str.replace("i", "u")) if is_place else found  # below 0 is beyond all ends


def _require_shapes(shapes: dict[str, tuple[int, ...]], place: Location) -> None:
    segments = shapes["segment_to_agglomerate"][0] - 1
    edges = shapes["agglomerate_to_affinities"][0]
    groups = shapes["agglomerate_to_segments_offsets"][0]
    expected = {
        "segment_to_agglomerate": (segments + 1,),
        "agglomerate_to_segments_offsets": (groups,),
        "agglomerate_to_segments": (segments,),
        "agglomerate_to_edges_offsets": (groups,),
        "agglomerate_to_edges": (edges, 2),
        "agglomerate_to_affinities": (edges,),
        "agglomerate_to_positions": (segments, 3),
    }
    for name, shape in shapes.items():
        if shape != expected[name] or segments < 0:
            raise MetadataError(f"{place / name} has the shape {shape}, expected {expected[name]}. Make the view again.")
    if max(segments, edges) > MAX_ROWS or not 2 <= groups <= segments + 2:
        raise MetadataError(
            f"{place} has {segments} segments, {edges} edges and {groups - 2} agglomerates; expected {MAX_ROWS} at most, and "
            "no more agglomerates than segments. Read its arrays in pieces."
        )


def _require_sound(view: AgglomerateView, place: Location) -> None:
    """Raise `MetadataError` where numbers lead beyond the arrays that they are places in."""
    segments, edges = len(view.agglomerate_to_segments), len(view.agglomerate_to_edges)
    for name, most in (("segments", segments), ("edges", edges)):
        offsets = getattr(view, f"agglomerate_to_{name}_offsets")
        if offsets[0] != 0 or offsets[-1] != most or (offsets[1:] < offsets[:-1]).any():
            raise MetadataError(f"The offsets of {name} in {place} do not ascend from 0 to {most}. Make the view again.")
    sizes = np.repeat(_counts(view.agglomerate_to_segments_offsets), _counts(view.agglomerate_to_edges_offsets))
    members = view.agglomerate_to_segments
    lost = edges and bool((view.agglomerate_to_edges >= sizes[:, None].astype(np.uint64)).any())
    ids = segments and (int(members.min()) < 1 or int(members.max()) > segments or len(np.unique(members)) < segments)
    if lost or ids:
        raise MetadataError(f"The edges or segments in {place} lead to segments that are not there. Make the view again.")
