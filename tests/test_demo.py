"""The demo, smaller than `make demo` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
from PIL import Image

HOME = Path(__file__).parents[1]
SIZE = "72,64,24"


def demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with no home and nothing else of the environment."""
    command = [sys.executable, str(HOME / "demo/run.py"), "--output", str(folder), "--size", SIZE, *options]
    return subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_demo_runs_twice_and_draws(tmp_path: Path) -> None:
    if not Path(sys.executable).with_name("wkdask").exists():
        pytest.skip("wkdask is not installed beside this Python: pip install --editable .")
    folder = tmp_path / "out"
    for _ in range(2):
        done = demo(folder)
        assert done.returncode == 0, done.stdout + done.stderr
        sheet = Path(done.stdout.splitlines()[-1])
        assert sheet == folder / "contact_sheet.png"
        with Image.open(sheet) as picture:
            assert picture.size[0] == 1600
        assert "WRONG" not in done.stdout


def test_demo_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    done = demo(tmp_path)
    assert done.returncode == 1
    assert "not of this demo" in done.stderr
    assert (tmp_path / "images").is_dir()


def test_tissue_is_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HOME / "demo")
    from tissue import write_stacks

    stacks = []
    for name in "ab":
        write_stacks((40, 36, 10), tmp_path / name, tmp_path / f"{name}.tif")
        raw = [tifffile.imread(path) for path in sorted((tmp_path / name).iterdir())]
        stacks.append((raw, tifffile.imread(tmp_path / f"{name}.tif")))
    for plane, again in zip(stacks[0][0], stacks[1][0], strict=True):
        assert (plane == again).all()
    raw, labels = stacks[0]
    assert (stacks[1][1] == labels).all()
    assert labels.shape == (10, 36, 40)
    assert labels.dtype == "uint32"
    assert len(set(labels.ravel().tolist())) > 2


def test_a_wrong_voxel_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(HOME / "demo")
    import run
    import xarray as xr
    from tissue import write_stacks

    import wkdask as wk
    from wkdask.arrays.backend import WkdaskBackend

    images, dataset = tmp_path / "images", tmp_path / "dataset"
    write_stacks((40, 36, 10), images / "raw", images / "segmentation.tif")
    options = {"voxel_size": (8, 8, 30), "downsample": True, "coarsest_mag": 4}
    wk.Dataset.from_images(images / "raw", dataset, layer_name="em", **options)
    wk.Dataset.from_images(images / "segmentation.tif", dataset, layer_category="segmentation", **options)

    def checked() -> list[int]:
        tree = xr.open_datatree(dataset, engine=WkdaskBackend)
        return [run.check_source(tree, images), run.check_medians(tree["em"]), run.check_modes(tree["segmentation"])]

    assert checked() == [0, 0, 0]
    for name, mag in (("em", 1), ("segmentation", "2-2-1")):
        view = wk.Dataset.open(dataset).get_layer(name).get_mag(mag)
        voxel = view.read(offset=(0, 0, 0), size=(1, 1, 1))
        view.write(voxel + voxel.dtype.type(101), offset=(0, 0, 0))
    source, medians, modes = checked()
    assert source == 1
    assert medians <= 1
    assert modes >= 1
    assert "1 WRONG" in capsys.readouterr().out
