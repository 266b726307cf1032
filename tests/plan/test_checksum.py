"""Checksums of whole files in receipts: what they tell, and that receipts without them are still believed."""

from __future__ import annotations

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from wkdask.plan import FileRecord, Receipt
from wkdask.plan import checksum as module
from wkdask.plan.checksum import content_checksum, has_content, with_content
from wkdask.storage import Location


def test_the_checksum_is_that_of_all_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PIECE_BYTES", 7)
    for size in (0, 1, 6, 7, 8, 14, 100):
        data = bytes(range(size))
        (tmp_path / "file").write_bytes(data)
        (Location("memory://checksums") / "file").write_bytes(data)
        for place in (Location(tmp_path / "file"), Location("memory://checksums/file")):
            assert content_checksum(place) == google_crc32c.value(data)


def test_each_single_bit_counts(tmp_path):
    data = bytes(range(20))
    (tmp_path / "file").write_bytes(data)
    record = with_content(Location(tmp_path), FileRecord("file", 20, 0, 0))
    assert record.content is not None and has_content(Location(tmp_path), record)
    for bit in range(160):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "file").write_bytes(flipped)
        assert not has_content(Location(tmp_path), record)
    (tmp_path / "file").unlink()
    assert not has_content(Location(tmp_path), record)


def test_what_has_no_file_here_has_no_checksum(tmp_path):
    for target, record in (
        (Location(tmp_path), FileRecord("gone", 5, 0, 0)),
        (Location(tmp_path), FileRecord("zeros", 0, 0, 0)),
        (Location("memory://checksum"), FileRecord("file", 5, 0, 0)),
    ):
        assert with_content(target, record) == record
        assert has_content(target, record)


numbers = st.integers(0, 2**63)


@given(st.lists(st.builds(FileRecord, st.text(), numbers, numbers, numbers, st.none() | st.integers(0, 2**32 - 1))))
def test_receipts_come_back_from_their_lines(files):
    receipt = Receipt(1, 2, files=tuple(files))
    assert Receipt.of_line(receipt.to_line()) == receipt


def test_lines_of_earlier_versions_are_read():
    line = b'{"stage":0,"number":1,"files":[["a/b",5,6,7]],"seconds":0.5,"in":1,"out":2,"low":null,"high":null}\n'
    receipt = Receipt.of_line(line)
    assert receipt is not None and receipt.files == (FileRecord("a/b", 5, 6, 7),)
    for torn in (b'["a/b",5,6]', b'["a/b",5,6,7,"x"]', b'["a/b",5,6,7,8,9]'):
        assert Receipt.of_line(line.replace(b'["a/b",5,6,7]', torn)) is None
