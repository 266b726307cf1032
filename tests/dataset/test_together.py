"""Processes that change one dataset at the same time lose nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import wkdask as wk
from wkdask.storage import observe

PROGRAM = Path(__file__).parent / "together.py"


def eight(verb, place):
    """Run eight processes that begin together."""
    command = [sys.executable, str(PROGRAM), verb, str(place)]
    children = [subprocess.Popen([*command, str(n)], stderr=subprocess.PIPE, text=True) for n in range(8)]
    said = [child.communicate(timeout=60)[1] for child in children]
    assert [child.returncode for child in children] == [0] * 8, said


def test_all_layers_are_there(tmp_path):
    eight("layers", tmp_path)
    layers = wk.Dataset.open(tmp_path / "ds").layers
    assert sorted(layers) == sorted(f"layer-{n}-{k}" for n in range(8) for k in range(3))
    assert all(list(map(str, layer.mags)) == ["1"] for layer in layers.values())


def test_all_magnifications_are_there(tmp_path):
    dataset = wk.Dataset(tmp_path / "ds", (1, 1, 1))
    dataset.add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (8, 8, 8)))
    eight("mags", tmp_path)
    layer = wk.Dataset.open(tmp_path / "ds").get_layer("em")
    assert [mag.to_tuple() for mag in layer.mags] == [(2**n,) * 3 for n in range(8)]
    assert layer.bounding_box.size == (256, 256, 256)
    for n, mag in enumerate(layer.mags):
        assert (layer.get_mag(mag).read(absolute_offset=(0, 0, 0), size=(2 * 2**n,) * 3) == n + 1).all()
        assert list(dataset.get_layer(f"layer-{n}").mags) == [mag]


@pytest.mark.parametrize("verb", ["write", "grow"])
def test_neighbours_in_one_shard_are_there(tmp_path, verb):
    dataset = wk.Dataset(tmp_path / "ds", (1, 1, 1))
    size = (48, 20, 20) if verb == "write" else (1, 1, 1)
    layer = dataset.add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), size))
    layer.add_mag(1, chunk_shape=16, shard_shape=64)
    eight(verb, tmp_path)
    expected = np.broadcast_to(np.repeat(np.arange(1, 9), 6)[:, None, None], (48, 20, 20))
    assert layer.bounding_box == wk.BoundingBox((0, 0, 0), (48, 20, 20))
    np.testing.assert_array_equal(layer.get_mag(1).read()[0], expected)


def test_a_link_to_a_dataset_is_the_same_dataset(tmp_path):
    dataset = wk.Dataset(tmp_path / "ds", (1, 1, 1))
    layer = dataset.add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (128, 16, 16)))
    layer.add_mag(1, chunk_shape=16, shard_shape=128)
    (tmp_path / "link").symlink_to(tmp_path / "ds")

    def write(n):
        mag = wk.Dataset.open(tmp_path / ("link" if n % 2 else "ds")).get_layer("em").get_mag(1)
        mag.write(np.full((16, 16, 16), n + 1, "uint8"), absolute_offset=(16 * n, 0, 0))

    for _ in range(5):
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, range(8)))
        found = layer.get_mag(1).read()
        np.testing.assert_array_equal(found[0, ::16, 0, 0], np.arange(1, 9))


def test_one_grows_while_another_does(tmp_path):
    layer = wk.Dataset(tmp_path / "ds", (1, 1, 1)).add_layer("em", "color", bounding_box=wk.BoundingBox((0, 0, 0), (8, 8, 8)))
    layer.add_mag(1, chunk_shape=16, shard_shape=32)
    others = []

    def grow():
        other = wk.Dataset.open(tmp_path / "ds").get_layer("em").get_mag(1)
        other.write(np.full((4, 4, 4), 2, "uint8"), absolute_offset=(0, 100, 0), allow_resize=True)

    def meanwhile(event, url):
        if event == "commit" and url.endswith("zarr.json") and not others:
            others.append(threading.Thread(target=grow))
            others[0].start()
            others[0].join(1.0)  # it waits for us; were it not to, it would be done by now

    with observe(meanwhile):
        layer.get_mag(1).write(np.full((4, 4, 4), 1, "uint8"), absolute_offset=(100, 0, 0), allow_resize=True)
    others[0].join()
    assert layer.bounding_box.size == (104, 104, 8)
    mag = layer.get_mag(1)
    assert (mag.read(absolute_offset=(100, 0, 0), size=(4, 4, 4)) == 1).all()
    assert (mag.read(absolute_offset=(0, 100, 0), size=(4, 4, 4)) == 2).all()
