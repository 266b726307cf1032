"""Faults between the requests of one act, and answers that come from elsewhere than the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Thread

import dask
import numpy as np
import pytest

import wkdask as wk
from tests.services.faulty import Fault, Proxy, faulty
from tests.services.google import Google
from tests.services.recording import recording
from tests.services.stores import BUCKET, Store
from wkdask.errors import LockedError, NotListedError, StorageError, UnitsFailedError
from wkdask.storage import Location, lease, remote, retries, update_document
from wkdask.storage.lease import Lease, current_owner


@pytest.fixture
def google_behind(gcs: Google) -> Iterator[tuple[Location, Proxy]]:
    with faulty(gcs.endpoint) as running:
        yield replace(gcs, endpoint=running.endpoint).place, running


def test_an_earlier_answer_is_no_answer_to_what_is_asked_then(place: Location, proxy: Proxy) -> None:
    """Whose is it, and is the bucket there, are asked while a 412 or 404 is handled."""
    (place / "a").write_bytes(b"1")
    proxy.faults = [Fault("HEAD", reset=True, times=2)]
    assert not (place / "a").create(b"2")
    remote._buckets.clear()
    proxy.faults = [Fault("HEAD", rf"/{BUCKET}$", reset=True, times=2)]
    assert not (place / "missing").is_file()
    assert proxy.fired == 4


@pytest.mark.parametrize("fault", [Fault(reset=True, times=3), Fault(status=503, times=2)], ids=["reset", "503"])
def test_a_folder_is_never_denied_by_a_broken_connection(
    google_behind: tuple[Location, Proxy], fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.001)
    place, proxy = google_behind
    (place / "a" / "b").write_bytes(b"1")
    proxy.faults = [replace(fault)]
    assert (place / "a").is_folder() and proxy.fired
    assert not (place / "b").is_folder()
    for status, kind in ((403, NotListedError), (401, StorageError)):
        proxy.faults = [Fault(status=status)]
        with pytest.raises(kind):
            (place / "a").is_folder()


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_deleting_beside_writers_is_no_error(kind: str, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue(kind).place / "x"

    def flap(number: int) -> None:
        for turn in range(12):
            if number:
                (place / "y").write_bytes(b"%d" % turn)
            else:
                place.delete_files(["y"])
                (place / "y").delete()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(flap, range(3)))
    place.delete()
    assert not place.is_folder()


@pytest.mark.parametrize(("whole", "requests"), [(False, 1), (True, 4)], ids=["a file", "a folder"])
def test_deleting_what_others_delete_is_no_error(
    google_behind: tuple[Location, Proxy], gcs: Google, whole: bool, requests: int
) -> None:
    """Whatever of ours is gone, or there again, when a request arrives."""
    place, proxy = google_behind
    other, once = gcs.place / "x" / "y", proxy.pick
    for first in range(requests):
        other.write_bytes(b"1")
        turns = iter(range(9))

        def pick(method: str, path: str, turns: Iterator[int] = turns, first: int = first) -> Fault:
            turn = next(turns, 9)
            if first <= turn < 6:
                other.delete() if (turn - first) % 2 == 0 else other.write_bytes(b"%d" % turn)
            return once(method, path)

        proxy.pick = pick  # type: ignore[method-assign]
        (place / "x").delete() if whole else (place / "x").delete_files(["y"])
        assert next(turns, 9) > first  # as many requests there were at least
    proxy.pick = once  # type: ignore[method-assign]
    (place / "x").delete()
    assert not (place / "x").is_folder()


def test_a_lease_given_up_twice_leaves_that_of_the_next(place: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Lease(place / "run.json", "first"), Lease(place / "run.json", "second")
    first.__enter__()
    taken: list[Lease] = []
    taking: list[Thread] = []
    once = proxy.pick

    def take() -> None:
        while not taken:  # the request is on its way
            with suppress(LockedError):
                taken.append(second.__enter__())

    def pick(method: str, path: str) -> Fault:
        fault = once(method, path)
        if fault.lost:
            taking.append(Thread(target=take, daemon=True))
            taking[0].start()
        return fault

    proxy.pick = pick  # type: ignore[method-assign]
    proxy.faults = [Fault("POST", "delete", lost=True, times=1)]
    monkeypatch.setattr(lease, "FIRST_PAUSE", 1.0)
    first.__exit__(None, None, None)
    taking[0].join(30)
    assert taken and (owner := current_owner(place / "run.json")) and owner.work == "second"
    second.__exit__(None, None, None)


def test_tasks_that_failed_are_told_where_the_lease_can_not_be_given_up(place: Location, proxy: Proxy) -> None:
    dataset = wk.Dataset(place / "ds", (4, 4, 35))
    layer = dataset.add_layer("em", "color", dtype="uint8")
    layer.add_mag(1).write(np.ones((64, 64, 64), "uint8"), allow_resize=True)
    plan = layer.plan_downsample()
    once = proxy.pick

    def pick(method: str, path: str) -> Fault:
        if method == "GET" and "/em/1/c/0" in path.partition("?")[0]:  # the first voxels that are read; from then on all fails
            proxy.faults = [Fault(status=403, code="ExpiredToken")]
        return once(method, path)

    proxy.pick = pick  # type: ignore[method-assign]
    with pytest.raises(UnitsFailedError, match="session token has expired"):
        plan.run()
    proxy.pick, proxy.faults = once, []  # type: ignore[method-assign]
    layer.plan_downsample().run()
    assert len(wk.Dataset.open(place / "ds").get_layer("em").mags) > 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nothing_follows_where_a_store_leads_elsewhere(status: int) -> None:
    with recording(path="") as (there, asked), recording(f"{there}/a", status=status, path="") as (here, asked_here):
        options = {"key": "AK", "secret": "SK", "token": "session-token", "endpoint_url": here}
        customer = {"s3_additional_kwargs": {"SSECustomerKey": "0" * 32, "SSECustomerAlgorithm": "AES256"}}
        for more in ({}, customer):
            place = Location.of("s3://bench/a", {**options, **more})
            for act in (place.read_bytes, place.stat, lambda place=place: place.write_bytes(b"1"), place.names):
                with pytest.raises(StorageError, match="leads to another place"):
                    act()
    assert asked_here and not asked


def test_an_answer_that_comes_from_elsewhere_is_none(s3: Store) -> None:
    """Of a page that lets nobody pass, for instance."""
    with recording(body=b"<html>", path="") as (page, _), dask.config.set({"wkdask.storage.retry-seconds": 0}):
        place = Location.of("s3://bench/a", {**s3.options, "endpoint_url": page})
        for act in (place.stat, lambda: place.write_bytes(b"1"), lambda: place.create(b"1")):
            with pytest.raises(StorageError):
                act()


def test_a_missing_file_of_certificates_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent.pem")
    place = Location.of("s3://bench/a", {"key": "k", "secret": "s", "endpoint_url": "https://127.0.0.1:9"})
    with pytest.raises(StorageError, match="a file of this machine is not there"):
        place.read_bytes()


def test_datasets_out_of_reach_have_a_repr(s3: Store, place: Location, proxy: Proxy) -> None:
    dataset = wk.Dataset(place / "ds", (4, 4, 35))
    proxy.faults = [Fault(status=403)]
    time.sleep(1.1)  # what the JSON said within the last second is not asked for again
    assert "which can not be read" in repr(dataset)


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_a_change_whose_answer_is_lost_is_made_once_though_others_follow(kind: str, request: pytest.FixtureRequest) -> None:
    store = request.getfixturevalue(kind)
    with faulty(store.endpoint) as proxy:
        mine, other = replace(store, endpoint=proxy.endpoint).place / "doc", store.place / "doc"
        update_document(mine, lambda _: b"0")
        once = proxy.pick

        def pick(method: str, path: str) -> Fault:
            fault = once(method, path)
            if not fault.lost and proxy.fired and not written:  # ours is done; before it is sent again, another one writes
                written.append(path)
                for number in range(3):
                    update_document(other, lambda old, number=number: (old or b"") + b"%d" % number)
            return fault

        written: list[str] = []
        changes: list[bytes] = []

        def change(old: bytes | None) -> bytes:
            changes.append(old or b"")
            return (old or b"") + b"m"

        proxy.pick = pick  # type: ignore[method-assign]
        proxy.faults = [Fault("PUT|POST", r"doc|/o\?", lost=True, times=1)]
        update_document(mine, change)
        assert proxy.fired and written
        assert changes == [b"0"] and (store.place / "doc").read_bytes() == b"0m012"
