"""Every name and parameter of the founding API: spelled out, with its default, and each changes what comes out."""

from __future__ import annotations

import importlib.util
import inspect
import os
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import wkdask as wk
from wkdask.errors import ServerNotSupportedError


def loaded(name: str) -> ModuleType:
    """Import the table beside this file."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page = loaded("api_page")
SIGNATURES, ROWS, RAISES, Lab = page.SIGNATURES, page.ROWS, page.RAISES, page.Lab

OF_SERVERS = [
    "announce_manual_upload",
    "download",
    "get_remote_datasets",
    "open_remote",
    "trigger_reload_in_datastore",
    "upload",
]
SEVERAL_WAYS = {"open_remote", "trigger_reload_in_datastore"}
"""Which newer versions take an id instead, so that no name is demanded."""
KINDS = [wk.Dataset, wk.RemoteDataset, wk.Layer, wk.SegmentationLayer, wk.MagView, wk.View, wk.Attachments]
OPEN = {  # on purpose: what from_images, a user's function and a typed dictionary have; any number of attachments, as ever
    "plan_from_images": {"args", "options"},
    "plans_from_images": {"args", "options"},
    "map_blocks": {"kwargs"},
    "plan_map_blocks": {"options"},
    "plan_write_dask": {"options"},
    "write_dask": {"options"},
    "add_attachments": {"other"},
    "add_copy_attachments": {"other"},
    "add_symlink_attachments": {"other"},
}


def parameters_of(text: str) -> dict[str, inspect.Parameter]:
    """Return the parameters that a text has in the order of a signature."""
    return dict(inspect.signature(eval(f"lambda {text}: None")).parameters)


def found_parameters(function) -> dict[str, inspect.Parameter]:
    return {name: one for name, one in inspect.signature(function).parameters.items() if name != "self"}


# ------------------------------------------------------------------------------------------------------ signatures


@pytest.mark.parametrize("verb", SIGNATURES)
def test_signatures(verb):
    wanted, found = parameters_of(SIGNATURES[verb]), found_parameters(getattr(wk.Dataset, verb))
    for name, parameter in wanted.items():
        assert name in found, name
        default = found[name].default
        if verb in SEVERAL_WAYS and parameter.default is parameter.empty:
            assert default is None, name
            continue
        assert (parameter.default is parameter.empty) == (default is parameter.empty), name
        assert getattr(default, "value", default) == parameter.default, name
    by_place = [name for name, one in wanted.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert [name for name, one in found.items() if one.kind is one.POSITIONAL_OR_KEYWORD][: len(by_place)] == by_place


@pytest.mark.parametrize("kind", KINDS)
def test_no_signature_takes_whatever_is_given(kind):
    catching = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    for name in dir(kind):
        if not name.startswith("_") and inspect.isroutine(getattr(kind, name)):
            parameters = inspect.signature(getattr(kind, name)).parameters.values()
            assert {one.name for one in parameters if one.kind in catching} == OPEN.get(name, set()), name


def test_properties():
    for name, writable in page.PROPERTIES.items():
        found = inspect.getattr_static(wk.Dataset, name)
        assert isinstance(found, property)
        assert (found.fset is not None, found.fdel) == (writable, None), name
    for name, (writable, deletable) in page.REMOTE.items():
        found = inspect.getattr_static(wk.RemoteDataset, name)
        assert (found.fset is not None, found.fdel is not None) == (writable, deletable), name
    assert issubclass(wk.RemoteDataset, wk.Dataset)
    assert {kind.name for kind in wk.Dataset.ConversionLayerMapping} == set(page.MAPPINGS.split())


# ---------------------------------------------------------------------------------------------------------- effects


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    page.furnish(folder)
    return folder


@pytest.fixture
def labs(furnished, tmp_path):
    """Two folders with the same datasets and images."""
    for name in ("usual", "changed"):
        shutil.copytree(furnished, tmp_path / name, copy_function=os.link)  # files are replaced, never written in place
    return Lab(tmp_path / "usual"), Lab(tmp_path / "changed")


def seen(lab, row, *, given):
    """Call a verb, with or without the parameter that a row is about, and look."""
    options = {**page.USUAL.get(row.verb, lambda lab: {})(lab), **row.beside(lab)}
    if given:
        options[row.parameter] = row.value(lab)
    try:
        found = wk.Dataset(**options) if row.verb == "__init__" else getattr(lab.dataset(), row.verb)(**options)
    except wk.WkdaskError:
        return RAISES
    return row.look(lab, found)


NUMBERED = [f"{row.verb}-{row.parameter}" for row in ROWS]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "row", ROWS, ids=[f"{name}{n}" if NUMBERED[:n].count(name) else name for n, name in enumerate(NUMBERED)]
)
def test_each_parameter_changes_what_comes_out(labs, row):
    usual, changed = labs
    assert seen(changed, row, given=True) == row.expected
    assert seen(usual, row, given=False) != row.expected


def test_every_parameter_has_a_row():
    wanted = {(verb, name) for verb in SIGNATURES if verb not in OF_SERVERS for name in parameters_of(SIGNATURES[verb])}
    assert {(row.verb, row.parameter) for row in ROWS} == wanted
    assert max(Counter(NUMBERED).values()) <= 2


@pytest.mark.filterwarnings("ignore")
def test_verbs_without_parameters(labs):
    brain = labs[0].dataset()
    assert brain.calculate_bounding_box() == wk.BoundingBox((0, 0, 0), (40, 32, 16))
    assert brain.get_color_layer().name == brain.get_color_layers()[0].name == "em"
    assert brain.get_segmentation_layer().name == brain.get_segmentation_layers()[0].name == "cells"
    assert labs[0].dataset("empty").calculate_bounding_box().is_empty()
    for kind in (brain.get_color_layer, labs[0].dataset("empty").get_segmentation_layer):
        kind_of = (RuntimeError, IndexError)
        if kind == brain.get_color_layer:
            brain.add_layer_like(brain.get_layer("em"), "second")
        for builtin in kind_of:
            with pytest.raises(builtin):
                kind()


def test_what_properties_say(labs):
    brain = labs[0].dataset()
    assert list(brain.layers) == ["em", "cells"]
    assert (brain.voxel_size, brain.read_only, Path(brain.path)) == ((4, 4, 35), False, labs[0] / "brain")
    assert brain.voxel_size_with_unit == wk.VoxelSize((4, 4, 35))
    with pytest.warns(DeprecationWarning, match="voxel_size"):
        assert brain.scale == (4, 4, 35)
    brain.name = "renamed"
    brain.default_view_configuration = wk.DatasetViewConfiguration(zoom=0.25)
    again = labs[0].dataset()
    assert (again.name, again.default_view_configuration.zoom) == ("renamed", 0.25)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("verb", OF_SERVERS)
def test_all_parameters_of_what_needs_a_server(labs, verb):
    options = dict.fromkeys(parameters_of(SIGNATURES[verb]), "x")
    with pytest.raises(ServerNotSupportedError, match=verb):
        getattr(labs[0].dataset(), verb)(**options)


@pytest.mark.filterwarnings("ignore")
def test_remote_datasets_are_explored_by_all_parameters():
    with pytest.raises(ServerNotSupportedError, match="explore_and_add_remote"):
        wk.RemoteDataset.explore_and_add_remote(**dict.fromkeys(parameters_of(page.EXPLORE), "x"))


# ------------------------------------------------------------------------------------------------- the older page


def test_the_older_page_in_use(tmp_path):
    from wkdask.dataset import Dataset

    rng = np.random.default_rng(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        dataset = Dataset.create(tmp_path / "new", scale=(1, 1, 1))
        layer = dataset.add_layer(layer_name="color", category="color", dtype_per_channel="uint8", num_channels=3)
        mag = layer.add_mag("1")
        voxels = rng.integers(1, 200, (3, 64, 48, 8)).astype("uint8")
        mag.write(offset=(10, 20, 30), data=voxels)
        coarse = layer.add_mag("2")
        coarse.write(offset=(5, 10, 15), data=voxels[:, ::2, ::2, ::2])
        opened = Dataset(tmp_path / "new").get_layer("color")
        assert opened.bounding_box == wk.BoundingBox((10, 20, 30), (64, 48, 8))
        for name, step, first in (("1", 1, (10, 20, 30)), ("2", 2, (5, 10, 15))):
            found, wanted = opened.get_mag(name), voxels[:, ::step, ::step, ::step]
            np.testing.assert_array_equal(found.read(), wanted)
            np.testing.assert_array_equal(found.read(offset=first, size=(4, 4, 4)), wanted[:, :4, :4, :4])
