"""Each option of `convert` and its twin of `Dataset.from_images` make the same files; what they make is tested there."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import tifffile

import wkdask as wk
from wkdask.errors import WkdaskError
from wkdask.formats import Codec
from wkdask.metadata import VoxelSize
from wkdask.storage import observe

Mapping = wk.Dataset.ConversionLayerMapping


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Small images of several kinds, by name."""
    home = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)

    def noise(*shape, dtype="uint8"):
        return rng.integers(1, 200, shape).astype(dtype)

    (home / "em").mkdir()
    for z, plane in enumerate(noise(5, 21, 34)):
        tifffile.imwrite(home / "em" / f"s{z}.tif", plane)
    (home / "gap").mkdir()
    for z in (0, 1, 4):
        tifffile.imwrite(home / "gap" / f"{9 - z}_z{z}.tif", noise(9, 8))
    (home / "holes").mkdir()
    for z in (0, 1, 4):
        tifffile.imwrite(home / "holes" / f"z{z}.tif", noise(9, 8))
    for name in ("tree/a/one", "tree/a/two", "tree/b"):
        (home / name).mkdir(parents=True)
        for z in range(2):
            tifffile.imwrite(home / name / f"{z}.tif", noise(9, 8))
    options = {"photometric": "minisblack", "metadata": {"axes": "TZCYX"}}
    tifffile.imwrite(home / "film.tif", noise(2, 3, 2, 12, 17, dtype="uint16"), **options)
    (home / "ids").mkdir()
    for z in range(3):
        tifffile.imwrite(home / "ids" / f"{z}.tif", np.full((40, 40), 7 + z, "uint32"))
    edges = {f"PhysicalSize{axis}": 4.5 for axis in "XYZ"} | {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"}
    told = {"photometric": "minisblack", "metadata": {"axes": "ZYX", **edges}}
    tifffile.imwrite(home / "sized.ome.tif", noise(2, 8, 9), ome=True, **told)
    return home


@pytest.fixture(scope="module")
def usual():
    """What sources become without options, by name."""
    return {}


@pytest.fixture
def usually(cli, files, usual, sources, tmp_path):
    """Return the files of a source that is converted without options; of one that can not be, None."""

    def convert(source):
        if source not in usual:
            words = ("--chunk-shape", "8", "--shard-shape", "16", "--voxel-size", "4,4,35", "--progress", "none")
            done = cli("convert", sources / source, tmp_path / "usual" / "ds", *words)
            usual[source] = None if done.code else files(tmp_path / "usual" / "ds")
        return usual[source]

    return convert


SIZED = {"voxel_size": None}
UM = VoxelSize((0.1, 0.2, 0.3), wk.LengthUnit.MICROMETER)
SINGLE, PER_FILE = Mapping.ENFORCE_SINGLE_LAYER, Mapping.ENFORCE_LAYER_PER_FILE

# source; options of the command; parameters of from_images
TWINS = [
    ("em", "", {}),
    ("em", "--name n --layer-name l", {"name": "n", "layer_name": "l"}),
    ("em", "--category segmentation", {"layer_category": "segmentation"}),
    ("em", "--voxel-size 0.1,0.2,0.3 --unit micrometer", {"voxel_size": None, "voxel_size_with_unit": UM}),
    ("sized.ome.tif", "", SIZED),
    ("ids", "--category auto", {"layer_category": None}),
    ("em", "--category auto", {"layer_category": None}),
    ("em", "--data-format wkw", {"data_format": "wkw"}),
    ("ids", "--data-format wkw --category segmentation", {"data_format": "wkw", "layer_category": "segmentation"}),
    ("em", "--data-format wkw --codec lz4", {"data_format": "wkw", "compress": Codec("lz4")}),
    ("em", "--chunk-shape 16,8,4 --shard-shape 32,32,16", {"chunk_shape": (16, 8, 4), "shard_shape": (32, 32, 16)}),
    ("em", "--chunk-shape 8 --chunks-per-shard 4,2,1", {"chunk_shape": 8, "shard_shape": None, "chunks_per_shard": (4, 2, 1)}),
    ("em", "--axis-order czyx", {"axis_order": "czyx"}),
    ("em", "--no-compress", {"compress": False}),
    ("em", "--codec none", {"compress": False}),
    ("em", "--codec gzip:3", {"compress": Codec("gzip", 3)}),
    ("em", "--no-downsample", {"downsample": False}),
    (
        "em",
        "--max-mag 8 --sampling-mode isotropic --interpolation-mode max",
        {"coarsest_mag": 8, "sampling_mode": "isotropic", "interpolation_mode": "max"},
    ),
    ("em", "--batch-size 16", {"batch_size": 16}),
    ("gap", "--missing zeros --z-from-name _z([0-9]+)", {"missing": "zeros", "z_from_name": "_z([0-9]+)"}),
    ("gap", "--missing repeat --z-from-name _z([0-9]+)", {"missing": "repeat", "z_from_name": "_z([0-9]+)"}),
    ("holes", "--missing close", {"missing": "close"}),
    ("holes", "--missing ignore", {"missing": "ignore"}),
    ("tree", "", {}),
    ("tree", "--layer-name p", {"layer_name": "p"}),
    ("tree/b", "--layers-by enforce_layer_per_file", {"map_filepath_to_layer_name": PER_FILE}),
    (
        "tree",
        "--layers-by enforce_single_layer --missing close",
        {"map_filepath_to_layer_name": SINGLE, "missing": "close"},
    ),
    ("film.tif", "", {}),
    ("film.tif", "--channel 1", {"channel": 1}),
    ("film.tif", "--timepoint 1 --data-format wkw", {"timepoint": 1, "data_format": "wkw"}),
    ("em", "--dtype uint16", {"dtype": "uint16"}),
    ("em", "--dtype uint16 --rescale 10,100 --invert", {"dtype": "uint16", "rescale": "10,100", "invert": True}),
    ("em", "--rescale percentiles:5,95", {"rescale": "percentiles:5,95"}),
    ("em", "--rescale per-slice", {"rescale": "per-slice"}),
    ("em", "--flip x", {"flip_x": True}),
    ("em", "--flip y,z", {"flip_y": True, "flip_z": True}),
    ("em", "--flip zyx --swap-xy", {"flip_x": True, "flip_y": True, "flip_z": True, "swap_xy": True}),
    ("em", "--topleft 8,2,3 --mag 2-2-1", {"topleft": (8, 2, 3), "mag": "2-2-1"}),
    ("em", "--mag 4", {"mag": 4}),
    ("em", "--jobs 3 --memory-limit 4GB", {"jobs": 3, "memory_limit": 4 * 10**9}),
    ("em", "--restart", {"restart": True}),
    ("tree", "--max-layers 3", {"max_layers": 3}),
]
# told by the command line alone: how it runs and what it prints, the subject of other tests
COMMAND_ONLY = {
    "--overwrite-existing",
    "--distribution-strategy",
    "--scratch",
    "--dry-run",
    "--job-resources",
    "--probe",
    "--as-json",
    "--progress",
    "--verbose",
    "--quiet",
    "--compress",
    "--downsample",
    "--axes",  # of volumes, in tests/operations/test_volumes.py
}


@pytest.mark.parametrize(("source", "words", "parameters"), TWINS, ids=lambda value: value if isinstance(value, str) else "")
def test_twins_make_the_same_files(cli, files, usually, tmp_path, sources, source, words, parameters):
    usual = {"--chunk-shape": "8", "--shard-shape": "16", "--voxel-size": "4,4,35"}
    given = words.split()
    if "--chunks-per-shard" in given:
        del usual["--shard-shape"]
    if parameters is SIZED:
        del usual["--voxel-size"]
    given += [word for option in usual.items() if option[0] not in given for word in option]
    done = cli("convert", sources / source, tmp_path / "a" / "ds", *given, "--progress", "none")
    assert done.code == 0, done.err
    options = {"voxel_size": (4, 4, 35), "chunk_shape": 8, "shard_shape": 16, "layer_category": "color", "downsample": True}
    wk.Dataset.from_images(sources / source, tmp_path / "b" / "ds", **{**options, **parameters})
    found, expected = files(tmp_path / "a" / "ds"), files(tmp_path / "b" / "ds")
    assert sorted(found) == sorted(expected)
    assert found == expected
    if words:
        practical = words.startswith(("--batch-size", "--jobs", "--restart", "--max-layers"))
        neutral = practical or (source, words) == ("em", "--category auto")
        assert (usually(source) == found) is neutral, "an option that changes nothing tests nothing"


def test_all_options_have_twins():
    from wkdask.cli.convert import convert

    tested = {word for _, words, _ in TWINS for word in words.split() if word.startswith("--")}
    options = {f"--{name.replace('_', '-')}" for name in inspect.signature(convert).parameters} - {"--source", "--target"}
    assert options - tested - COMMAND_ONLY == set()
    assert tested & COMMAND_ONLY == set()


WRONG = [
    ("film.tif", "--data-format wkw", {"data_format": "wkw"}),
    ("film.tif", "--category segmentation --timepoint 5", {"layer_category": "segmentation", "timepoint": 5}),
    ("film.tif", "--channel 7", {"channel": 7}),
    ("film.tif", "--max-layers 1", {"max_layers": 1}),
    ("gap", "--z-from-name _z([0-9]+)", {"z_from_name": "_z([0-9]+)"}),
    ("gap", "--z-from-name _z[0-9]+", {"z_from_name": "_z[0-9]+"}),
    ("gap", "--z-from-name (", {"z_from_name": "("}),
    ("em", "--voxel-size x", {"voxel_size": ("x",)}),
    ("em", "--data-format tiff", {"data_format": "tiff"}),
    ("em", "--codec zstd:3 --data-format wkw", {"compress": Codec("zstd", 3), "data_format": "wkw"}),
    ("em", "--chunk-shape 16,16,8 --data-format wkw", {"chunk_shape": (16, 16, 8), "data_format": "wkw"}),
    ("em", "--mag 3", {"mag": "3"}),
    ("em", "--mag 2 --topleft 1,0,0", {"mag": 2, "topleft": (1, 0, 0)}),
    ("em", "--topleft -2,0,0", {"topleft": (-2, 0, 0)}),
    ("em", "--dtype int8", {"dtype": "int8"}),
    ("em", "--dtype float64", {"dtype": "float64"}),
    ("em", "--dtype complex", {"dtype": "complex"}),
    ("em", "--rescale 3,1", {"rescale": "3,1"}),
    ("em", "--rescale 1,3 --dtype uint64", {"rescale": "1,3", "dtype": "uint64"}),
    ("ids", "--rescale percentiles:99.9,100", {"rescale": "percentiles:99.9,100"}),
    ("em", "--batch-size 9", {"batch_size": 9}),
    ("em", "--category segmentation --dtype float32", {"layer_category": "segmentation", "dtype": "float32"}),
]


@pytest.mark.parametrize(("source", "words", "parameters"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_twins_refuse_the_same(cli, tmp_path, sources, source, words, parameters):
    """With the same message, whose first sentence says what was found; and nothing is made."""
    given = words.split()
    given += ["--voxel-size", "4,4,35"] if "--voxel-size" not in given else []
    given += ["--chunk-shape", "8"] if "--chunk-shape" not in given else []
    done = cli("convert", sources / source, tmp_path / "ds", *given)
    assert done.code == 2, done
    assert done.err.startswith("error: ")
    options = {"voxel_size": (4, 4, 35), "chunk_shape": 8, "layer_category": "color", "downsample": True}
    with pytest.raises(WkdaskError) as error:
        wk.Dataset.from_images(sources / source, tmp_path / "ds", **{**options, **parameters})
    said = str(error.value)
    assert said.count(". ") >= 1
    if "--voxel-size x" not in words:  # the text itself is quoted there
        assert done.err.removeprefix("error: ").split() == said.split()
    assert not (tmp_path / "ds").exists()


@pytest.mark.parametrize("text", ["q", "x-y", "xyw", "4"])
def test_flips_that_name_no_axes(cli, tmp_path, sources, text):
    done = cli("convert", sources / "em", tmp_path / "ds", "--voxel-size", "4,4,35", "--flip", text)
    assert (done.code, f"{text!r} does not name axes. Write" in done.err) == (2, True)


@pytest.mark.parametrize(
    "words", [("--layers-by", "file"), ("--max-layers", "0"), ("--channel", "-1"), ("--timepoint", "-1"), ("--missing", "x")]
)
def test_choices_that_are_none(cli, tmp_path, sources, words):
    done = cli("convert", sources / "em", tmp_path / "ds", "--voxel-size", "4,4,35", *words)
    assert (done.code, words[0] in done.err, "Traceback" in done.err) == (2, True, False)


@pytest.mark.parametrize(
    ("words", "both"),
    [
        ("--chunks-per-shard 2 --shard-shape 64", "--chunks-per-shard and --shard-shape"),
        ("--codec zstd --no-compress", "--codec and --no-compress"),
    ],
)
def test_storage_given_twice(cli, tmp_path, sources, words, both):
    done = cli("convert", sources / "em", tmp_path / "ds", "--voxel-size", "4,4,35", *words.split())
    assert (done.code, f"Both {both} were given. Give one" in done.err) == (2, True)


def test_a_voxel_size_that_nobody_tells_is_asked_for(cli, tmp_path, sources):
    done = cli("convert", sources / "em", tmp_path / "ds")
    assert done.code == 2
    assert "they do not say it. Give it" in done.err.replace("\n", " ")
    assert "--voxel-size" in done.err
    assert not (tmp_path / "ds").exists()


def test_a_voxel_size_that_images_tell_is_said(cli, tmp_path, sources):
    done = cli("convert", sources / "sized.ome.tif", tmp_path / "ds", "--progress", "none")
    assert (done.code, done.err) == (0, "note: voxel size 4.5 x 4.5 x 4.5 nanometer as the images' metadata say\n")
    assert cli("convert", sources / "sized.ome.tif", tmp_path / "q", "--quiet").err == ""
    described = cli("convert", sources / "sized.ome.tif", tmp_path / "dry", "--dry-run")
    assert "note: voxel size 4.5 x 4.5 x 4.5 nanometer" in described.out


def test_several_layers_are_told_of_as_a_list(cli, tmp_path, sources):
    words = ("convert", sources / "tree", tmp_path / "ds", "--voxel-size", "4,4,35", "--progress", "none")
    planned = json.loads(cli(*words, "--dry-run", "--json").out)
    assert [layer["milestones"][0] for layer in planned["layers"]] == ["one/1", "two/1", "b/1"]
    assert not (tmp_path / "ds").exists()
    found = json.loads(cli(*words, "--json").out)
    assert (found["wkdask"], found["command"]) == (1, "convert")
    assert [(layer["milestones"][0], layer["done"] > 0) for layer in found["layers"]] == [
        (name, True) for name in ("one/1", "two/1", "b/1")
    ]
    again = cli(*words)
    assert (again.code, "one" in again.err) == (1, True)
    once_more = cli(*words, "--overwrite-existing")
    assert once_more.code == 0
    assert [line.partition(":")[0] for line in once_more.out.splitlines()] == [
        "convert tree to ds/one",
        "convert tree to ds/two",
        "convert tree to ds/b",
    ]


def test_several_layers_go_on_where_they_were(cli, files, tmp_path, sources):
    """Stopped between the layers: those that are complete are not touched."""
    words = ("--voxel-size", "4,4,35", "--progress", "none", "--jobs", "1")
    assert cli("convert", sources / "tree", tmp_path / "a" / "ds", *words).code == 0
    target = tmp_path / "b" / "ds"

    def stop(event, url):
        if event == "publish" and "/two/1/" in url:
            raise KeyboardInterrupt

    with observe(stop):
        assert cli("convert", sources / "tree", target, *words).code == 130
    assert list(wk.Dataset.open(target).layers) == ["one"]
    done = cli("convert", sources / "tree", target, *words)
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    assert files(target) == files(tmp_path / "a" / "ds")
