"""Every option of `convert` does what it says; its defaults are those of the reference."""

from __future__ import annotations

import json

import numpy as np
import pytest

import wkdask as wk
from wkdask.storage import observe


def layer_of(target, name="em"):
    return wk.Dataset.open(target).get_layer(name)


def spec_of(target, mag=1):
    return layer_of(target).get_mag(mag).spec


def names(target):
    return [str(mag) for mag in layer_of(target).mags]


def coarse(target):
    return layer_of(target).get_mag("2-2-1").read()[0, 0, 0, 0]


def first(target):
    return layer_of(target).get_mag(1).read()[0, 0, 0, 0]


def block(volume):
    return volume[:2, :2, 0].ravel()


# option and value; what to look at; what it is then, computed from the voxels where it depends on them
TABLE = {
    "--voxel-size": ("8,8,8", lambda t: wk.Dataset.open(t).voxel_size_with_unit.factor, (8, 8, 8)),
    "--unit": ("micrometer", lambda t: str(wk.Dataset.open(t).voxel_size_with_unit.unit), "micrometer"),
    "--layer-name": ("other", lambda t: list(wk.Dataset.open(t).layers), ["other"]),
    "--category": ("segmentation", lambda t: (layer_of(t).category, layer_of(t).largest_segment_id), ("segmentation", 199)),
    "--name": ("my dataset", lambda t: wk.Dataset.open(t).name, "my dataset"),
    "--chunk-shape": ("8,16,32", lambda t: spec_of(t).chunk, (1, 8, 16, 32)),
    "--shard-shape": ("16,32,64", lambda t: (spec_of(t).unit, spec_of(t, "2-2-1").unit), ((1, 16, 32, 64),) * 2),
    "--axis-order": ("czyx", lambda t: spec_of(t).axes, tuple("czyx")),
    "--no-compress": (None, lambda t: spec_of(t).codec, None),
    "--codec": ("gzip:3", lambda t: str(spec_of(t).codec), "gzip:3"),
    "--no-downsample": (None, names, ["1"]),
    "--max-mag": ("2", names, ["1", "2-2-1"]),
    "--sampling-mode": ("isotropic", names, ["1", "2", "4"]),
    "--interpolation-mode": ("max", coarse, lambda volume: block(volume).max()),
    "--data-format": ("wkw", lambda t: (str(layer_of(t).data_format), spec_of(t).unit), ("wkw", (1, 32, 32, 32))),
    "--chunks-per-shard": ("4,2,1", lambda t: spec_of(t).unit, (1, 64, 32, 16)),
    "--dtype": ("uint16", lambda t: str(layer_of(t).dtype), "uint16"),
    "--rescale": ("100,355", first, lambda volume: max(0, int(volume[0, 0, 0]) - 100)),
    "--invert": (None, first, lambda volume: 255 - volume[0, 0, 0]),
    "--flip": ("yz", first, lambda volume: volume[0, -1, -1]),
    "--swap-xy": (None, lambda t: layer_of(t).bounding_box.size.to_tuple(), (50, 40, 20)),
    "--topleft": ("64,1,3", lambda t: layer_of(t).bounding_box.topleft.to_tuple(), (64, 1, 3)),
    "--mag": ("2-2-1", lambda t: (names(t), *layer_of(t).bounding_box.size), (["2-2-1", "4-4-1"], 80, 100, 20)),
}
# options that must not change a voxel
PRACTICAL = {
    "--batch-size": "32",
    "--jobs": "1",
    "--distribution-strategy": "sequential",
    "--memory-limit": "1GiB",
    "--scratch": "scratch",
    "--json": None,
    "--progress": "plain",
    "--verbose": None,
    "--quiet": None,
    "--missing": "zeros",
    "--z-from-name": r"_(\d+)\.tif$",
    "--layers-by": "enforce_single_layer",
    "--max-layers": "1",
    "--restart": None,
    "--channel": "0",
    "--timepoint": "0",
    "--axes": "zyx",
    "--compress": None,
    "--downsample": None,
    "--probe": "2",
}


def given(option, value):
    return (option,) if value is None else (option, value)


@pytest.fixture
def source(slices):
    return slices()


def test_options_that_change_the_result(convert, source, tmp_path):
    folder, volume = source
    assert convert(folder, tmp_path / "usual").code == 0
    for option, (value, look, expected) in TABLE.items():
        target = tmp_path / option
        assert convert(folder, target, *given(option, value)).code == 0, option
        wanted = expected(volume) if callable(expected) else expected
        assert look(target) == wanted, option
        if option not in ("--layer-name", "--category", "--data-format"):
            assert look(tmp_path / "usual") != wanted, option
    assert layer_of(tmp_path / "usual").category == "color"
    assert coarse(tmp_path / "usual") == int(np.median(block(volume)))


def voxels(target):
    return {str(mag): view.read().tolist() for mag, view in layer_of(target).mags.items()}


def test_options_that_do_not(convert, source, tmp_path):
    folder, _ = source
    convert(folder, tmp_path / "usual")
    usual = voxels(tmp_path / "usual")
    for option, value in PRACTICAL.items():
        words = given(option, str(tmp_path / value) if option == "--scratch" else value)
        assert convert(folder, tmp_path / option, *words).code == 0, option
        assert voxels(tmp_path / option) == usual, option


def test_the_tables_name_every_option():
    import inspect

    from wkdask.cli.convert import convert

    known = {*TABLE, *PRACTICAL, "--job-resources", "--overwrite-existing", "--dry-run"}
    parameters = {name: p for name, p in inspect.signature(convert).parameters.items() if name not in ("source", "target")}
    options = {"--json" if name == "as_json" else "--" + name.replace("_", "-") for name in parameters}
    assert options <= known


def test_defaults(cli, slices, tmp_path):
    source, _ = slices("my_stack", (300, 200, 3))
    assert cli("convert", source, tmp_path / "ds", "--voxel-size", "4,4,35").code == 0
    dataset = wk.Dataset.open(tmp_path / "ds")
    layer = dataset.get_layer("my_stack")
    assert (dataset.name, str(dataset.voxel_size_with_unit), layer.category) == ("ds", "4 x 4 x 35 nanometer", "color")
    spec = layer.get_mag(1).spec
    assert (spec.chunk, spec.unit, str(spec.codec)) == ((1, 32, 32, 32), (1, 4096, 4096, 32), "zstd:5")
    assert [str(mag) for mag in layer.mags] == ["1", "2-2-1", "4-4-1"]


def test_scratch_is_used_and_left_empty(convert, source, tmp_path):
    seen = set()

    def look(event, url):
        seen.update((tmp_path / "scratch").glob("*"))

    with observe(look):
        assert convert(source[0], tmp_path / "ds", "--scratch", tmp_path / "scratch").code == 0
    assert seen
    assert not list((tmp_path / "scratch").rglob("*.tmp"))


def test_missing_slices(convert, source, tmp_path):
    folder, volume = source
    (folder / "slice_007.tif").unlink()
    done = convert(folder, tmp_path / "refused")
    assert (done.code, (tmp_path / "refused").exists()) == (2, False)
    assert "7 is missing" in done.err
    assert "--missing" in done.err
    for how, slice_7 in (("zeros", 0 * volume[..., 7]), ("repeat", volume[..., 6])):
        done = convert(folder, tmp_path / how, "--missing", how)
        assert done.code == 0
        assert "note: " in done.err
        assert "7" in done.err
        np.testing.assert_array_equal(layer_of(tmp_path / how).get_mag(1).read()[0, ..., 7], slice_7)
        assert "note" not in convert(folder, tmp_path / "q", "--missing", how, "-q", "--overwrite-existing").err


def test_a_dry_run_writes_nothing(convert, source, tmp_path):
    folder, _ = source
    before = sorted(tmp_path.rglob("*"))
    with observe(lambda *event: pytest.fail(f"{event}")):
        done = convert(folder, tmp_path / "ds", "--dry-run")
        as_json = convert(folder, tmp_path / "ds", "--dry-run", "--json")
    assert sorted(tmp_path.rglob("*")) == before
    assert (done.code, done.err) == (0, "")
    assert all(
        word in done.out for word in ("convert slices to ds/em", "write 1", "tasks", "batches", "memory", "commits em/1")
    )
    found = json.loads(as_json.out)
    assert (found["wkdask"], found["command"]) == (1, "convert --dry-run")
    assert {"name", "target", "settings", "stages", "milestones", "tasks", "batches", "notes"} <= set(found)
    assert {"bytes_in", "bytes_out", "bytes_needed_per_task", "workers", "peak_bytes"} <= set(found)
    assert {"name", "tasks", "bytes_in", "bytes_needed", "what"} <= set(found["stages"][0])
    assert found["milestones"] == ["em/1", "em/2-2-1", "em/4-4-1"]
    assert found["tasks"] == sum(stage["tasks"] for stage in found["stages"])


def test_a_dry_run_says_what_would_be_refused(convert, source, tmp_path):
    folder, _ = source
    assert convert(folder, tmp_path / "ds").code == 0
    assert convert(folder, tmp_path / "ds", "--dry-run").code == 1
    assert convert(folder, tmp_path / "new", "--dry-run", "--memory-limit", "1MB").code == 3


def test_the_report(convert, source, tmp_path):
    folder, volume = source
    done = convert(folder, tmp_path / "a")
    assert (done.code, done.err) == (0, "")
    assert "convert slices to a/em: " in done.out
    assert "tasks done" in done.out
    found = json.loads(convert(folder, tmp_path / "b", "--json").out)
    assert (found["wkdask"], found["command"], found["target"]) == (1, "convert", str(tmp_path / "b"))
    assert found["milestones"] == ["em/1", "em/2-2-1", "em/4-4-1"]
    assert (found["kept"], found["failed"], found["skipped"]) == (0, 0, 0)
    assert found["done"] > 1
    assert found["bytes_in"] >= volume.nbytes
    assert found["peak_bytes"] > 0
    assert {"seconds", "bytes_out", "predicted_bytes"} <= set(found)


def test_progress(convert, source, tmp_path):
    folder, _ = source
    plain = convert(folder, tmp_path / "plain", "--progress", "plain")
    assert "0 %" in plain.err
    assert "100 %" in plain.err
    assert all(line.startswith("convert slices to plain/em: ") for line in plain.err.splitlines())
    assert "\x1b" not in plain.err
    rich = convert(folder, tmp_path / "rich", "--progress", "rich")
    assert "convert slices to rich/em" in rich.err
    assert convert(folder, tmp_path / "none", "--progress", "none").err == ""
    auto = convert(folder, tmp_path / "auto", "--progress", "auto")
    assert "100 %" in auto.err  # no terminal: plain
    for text in (plain.out, rich.out, auto.out):
        assert text.count("\n") == 1
    verbose = convert(folder, tmp_path / "v", "--progress", "plain", "-v")
    assert "write 1 0: done in" in verbose.err
    assert len(verbose.err.splitlines()) > len(plain.err.splitlines())
    assert convert(folder, tmp_path / "q", "-q", "--progress", "plain")[1:] == ("", "")
    assert json.loads(convert(folder, tmp_path / "qj", "-q", "--json").out)["command"] == "convert"


def test_a_second_layer(convert, source, slices, tmp_path, cli):
    folder, volume = source
    labels, ids = slices("labels", (40, 50, 20), "uint32")
    assert convert(folder, tmp_path / "ds").code == 0
    document = json.loads((tmp_path / "ds" / "datasource-properties.json").read_bytes())
    document["lab"] = document["dataLayers"][0]["stain"] = ["osmium"]
    (tmp_path / "ds" / "datasource-properties.json").write_text(json.dumps(document))
    assert convert(labels, tmp_path / "ds", "--layer-name", "seg", "--category", "segmentation").code == 0
    assert list(wk.Dataset.open(tmp_path / "ds").layers) == ["em", "seg"]
    np.testing.assert_array_equal(layer_of(tmp_path / "ds").get_mag(1).read()[0], volume)
    np.testing.assert_array_equal(layer_of(tmp_path / "ds", "seg").get_mag(1).read()[0], ids)
    now = json.loads((tmp_path / "ds" / "datasource-properties.json").read_bytes())
    assert now["lab"] == now["dataLayers"][0]["stain"] == ["osmium"]
    other = convert(labels, tmp_path / "ds", "--layer-name", "c", "--voxel-size", "1,1,1")
    assert (other.code, "share" in other.err) == (2, True)


def test_running_a_finished_one_again(convert, source, tmp_path, files):
    folder, _ = source
    convert(folder, tmp_path / "ds")
    before = files(tmp_path / "ds")
    again = convert(folder, tmp_path / "ds")
    assert again.code == 1
    assert "exists; --overwrite-existing" in again.err
    assert files(tmp_path / "ds") == before
