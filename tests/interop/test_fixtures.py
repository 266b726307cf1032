"""Real datasets open with the voxels that the reference library sees, and their JSON survives us whole."""

from __future__ import annotations

import json
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wkdask as wk
from wkdask.metadata import MetadataWarning, Properties

pytestmark = pytest.mark.oracle("webknossos")

READ = """
import json, sys, zlib
import numpy as np, webknossos
found = {}
for path in sys.argv[1:]:
    for name, layer in webknossos.Dataset.open(path).layers.items():
        for mag, view in layer.mags.items():
            box = view.bounding_box
            voxels = view.read(absolute_bounding_box=box)
            crc = zlib.crc32(np.ascontiguousarray(voxels.T))
            found[f"{path} {name} {mag}"] = [[*box.topleft, *box.size], list(voxels.shape), str(voxels.dtype), crc]
print(json.dumps(found))
"""


def documents(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("datasource-properties.json"))
    assert len(found) >= 6
    return found


@pytest.mark.filterwarnings("ignore::wkdask.metadata.MetadataWarning")
def test_voxels_are_those_that_the_reference_sees(fixtures_folder: Path, webknossos_python: Path) -> None:
    paths = [document.parent for document in documents(fixtures_folder) if document.parent.name != "old_wkw_dataset"]
    done = subprocess.run([webknossos_python, "-c", READ, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = {}
    for path in paths:
        for name, layer in wk.Dataset.open(path, read_only=True).layers.items():
            for mag, view in layer.mags.items():
                box, voxels = view.bounding_box, view.read()
                crc = zlib.crc32(np.ascontiguousarray(voxels.T))
                ours[f"{path} {name} {mag}"] = [[*box.topleft, *box.size], list(voxels.shape), str(voxels.dtype), crc]
    assert len(ours) >= 5
    assert ours == theirs


def test_an_array_that_contradicts_the_document_wins(fixtures_folder: Path) -> None:
    with pytest.warns(MetadataWarning, match=r"uint8 by the dataset's JSON, but uint32 in the array"):
        voxels = wk.Dataset.open(fixtures_folder / "simple_n5_dataset", read_only=True).get_layer("color").get_mag(1).read()
    assert voxels.dtype == "uint32"


def with_unknown_keys(value: Any, depth: int = 0) -> Any:
    """Return a document with a key more in each of its objects."""
    if isinstance(value, list):
        return [with_unknown_keys(item, depth) for item in value]
    if isinstance(value, dict):
        return {key: with_unknown_keys(item, depth + 1) for key, item in value.items()} | {
            "x unknown": {"depth": [depth, None]}
        }
    return value


def found_keys(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(found_keys, value))
    if isinstance(value, dict):
        return ("x unknown" in value) + sum(map(found_keys, value.values()))
    return 0


def without_legacy(document: dict[str, Any], original: dict[str, Any]) -> dict[str, Any]:
    """Return a document without what the original says in an older spelling, and without keys that are always written."""
    layers = []
    for layer, old in zip(document["dataLayers"], original["dataLayers"], strict=True):
        renamed = ("wkwResolutions", "mags") if "wkwResolutions" in old else ()
        layers.append({key: value for key, value in layer.items() if key not in renamed and key in old})
    rest = {key: value for key, value in document.items() if key in original and key != "dataLayers"}
    if isinstance(original["scale"], list):
        rest.pop("scale")
    return {**rest, "dataLayers": layers}


def test_unknown_keys_at_every_level_survive(fixtures_folder: Path, tmp_path: Path) -> None:
    for file in documents(fixtures_folder):
        document = with_unknown_keys(json.loads(file.read_bytes()))
        properties = Properties.from_json(json.dumps(document).encode(), str(file))
        saved = json.loads(properties.to_json())
        assert found_keys(saved) == found_keys(document) > 5, file
        assert without_legacy(saved, document) == without_legacy(document, document), file
        again = json.loads(Properties.from_json(json.dumps(saved).encode(), "again").to_json())
        assert again == saved
