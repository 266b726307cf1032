"""Magnifications that are there: what is made anew, what is refused before anything is written, what a stopped run leaves."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import wkdask as wk
from tests.conftest import examples
from wkdask.errors import DatasetExistsError, DatasetNotFoundError, InputError, PlanRefusedError, ReadOnlyError, WkdaskError
from wkdask.formats import Codec
from wkdask.operations import Coarser, Running, Sampling
from wkdask.operations.existing import UnfinishedMags
from wkdask.plan import Journal, ThreadPool
from wkdask.plan.execute import begin
from wkdask.storage import Location, observe
from wkdask.storage.local import LocalFiles

SIZE = (41, 30, 21)
SMALL = {"chunk_shape": 8, "shard_shape": 16}
ISOTROPIC = {"sampling_mode": "isotropic", "interpolation_mode": "max"}


def noise(seed, size=SIZE, channels=1):
    return np.random.default_rng(seed).integers(1, 255, (channels, *size)).astype("uint8")


def make(folder, *, mags=(), data_format="zarr3", seed=0, name="em", size=SIZE, channels=1):
    """A layer of noise at 0 with coarser magnifications of maxima."""
    dataset = wk.Dataset(folder, (4, 4, 4), exist_ok=True)
    box = wk.BoundingBox((0, 0, 0), size)
    layer = dataset.add_layer(name, "color", num_channels=channels, data_format=data_format, bounding_box=box)
    layer.add_mag(1, **SMALL).write(noise(seed, size, channels))
    if mags:
        layer.downsample_mag_list(1, mags, "max", **SMALL)
    return layer


def pyramid(volume, mags):
    """Maxima of whole blocks, ends mirrored: of maxima the voxels at the end stand for themselves."""
    found = {"1": volume}
    for mag in mags:
        padded = np.pad(volume, [(0, 0), *((0, -n % mag) for n in volume.shape[1:])], mode="edge")
        c, *size = padded.shape
        found[str(mag)] = padded.reshape(c, *(n for s in size for n in (s // mag, mag))).max((2, 4, 6))
    return found


def check(layer, volume):
    wanted = pyramid(volume, [mag.x for mag in layer.mags if mag.x > 1])
    for mag, view in layer.mags.items():
        array = view.array
        np.testing.assert_array_equal(array.read(array.box), wanted[str(mag)], err_msg=str(mag))


def names(layer):
    return [str(mag) for mag in layer.mags]


def folders(layer):
    return {path.name for path in Path(layer._store.location.url, layer.name).iterdir() if path.is_dir()}


def files(folder):
    """All files but those of our own work folder."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".wkdask" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


class Stop(BaseException):
    """Ends a run in the middle, as a kill would, but in this process."""


def stop_at(number, kind=None):
    """Raise after the k-th change of a kind, of any by default."""
    left = [number]

    def change(event, url):
        left[0] -= kind in (None, event)
        if left[0] <= 0 and kind in (None, event):
            raise Stop

    return observe(change)


def stopped(layer, listed, **options):
    """Stop a downsampling when so many magnifications are listed."""
    plan = layer.plan_downsample(
        Coarser(None, (wk.Mag(2), wk.Mag(4), wk.Mag(8))), Sampling(interpolation="max"), **SMALL, **options
    )
    with suppress(Stop), stop_at(listed, "commit"):
        plan.run(pool=ThreadPool(1))
    return plan


def edited(layer, change):
    """Change the layer in the JSON, and open it again."""
    path = Path(layer._store.location.url) / "datasource-properties.json"
    document = json.loads(path.read_bytes())
    change(next(found for found in document["dataLayers"] if found["name"] == layer.name))
    path.write_text(json.dumps(document))
    return wk.Dataset.open(path.parent).get_layer(layer.name)


# ------------------------------------------------------------------------------------- what a stopped run leaves


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
@pytest.mark.parametrize("listed", [1, 2])
def test_giving_up_a_stopped_run_makes_what_it_listed_anew(tmp_path, data_format, listed):
    layer = make(tmp_path / "ds", data_format=data_format)
    stopped(layer, listed)
    assert len(names(layer)) == 1 + listed
    layer.get_mag(1).write(noise(1))
    with pytest.raises(PlanRefusedError, match=r"start anew .*allow_overwrite=True"):
        layer.downsample(coarsest_mag=8, **ISOTROPIC, **SMALL)
    layer.downsample(coarsest_mag=8, **ISOTROPIC, **SMALL, allow_overwrite=True)
    assert names(layer) == ["1", "2", "4", "8"]
    check(layer, noise(1))


def test_giving_up_a_stopped_run_starts_where_that_did(tmp_path):
    layer = make(tmp_path / "ds", mags=[2])
    stopped_at = layer.plan_downsample(Coarser(None, (wk.Mag(4), wk.Mag(8))), Sampling(interpolation="max"), **SMALL)
    with suppress(Stop), stop_at(1, "commit"):
        stopped_at.run(pool=ThreadPool(1))
    layer.get_mag(1).write(noise(1))
    coarser = Coarser(overwrite=True)
    plan = layer.plan_downsample(coarser, Sampling(coarsest=wk.Mag(8), interpolation="min"), **SMALL)
    assert plan.settings["from"] == "2" and plan.settings["mags"] == ["4", "8"] and plan.settings["anew"] == ["4"]
    with pytest.raises(PlanRefusedError, match=r"mags 4, 8 .*was stopped.*would leave some"):
        layer.plan_downsample(Coarser(wk.Mag(1), (wk.Mag(2),), overwrite=True))


def test_what_a_stopped_run_listed_is_never_left(tmp_path):
    layer = make(tmp_path / "ds")
    stopped(layer, 2)
    before = files(tmp_path / "ds")
    for call in (
        lambda: layer.downsample(coarsest_mag=2, allow_overwrite=True, **ISOTROPIC),
        lambda: layer.downsample_mag(4, 8, allow_overwrite=True),
    ):
        with pytest.raises(PlanRefusedError, match=r"makes mags 2, 4, 8 of layer 'em' was stopped.*Run that again"):
            call()
    assert files(tmp_path / "ds") == before
    stopped(layer, 9)
    check(layer, noise(0))


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
def test_giving_up_a_stopped_run_leaves_no_folder_of_it(tmp_path, data_format):
    layer = make(tmp_path / "ds", data_format=data_format)
    stopped(layer, 1)
    assert folders(layer) == {"1", "2", "4", "8"}
    layer.get_mag(1).write(noise(1))
    layer.redownsample("max")
    assert folders(layer) == {"1", "2"} and names(layer) == ["1", "2"]
    layer.downsample(coarsest_mag=8, **ISOTROPIC)
    check(layer, noise(1))


def test_giving_up_a_stopped_run_deletes_nothing_else(tmp_path):
    layer = make(tmp_path / "ds")
    stopped(layer, 1)
    (tmp_path / "ds/em/16").mkdir()
    (tmp_path / "ds/em/16/notes.txt").write_text("mine")
    before = files(tmp_path / "ds")
    with pytest.raises(DatasetExistsError, match=r"em/16 exists, but is no magnification of layer 'em'"):
        layer.downsample(coarsest_mag=16, **ISOTROPIC, **SMALL, allow_overwrite=True)
    assert files(tmp_path / "ds") == before
    layer.redownsample("max")
    assert (tmp_path / "ds/em/16/notes.txt").read_text() == "mine"


def test_what_is_listed_under_another_name_is_not_deleted(tmp_path):
    layer = make(tmp_path / "ds", mags=[2])
    plan = stopped(make(tmp_path / "ds", name="other"), 1)
    assert folders(layer) == {"1", "2"}
    shutil.copytree(tmp_path / "ds/other/8", tmp_path / "kept")

    def listing(found):
        found["mags"].append({"mag": [16, 16, 16], "path": "./other/8"})

    layer = edited(layer, listing)
    other = wk.Dataset.open(tmp_path / "ds").get_layer("other")
    other.redownsample("max")
    assert folders(other) == {"1", "2", "8"} and files(tmp_path / "ds/other/8") == files(tmp_path / "kept")
    assert plan.journal.document() is None


@settings(max_examples=examples(20))
@given(
    settings_=st.fixed_dictionaries(
        {},
        optional={
            key: st.one_of(
                st.none(),
                st.integers(),
                st.text(max_size=4),
                st.lists(st.one_of(st.integers(), st.sampled_from(["2", "4", "../x", "zz", "2-2-1"]))),
            )
            for key in ("from", "mags", "anew")
        },
    ),
    fingerprint=st.one_of(st.none(), st.integers(), st.text()),
)
def test_journals_that_lie_are_errors_or_given_up(settings_, fingerprint):
    with tempfile.TemporaryDirectory() as folder:
        layer = make(Path(folder) / "ds", size=(9, 9, 9), mags=[2])
        journal = Journal(Location(str(Path(folder) / "ds")), "em")
        document = json.dumps({"fingerprint": fingerprint, "settings": settings_})
        for call in (
            lambda: layer.redownsample("max"),
            lambda: layer.downsample(coarsest_mag=4, allow_overwrite=True, **ISOTROPIC),
            lambda: layer.downsample(coarsest_mag=2, **ISOTROPIC),
        ):
            (journal.folder / "plan.json").write_bytes(document.encode())
            with suppress(WkdaskError):
                call()
            assert {"1", "2"} <= folders(layer)
        journal.folder.delete()
        layer.redownsample("max")
        check(layer, noise(0, (9, 9, 9)))


def test_what_a_journal_says():
    journal = Journal(Location("memory://says/ds"), "em")
    assert UnfinishedMags.of(journal) is None
    said = {"settings": {"from": "1", "mags": ["2", "4-4-1"], "anew": ["2"]}}
    (journal.folder / "plan.json").write_bytes(json.dumps(said).encode())
    found = UnfinishedMags.of(journal)
    assert found == UnfinishedMags(wk.Mag(1), frozenset({wk.Mag(2), wk.Mag("4-4-1")}), frozenset({wk.Mag(2)}))
    assert found.unlisted == {wk.Mag("4-4-1")}


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
def test_setting_up_that_was_killed_goes_on(tmp_path, data_format):
    kills = 0
    while True:
        layer = make(tmp_path / str(kills), data_format=data_format)
        try:
            with stop_at(kills + 1):
                layer.downsample(coarsest_mag=4, only_setup_mags=True, **ISOTROPIC, **SMALL)
            break
        except Stop:
            kills += 1
        layer.downsample(coarsest_mag=4, only_setup_mags=kills % 2 == 0, **ISOTROPIC, **SMALL)
        layer.redownsample("max")
        assert names(layer) == ["1", "2", "4"]
        check(layer, noise(0))
    assert kills > 3


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
def test_only_what_setting_up_left_is_taken_over(tmp_path, data_format):
    layer = make(tmp_path / "ds", data_format=data_format)
    layer.plan_downsample(Coarser(mags=(wk.Mag(2),)), **SMALL).setup.create()
    with pytest.raises(DatasetExistsError, match="Delete that folder first"):
        layer.downsample_mag(1, 2, chunk_shape=16, shard_shape=32)
    document = tmp_path / "ds/em/2" / ("zarr.json" if data_format == "zarr3" else "header.wkw")
    whole = document.read_bytes()
    document.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetExistsError, match="Delete that folder first"):
        layer.downsample_mag(1, 2, **SMALL)
    document.write_bytes(whole)
    (document.parent / "mine.txt").write_text("mine")
    with pytest.raises(DatasetExistsError, match="Delete that folder first"):
        layer.downsample_mag(1, 2, **SMALL)
    (document.parent / "mine.txt").unlink()
    layer.downsample_mag(1, 2, "max", **SMALL)
    check(layer, noise(0))


def test_a_half_made_pyramid_is_not_nothing_to_do(tmp_path):
    layer = make(tmp_path / "ds", mags=[2, 4])
    layer.get_mag(1).write(noise(1))
    plan = layer.plan_downsample(Coarser(wk.Mag(1), (wk.Mag(2), wk.Mag(4)), overwrite=True), running=Running(1))
    begin(plan)
    for call in (layer.downsample, lambda: layer.downsample(coarsest_mag=4), lambda: layer.downsample(coarsest_mag=2)):
        with pytest.raises(PlanRefusedError, match=r"makes mags 2, 4 of layer 'em' was stopped.*Run that again.*redownsample"):
            call()
    with pytest.raises(PlanRefusedError, match="Finish that first"):
        layer.downsample(coarsest_mag=8)
    layer.downsample(coarsest_mag=8, allow_overwrite=True, **ISOTROPIC)
    check(layer, noise(1))
    layer.downsample(coarsest_mag=8)  # nothing to do


def test_a_dataset_that_is_gone_does_not_come_back_empty(tmp_path):
    layer = make(tmp_path / "ds", mags=[2])
    document = tmp_path / "ds/datasource-properties.json"
    for coarser in (Coarser(wk.Mag(1), (wk.Mag(2),), overwrite=True), Coarser(wk.Mag(1), (wk.Mag(4),))):
        plan = layer.plan_downsample(coarser, **SMALL)
        begin(plan)
        kept = document.read_bytes()
        document.unlink()
        for call in (lambda plan=plan: plan.milestones[0].commit(None, None), plan.setup.check):
            with pytest.raises(DatasetNotFoundError, match=r"datasource-properties\.json"):
                call()
        assert not document.exists()
        document.write_bytes(kept)
        plan.run()


# ---------------------------------------------------------------------- what is refused before anything is written


def anew(layer):
    """All the ways to make magnifications anew."""
    return {
        "redownsample": lambda: layer.redownsample("max"),
        "update_pyramid": lambda: layer.update_pyramid(layer.bounding_box, "max"),
        "downsample": lambda: layer.downsample(1, coarsest_mag=4, allow_overwrite=True, **ISOTROPIC),
        "downsample_mag": lambda: layer.downsample_mag(1, 4, "max", allow_overwrite=True),
        "downsample_mag_list": lambda: layer.downsample_mag_list(1, [2, 4], "max", allow_overwrite=True),
    }


WAYS = list(anew(None))


def refused(layer, way, error, words):
    """A way to make magnifications anew is refused, and not a byte is written."""
    folder = Path(layer._store.location.url).parent
    before = files(folder)
    with pytest.raises(error, match=words):
        anew(layer)[way]()
    assert files(folder) == before and not (folder / "ds/.wkdask/jobs/em").exists()


@pytest.mark.parametrize("way", WAYS)
def test_other_channels_of_an_array_are_kept(tmp_path, way):
    layer = make(tmp_path / "ds", mags=[2, 4], channels=3)

    def one(found):
        found |= {"numChannels": 1, "elementClass": "uint8"}
        found["mags"] = [mag | {"channelIndex": 1} for mag in found["mags"]]

    refused(edited(layer, one), way, InputError, "is 1 of the 3 channels")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shared", [("1", "1"), ("1", "2"), ("2", "2"), ("../em/./2", "2")])
def test_two_mags_in_one_place(tmp_path, way, shared):
    layer = make(tmp_path / "ds", mags=[2, 4])
    where, other = shared

    def share(found):
        found["mags"][2]["path"] = str(tmp_path / "ds/em" / where) if where.startswith("..") else f"./em/{where}"
        found["mags"][1]["path"] = f"./em/{other}"

    refused(edited(layer, share), way, InputError, r"lies where em/[124] does, at .*/em/[12], so it is not written")


def test_a_place_of_another_layer(tmp_path):
    layer = make(tmp_path / "ds", mags=[2, 4])
    make(tmp_path / "ds", name="other", mags=[2, 4])
    layer = edited(layer, lambda found: found["mags"][2].update(path="./other/4"))
    refused(layer, "redownsample", InputError, "Mag 4 of layer 'em' lies where other/4 does")
    layer.downsample_mag(1, 2, "max", allow_overwrite=True)  # is its own


@pytest.mark.parametrize("way", WAYS)
def test_links_to_other_datasets_are_followed(tmp_path, way):
    theirs = make(tmp_path / "theirs", mags=[2, 4])
    shutil.copytree(tmp_path / "theirs", tmp_path / "ds")
    shutil.rmtree(tmp_path / "ds/em")
    (tmp_path / "ds/em").symlink_to(tmp_path / "theirs/em")
    layer = wk.Dataset.open(tmp_path / "ds").get_layer("em")
    refused(layer, way, ReadOnlyError, r"lies outside the dataset, at .*/theirs/em/[24]")
    check(theirs, noise(0))


def test_datasets_behind_links_are_their_own(tmp_path):
    make(tmp_path / "real", mags=[2, 4]).get_mag(1).write(noise(1))
    (tmp_path / "ds").symlink_to(tmp_path / "real")
    layer = wk.Dataset.open(tmp_path / "ds").get_layer("em")
    layer.redownsample("max")
    check(layer, noise(1))
    (tmp_path / "real/em/4").rename(tmp_path / "real/em/elsewhere")
    (tmp_path / "real/em/4").symlink_to("elsewhere")
    layer.get_mag(1).write(noise(2))
    layer.redownsample("max")
    check(layer, noise(2))


@pytest.mark.filterwarnings("ignore:Numcodecs codecs")
@pytest.mark.parametrize("way", WAYS)
def test_arrays_that_can_only_be_read(tmp_path, way):
    make(tmp_path / "ds", mags=[2, 4])
    shutil.rmtree(tmp_path / "ds/em/4")
    options = {"shape": (1, 16, 16, 16), "chunks": (1, 8, 8, 8), "dtype": "uint8", "dimension_names": list("cxyz")}
    zarr.create_array(tmp_path / "ds/em/4", **options, compressors=zarr.codecs.numcodecs.Zlib(level=1))[:] = 7
    refused(wk.Dataset.open(tmp_path / "ds").get_layer("em"), way, InputError, r"em/4 can not be written: its codecs")


@pytest.mark.filterwarnings("ignore::wkdask.metadata.MetadataWarning")
@pytest.mark.parametrize("way", WAYS)
def test_dtypes_that_are_not_those_of_the_document(tmp_path, way):
    layer = make(tmp_path / "ds", mags=[2, 4])
    layer = edited(layer, lambda found: found.update(elementClass="uint16"))
    words = r"array of em/\d has uint8 voxels, but layer 'em' is uint16 .*Correct elementClass"
    refused(layer, way, InputError, words)
    with pytest.raises(InputError, match=words):
        layer.downsample(coarsest_mag=8)
    assert folders(layer) == {"1", "2", "4"}


@pytest.mark.filterwarnings("ignore::wkdask.metadata.MetadataWarning")
def test_one_array_of_another_dtype(tmp_path):
    make(tmp_path / "ds", mags=[2, 4])
    document = tmp_path / "ds/em/4/zarr.json"
    document.write_text(json.dumps(json.loads(document.read_bytes()) | {"data_type": "int8"}))
    refused(wk.Dataset.open(tmp_path / "ds").get_layer("em"), "redownsample", InputError, "em/4 has int8 voxels")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chunk_shape": 16}, r"em/2 has the chunk \(8, 8, 8\), not \(16, 16, 16\), and keeps it"),
        ({"chunk_shape": 32}, r"not \(32, 32, 32\)"),
        ({"shard_shape": 32}, r"em/2 has the shard \(16, 16, 16\), not \(32, 32, 32\)"),
        ({"chunk_shape": 8, "chunks_per_shard": 4}, r"has the shard \(16, 16, 16\), not \(32, 32, 32\)"),
        ({"compress": False}, "has the codec zstd:5, not none"),
        ({"compress": Codec("zstd", 1)}, "has the codec zstd:5, not zstd:1"),
        ({"compress": Codec("gzip", 6)}, "has the codec zstd:5, not gzip:6"),
    ],
)
def test_what_is_asked_for_is_not_ignored(tmp_path, options, words):
    layer = make(tmp_path / "ds", mags=[2, 4])
    before = files(tmp_path)
    for call in (layer.downsample, layer.downsample_mag, layer.downsample_mag_list, layer.redownsample):
        given, mags = {"allow_overwrite": True}, {"downsample_mag": (1, 2), "downsample_mag_list": (1, [2])}.get(call.__name__)
        if call == layer.redownsample:
            given, mags = {}, ()
            if "chunks_per_shard" in options:
                continue
        elif mags is None:
            given, mags = given | {"coarsest_mag": 2, "sampling_mode": "isotropic"}, (1,)
        with pytest.raises(InputError, match=words):
            call(*mags, **given, **options)
    assert files(tmp_path) == before


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
@pytest.mark.parametrize("compress", [True, False])
def test_what_is_there_may_be_asked_for(tmp_path, data_format, compress):
    layer = make(tmp_path / "ds", data_format=data_format)
    layer.downsample_mag_list(1, [2, 4], "max", compress=compress, **SMALL)
    for seed, options in enumerate([{}, SMALL, {"chunk_shape": 8}, {"shard_shape": 16}, {"compress": compress}]):
        layer.get_mag(1).write(noise(seed))
        layer.redownsample("max", **options)
        check(layer, noise(seed))


# ----------------------------------------------------------------------------------------------- boxes and arrays


def test_beyond_a_box_the_finest_mag_keeps_its_voxels(tmp_path):
    layer = make(tmp_path / "ds", mags=[2, 4], size=(32, 32, 32))
    smaller = layer.properties.with_bounding_box(((0, 0, 0), (20, 32, 16)))  # as another program makes it, which erases nothing
    layer._store.update(lambda old: old.with_layer(smaller))
    layer.redownsample("max")
    layer.update_pyramid(wk.BoundingBox((0, 0, 0), (4, 4, 4)), "max")
    layer.bounding_box = wk.BoundingBox((0, 0, 0), (32, 32, 32))
    np.testing.assert_array_equal(layer.get_mag(1).read(), noise(0, (32, 32, 32)))
    coarse = layer.get_mag(2).read()
    assert coarse[:, :10, :, :8].all() and not coarse[:, 10:].any() and not coarse[..., 8:].any()


@settings(max_examples=examples(6))
@given(size=st.tuples(*[st.integers(1, 70)] * 3), stored=st.tuples(*[st.integers(1, 40)] * 3), anew=st.booleans())
def test_beyond_an_array_voxels_are_zero(size, stored, anew):
    """The JSON says how large a layer is; arrays may end before."""
    with tempfile.TemporaryDirectory() as folder:
        layer = make(Path(folder) / "ds", size=stored)
        wide = dict(zip(("width", "height", "depth"), size, strict=True))
        layer = edited(layer, lambda found: found["boundingBox"].update(wide))
        volume = layer.get_mag(1).read()
        assert volume.shape[1:] == size
        filled = np.zeros((1, *size), "uint8")
        both = (slice(None), *(slice(min(a, b)) for a, b in zip(size, stored, strict=True)))
        filled[both] = noise(0, stored)[both]
        np.testing.assert_array_equal(volume, filled)
        layer.downsample_mag_list(1, [2, 4], "max", **SMALL)
        if anew:
            layer.update_pyramid(layer.bounding_box, "max")
            layer.update_pyramid(wk.BoundingBox([n - 1 for n in size], (1, 1, 1)), "max")
        check(layer, filled)


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
def test_planning_looks_at_the_units_that_are_read_and_at_each_once(tmp_path, data_format):
    layer = make(tmp_path / "ds", data_format=data_format, mags=[2, 4], size=(128, 128, 32))
    seen = []
    real = LocalFiles.stat

    def stat(self, path):
        seen.append(path)
        return real(self, path)

    def looked_at(**coarser):
        seen.clear()
        layer.plan_downsample(Coarser(wk.Mag(1), (wk.Mag(2), wk.Mag(4)), overwrite=True, **coarser), running=Running(1))
        units = [path for path in seen if "/em/1/" in path and not path.endswith(("zarr.json", "header.wkw"))]
        assert len(units) == len(set(units))
        return len(units)

    with mock.patch.object(LocalFiles, "stat", stat):
        assert looked_at() == math.prod((8, 8, 2))
        assert looked_at(within=wk.BoundingBox((3, 3, 3), (5, 5, 5))) == 8  # a unit of mag 2 is made of eight of mag 1
        assert looked_at(within=wk.BoundingBox((30, 3, 3), (5, 5, 5))) == 16
        layer = edited(layer, lambda found: found["boundingBox"].update(width=1024, height=512))
        if data_format == "zarr3":  # whose arrays end where their documents say, not with the layer
            assert looked_at(within=wk.BoundingBox((0, 0, 0), (600, 400, 32))) == math.prod((8, 8, 2))


def test_an_update_that_was_stopped_notices_changes_of_what_it_reads(tmp_path):
    layer = make(tmp_path / "ds", mags=[2, 4], size=(64, 64, 32))
    box = wk.BoundingBox((0, 0, 0), (3, 3, 3))
    coarser = Coarser(wk.Mag(1), (wk.Mag(2), wk.Mag(4)), (), True, box)

    def planned():
        return layer.plan_downsample(coarser, Sampling(interpolation="max"))

    first = planned().fingerprint
    layer.get_mag(1).write(noise(1, (8, 8, 8)), absolute_offset=(48, 48, 16))
    assert planned().fingerprint == first
    layer.get_mag(1).write(noise(1, (8, 8, 8)), absolute_offset=(16, 16, 16))  # in another unit, but read
    assert planned().fingerprint != first


@pytest.mark.parametrize("data_format", ["zarr3", "wkw"])
def test_giving_up_a_run_may_itself_be_stopped_anywhere(tmp_path, data_format):
    size, kills = (17, 9, 9), 0
    while True:
        layer = make(tmp_path / str(kills), size=size, data_format=data_format)
        stopped(layer, 2)
        layer.get_mag(1).write(noise(1, size))
        again = {"coarsest_mag": 4, **ISOTROPIC, **SMALL, "allow_overwrite": True}
        try:
            with stop_at(kills + 1):
                layer.downsample(**again)
            break
        except Stop:
            kills += 1
        layer.downsample(**again)
        assert folders(layer) == {"1", "2", "4"}
        check(layer, noise(1, size))
    assert kills > 10
    assert folders(layer) == {"1", "2", "4"}
