"""The hash of a dataset's voxels: one definition for all layouts, and what its trees tell of differences."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from tests.operations.layouts import layouts, store
from wkdask.clusters import open_pool
from wkdask.errors import DamagedError, DatasetExistsError, InputError, LayerNotFoundError, MagNotFoundError, PlanRefusedError
from wkdask.operations import Storage, canonical
from wkdask.operations.content_hash import Chosen, content_tree
from wkdask.operations.content_tree import differences
from wkdask.operations.equality import check_equality
from wkdask.operations.read_only import Run
from wkdask.operations.tree_file import load_tree, save_tree

SEQUENTIAL = Run(open_pool("sequential"))


# The definition in docs/equality.md once more, in numpy and hashlib alone.


def blake(data: bytes, person: str) -> bytes:
    return hashlib.blake2b(data, digest_size=16, person=person.encode()).digest()


def json_hash(value: object) -> str:
    return blake(json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), "wkdask-json-1").hex()


def cell_hash(cell: np.ndarray) -> bytes:
    """Of (x, y, z) voxels."""
    raw = [cell[:, :, z].tobytes("F") for z in range(32)]
    used = [z for z in range(32) if any(raw[z])]
    if not used:
        return bytes(16)
    first, end = used[0], used[-1] + 1
    return blake(f"{cell.dtype} {first} {end}\n".encode() + b"".join(raw[first:end]), "wkdask-cell-1")


def volume_hash(voxels: np.ndarray, start: tuple[int, ...]) -> str:
    whole = np.pad(voxels, [(a % 32, -(a + n) % 32) for a, n in zip(start, voxels.shape, strict=True)])
    nodes = {}
    for index in itertools.product(*(range(n // 32) for n in whole.shape)):
        cell = whole[tuple(slice(32 * i, 32 * i + 32) for i in index)]
        nodes[tuple(2**26 + a // 32 + i for a, i in zip(start, index, strict=True))] = cell_hash(cell)
    for _ in range(27):
        above = {tuple(n // 2 for n in node) for node in nodes}
        nodes = {node: node_hash(node, nodes) for node in above}
    return nodes[0, 0, 0].hex()


def node_hash(node: tuple[int, ...], below: dict) -> bytes:
    eight = [tuple(2 * n + (k >> i & 1) for i, n in enumerate(node)) for k in range(8)]
    joined = b"".join(below.get(child, bytes(16)) for child in eight)
    return blake(joined, "wkdask-node-1") if any(joined) else bytes(16)


def dataset_hash(voxels: np.ndarray, topleft: tuple[int, ...], mag: int = 1) -> str:
    """Of (c, x, y, z) or (t, c, x, y, z) voxels."""
    start = [a // mag for a in topleft]
    volumes = []
    for index in np.ndindex(voxels.shape[:-3]):
        at = dict(zip("tc"[-len(index) :], index, strict=True))
        root = volume_hash(voxels[index], tuple(start))
        if set(root) != {"0"}:
            volumes.append([at, root])
    volumes.sort(key=lambda v: sorted(v[0].items()))
    size, axes = voxels.shape[-3:], {"t": [0, len(voxels)]} if voxels.ndim == 5 else {}
    box = [start, [a + n for a, n in zip(start, size, strict=True)]]
    about = {"axes": axes, "box": box, "channels": voxels.shape[-4], "dtype": str(voxels.dtype), "mag": [mag] * 3}
    of_mag = json_hash({**about, "volumes": volumes})
    box = [topleft, [a + n * mag for a, n in zip(topleft, size, strict=True)]]
    layer = json_hash({"box": box, "mags": {str(mag): of_mag}})
    return json_hash({"layers": {"em": layer}, "unit": "nanometer", "voxel_size": [4.0, 4.0, 8.0]})


def noise(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """Bits of all kinds, NaN and -0.0 among them, with boxes of zeros."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), "uint8").view(dtype)[..., 0]
    found[..., : shape[-1] // 2] = 0
    if dtype.startswith("float"):
        found.flat[-3:] = -0.0, np.nan, 0.0
    return found


GOLDEN = {
    ("uint8", (1, 5, 4, 3), (0, 0, 0), 1): "4bfe24b98d66666f18fd99912c2cc98c",
    ("float32", (2, 33, 40, 7), (32, 0, 64), 1): "05e5d82c43bdd2add9d973a0a79b0500",
    ("uint16", (3, 1, 34, 20, 9), (2, 62, 30), 2): "c7be68d835a952ee678300f6c484696f",
}


@pytest.mark.parametrize("key", GOLDEN, ids=str)
def test_definition_stays(key, tmp_path):
    dtype, shape, topleft, mag = key
    voxels = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    assert dataset_hash(voxels, topleft, mag) == GOLDEN[key]
    axes = "tcxyz"[-len(shape) :]
    place = store(tmp_path / "ds", voxels, ("zarr3", axes, Storage((8,) * 3, (16,) * 3)), topleft, mag)
    assert content_tree(place, run=SEQUENTIAL).hash == GOLDEN[key]


@settings(deadline=None, max_examples=examples(12))
@given(st.data())
def test_layout_does_not_count(data):
    further = data.draw(st.booleans())
    shape = (
        *data.draw(st.sampled_from([(2, 1), (3, 2)]) if further else st.just((1,))),
        *(data.draw(st.integers(1, n)) for n in (40, 34, 9)),
    )
    topleft = data.draw(st.sampled_from([(0, 0, 0), (3, 0, 31), (40, 8, 0)]))
    voxels = noise(shape, data.draw(st.sampled_from(["uint8", "uint16", "uint32"])), data.draw(st.integers(0, 99)))
    room = data.draw(st.sampled_from([1, 1 << 16, 1 << 24]))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "TILE_BYTES", room)
        places = [store(Path(folder) / name, voxels, data.draw(layouts(further)), topleft) for name in "ab"]
        expected = dataset_hash(voxels, topleft)
        assert [content_tree(place, run=SEQUENTIAL).hash for place in places] == [expected, expected]
        assert check_equality(*places, run=SEQUENTIAL).equal


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32", "float64"])
def test_dtypes_and_bits(dtype, tmp_path):
    voxels = noise((1, 40, 33, 20), dtype, 3)
    place = store(tmp_path / "a", voxels)
    assert content_tree(place, run=SEQUENTIAL).hash == dataset_hash(voxels, (0, 0, 0))


@settings(deadline=None, max_examples=examples(8))
@given(st.data())
def test_one_voxel_changes_one_cell(data):
    voxels = noise((2, 40, 34, 9), seed=data.draw(st.integers(0, 9)))
    at = tuple(data.draw(st.integers(0, n - 1)) for n in voxels.shape)
    topleft = data.draw(st.sampled_from([(0, 0, 0), (5, 64, 30)]))
    other = voxels.copy()
    other[at] ^= 1 << data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as folder:
        a, b = (store(Path(folder) / n, v, data.draw(layouts()), topleft) for n, v in (("a", voxels), ("b", other)))
        left, right = (content_tree(place, run=SEQUENTIAL) for place in (a, b))
        (difference,) = differences(left, right)
        found = check_equality(a, b, every=True, run=SEQUENTIAL)
        first = check_equality(a, b, run=SEQUENTIAL)
    voxel = tuple(n + o for n, o in zip(at[1:], topleft, strict=True))
    start = tuple(n // 32 * 32 for n in voxel)
    assert (difference.layer, difference.mag, difference.at) == ("em", "1", (("c", at[0]),))
    assert (difference.start, difference.stop) == (start, tuple(n + 32 for n in start))
    assert left.hash != right.hash and left.content != right.content
    assert (found.cells, found.voxels) == (1, 1)
    assert found.differences == first.differences
    (told,) = first.differences
    assert (told.what, told.voxel, told.at) == ("voxel", voxel, (("c", at[0]),))
    assert (told.source, told.target) == (str(voxels[at]), str(other[at]))


def test_differences_name_all_cells(tmp_path):
    voxels = noise((1, 70, 70, 70))
    other = voxels.copy()
    where = np.random.default_rng(5).integers(0, 70, (40, 3))
    for x, y, z in where:
        other[0, x, y, z] += 1
    other[0, :32, :32, :32] = 0
    a, b = store(tmp_path / "a", voxels), store(tmp_path / "b", other)
    changed = {tuple(int(n) // 32 * 32 for n in index) for index in np.argwhere((voxels != other)[0])}
    found = list(differences(*(content_tree(place, run=SEQUENTIAL) for place in (a, b))))
    assert len(found) == len(changed) and {x.start for x in found} == changed
    told = check_equality(a, b, every=True, run=SEQUENTIAL)
    assert (told.cells, told.voxels) == (len(changed), int((voxels != other).sum()))


def test_what_counts(tmp_path):
    """Moved voxels, swapped axes, another dtype, other order of channels, another box: each has a hash of its own."""
    voxels = noise((2, 40, 40, 40))
    moved = np.roll(voxels, 1, axis=1)
    made = {
        "same": store(tmp_path / "same", voxels),
        "moved": store(tmp_path / "moved", moved),
        "far": store(tmp_path / "far", voxels, topleft=(32, 0, 0)),
        "swapped": store(tmp_path / "swapped", np.ascontiguousarray(voxels.transpose(0, 2, 1, 3))),
        "dtype": store(tmp_path / "dtype", voxels.astype("uint16")),
        "sign": store(tmp_path / "sign", voxels.view("int8")),
        "channels": store(tmp_path / "channels", np.ascontiguousarray(voxels[::-1])),
        "box": store(tmp_path / "box", np.pad(voxels, [(0, 0)] + [(0, 1)] * 3)),
        "mag": store(tmp_path / "mag", voxels, mag=2),
        "name": store(tmp_path / "name", voxels, name="other"),
    }
    trees = {name: content_tree(place, run=SEQUENTIAL) for name, place in made.items()}
    assert len({tree.hash for tree in trees.values()}) == len(made)
    assert len({tree.content for tree in trees.values()}) == len(made) - 1
    assert trees["name"].content == trees["same"].content
    for name, place in made.items():
        assert check_equality(made["same"], place, run=SEQUENTIAL).equal == (name == "same")
        assert bool(list(differences(trees["same"], trees[name]))) == (name != "same")
    (grown,) = {x.layer for x in differences(trees["same"], trees["box"])}
    assert [x.reason.split(" is ")[0] for x in differences(trees["same"], trees["box"])] == ["the box", "box"]


def test_holes_are_zeros_and_cost_nothing(tmp_path, monkeypatch):
    voxels = np.zeros((1, 200, 200, 64), "uint8")
    voxels[0, 130:140, 5:9, 40] = 7
    place = store(tmp_path / "a", np.zeros_like(voxels))
    tree = content_tree(place, run=SEQUENTIAL)
    assert tree.cells == 0 and tree.hash == dataset_hash(np.zeros((1, 200, 200, 64), "uint8"), (0, 0, 0))

    monkeypatch.setattr(canonical, "TILE_BYTES", 1)
    read: list[int] = []
    original = canonical.Canonical.read
    monkeypatch.setattr(canonical.Canonical, "read", lambda self, box: (read.append(box.size), original(self, box))[1])
    sparse = store(tmp_path / "b", voxels)
    assert content_tree(sparse, run=SEQUENTIAL).hash == dataset_hash(voxels, (0, 0, 0))
    assert sum(read) <= 2 * 32**3
    read.clear()
    assert check_equality(sparse, sparse, run=SEQUENTIAL).equal
    assert sum(read) <= 4 * 32**3


@pytest.mark.parametrize("strategy", ["threads", "processes"])
def test_pools_agree(strategy, tmp_path, monkeypatch):
    voxels = noise((1, 100, 90, 40))
    place = store(tmp_path / "a", voxels)
    tree = content_tree(place, run=Run(open_pool(strategy, 2)))
    assert tree.hash == dataset_hash(voxels, (0, 0, 0))


def test_memory_is_kept_to(tmp_path):
    place = store(tmp_path / "a", noise((1, 64, 64, 64)))
    with pytest.raises(PlanRefusedError):
        content_tree(place, run=Run(open_pool("sequential"), 1000))
    with pytest.raises(PlanRefusedError):
        check_equality(place, place, run=Run(open_pool("sequential"), 1000))


def test_verbs(tmp_path):
    voxels = noise((1, 40, 40, 40))
    place = store(tmp_path / "a", voxels)
    dataset, tree = wk.Dataset.open(str(place), read_only=True), content_tree(place, run=SEQUENTIAL)
    layer = dataset.get_layer("em")
    assert dataset.content_hash() == tree.hash == dataset_hash(voxels, (0, 0, 0))
    assert dataset.content_hash(content_only=True) == tree.content != tree.hash
    assert layer.content_hash(distribution_strategy="sequential", memory_limit="2GB") == tree.layers[0].hash
    assert layer.get_mag(1).content_hash() == tree.layers[0].mags[0].hash


def test_what_is_not_there(tmp_path):
    place = store(tmp_path / "a", noise((1, 8, 8, 8)))
    for chosen, error in ((Chosen(("none",)), LayerNotFoundError), (Chosen((), (wk.Mag(4),)), MagNotFoundError)):
        with pytest.raises(error):
            content_tree(place, chosen)
        with pytest.raises(error):
            check_equality(place, place, chosen)


def test_damage_is_raised(tmp_path):
    place = store(tmp_path / "a", noise((1, 64, 40, 40)))
    unit = tmp_path / "a/em/1/c/0/1/0/0"
    unit.write_bytes(unit.read_bytes()[:-1])
    for run in (SEQUENTIAL, Run(open_pool("threads", 2))):
        with pytest.raises(DamagedError, match=r"c/0/1/0/0"):
            content_tree(place, run=run)
        with pytest.raises(DamagedError, match=r"c/0/1/0/0"):
            check_equality(place, place, run=run)


@pytest.fixture
def saved(tmp_path):
    tree = content_tree(store(tmp_path / "a", noise((2, 70, 40, 40)), topleft=(0, 0, 40)), run=SEQUENTIAL)
    save_tree(tree, tmp_path / "tree.jsonl")
    return tree, tmp_path / "tree.jsonl"


def test_saved_trees_are_the_same(saved):
    tree, path = saved
    found = load_tree(path)
    assert (found.hash, found.content, found.cells, found.path) == (tree.hash, tree.content, tree.cells, tree.path)
    assert not list(differences(tree, found))
    for a, b in zip(tree.layers[0].mags[0].volumes, found.layers[0].mags[0].volumes, strict=True):
        np.testing.assert_array_equal(a.cells, b.cells)
        np.testing.assert_array_equal(a.digests, b.digests)


def test_trees_are_never_saved_in_a_dataset(saved, tmp_path):
    with pytest.raises(DatasetExistsError):
        save_tree(saved[0], tmp_path / "a/em/tree")
    assert not [p for p in tmp_path.rglob("*.tmp")]


@settings(deadline=None, max_examples=examples(40))
@given(st.data())
def test_damaged_trees_are_told(data):
    from wkdask.testing.strategies import mutated_bytes, mutated_json

    lines = SMALL_TREE.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    if data.draw(st.booleans()):
        lines[at] = json.dumps(data.draw(mutated_json(json.loads(lines[at])))).encode() + b"\n"
    else:
        lines[at] = data.draw(mutated_bytes(lines[at]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree"
        path.write_bytes(b"".join(lines))
        try:
            found = load_tree(path)
        except (DamagedError, InputError):
            return
        assert found.hash == json.loads(SMALL_TREE.splitlines()[0])["hash"]


def small_tree() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tree = content_tree(store(Path(folder) / "a", noise((2, 40, 8, 8))), run=SEQUENTIAL)
        save_tree(tree, Path(folder) / "tree")
        return (Path(folder) / "tree").read_bytes()


SMALL_TREE = small_tree()
