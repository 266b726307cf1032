"""Attachments, agglomerate views, view configurations and transformations: the reference library opens ours, we open its."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import wkdask as wk

SEEN = """
import json, sys, webknossos
import numpy as np
from webknossos import AffineCoordinateTransformation as Affine
dataset = webknossos.Dataset.open(sys.argv[1])
layer = dataset.get_layer("cells")
found = layer.attachments
entry = lambda a: [a.name, str(a.path), a.data_format.value]
graph = found.agglomerates[0].to_graph()
view = layer.default_view_configuration
steps = [
    ["affine", np.asarray(t.matrix).tolist()] if isinstance(t, Affine)
    else ["spline", np.asarray(t.source).tolist(), np.asarray(t.target).tolist()]
    for t in layer.coordinate_transformations
]
print(json.dumps({
    "meshes": [entry(a) for a in found.meshes], "agglomerates": [entry(a) for a in found.agglomerates],
    "segment_index": entry(found.segment_index), "cumsum": entry(found.cumsum),
    "nodes": sorted([n, *map(int, p)] for n, p in graph.nodes(data="position")),
    "edges": sorted([*sorted((u, v)), a] for u, v, a in graph.edges(data="affinity")),
    "steps": steps, "largest": layer.largest_segment_id,
    "view": [list(view.color), view.alpha, view.is_inverted, dataset.default_view_configuration.zoom],
}))
"""

MAKE = """
import sys, webknossos as wk
target = sys.argv[1]
dataset = wk.Dataset(target, voxel_size=(4, 4, 35))
layer = dataset.add_layer("cells", "segmentation", dtype="uint32", largest_segment_id=2**60,
    bounding_box=wk.BoundingBox((0, 0, 0), (8, 8, 8)))
graph = wk.AgglomerateGraph()
for n in range(1, 8):
    graph.add_segment(n, position=wk.Vec3Int(n, 2 * n, 3))
for u, v, a in ((1, 5, 0.5), (7, 5, 0.25), (2, 4, 0.75)):
    graph.add_affinity_edge(u, v, affinity=a)
wk.AgglomerateAttachment.create_and_add_to(layer, "by_hand", graph)
kinds = ((wk.MeshAttachment, "m", "HDF5"), (wk.SegmentIndexAttachment, "i", "Zarr3"), (wk.CumsumAttachment, "c", "JSON"))
for kind, name, form in kinds:
    form = wk.AttachmentDataFormat[form]
    layer.attachments.add_attachment_as_ref(kind.from_path_and_name(f"{target}/cells/{name}", name, data_format=form))
corners = [(0, 0, 0), (8, 0, 0), (0, 8, 0), (0, 0, 8), (8, 8, 8)]
layer.coordinate_transformations = [
    wk.AffineCoordinateTransformation.from_rotation("x", 30).translate((1, 2, 3)),
    wk.ThinPlateSplineCoordinateTransformation(corners, corners[::-1]),
]
layer.default_view_configuration = wk.LayerViewConfiguration(color=(255, 0, 1), alpha=30, is_inverted=True)
dataset.default_view_configuration = wk.DatasetViewConfiguration(zoom=0.5)
"""


def run(python: Path, code: str, *arguments: object) -> str:
    command = [python, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def make(target: Path) -> None:
    """The same as `MAKE`, by our own verbs."""
    dataset = wk.Dataset(target, (4, 4, 35))
    box = wk.BoundingBox((0, 0, 0), (8, 8, 8))
    layer = dataset.add_layer("cells", "segmentation", dtype="uint32", bounding_box=box)
    layer.largest_segment_id = 2**60
    graph = wk.AgglomerateGraph()
    for n in range(1, 8):
        graph.add_segment(n, position=(n, 2 * n, 3))
    for u, v, affinity in ((1, 5, 0.5), (7, 5, 0.25), (2, 4, 0.75)):
        graph.add_affinity_edge(u, v, affinity=affinity)
    wk.AgglomerateAttachment.create_and_add_to(layer, "by_hand", graph)
    kinds = ((wk.MeshAttachment, "m", "hdf5"), (wk.SegmentIndexAttachment, "i", "zarr3"), (wk.CumsumAttachment, "c", "json"))
    for kind, name, form in kinds:
        layer.attachments.add_attachment_as_ref(kind.from_path_and_name(target / "cells" / name, name, data_format=form))
    corners = [(0, 0, 0), (8, 0, 0), (0, 8, 0), (0, 0, 8), (8, 8, 8)]
    layer.coordinate_transformations = [
        wk.AffineCoordinateTransformation.from_rotation("x", 30).translate((1, 2, 3)),
        wk.ThinPlateSplineCoordinateTransformation(corners, corners[::-1]),
    ]
    layer.default_view_configuration = wk.LayerViewConfiguration(color=(255, 0, 1), alpha=30, is_inverted=True)
    dataset.default_view_configuration = wk.DatasetViewConfiguration(zoom=0.5)


def seen(target: Path) -> dict:
    """The same as `SEEN`, by our own verbs."""
    dataset = wk.Dataset.open(target)
    layer = dataset.get_layer("cells")
    found, view = layer.attachments, layer.default_view_configuration
    graph = found.agglomerates[0].to_graph()
    steps = [
        ["affine", step.matrix] if isinstance(step, wk.AffineCoordinateTransformation) else ["spline", step.source, step.target]
        for step in layer.coordinate_transformations
    ]

    def entry(one):
        return [one.name, one.path, str(one.data_format)]

    told = {
        "meshes": [entry(one) for one in found.meshes],
        "agglomerates": [entry(one) for one in found.agglomerates],
        "segment_index": entry(found.segment_index),
        "cumsum": entry(found.cumsum),
        "nodes": sorted([n, *map(int, p)] for n, p in graph.nodes(data="position")),
        "edges": sorted([*sorted((u, v)), a] for u, v, a in graph.edges(data="affinity")),
        "steps": steps,
        "largest": layer.largest_segment_id,
        "view": [view.color, view.alpha, view.is_inverted, dataset.default_view_configuration.zoom],
    }
    return json.loads(json.dumps(told))


@pytest.mark.oracle("webknossos")
def test_both_see_and_make_the_same(webknossos_python: Path, tmp_path: Path) -> None:
    pytest.importorskip("networkx", reason="needs networkx: pip install 'wkdask[graphs]'")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    make(ours)
    run(webknossos_python, MAKE, theirs)
    assert json.loads(run(webknossos_python, SEEN, ours)) == seen(ours)
    assert json.loads(run(webknossos_python, SEEN, theirs)) == seen(theirs)
    told = [json.loads(json.dumps(seen(place)).replace(str(place), "ds")) for place in (ours, theirs)]
    assert told[0] == told[1]
