"""How many requests a store gets for what is done often, and how many threads wait for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.plan.toys import toy_plan
from tests.services.faulty import Proxy, faulty
from tests.services.stores import Store
from wkdask import BoundingBox, Dataset
from wkdask.clusters.executors import pool_maker
from wkdask.plan import Journal, Receipt, ThreadPool
from wkdask.storage import Location, changes_at_once, observe, taken_requests, update_document, update_soon


@pytest.fixture
def proxy(s3: Store) -> Iterator[Proxy]:
    with faulty(s3.endpoint) as running:
        yield running


@pytest.fixture
def place(s3: Store, proxy: Proxy) -> Location:
    found = replace(s3, endpoint=proxy.endpoint).place
    assert found.stat() is None  # the bucket is known from now on
    proxy.seen.clear()
    return found


def asked(proxy: Proxy) -> dict[str, int]:
    found = Counter(method for method, _ in proxy.seen)
    proxy.seen.clear()
    return dict(found)


def test_what_was_written_is_not_asked_for_again(place: Location, proxy: Proxy) -> None:
    with (place / "a").writer() as out:
        out.write(b"hello")
        stat = out.publish()
    assert asked(proxy) == {"PUT": 1}
    found = (place / "a").stat()
    assert found and (found.size, found.stamp, found.tag) == (stat.size, stat.stamp, stat.tag)
    (place / "a").write_bytes(b"other")
    changed = (place / "a").stat()
    assert changed and changed.size == stat.size and changed.stamp != stat.stamp


def test_what_is_missing_is_known_by_one_request(place: Location, proxy: Proxy) -> None:
    assert (place / "a").read_if_there() is None and asked(proxy) == {"GET": 1}
    assert place.names() == [] and asked(proxy) == {"GET": 1}
    assert Journal(place, "em").document() is None and asked(proxy) == {"GET": 1}


def test_names_are_files_and_folders(place: Location, proxy: Proxy) -> None:
    for name in ("a", "b/c", "b/d/e", "bc"):
        (place / name).write_bytes(b"1")
    proxy.seen.clear()
    assert place.names() == ["a", "b", "bc"] and (place / "b").names() == ["c", "d"] and (place / "a").names() == []
    assert asked(proxy) == {"GET": 3}


def test_files_of_known_names_go_by_one_request(place: Location, proxy: Proxy, s3: Store) -> None:
    for name in ("parts/0", "parts/1", "other"):
        (place / name).write_bytes(b"1")
    proxy.seen.clear()
    (place / "parts").delete_files(["0", "1", "2"], folder=True)
    assert asked(proxy) == {"POST": 1} and s3.keys() == {"other"} and place.names() == ["other"]


def test_what_this_process_wrote_is_changed_without_reading_it(place: Location, proxy: Proxy, s3: Store) -> None:
    document, others = place / "doc", s3.place / "doc"
    update_document(document, lambda old: b"0")
    proxy.seen.clear()
    update_document(document, lambda old: (old or b"") + b"1")
    assert asked(proxy) == {"PUT": 1} and others.read_bytes() == b"01"

    others.write_bytes(b"other")
    update_document(document, lambda old: (old or b"") + b"2")
    assert others.read_bytes() == b"other2"

    others.write_bytes(b"other2")  # another tag
    assert update_document(document, lambda old: old) == b"other2"

    update_document(document, lambda old: b"mine")
    others.write_bytes(b"other")
    assert update_document(document, lambda old: b"mine") == b"mine" and others.read_bytes() == b"mine"

    def unless_mine(old: bytes | None) -> bytes:
        if old == b"mine":
            raise ValueError("mine")
        return b"done"

    with pytest.raises(ValueError, match="mine"):
        update_document(document, unless_mine)
    update_document(document, lambda old: b"mine!")
    update_document(document, lambda old: b"mine")
    others.write_bytes(b"other")
    assert update_document(document, unless_mine) == b"done" == others.read_bytes()


def test_a_dataset_is_opened_by_one_request(place: Location, proxy: Proxy) -> None:
    made = Dataset(place / "ds", voxel_size=(4, 4, 35))
    proxy.seen.clear()
    opened = Dataset.open(place / "ds")
    assert asked(proxy) == {"GET": 1}
    made.add_layer("em", "color", data_format="zarr3")
    assert list(opened.layers) == ["em"]  # what others changed since is seen


def test_small_files_are_copied_by_few_requests(place: Location, proxy: Proxy, tmp_path: Path) -> None:
    """One to send it, one to fetch it, and one more where the store copies it. Those of a task share one for the journal."""
    edge, chunks = 48, (48 // 8) ** 3
    layer = Dataset(tmp_path / "ds", (4, 4, 35)).add_layer(
        "em", "color", data_format="zarr", bounding_box=BoundingBox((0, 0, 0), (edge,) * 3)
    )
    layer.add_mag(1, chunk_shape=8).write(np.random.default_rng(0).integers(1, 255, (edge,) * 3, "uint8"))
    ways = (
        (tmp_path / "ds", place / "up", ["PUT"]),
        (place / "up", tmp_path / "down", ["GET"]),
        (place / "up", place / "within", ["GET", "PUT"]),  # fetched for its digest, and copied by the store
    )
    for source, target, methods in ways:
        proxy.seen.clear()
        proxy.copies = 0
        copied = Dataset.open(source).copy_dataset(target)
        asked = [(method, "/em/1/" in path.partition("?")[0]) for method, path in proxy.seen if "/journal/" not in path]
        for method in methods:
            assert chunks <= asked.count((method, True)) <= chunks + 4
        assert len(asked) <= len(methods) * chunks + 80 and len(proxy.seen) <= (len(methods) + 1) * chunks + 80
        assert proxy.copies == (0 if len(methods) == 1 else chunks)
        assert copied.get_layer("em").content_hash() == layer.content_hash()


def test_a_journal_of_many_objects_is_read_in_order(place: Location) -> None:
    journal = Journal(place, "em")
    for number in range(20):
        journal.write([Receipt(0, number)])
    names = (journal.folder / "journal").names()
    assert len(names) == 20
    assert {receipt.number for receipt in journal.read()} == set(range(20))
    of_each = [[Receipt.of_line(line) for line in (journal.folder / "journal" / n).read_bytes().splitlines()] for n in names]
    assert list(journal.read()) == [receipt for found in of_each for receipt in found if receipt]


def test_verbs_of_python_have_them_too() -> None:
    plan = replace(toy_plan("memory://threads/ds"), workers=2, asked=False)
    assert [slots(pool_maker(None)(one), one) for one in (plan, replace(plan, asked=True))] == [8, 2]


def test_more_threads_wait_for_a_store_where_memory_suffices() -> None:
    stored, local = toy_plan("memory://threads/ds"), toy_plan("/nowhere/ds")
    assert [slots(ThreadPool(2, asked=False), plan) for plan in (stored, local)] == [8, 2]
    assert slots(ThreadPool(2), stored) == 2
    assert slots(ThreadPool(6, asked=False), stored) == 16 and slots(ThreadPool(32, asked=False), stored) == 32
    assert slots(ThreadPool(2, asked=False), stored, limit=1) == 2


def slots(pool: ThreadPool, plan: object, limit: int | None = None) -> int:
    pool.suit(plan, limit)  # type: ignore[arg-type]
    return pool.slots


def test_a_folder_is_deleted_by_three_requests(s3: Store) -> None:
    folder = Location.of(f"{s3.url}/job", s3.options)
    for name in ("plan.json", "journal/a.jsonl", "journal/deep/er/b.jsonl"):
        (folder / name).write_bytes(b"1")
    taken_requests()
    folder.delete()
    assert taken_requests() == 3  # listed, deleted, listed again
    assert folder.parent.names() == []
    folder.delete()


def test_what_is_changed_at_once_is_written_once(s3: Store) -> None:
    place = Location.of(f"{s3.url}/a.json", s3.options)
    place.write_bytes(b"0")
    seen: list[str] = []
    with observe(lambda event, url: seen.append(url) if event == "commit" else None):
        with suppress(KeyError), changes_at_once():
            for word in (b"1", b"2"):
                update_soon(place, lambda old, word=word: (old or b"") + word)
            assert place.read_bytes() == b"0"
            raise KeyError  # what came before counts
        assert place.read_bytes() == b"012" and seen == [place.url]
        update_soon(place, lambda old: (old or b"") + b"3")
    assert place.read_bytes() == b"0123" and len(seen) == 2


def test_on_disks_nothing_waits(tmp_path: Path) -> None:
    place = Location(tmp_path / "a.json")
    with changes_at_once():
        update_soon(place, lambda old: b"1")
        assert place.read_bytes() == b"1"
