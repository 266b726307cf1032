"""Stores that let read and not list: web servers that show no folders, and buckets without the right to list."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wkdask as wk
from tests.cli.conftest import cli  # noqa: F401 - a fixture
from tests.services.stores import BLIND, BLIND_SECRET
from tests.services.web import web  # noqa: F401 - a fixture
from wkdask.errors import NotListedError, StorageError
from wkdask.formats import FORMATS
from wkdask.formats.stored import stored_indexes, stored_units
from wkdask.storage import Location

SIZE = (70, 66, 40)


@dataclass(frozen=True)
class Blind:
    """The same dataset on a disk, where it can not be listed, and for whoever may do all."""

    local: Path
    url: str
    options: dict[str, Any]
    own: Location

    def words(self) -> list[str]:
        return [word for key, value in self.options.items() for word in ("--storage-options", f"{key}={value}")]

    def open(self) -> wk.Dataset:
        return wk.Dataset.open(self.url, storage_options=self.options)


def made(folder: Path) -> wk.Dataset:
    """Make a dataset of all formats with journals' records of all their units, and one unit missing in each."""
    dataset = wk.Dataset(folder, (4, 4, 35))
    voxels = np.random.default_rng(5).integers(1, 255, SIZE).astype("uint8")
    voxels[:, :, 32:] = 0
    for form in FORMATS:
        dataset.add_layer_from_images(
            voxels.transpose(2, 1, 0)[..., None], form, data_format=form, chunk_shape=32, shard_shape=32
        )
    return dataset


@pytest.fixture(params=["web", "s3"])
def blind(request, tmp_path: Path) -> Blind:
    if request.param == "web":
        served = request.getfixturevalue("web")
        made(served.folder / tmp_path.name)
        url = f"{served.url}/silent/{tmp_path.name}"
        return Blind(served.folder / tmp_path.name, url, {}, Location(served.folder / tmp_path.name))
    store = request.getfixturevalue("s3")
    made(tmp_path / "ds")
    for path in (path for path in (tmp_path / "ds").rglob("*") if path.is_file()):
        (store.place / "ds" / path.relative_to(tmp_path / "ds").as_posix()).write_bytes(path.read_bytes())
    options = {**store.options, "key": BLIND, "secret": BLIND_SECRET}
    return Blind(tmp_path / "ds", f"{store.url}/ds", options, store.place / "ds")


def test_nothing_is_listed(blind: Blind) -> None:
    place = Location.of(blind.url, blind.options)
    for look in (place.names, place.is_folder, lambda: list(place.files_below())):
        with pytest.raises(NotListedError, match="can not be listed: permission denied by"):
            look()


def test_units_are_asked_for(blind: Blind) -> None:
    here, there = wk.Dataset.open(blind.local), blind.open()
    for form in FORMATS:
        one, other = (dataset.get_layer(form).get_mag(1).array.handle for dataset in (here, there))
        expected = [index for index, _ in stored_units(one)]
        assert [index for index, _ in stored_units(other)] == sorted(stored_indexes(other)) == expected
        assert 0 < len(expected) <= len(one.spec.grid.units())


def test_verbs_that_read(blind: Blind, cli, tmp_path: Path) -> None:  # noqa: F811
    done = cli("info", blind.url, *blind.words(), "--json")
    told = json.loads(done.out)
    assert done.code == 0 and {layer["name"] for layer in told["layers"]} == set(FORMATS)
    done = cli("verify", blind.url, *blind.words(), "--json")
    sound, local = json.loads(done.out), json.loads(cli("verify", str(blind.local), "--json").out)
    assert done.code == 0 and [mag["units"] for mag in sound["checked"]] == [mag["units"] for mag in local["checked"]]
    done = cli("verify", blind.url, *blind.words(), "--digests")
    assert done.code == 0, done
    here, there = cli("hash", str(blind.local)), cli("hash", blind.url, *blind.words())
    assert there.code == 0 and here.out.replace(str(blind.local), blind.url) == there.out
    assert cli("check-equality", blind.url, str(blind.local), *blind.words()).code == 0
    assert cli("diff", blind.url, str(blind.local), *blind.words()).code == 0
    done = cli("copy-dataset", blind.url, str(tmp_path / "copy"), *blind.words())
    assert done.code == 0, done
    assert cli("check-equality", str(tmp_path / "copy"), str(blind.local)).code == 0


def test_verify_finds_what_is_lost_and_what_was_changed(blind: Blind, cli) -> None:  # noqa: F811
    units = {}
    for form in FORMATS:
        array = wk.Dataset.open(blind.local).get_layer(form).get_mag(1).array.handle
        [first, second, *_] = [array.unit_location(index).url for index, _ in stored_units(array)]
        lost, changed = (Path(path).relative_to(blind.local).as_posix() for path in (first, second))
        units[form] = lost, changed
        (blind.own / lost).delete()
        data = bytearray((blind.own / changed).read_bytes())
        data[len(data) // 2] ^= 1
        (blind.own / changed).write_bytes(bytes(data))
    done = cli("verify", blind.url, *blind.words(), "--digests", "--json")
    found = {
        (fault["kind"], fault["path"].rpartition(f"{blind.url.rpartition('/')[2]}/")[2])
        for fault in json.loads(done.out)["faults"]
    }
    assert done.code == 5
    assert {path for kind, path in found if kind == "vanished"} == {lost for lost, _ in units.values()}
    assert {path for kind, path in found if kind in ("changed", "damaged")} == {changed for _, changed in units.values()}


@pytest.mark.parametrize("command", ["status", "clean", "resume", "cancel"])
def test_runs_can_not_be_known(blind: Blind, cli, command: str) -> None:  # noqa: F811
    done = cli(command, blind.url, *blind.words())
    assert done.code == 1 and "can not be listed: permission denied" in done.err and "Traceback" not in done.err


def test_a_wrong_secret_is_told_as_that(s3) -> None:
    place = Location.of(s3.url, {**s3.options, "secret": "wrong-one"})
    with pytest.raises(StorageError, match="secret key is wrong") as caught:
        place.names()
    assert not isinstance(caught.value, NotListedError)
