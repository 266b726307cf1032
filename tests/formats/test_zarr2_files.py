"""Which files are chunks, and that what lies there now is what is read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.formats.arrays import noise
from wkdask.errors import InputError
from wkdask.formats import N5, ArraySpec, Format, Zarr2
from wkdask.geometry.grid import Box
from wkdask.storage import Location

FORMATS: list[Format] = [Zarr2(), N5()]
SPEC = ArraySpec((16, 16), "uint8", ("x", "y"), (8, 8), (8, 8))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_other_files_are_no_chunks(form: Format, tmp_path: Path) -> None:
    array = form.create(Location(str(tmp_path / "layer/1")), SPEC)
    array.write(Box((0, 8), (1, 9)), np.ones((1, 1), "uint8"))
    for name in ("01", "-1", "²", "٣", "1.0", "x", ".1.tmp", "9" * 20):
        (tmp_path / "layer/1/0" / name).touch()
        (tmp_path / "layer/1" / name).mkdir()
        assert array.unit_of(f"0/{name}") is None and array.unit_of(f"{name}/0") is None
    assert list(array.written_units()) == [(0, 1)]
    assert array.unit_of("0/1") == (0, 1) and array.unit_of("0/1/0") is None and array.unit_of("0.1") is None


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_another_array_at_the_same_place(form: Format, tmp_path: Path) -> None:
    place = Location(str(tmp_path / "layer/1"))
    for chunk, dtype in (((8, 8), "uint8"), ((4, 16), "uint16"), ((16, 4), "uint8")):
        array = form.create(place, ArraySpec((16, 16), dtype, ("x", "y"), chunk, chunk))
        block = noise(array.spec.grid.box, dtype)
        array.write(array.spec.grid.box, block)
        fast = array._read_fast(array.spec.grid.box, keep=True)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(fast, block)
        place.delete()


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_neighbours_in_one_chunk_lose_nothing(form: Format, tmp_path: Path) -> None:
    array = form.create(Location(str(tmp_path / "layer/1")), SPEC)
    boxes = [Box((x, y), (x + 2, y + 2)) for x in range(0, 8, 2) for y in range(0, 8, 2)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: array.write(boxes[n], np.full((2, 2), n + 1, "uint8")), range(16)))
    assert [set(array.read(box).ravel().tolist()) for box in boxes] == [{n + 1} for n in range(16)]


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_a_unit_is_its_own_chunk(form: Format, tmp_path: Path) -> None:
    array = form.create(Location(str(tmp_path / "layer/1")), SPEC)
    with pytest.raises(InputError, match=r"\(0, 1\)"), array.unit((0, 0)) as out:
        out.put_encoded((0, 1), b"1")
    with pytest.raises(InputError), array.unit((0, 0)) as out:
        out.put(Box((0, 0), (8, 16)), np.ones((8, 16), "uint8"))
    parts = [Location(str(tmp_path / f"{n}.part")) for n in range(3)]
    for part, value in zip(parts, (0, 1, 2), strict=True):
        with array.part((0, 1), part) as out:
            out.put(Box((0, 8), (8, 16)), np.full((8, 8), value, "uint8"))
    assert array.join((0, 1), parts[:2]).chunks == 1 and array.read(Box((0, 8), (1, 9))).item() == 1
    with pytest.raises(InputError, match="2 parts"):
        array.join((0, 1), parts)
    assert array.join((0, 1), parts[:1]).size == 0 and list(array.written_units()) == []
