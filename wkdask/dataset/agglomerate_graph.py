"""Graphs of segments: which belong together, by edges with affinities. Needs networkx."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wkdask.errors import InputError
from wkdask.geometry import Vec3Int
from wkdask.operations.agglomerates import DTYPES, AgglomerateGraphData, AgglomerateView

try:
    from networkx import Graph
except ImportError:

    class Graph:  # type: ignore[no-redef]
        """Says what is missing."""

        def __init__(self, *_: Any, **__: Any) -> None:
            raise ImportError("AgglomerateGraph needs networkx, which is not here. Install it: pip install 'wkdask[graphs]'.")


class AgglomerateGraph(Graph):  # type: ignore[misc]
    """A graph whose nodes are segment ids; the segments that are connected are an agglomerate.

    Nodes have a ``position``, a voxel (x, y, z); edges have an ``affinity``.

    Examples
    --------
    >>> graph = AgglomerateGraph()
    >>> for segment in (1, 2, 3):
    ...     graph.add_segment(segment, position=(segment, 0, 0))
    >>> graph.add_affinity_edge(1, 3, affinity=0.9)
    >>> graph.to_agglomerate_graph_data().edges.tolist()
    [[1, 3]]
    """

    def add_segment(self, segment_id: int, *, position: Sequence[int]) -> None:
        """Add a segment.

        Parameters
        ----------
        segment_id
            From 1 on.
        position
            A voxel of it: x, y, z.
        """
        self.add_node(int(segment_id), position=Vec3Int(position))

    def add_affinity_edge(self, u: int, v: int, *, affinity: float) -> None:
        """Join two segments, with a weight."""
        self.add_edge(int(u), int(v), affinity=float(affinity))

    def to_agglomerate_graph_data(self, segmentation_dtype: Any = "uint32") -> AgglomerateGraphData:
        """Return the graph as arrays.

        Parameters
        ----------
        segmentation_dtype
            Of segment ids: uint32 or uint64.

        Raises
        ------
        InputError
            The segments are not 1 to n without a gap, one of them has no position, or an edge no affinity.
        """
        dtype = np.dtype(segmentation_dtype)
        if dtype.name not in DTYPES:
            raise InputError(f"Segment ids can not be {dtype.name} in an agglomerate view. Use {' or '.join(DTYPES)}.")
        count = len(self)
        missing = next((n for n in range(1, count + 1) if n not in self), None)
        if missing is not None:
            raise InputError(
                f"The graph has {count} segments, and {missing} is not one of them; expected 1 to {count} without a gap. "
                "Add segments that are missing, as agglomerates of their own."
            )
        positions = [self.nodes[n].get("position") for n in range(1, count + 1)]
        edges = [(*sorted(pair), affinity) for *pair, affinity in self.edges(data="affinity")]
        if None in positions or any(affinity is None for *_, affinity in edges):
            raise InputError("A segment has no position, or an edge no affinity. Use add_segment and add_affinity_edge.")
        return AgglomerateGraphData(
            np.arange(1, count + 1, dtype=dtype),
            np.array([edge[:2] for edge in edges], dtype=dtype).reshape(-1, 2),
            np.array([tuple(position) for position in positions]).reshape(-1, 3),
            np.array([affinity for *_, affinity in edges], dtype=np.float32),
        )

    @classmethod
    def from_view(cls, view: AgglomerateView) -> AgglomerateGraph:
        """Return the graph that the stored arrays describe."""
        graph = cls()
        positions = view.agglomerate_to_positions.tolist()
        for segment, position in zip(view.agglomerate_to_segments.tolist(), positions, strict=True):
            graph.add_segment(segment, position=position)
        for (u, v), affinity in zip(view.edges().tolist(), view.agglomerate_to_affinities.tolist(), strict=True):
            graph.add_affinity_edge(u, v, affinity=affinity)
        return graph
