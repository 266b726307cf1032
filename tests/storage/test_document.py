"""Documents that many change at once lose nobody's change."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.storage.racing import race
from wkdask.errors import ConflictError, StorageError
from wkdask.storage import WORK_FOLDER, Location, Stat, observe, update_document
from wkdask.storage.remote import RemoteWriter

WORK = """
import json
def change(old):
    content = json.loads(old or b"{}")
    content["count"] = content.get("count", 0) + 1
    content.setdefault(me, []).append(content["count"])
    return json.dumps(content).encode()
for _ in range(20):
    update_document(Location(str(folder / "ds/doc.json")), change)
"""


def test_processes_lose_nothing(tmp_path: Path) -> None:
    race(tmp_path, WORK)
    content = json.loads((tmp_path / "ds/doc.json").read_bytes())
    assert content.pop("count") == 160
    assert sorted(content) == sorted(map(str, range(8)))
    assert sorted(n for counts in content.values() for n in counts) == list(range(1, 161))
    assert sorted(os.listdir(tmp_path / "ds")) == [WORK_FOLDER, "doc.json"]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_threads_lose_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = RemoteWriter.publish

    def slow(writer: RemoteWriter) -> Stat:
        time.sleep(0.001)  # between the comparison and the swap
        return publish(writer)

    monkeypatch.setattr(RemoteWriter, "publish", slow)
    document = Location(f"{tmp_path if kind == 'local' else f'memory://{uuid4().hex}'}/ds/doc")

    def add(_: int) -> None:
        for _ in range(20):
            update_document(document, lambda old: b"%d" % (int(old or b"0") + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert document.read_bytes() == b"160"


def test_no_change_writes_nothing(tmp_path: Path) -> None:
    document = Location(str(tmp_path / "doc"))
    seen: list[str] = []
    with observe(lambda event, url: seen.append(event)):
        assert update_document(document, lambda old: None) is None
        assert not document.is_file() and not seen
        assert update_document(document, lambda old: b"1") == b"1"
        assert seen == ["publish", "commit"]
        assert update_document(document, lambda old: old) == b"1"
        assert update_document(document, lambda old: None) == b"1"
    assert seen == ["publish", "commit"]


def test_a_failing_change_leaves_the_document(tmp_path: Path) -> None:
    document = Location(str(tmp_path / "doc"))
    document.write_bytes(b"1")
    with pytest.raises(ZeroDivisionError):
        update_document(document, lambda old: b"%d" % (1 // 0))
    assert update_document(document, lambda old: (old or b"") + b"2") == b"12"  # and the lock is free
    assert sorted(os.listdir(tmp_path)) == [WORK_FOLDER, "doc"]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_writer_that_takes_no_turns_is_noticed(kind: str, tmp_path: Path) -> None:
    document = Location(f"{tmp_path if kind == 'local' else f'memory://{uuid4().hex}'}/ds/doc")
    calls = [0]

    def change(old: bytes | None) -> bytes:
        calls[0] += 1
        if calls[0] < 4:
            document.write_bytes(b"foreign %d," % calls[0])
        return (old or b"") + b"ours"

    assert update_document(document, change) == b"foreign 3,ours"
    assert calls[0] == 4

    def always(old: bytes | None) -> bytes:
        calls[0] += 1
        document.write_bytes(b"%d" % calls[0])
        return b"ours"

    with pytest.raises(ConflictError, match="doc was changed by others"):
        update_document(document, always)
    assert document.read_bytes() == b"%d" % calls[0]


def test_a_folder_of_locks_that_may_not_be_written(
    open_folder: Path, unprivileged: Callable[[], AbstractContextManager[None]]
) -> None:
    locks = open_folder / "locks"
    locks.mkdir()
    os.chmod(locks, 0o555)
    with unprivileged(), pytest.raises(StorageError, match="locks can not be written: permission denied"):
        update_document(Location(str(open_folder / "doc")), lambda old: b"1", Location(str(locks)))
    assert os.listdir(open_folder) == ["locks"]


def test_what_a_killed_writer_of_a_document_left_is_deleted_by_the_next(tmp_path):
    work = tmp_path / WORK_FOLDER
    work.mkdir()
    (work / ".a.json.1f-0123456789ab.tmp").write_bytes(b"half")
    (work / ".b.json.1f-0123456789ab.tmp").write_bytes(b"of another document")
    update_document(Location(tmp_path / "a.json"), lambda old: b"{}")
    assert sorted(path.name for path in work.glob(".*.tmp")) == [".b.json.1f-0123456789ab.tmp"]


def test_documents_of_one_name_may_share_a_folder_of_locks(tmp_path: Path) -> None:
    locks = Location(tmp_path / WORK_FOLDER)
    documents = [Location(tmp_path / mag / "zarr.json") for mag in ("1", "2", "4", "8")]

    def add(document: Location) -> None:
        for _ in range(40):
            update_document(document, lambda old: b"%d" % (int(old or b"0") + 1), locks)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, documents))
    assert {document.read_bytes() for document in documents} == {b"40"}
