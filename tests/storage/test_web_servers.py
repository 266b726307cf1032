"""Datasets on web servers, read in every format; what a server can not do, or does not let, is named."""

from __future__ import annotations

import base64
import inspect
import multiprocessing
import os
import pickle
from contextlib import ExitStack

import dask
import numpy as np
import pytest

import wkdask as wk
from tests.cli.conftest import cli  # noqa: F401 - a fixture
from tests.services.faulty import Fault, faulty
from tests.services.recording import recording
from tests.services.web import PASSWORD, USER, Web, web  # noqa: F401 - a fixture
from wkdask.errors import StorageError
from wkdask.formats import FORMATS
from wkdask.storage import Location, Options, retries, storage_options, taken_retries
from wkdask.storage.faults import chain
from wkdask.storage.stores import file_system

SHAPE = (40, 50, 20)


@pytest.fixture(scope="module")
def voxels(web):  # noqa: F811
    """Voxels of a dataset that lies on the server in each format."""
    found = np.random.default_rng(3).integers(1, 200, SHAPE).astype("uint8")
    for name, form in FORMATS.items():
        layer = wk.Dataset(web.folder / name, (4, 4, 35)).add_layer(
            "em", "color", dtype="uint8", data_format=name, bounding_box=wk.BoundingBox((0, 0, 0), SHAPE)
        )
        mag = layer.add_mag(1, chunk_shape=8, **({"shard_shape": 32} if form.sharded else {}))
        mag.write(found)
    return found


def read(url, form, **options):
    with storage_options(options):
        return wk.Dataset.open(f"{url}/{form}").get_layer("em").get_mag(1).read()[0]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)


@pytest.mark.parametrize("form", list(FORMATS))
def test_every_format_is_read(web: Web, form, voxels, quick, cli, tmp_path):  # noqa: F811
    assert np.array_equal(read(web.url, form), voxels)
    lazy = wk.Dataset.open(f"{web.url}/{form}").get_layer("em").get_mag(1).to_dask()
    assert np.array_equal(lazy[0, 5:20, 7:9].compute(), voxels[5:20, 7:9])
    copy = cli("copy-dataset", f"{web.url}/{form}", tmp_path / "copy", "--progress", "none")
    assert copy.code == 0, copy
    assert np.array_equal(read(tmp_path, "copy"), voxels)


def test_digests_of_what_lies_on_a_server(web: Web, voxels, quick, monkeypatch):  # noqa: F811
    """Of files whose sizes its lists do not tell; and where it lists none, nothing is called lost."""
    assert wk.Dataset.open(f"{web.url}/zarr3").verify(digests=True).ok
    sizes = dict(Location(f"{web.url}/zarr3/em/1").files_below())
    assert sizes and all(size > 0 for size in sizes.values()), sizes
    monkeypatch.setattr(Location, "names", lambda self: [])
    report = wk.Dataset.open(f"{web.url}/zarr3").verify(digests=True)
    assert not report.faults and any("can not be listed" in note.reason for note in report.notes)


def test_servers_that_are_too_busy_are_asked_again(web: Web, voxels):  # noqa: F811
    taken_retries()
    assert np.array_equal(read(f"{web.url}/busy", "zarr3"), voxels)
    assert taken_retries() > 0


@pytest.mark.parametrize("form", ["zarr3", "wkw"])
def test_servers_without_ranges_are_named(web: Web, form, voxels, quick):  # noqa: F811
    with pytest.raises(wk.errors.WkdaskError, match=r"a range was asked for|whole files where ranges"):
        read(f"{web.url}/norange", form)


def test_passwords(web: Web, voxels, monkeypatch, quick):  # noqa: F811
    place = f"{web.url}/private"
    for options in ({}, {"username": USER, "password": "wr0ng-word"}):
        with pytest.raises(StorageError, match=r"127.0.0.1:\d+ asks for credentials") as caught:
            read(place, "wkw", **options)
        word = base64.b64encode(f"{USER}:wr0ng-word".encode()).decode().rstrip("=")
        for error in chain(caught.value):
            said = repr(error) + repr(vars(error)) + repr(error.args)
            assert "wr0ng" not in said and word not in said, said
        assert any(getattr(error, "status", None) == 401 for error in chain(caught.value))
    assert np.array_equal(read(place, "wkw", username=USER, password=PASSWORD), voxels)
    assert np.array_equal(read(place.replace("//", f"//{USER}:{PASSWORD}@"), "zarr3"), voxels)
    monkeypatch.setenv("HTTP_BASIC_USER", USER)
    monkeypatch.setenv("HTTP_BASIC_PASSWORD", PASSWORD)
    file_system.cache_clear()  # clients of before the environment changed
    assert np.array_equal(read(place, "n5"), voxels)
    layer = wk.Dataset.open(f"{place}/n5").get_layer("em")
    assert PASSWORD not in repr(layer) + str(dict(layer.get_mag(1).to_dask().dask))


def test_options_given_once_serve_all_of_what_is_referred_to(web: Web, voxels, tmp_path):  # noqa: F811
    options, place = {"username": USER, "password": PASSWORD}, f"{web.url}/private/zarr3"
    dataset = wk.Dataset(tmp_path / "ds", (4, 4, 35))
    dataset.add_layer_as_copy(f"{place}/em", "copy", storage_options=options)
    dataset.add_layer_as_ref(f"{place}/em", "ref", storage_options=options)
    like = dataset.add_layer_like(dataset.get_layer("ref"), "like")
    like.add_mag_as_ref(f"{place}/em/1", storage_options=options)
    dataset.add_layer_like(like, "array").add_mag_from_zarrarray(1, f"{place}/em/1", storage_options=options)
    parts = {"em": wk.Component(f"{place}/em", storage_options=options), "again": dataset.get_layer("ref")}
    composed = wk.compose(tmp_path / "composed", parts)
    shallow = wk.Dataset.open(place, storage_options=options).shallow_copy_dataset(tmp_path / "shallow")
    for one in (dataset, composed, shallow, pickle.loads(pickle.dumps(dataset))):
        for layer in one.layers.values():
            assert np.array_equal(layer.get_mag(1).read()[0, :40, :50, :20], voxels)
            assert np.array_equal(pickle.loads(pickle.dumps(layer.get_mag(1).to_dask()))[0, :40, :50, :20].compute(), voxels)
        assert PASSWORD.encode() not in pickle.dumps(one) + (Location.of(one.path) / "datasource-properties.json").read_bytes()
        assert PASSWORD not in repr(one) + repr(parts) + repr(one.location.options)
    with pytest.raises(StorageError, match="asks for credentials"):
        wk.Dataset.open(tmp_path / "shallow").get_layer("em").get_mag(1).read()
    elsewhere = dataset.location.linked(f"{web.url.replace('127.0.0.1', 'localhost')}/private/zarr3")
    assert dict(elsewhere.options) == {"anon": True}


LOCAL = {"add_symlink_layer", "add_symlink_mag", "download", "explore_and_add_remote", "open_remote"}
"""Verbs whose paths are local, or of servers."""


def test_all_that_take_the_place_of_a_dataset_take_its_options():
    verbs = {f"{owner.__name__}.{name}": verb for owner in (wk.Dataset, wk.Layer, wk.MagView) for name, verb in vars_of(owner)}
    verbs |= {"compose": wk.compose, "store": wk.store}
    taking = {
        name
        for name, verb in verbs.items()
        if {"dataset_path", "new_dataset_path", "foreign_layer", "foreign_mag_view_or_path", "target_path", "path"}
        & inspect.signature(verb).parameters.keys()
    }
    lacking = {name for name in taking if "storage_options" not in inspect.signature(verbs[name]).parameters}
    assert {name.rpartition(".")[2] for name in lacking} <= LOCAL and len(taking) > 15


def vars_of(owner):
    return [(name, getattr(owner, name)) for name in dir(owner) if name[0] != "_" and callable(getattr(owner, name))]


@pytest.mark.parametrize("form", ["zarr3", "zarr", "n5", "neuroglancerPrecomputed"])
def test_volumes_are_converted_and_copied_without_being_listed(web: Web, form, voxels, cli, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("wkdask.storage.remote.RemoteFiles.names", lambda *_: pytest.fail("a web server is listed"))
    volume = f"{web.url}/{form}/em" + ("" if form == "neuroglancerPrecomputed" else "/1")
    ended = cli("convert", volume, tmp_path / "ds", "--voxel-size", "4,4,35", "--layer-name", "em", "--progress", "none")
    assert ended.code == 0, ended
    (layer,) = wk.Dataset.open(tmp_path / "ds").layers.values()
    assert np.array_equal(layer.get_mag(1).read()[0, :40, :50, :20], voxels)
    found = wk.Dataset.open(f"{web.url}/{form}")
    copy = found.copy_dataset(tmp_path / "copy")
    assert np.array_equal(copy.get_layer("em").get_mag(1).read()[0], voxels)
    at, mine = found.get_layer("em").get_mag(1), copy.get_layer("em").get_mag(1)
    assert at.bytes_on_disk() == mine.bytes_on_disk() and at.content_hash() == mine.content_hash()
    assert list(at.get_bounding_boxes_on_disk()) == list(mine.get_bounding_boxes_on_disk())
    with pytest.raises(wk.errors.InputError, match="no volume in Zarr"):
        wk.Dataset.from_images(f"{web.url}/nothing", tmp_path / "none", (1, 1, 1))


def test_a_server_out_of_order_is_named_in_time(web: Web, quick):  # noqa: F811
    with dask.config.set({"wkdask.storage.retry-seconds": 0.5}):
        with pytest.raises(StorageError, match=r"did not answer properly, however often asked \(status 503\)"):
            wk.Dataset.open(f"{web.url}/broken/ds")


def test_nothing_is_there_or_written(web: Web, quick):  # noqa: F811
    with pytest.raises(wk.errors.DatasetNotFoundError):
        wk.Dataset.open(f"{web.url}/nothing")
    with pytest.raises(wk.errors.WkdaskError):
        (Location(web.url) / "new").write_bytes(b"1")


class Password:
    """As aiohttp has it."""

    def encode(self) -> str:
        return f"Basic {PASSWORD}"

    def __repr__(self) -> str:
        return "Password()"  # the same in each process


@pytest.mark.parametrize(
    "options",
    [
        {"username": USER, "password": PASSWORD},
        {"headers": {"X-Api-Key": PASSWORD}},
        {"client_kwargs": {"headers": {"X-Api-Key": PASSWORD, "Authorization": PASSWORD}}},
        {"client_kwargs": {"cookies": {"session": PASSWORD}}},
        {"client_kwargs": {"auth": Password()}},
    ],
    ids=str,
)
def test_credentials_follow_no_redirect_to_another_server(options):
    with ExitStack() as stack:
        there, asked_there = stack.enter_context(recording())
        here, asked_here = stack.enter_context(recording(there))
        assert Location.of(here, options).read_bytes() == b"abc"
    given = {"X-Api-Key", "Authorization", "Cookie"}
    assert all(given & headers.keys() for headers in asked_here) and asked_here
    assert asked_there and not [headers for headers in asked_there if given & headers.keys()]


@pytest.mark.parametrize("options", [{"auth": Password()}, {"client_kwargs": {"auth": Password()}}], ids=str)
def test_credentials_that_are_given_come_before_those_of_the_environment(options, monkeypatch):
    monkeypatch.setenv("HTTP_BASIC_USER", "other")
    monkeypatch.setenv("HTTP_BASIC_PASSWORD", "word")
    with recording() as (place, asked):
        assert Location.of(place, options).read_bytes() == b"abc"
    assert {headers["Authorization"] for headers in asked} == {Password().encode()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_processes_read_with_clients_of_their_own():
    with recording() as (url, _):
        place = Location(url)
        assert place.read_bytes() == b"abc"
        context = multiprocessing.get_context("fork")
        answers = context.SimpleQueue()

        def answer() -> None:
            try:
                answers.put(place.read_bytes())
            except BaseException as error:  # noqa: BLE001 - else the other process waits
                answers.put(repr(error))

        process = context.Process(target=answer)
        process.start()
        process.join(30)
        process.kill()
        assert not answers.empty() and answers.get() == b"abc"


@pytest.mark.parametrize("status", [403, 418, 500])
def test_errors_keep_their_class_on_the_way_from_workers(web: Web, status: int) -> None:  # noqa: F811
    from distributed.core import clean_exception, error_message

    with faulty(web.url) as proxy, dask.config.set({"wkdask.storage.retry-seconds": 0}):
        proxy.faults = [Fault(status=status)]
        with pytest.raises(StorageError) as caught:
            Location(f"{proxy.endpoint}/ready", Options({"username": "me", "password": "s3cret"})).read_bytes()
    _, came, _ = clean_exception(error_message(caught.value)["exception"].data)
    assert type(came) is StorageError and str(came) == str(caught.value)
    assert "s3cret" not in repr(vars(came.__cause__ or came))


@pytest.mark.parametrize("options", [{}, {"username": "me", "password": "given"}], ids=str)
def test_proxies_come_from_the_environment_and_passwords_do_not(options, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login other password of-netrc\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    file_system.cache_clear()
    with recording() as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy)
        assert Location("http://store.invalid/ds/a", Options(options)).read_bytes() == b"abc"
        monkeypatch.setenv("no_proxy", "store.invalid")
        with dask.config.set({"wkdask.storage.retry-seconds": 0}), pytest.raises(StorageError, match="is not known"):
            Location("http://store.invalid/ds/b", Options(options)).read_bytes()
    file_system.cache_clear()
    assert asked and {headers["Host"] for headers in asked} == {"store.invalid"}
    given = {headers.get("Authorization") for headers in asked}
    assert given == ({"Basic " + base64.b64encode(b"me:given").decode()} if options else {None})
