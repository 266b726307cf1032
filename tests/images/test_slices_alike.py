"""Slices whose descriptions are alike are looked at once, and read as if each were looked at alone."""

from __future__ import annotations

import struct
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.images.image_files import COMPRESSIONS, LAYOUTS, read_whole, voxels
from wkdask.errors import ImageConversionError
from wkdask.images import find_images, tiff, tiff_directory, tiff_layout
from wkdask.images.byte_source import opened
from wkdask.images.picture import forget_parsed, parsed
from wkdask.images.tiff_directory import Directory, read_directories


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    forget_parsed()
    tiff._meanings.clear()


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened by tifffile."""
    paths: list[str] = []
    understood = tiff._understood
    monkeypatch.setattr(tiff, "_understood", lambda path, *rest: (paths.append(Path(path).name), understood(path, *rest))[1])
    return paths


def learned(path: Path) -> dict[str, Any]:
    """Return all that is known of a file, or how it is refused."""
    forget_parsed()
    try:
        picture = parsed(str(path))
    except ImageConversionError as error:
        return {"error": type(error), "text": str(error)}
    found = {field.name: getattr(picture, field.name) for field in fields(picture)}  # type: ignore[arg-type]
    return found | {name: (found[name].shape, found[name].tolist()) for name in ("offsets", "counts")}


WRITERS: list[dict[str, Any]] = [
    {},
    {"metadata": None},
    {"imagej": True, "resolution": (3, 5), "metadata": {"unit": "um", "spacing": 2}},
    {"ome": True},
    {"bigtiff": True, "byteorder": ">"},
    {"extratags": [(42113, "s", 0, "7", True)]},
    {"photometric": "miniswhite", "datetime": True, "software": "somebody's"},
    {"tile": (16, 16), "compression": "zlib", "predictor": True},
    {"rowsperstrip": 5, "compression": "jpeg"},
    *[COMPRESSIONS["zlib"] | layout for layout in LAYOUTS.values()],
]


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_slice_is_understood_as_if_it_were_alone(tmp_path: Path, data: st.DataObject) -> None:
    options = data.draw(st.sampled_from(WRITERS))
    grey = data.draw(st.booleans()) or "imagej" in options or "photometric" in options
    shape, more = ((20, 30), {}) if grey else ((20, 30, 3), {"photometric": "rgb"})
    tifffile.imwrite(tmp_path / "a.tif", voxels(*shape, dtype="uint8"), **options | more)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with opened(str(tmp_path / "a.tif")) as source:
        [directory] = read_directories(source)
    entry, count = directory.words.entry.size, len(directory.tags) // directory.words.entry.size
    start = directory.offset + directory.words.count.size
    places = [start + entry * tag + byte for tag in range(count) for byte in range(entry)]
    places += range(start + entry * count, min(len(content), start + entry * count + 200))  # values
    for place in data.draw(st.lists(st.sampled_from(places), min_size=0, max_size=2)):
        content[place] = data.draw(st.one_of(st.integers(0, 9), st.integers(0, 255)))
    (tmp_path / "b.tif").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Directory, "fingerprint", lambda *_: None)
        alone = learned(tmp_path / "b.tif")
    tiff._meanings.clear()
    learned(tmp_path / "a.tif")
    assert learned(tmp_path / "b.tif") == alone


def test_plain_slices_are_looked_at_once(tmp_path: Path, looked_at: list[str]) -> None:
    planes = voxels(4, 12, 13)
    for z, plane in enumerate(planes):
        tifffile.imwrite(
            tmp_path / f"s{z}.tif", plane, compression="zlib", rowsperstrip=5, datetime=f"2020:01:0{z + 1} 00:00:00"
        )
    assert np.array_equal(find_images(tmp_path).read(0, 4, 0, 12)[..., 0], planes)
    assert looked_at == ["s0.tif"]
    tifffile.imwrite(tmp_path / "s4.tif", planes[0], compression="zlib", rowsperstrip=5, software="another")
    assert np.array_equal(read_whole(tmp_path / "s4.tif")[..., 0], planes[0])
    assert looked_at == ["s0.tif", "s4.tif"]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "jpeg"},
        {"photometric": "minisblack", "shape": (2, 8, 9)},
        {"description": "x" * 5000, "metadata": None},
        {"ome": True},
    ],
    ids=["jpeg", "pages", "long", "ome"],
)
def test_what_is_never_taken_for_alike(tmp_path: Path, looked_at: list[str], options: dict[str, Any]) -> None:
    shape = options.pop("shape", (8, 9))
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, voxels(*shape, dtype="uint8"), **options)
        parsed(str(tmp_path / name))
    assert looked_at == ["a.tif", "b.tif"]


def test_a_page_without_a_size_is_described_by_its_data(tmp_path: Path, looked_at: list[str]) -> None:
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, voxels(8, 9, dtype="uint8"), metadata=None)
        content = (tmp_path / name).read_bytes()
        entry = struct.pack("<HHI", 256, 4, 1)
        assert entry not in content or content.count(entry) == 1
        with tifffile.TiffFile(tmp_path / name) as file:
            at = file.pages.first.tags[256].valueoffset
        (tmp_path / name).write_bytes(content[:at] + bytes(4) + content[at + 4 :])
        assert learned(tmp_path / name)["error"]
    assert looked_at == ["a.tif", "b.tif"]


def test_descriptions_of_many_kinds_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "MOST_MEANINGS", 3)
    monkeypatch.setattr(tiff_layout, "MOST_SHARED", 3)
    monkeypatch.setattr(tiff_layout, "_shared", {})
    for width in range(16, 27):
        tifffile.imwrite(tmp_path / "a.tif", voxels(8, width), compression="zlib")
        forget_parsed()
        assert np.array_equal(read_whole(tmp_path / "a.tif")[..., 0], voxels(8, width))
        assert len(tiff._meanings) <= 3 and len(tiff_layout._shared) <= 3
    assert tiff._meanings and tiff_layout._shared
    assert tiff_directory.MOST_FINGERPRINT <= 1 << 16
