"""The suite that every format passes on disk and in memory, on object stores; and what of it reads, by a web server.

An ordinary run tries what meets the store most, on few arrays; `--run-soak` all of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import wkdask as wk
from tests.services.web import web  # noqa: F401 - a fixture
from tests.testing.test_formats import copied, suite_of
from wkdask.formats import FORMATS
from wkdask.formats.stored import stored_units
from wkdask.storage import Location
from wkdask.testing import FormatConformance
from wkdask.testing.reading import ReadConformance

FEW, MANY = 2, 10
USUAL = {
    "test_any_writes_read_like_numpy",
    "test_arrays_are_found_opened_and_made_once",
    "test_arrays_shrink_and_grow",
    "test_others_see_what_was_written",
    "test_parts_are_joined",
    "test_units_appear_when_they_are_whole",
}
"""Tests of an ordinary run."""


class OnStore(FormatConformance):
    """On the store that a fixture starts."""

    server: str

    @pytest.fixture(autouse=True)
    def _home(self, request: pytest.FixtureRequest) -> None:
        store = request.getfixturevalue(self.server)
        type(self).stores = (replace(store, folder=uuid4().hex).place,)
        type(self).examples = MANY if request.config.getoption("--run-soak") else FEW


class OnWebServer(ReadConformance):
    """Made in a folder, read from the server before it."""

    folder: Location
    url: Location

    @pytest.fixture(autouse=True)
    def _home(self, web: Any) -> None:  # noqa: F811
        type(self).folder, type(self).url = Location(str(web.folder)), Location(web.url)
        type(self).stores = (self.folder,)

    def seen(self, place: Location) -> Location:
        """Return the URL of a file."""
        return self.url / place.url.removeprefix(f"{self.folder.url}/")


def in_the_long_run() -> dict[str, Any]:
    """Return the tests that are no usual ones, marked."""
    rest = [name for name in dir(FormatConformance) if name.startswith("test_") and name not in USUAL]
    return {name: pytest.mark.soak(copied(getattr(FormatConformance, name))) for name in rest}


@pytest.mark.parametrize("server", ["s3", "gcs"])
@pytest.mark.parametrize("form", FORMATS)
def test_lists_tell_of_units_what_each_would_tell(form: str, server: str, request: pytest.FixtureRequest) -> None:
    """Sizes, times and tags, by which runs and verify know whether a unit has changed."""
    dataset = wk.Dataset(request.getfixturevalue(server).place / "ds", (1, 1, 1))
    box = wk.BoundingBox((0, 0, 0), (24, 24, 16))
    shards = {"shard_shape": 16} if FORMATS[form].sharded else {}
    mag = dataset.add_layer("em", "color", data_format=form, bounding_box=box).add_mag(1, chunk_shape=8, **shards)
    mag.write(np.ones((8, 24, 16), "uint8"))
    mag.write(np.full((8, 8, 16), 2, "uint8"), absolute_offset=(16, 16, 0))
    array = mag.array.handle
    told = list(stored_units(array))
    assert told == list(stored_units(array, array.spec.grid.box)) and len(told) == (3 if shards else 8)
    assert {index for index, _ in told} == set(array.written_units())


for each in FORMATS:
    for where in ("s3", "gcs"):
        further = {"server": f"{where}_server", "steps": 4, **in_the_long_run()}
        globals()[f"Test_{each}_{where}"] = suite_of(each, OnStore, **further)
    globals()[f"Test_{each}_http"] = suite_of(each, OnWebServer, examples=2 * FEW)
