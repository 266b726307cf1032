"""Agglomerate views: graphs are written and read back, and the arrays are those of a slow and simple reckoning."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wkdask as wk
from wkdask.errors import DatasetExistsError, InputError, LockedError, MetadataError, UnsupportedFormatError
from wkdask.operations import agglomerates
from wkdask.operations.agglomerates import AgglomerateView, read_view, write_view
from wkdask.storage import Location

nx = pytest.importorskip("networkx", reason="needs networkx: pip install 'wkdask[graphs]'")
zarr = pytest.importorskip("zarr")


@st.composite
def graphs(draw, least=0):
    count = draw(st.integers(least, 12))
    graph = wk.AgglomerateGraph()
    for segment in draw(st.permutations(range(1, count + 1))):
        graph.add_segment(segment, position=draw(st.tuples(*[st.integers(0, 99)] * 3)))
    pairs = (
        st.tuples(st.integers(1, count), st.integers(1, count)).filter(lambda p: p[0] != p[1]) if count > 1 else st.nothing()
    )
    for u, v in draw(st.lists(pairs, max_size=12)) if count > 1 else []:
        graph.add_affinity_edge(u, v, affinity=draw(st.floats(0, 1, width=32)))
    return graph


def same(a, b) -> bool:
    edges = [{frozenset(e[:2]): e[2] for e in g.edges(data="affinity")} for g in (a, b)]
    return dict(a.nodes(data=True)) == dict(b.nodes(data=True)) and edges[0] == edges[1]


@given(graphs(), st.sampled_from(["uint32", "uint64"]))
def test_the_arrays_are_those_of_the_graph(graph, dtype) -> None:
    view = AgglomerateView.of(graph.to_agglomerate_graph_data(dtype))
    groups = sorted((sorted(group) for group in nx.connected_components(graph)), key=min)
    owner = {segment: number for number, group in enumerate(groups, 1) for segment in group}
    assert view.segment_to_agglomerate.tolist() == [0, *(owner[n] for n in range(1, len(graph) + 1))]
    assert view.agglomerate_to_segments.tolist() == [n for group in groups for n in group]
    assert view.agglomerate_to_segments_offsets.tolist() == [0, *np.cumsum([0, *map(len, groups)])]
    lists = []
    for group in groups:
        pairs = {tuple(sorted((group.index(u), group.index(v)))): a for u, v, a in graph.subgraph(group).edges(data="affinity")}
        lists.append(sorted(pairs.items()))
    assert view.agglomerate_to_edges.tolist() == [list(pair) for found in lists for pair, _ in found]
    assert view.agglomerate_to_affinities.tolist() == [a for found in lists for _, a in found]
    assert view.agglomerate_to_edges_offsets.tolist() == [0, *np.cumsum([0, *map(len, lists)])]
    assert view.agglomerate_to_positions.tolist() == [list(graph.nodes[n]["position"]) for group in groups for n in group]
    assert view.agglomerate_to_segments.dtype == view.agglomerate_to_edges.dtype == dtype
    assert same(wk.AgglomerateGraph.from_view(view), graph)


def test_a_large_chain_is_one_agglomerate() -> None:
    """Neighbours far apart in their ids take several rounds of joining."""
    count = 5000
    ids = np.random.default_rng(0).permutation(np.arange(1, count + 1))
    graph = wk.AgglomerateGraph()
    for n in range(1, count + 1):
        graph.add_segment(n, position=(n, 0, 0))
    for u, v in pairwise(ids.tolist()):
        graph.add_affinity_edge(u, v, affinity=0.5)
    view = AgglomerateView.of(graph.to_agglomerate_graph_data())
    assert set(view.segment_to_agglomerate[1:].tolist()) == {1}


@given(graphs())
def test_files_are_read_back_by_us_and_by_zarr(tmp_path_factory, graph) -> None:
    place = tmp_path_factory.mktemp("view") / "by_hand"
    made = wk.AgglomerateAttachment.create(place, graph, segmentation_dtype="uint64")
    assert (made.name, made.path, made.data_format) == ("by_hand", str(place), "zarr3")
    assert same(made.to_graph(), graph)
    group = zarr.open_group(place, mode="r")
    about = {"artifact_schema_version": 4, "artifact_class": "AgglomerateViewArtifact"}
    assert group.attrs["voxelytics"] == about
    view = AgglomerateView.of(graph.to_agglomerate_graph_data("uint64"))
    for name, array in group.arrays():
        assert np.array_equal(array[:], getattr(view, name)) and array.dtype == getattr(view, name).dtype
    assert len(list(group.arrays())) == 7


def test_many_rows_make_several_chunks_and_shards(monkeypatch) -> None:
    monkeypatch.setattr("wkdask.operations.agglomerates._SHARD_BYTES", 512 << 10)
    count = 70_000
    graph = wk.AgglomerateGraph()
    for n in range(1, count + 1):
        graph.add_segment(n, position=(n, n + 1, 3))
    view = AgglomerateView.of(graph.to_agglomerate_graph_data())
    place = Location("memory://agglomerates/many")
    write_view(view, place)
    found = read_view(place)
    assert np.array_equal(found.agglomerate_to_positions, view.agglomerate_to_positions)
    assert (place / "agglomerate_to_positions" / "c").names() == ["0", "1"]
    place.delete()


@pytest.fixture
def cells(tmp_path):
    return wk.Dataset(tmp_path / "ds", (4, 4, 35)).add_layer("cells", "segmentation", dtype="uint64")


@pytest.fixture
def graph():
    found = wk.AgglomerateGraph()
    for n in (1, 2, 3):
        found.add_segment(n, position=(n, 0, 0))
    found.add_affinity_edge(3, 1, affinity=0.5)
    return found


def test_a_layer_gets_one_in_its_folder(cells, graph, tmp_path) -> None:
    made = wk.AgglomerateAttachment.create_and_add_to(cells, "by_hand", graph)
    assert cells.attachments.agglomerates == (made,)
    assert made.properties.path == "./cells/agglomerates/by_hand"
    assert read_view(made.location).agglomerate_to_segments.dtype == "uint64"
    with pytest.raises(ValueError, match="already"):
        wk.AgglomerateAttachment.create_and_add_to(cells, "by_hand", graph)
    with pytest.raises(FileExistsError, match="already"):
        wk.AgglomerateAttachment.create(made.path, graph)
    assert same(pickle.loads(pickle.dumps(made)).to_graph(), graph)


def test_of_two_at_one_place_one_is_written(cells, graph, tmp_path, monkeypatch) -> None:
    """The second comes while the first writes; or has looked before the first began, and goes on when that is done."""
    for make in (
        lambda: wk.AgglomerateAttachment.create(tmp_path / "view", graph),
        lambda: wk.AgglomerateAttachment.create_and_add_to(cells, "both", graph),
    ):
        whole, meanwhile = agglomerates._group_document, []

        def second(make=make, whole=whole, meanwhile=meanwhile):
            if not meanwhile:
                meanwhile.append(None)
                with pytest.raises((LockedError, DatasetExistsError)):
                    make()
            return whole()

        monkeypatch.setattr(agglomerates, "_group_document", second)
        made = make()
        assert meanwhile and made.to_graph() and not list(Path(made.location.url).rglob(".wkdask"))
        with monkeypatch.context() as patch, pytest.raises(DatasetExistsError):
            patch.setattr(Location, "is_folder", lambda _: False)
            wk.AgglomerateAttachment.create(made.location, graph)
        assert made.to_graph() and not list(Path(made.location.url).rglob(".wkdask"))


def test_nothing_is_left_of_a_view_that_could_not_be_written(graph, tmp_path, monkeypatch) -> None:
    written = []

    def fail(self, data, scratch=None):
        written.append(self)
        if len(written) == 4:
            raise OSError("disk full")
        return original(self, data, scratch)

    original = Location.write_bytes
    monkeypatch.setattr(Location, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        wk.AgglomerateAttachment.create(tmp_path / "half", graph)
    assert not (tmp_path / "half").exists()


@pytest.mark.parametrize("kind", ["gap", "zero", "no position", "no affinity", "loop", "dtype", "far"])
def test_what_is_no_agglomerate_view(graph, kind, tmp_path) -> None:
    if kind == "gap":
        graph.add_segment(5, position=(0, 0, 0))
    elif kind == "zero":
        graph.add_segment(0, position=(0, 0, 0))
    elif kind == "no position":
        graph.add_node(4)
    elif kind == "no affinity":
        graph.add_edge(1, 2)
    elif kind == "loop":
        graph.add_affinity_edge(2, 2, affinity=1)
    elif kind == "far":
        graph.add_segment(4, position=(2**31, 0, 0))
    with pytest.raises(InputError):
        wk.AgglomerateAttachment.create(tmp_path / "bad", graph, segmentation_dtype="uint16" if kind == "dtype" else "uint32")
    assert not (tmp_path / "bad").exists()


def test_other_formats_are_not_read(cells, tmp_path) -> None:
    old = wk.AgglomerateAttachment.from_path_and_name(tmp_path / "a.hdf5", "a", data_format="hdf5")
    with pytest.raises(NotImplementedError, match="hdf5") as error:
        old.to_graph()
    assert isinstance(error.value, UnsupportedFormatError)
    with pytest.raises(DatasetExistsError):
        (tmp_path / "file").write_text("x")
        write_view(None, Location.of(tmp_path / "file"))


NAMES = [
    ("agglomerate_to_segments", [1, 1, 2]),
    ("agglomerate_to_segments", [0, 1, 2]),
    ("agglomerate_to_segments", [1, 2, 99]),
    ("agglomerate_to_edges", [[0, 7]]),
    ("agglomerate_to_segments_offsets", [0, 0, 2, 9]),
    ("agglomerate_to_segments_offsets", [0, 3, 2, 3]),
    ("agglomerate_to_edges_offsets", [1, 0, 1, 1]),
]


@pytest.mark.parametrize(("name", "values"), NAMES)
def test_arrays_that_contradict_each_other_are_refused(graph, tmp_path, name, values) -> None:
    made = wk.AgglomerateAttachment.create(tmp_path / "view", graph)
    zarr.open_array(tmp_path / "view" / name, mode="r+")[:] = np.array(values)
    with pytest.raises(MetadataError, match="Make the view again"):
        made.to_graph()


@pytest.mark.parametrize(
    ("name", "shape"),
    [("segment_to_agglomerate", [2**50]), ("agglomerate_to_segments", [2]), ("agglomerate_to_positions", [3, 2**40])],
)
def test_claimed_sizes_are_not_believed(graph, tmp_path, name, shape) -> None:
    made = wk.AgglomerateAttachment.create(tmp_path / "view", graph)
    for each in {name, "agglomerate_to_segments"} if shape == [2**50] else {name}:
        document = tmp_path / "view" / each / "zarr.json"
        found = json.loads(document.read_text())
        found["shape"] = shape if each == name else [2**50 - 1]
        document.write_text(json.dumps(found))
    with pytest.raises(MetadataError):
        made.to_graph()


@pytest.mark.parametrize(("dtype", "value"), [("int64", -1), ("float64", np.nan), ("float32", 0.5)])
def test_numbers_that_are_no_places_are_refused(graph, tmp_path, dtype, value) -> None:
    made = wk.AgglomerateAttachment.create(tmp_path / "view", graph)
    place = tmp_path / "view" / "agglomerate_to_edges"
    edges = zarr.open_array(place, mode="r")[:].astype(dtype)
    edges[0, 0] = value
    zarr.create_array(place, shape=edges.shape, chunks=edges.shape, dtype=dtype, overwrite=True)[:] = edges
    with pytest.raises(MetadataError, match="Make the view again"):
        made.to_graph()
