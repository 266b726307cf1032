"""The notebooks run as they stand, and what they show is true."""

from __future__ import annotations

import base64
import io
import json
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import wkdask as wk
from tests.services.stores import SECRET, s3, s3_server  # noqa: F401 - fixtures

HOME = Path(__file__).parents[1]
NOTEBOOKS = sorted((HOME / "notebooks").glob("*.ipynb"))
Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs(path: Path) -> None:
    """Neither outputs nor traces of the machine that they were made on."""
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    assert [cell["metadata"] for cell in notebook["cells"] if cell["metadata"]] == []
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def own_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `python3` this interpreter's kernel, and give all that runs in it folders of its own; return where it works."""
    spec = folder / "jupyter/kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "TMPDIR", "WORK"):
        (folder / name).mkdir()
        monkeypatch.setenv(name, str(folder / name))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", str(HOME))
    return folder / "WORK"


def executed(path: Path, before_the_last: str, work: Path) -> Any:
    """Run a notebook in a folder, with one more cell before its last one."""
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: make test")
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat: make test")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(-1, nbformat.v4.new_code_cell(before_the_last))
    resources = {"metadata": {"path": str(work)}}
    ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        return nbclient.NotebookClient(notebook, timeout=100, kernel_name="python3", resources=resources).execute()
    finally:
        signal.signal(signal.SIGINT, ctrl_c)  # where it was ignored, nbclient leaves Python's own


def shown(notebook: Any, kind: str) -> dict[str, str]:
    """Return what cells show in one form, by their last lines."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            text = output.get("text") if kind == "stream" else output.get("data", {}).get(kind)
            progress = kind.startswith("text/") and output.output_type == "display_data"  # of runs that the cell made
            if text is not None and not progress:
                found.setdefault(cell.source.splitlines()[-1], text)
    return found


def stack(folder: Path) -> Array:
    """Return the slices of a folder as (x, y, z)."""
    return np.stack([tifffile.imread(path) for path in sorted(folder.iterdir())]).transpose(2, 1, 0)


def medians(voxels: Array, x: int, y: int, z: int) -> Array:
    """Return the median of each window of voxels, rounded down."""
    split = voxels.reshape(voxels.shape[0] // x, x, voxels.shape[1] // y, y, voxels.shape[2] // z, z)
    return np.median(split, axis=(1, 3, 5)).astype(voxels.dtype)


@pytest.mark.slow
def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "wkdask" not in entry_points(group="xarray.backends").names:
        pytest.skip("wkdask is not installed, so xarray does not know it: pip install --editable .")
    pytest.importorskip("matplotlib", reason="needs matplotlib: make test")
    work, kept = own_kernel(tmp_path, monkeypatch), tmp_path / "kept"
    copy = f"import shutil; shutil.copytree(here, {str(kept)!r}); None"
    notebook = executed(HOME / "notebooks/quickstart.ipynb", copy, work)
    assert list(work.iterdir()) == []
    assert list((tmp_path / "TMPDIR").glob("wkdask-*")) == []
    first, later = stack(kept / "slices"), stack(kept / "more-slices")
    check_dataset(kept / "dataset", first, later)
    check_texts(notebook, first)
    check_pictures(notebook)


def check_dataset(path: Path, first: Array, later: Array) -> None:
    """Compare all voxels with the images, and coarser ones with numpy's median."""
    assert (first.shape, later.shape) == ((200, 160, 44), (200, 160, 4))
    em, em_wkw = wk.Dataset.open(path).layers.values()
    expected = np.concatenate([first, later], axis=2)
    expected[96:128, 64:96, 16:24] = 0
    factors = {"1": (1, 1, 1), "2-2-1": (2, 2, 1), "4-4-1": (2, 2, 1), "8-8-2": (2, 2, 2)}
    assert [str(mag) for mag in em.mags] == list(factors)
    for mag, factor in factors.items():
        expected = medians(expected, *factor)
        np.testing.assert_array_equal(em.get_mag(mag).read()[0], expected, err_msg=mag)
    assert str(em_wkw.data_format) == "wkw"
    np.testing.assert_array_equal(em_wkw.get_mag(1).read()[0], first)


def check_texts(notebook: Any, first: Array) -> None:
    texts, html = shown(notebook, "text/plain"), shown(notebook, "text/html")
    assert texts["box.shape, box.dtype, bool(same)"] == "((1, 64, 48, 8), dtype('uint8'), True)"
    assert texts["coarse"].startswith("<MagView em/2-2-1: 1 x 100 x 80 x 44")
    assert "(x: 200, y: 160, z: 44)" in texts["volume"]
    assert float(texts["float(share.mean())"]) == pytest.approx((medians(first, 2, 2, 1) > 130).mean())
    black = "[int(em.get_mag(mag).read(absolute_offset=(96, 64, 16), size=(32, 32, 8)).max()) for mag in em.mags]"
    assert texts[black] == "[0, 0, 0, 0]"
    assert shown(notebook, "stream")["wkw"].strip() == "True"
    assert "commits em/1" in shown(notebook, "stream")["print(plan)"]
    assert {"plan", "dataset", "em", "coarse", "wkw"} <= set(html)
    assert "200 x 160 x 44 mag-1 voxels" in html["em"]
    assert "data:image/png;base64," in html["dataset"]
    assert "convert slices to dataset/em" in html["plan"]


def check_pictures(notebook: Any) -> None:
    """Each of the three figures shows something."""
    data = [
        out.data["image/png"]
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        if "image/png" in out.get("data", {})
    ]
    assert len(data) == 3
    for picture in data:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            grey = np.asarray(image.convert("L"))
        assert len(np.unique(grey)) > 20


@pytest.mark.slow
def test_cloud(s3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    work = own_kernel(tmp_path, monkeypatch)
    for name, value in {"WKDASK_STORE": s3.url, **s3.environment}.items():
        monkeypatch.setenv(name, value)
    look = "import json; from wkdask.storage import Location; "
    look += "json.dumps(sorted(p for p, _ in Location.of(store, options).files_below()))"
    notebook = executed(HOME / "notebooks/cloud.ipynb", look, work)
    texts = shown(notebook, "text/plain")
    names = json.loads(texts[look.splitlines()[-1]].strip("'"))
    assert {name.split("/")[0] for name in names} == {"dataset", "copy"} and len(names) > 20
    assert not s3.keys() and not s3.uploads() and list(work.iterdir()) == []
    assert list((tmp_path / "TMPDIR").glob("wkdask-*")) == []
    assert texts["box.shape, bool(same)"] == "((1, 64, 48, 8), True)"
    [alike] = (text for line, text in texts.items() if line.startswith("[np.array_equal"))
    assert alike == "[True, True]"
    said = shown(notebook, "stream")
    assert "the secret key is wrong" in said["    print(error)"] and "not-the-right-one" not in said["    print(error)"]
    assert " requests" in said["print(plan)"] and "tasks done" in said["print(report)"]
    assert SECRET not in json.dumps(notebook)
