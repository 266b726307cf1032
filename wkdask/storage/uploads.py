"""Writers of objects: what is written lies in a spool, and what the store has already is copied there.

Large objects go in parts (S3 names that a multipart upload). An upload that is not completed leaves no object, but what was
sent is kept, and paid for, until it is aborted. So a note beside the job's files says that there is one; deleting the note
aborts the upload.
"""

from __future__ import annotations

import io
import json
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wkdask.storage.address import S3
from wkdask.storage.conditional import is_ours, quoted
from wkdask.storage.copied_inside import MOST_AT_ONCE, copies_inside, copy_inside, source_of_s3, unchanged
from wkdask.storage.events import notify
from wkdask.storage.location import WORK_FOLDER, Location, Stat
from wkdask.storage.ranges import WORD

if TYPE_CHECKING:
    from wkdask.storage.remote import RemoteFiles

SPOOL_BYTES = 32 << 20
"""What a writer keeps in memory before it goes to scratch on disk; also what is sent in one request."""

LEAST_PART = 5 << 20
MOST_COPIED = 1 << 30

NOTE_BYTES = 4096
_NOTE = re.compile(r"\..+\.[0-9a-f]+-[0-9a-f]{12}\.tmp")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that the store has already: from ``at`` on in the new object, those of ``path`` from ``start`` on.

    ``seen`` is what was seen of all of ``path``, where it must be that still.
    """

    at: int
    size: int
    path: str
    start: int
    seen: Stat | None = None

    @property
    def stop(self) -> int:
        """The end in the new object."""
        return self.at + self.size


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an upload: bytes that are sent, or, with ``piece``, copied inside the store."""

    start: int
    stop: int
    piece: Piece | None = None


def parts_of(size: int, pieces: Iterable[Piece], least: int = LEAST_PART, sent: int = SPOOL_BYTES) -> Iterator[Part]:
    """Yield the parts of an upload, of which all but the last have at least ``least`` bytes.

    Parameters
    ----------
    size
        Of the object.
    pieces
        What can be copied, ascending, apart from each other.
    least, sent
        Bytes of a part at least, and of one that is sent at most (which must be twice that).

    Examples
    --------
    >>> [(p.start, p.stop, p.piece is not None) for p in parts_of(50, [Piece(2, 40, "a", 0)], 5, 10)]
    [(0, 5, False), (5, 42, True), (42, 50, False)]
    """
    ordered, at = [piece for piece in pieces if piece.size >= least], 0
    while at < size:
        inside = next((p for p in ordered if p.at <= at and p.stop - at >= least), None)
        if inside:
            stop = at + _even(inside.stop - at, MOST_COPIED)
            yield Part(at, stop, inside)
        else:
            stop = at + _even(_next_copy(at + least, size, ordered, least) - at, sent)
            yield Part(at, stop)
        at = stop


def _next_copy(at: int, size: int, pieces: Iterable[Piece], least: int) -> int:
    """Return where copying may begin, from a byte on; the end where it may not."""
    starts = (max(at, piece.at) for piece in pieces if piece.stop - max(at, piece.at) >= least)
    return min(min(starts, default=size), size)


def _even(length: int, most: int) -> int:
    """Return how long the first of a few equal runs is, so that no short one is left."""
    return -(-length // -(-length // most))


class RemoteWriter:
    """See `wkdask.storage.location.Writer`.

    Parameters
    ----------
    files, path
        The store, and the object in it.
    note
        The path of the note that an upload is under way.
    spool
        Takes the bytes.
    """

    def __init__(self, files: RemoteFiles, path: str, note: str, spool: tempfile.SpooledTemporaryFile[bytes]) -> None:
        self._files, self._path, self._note, self._spool = files, path, note, spool
        self._pieces: list[Piece] = []

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._spool.write(data)

    def seek(self, position: int) -> None:
        """Go on at a byte; what is skipped is 0."""
        if position > SPOOL_BYTES:
            self._spool.rollover()  # before a buffer in memory would be filled with zeros
        if position > self._spool.seek(0, io.SEEK_END):
            self._spool.seek(position - 1)
            self._spool.write(b"\0")  # of buffers in memory, truncate makes none longer
        self._spool.seek(position)

    def copy(self, source: Location, start: int, stop: int, seen: Stat | None = None) -> None:
        """Append a range of another object: inside the store, where both lie in the same."""
        files, path = source.files()
        if copies_inside(self._files, files) and stop > start:
            at = self._spool.tell()
            self._pieces.append(Piece(at, stop - start, path, start, seen))
            self.seek(at + stop - start)
            return
        for data in _read(source, start, stop):
            self._spool.write(data)

    def publish(self, *, sync: bool = False) -> Stat:  # noqa: ARG002
        """Upload; the object is there when all of it is."""
        size = self._spool.seek(0, io.SEEK_END)
        self._pieces.sort(key=lambda piece: piece.at)
        if (source := self._whole_source(size)) is not None:
            tag = copy_inside(self._files, source.path, self._path, source.seen.tag if source.seen else "")
        elif size <= SPOOL_BYTES and not any(piece.size >= 2 * LEAST_PART for piece in self._pieces):
            tag = self._files.put(self._path, self._bytes(0, size))
        elif self._files.protocol in S3:
            tag = self._upload(size)
        else:
            self._files.persistently(lambda: self._stream(size), self._path)
            tag = ""
        notify("publish", f"{self._files.protocol}://{self._path.lstrip('/')}")
        # Some answers tell no tag; and others may have deleted it since.
        return Stat(size, 0, tag) if tag else self._files.stat(self._path) or Stat(size, 0)

    def _whole_source(self, size: int) -> Piece | None:
        """Return the object that the new one is all of, where the store copies it by one request."""
        if len(self._pieces) != 1:
            return None
        piece = self._pieces[0]
        if piece.at or piece.start or piece.size != size or (size > MOST_AT_ONCE and self._files.protocol in S3):
            return None
        seen = piece.seen or self._files.stat(piece.path)
        return replace(piece, seen=seen) if seen and seen.size == size else None

    def _bytes(self, start: int, stop: int) -> bytes:
        """Return a range of what the object will hold, with pieces read from the store."""
        self._spool.seek(start)
        data = bytearray(self._spool.read(stop - start))
        for piece in self._pieces:
            first, last = max(start, piece.at), min(stop, piece.stop)
            if first < last:
                shift = piece.start - piece.at
                found = self._files.read(piece.path, first + shift, last + shift)
                if len(found) != last - first:
                    raise OSError(f"{piece.path} ends before byte {last + shift}")
                data[first - start : last - start] = found
        return bytes(data)

    def _upload(self, size: int) -> str:
        """Send the parts of an object to S3, and complete it; abort where that fails. Return its tag, where that is told."""
        files = self._files
        bucket, key, _ = files.fs.split_path(self._path)
        files.put(self._note, json.dumps({"upload": self._path}).encode())
        target = {"Bucket": bucket, "Key": key}
        word = secrets.token_hex(8)
        begun = files.persistently(
            lambda: files.fs.call_s3("create_multipart_upload", **target, Metadata={WORD: word}), self._path
        )
        target["UploadId"] = begun["UploadId"]
        try:
            parts = parts_of(size, self._pieces)
            tags = [{"PartNumber": n, "ETag": self._send(part, n, target)} for n, part in enumerate(parts, 1)]
            tag = self._complete(target, tags, word)
        except BaseException:
            with suppress(Exception):  # what ended the upload says more; the note stays where this fails too
                _abort(files, target, self._path)
                self._forget()
            raise
        self._forget()
        return tag

    def _forget(self) -> None:
        """Delete the note, but not what it tells of: that has ended, and others may send to the same key."""
        folder, _, name = self._note.rpartition("/")
        self._files.delete_files(folder, [name])

    def _send(self, part: Part, number: int, target: dict[str, Any]) -> str:
        """Send or copy a part, and return its tag."""
        files, piece = self._files, part.piece
        if piece is None:
            data = self._bytes(part.start, part.stop)
            sent = files.persistently(
                lambda: files.fs.call_s3("upload_part", **target, PartNumber=number, Body=data), self._path
            )
            return str(sent["ETag"])
        shift = piece.start - piece.at
        where = source_of_s3(files.fs, piece.path, piece.seen.tag if piece.seen else "")
        where["CopySourceRange"] = f"bytes={part.start + shift}-{part.stop + shift - 1}"
        with unchanged(files, piece.path):
            copied = files.persistently(
                lambda: files.fs.call_s3("upload_part_copy", **target, **where, PartNumber=number), self._path
            )
        return str(copied["CopyPartResult"]["ETag"])

    def _complete(self, target: dict[str, Any], tags: list[dict[str, Any]], word: str) -> str:
        """Complete an upload, and return its tag; one that is not known any more was completed by a lost request.

        That is so where the object has the word that the upload was begun with; else it is an older one, of whatever size.
        """
        files, parts = self._files, {"Parts": tags}
        try:
            done = files.persistently(
                lambda: files.fs.call_s3("complete_multipart_upload", **target, MultipartUpload=parts), self._path
            )
        except FileNotFoundError:
            if not files.persistently(lambda: is_ours(files, self._path, word), self._path):
                raise
            return ""
        return quoted(done.get("ETag"))

    def _stream(self, size: int) -> None:
        """Send an object piecewise by its client, which shows it when it is closed; where that fails, it never is."""
        out = self._files.fs.open(self._path, "wb", block_size=SPOOL_BYTES)
        try:
            for start in range(0, size, SPOOL_BYTES):
                out.write(self._bytes(start, min(size, start + SPOOL_BYTES)))
        except BaseException:
            with suppress(Exception):
                out.discard()
            out.closed = True
            raise
        out.close()


def _read(source: Location, start: int, stop: int) -> Iterator[bytes]:
    while start < stop:
        data = source.read_bytes(start, min(stop, start + SPOOL_BYTES))
        if not data:
            raise OSError(f"{source} ends before byte {stop}")
        yield data
        start += len(data)


def _abort(files: RemoteFiles, target: dict[str, Any], path: str) -> None:
    with suppress(FileNotFoundError):
        files.persistently(lambda: files.fs.call_s3("abort_multipart_upload", **target), path)


def is_note(path: str) -> bool:
    """Whether a path has the name of a note about an upload.

    Examples
    --------
    >>> is_note("ds/.wkdask/jobs/color/tmp/.0.3f-00112233aabb.tmp"), is_note("ds/color/1/c/0/0/0")
    (True, False)
    """
    return _NOTE.fullmatch(path.rpartition("/")[2]) is not None


def abort_noted(files: RemoteFiles, note: str) -> None:
    """Abort the uploads that a note tells of, as far as they are into the dataset, or the folder, that it lies in."""
    data = files.read(note, 0, NOTE_BYTES) if files.stat(note) else b""
    try:
        path = str(json.loads(data)["upload"])
    except (ValueError, KeyError, TypeError):
        return
    home = note.partition(f"/{WORK_FOLDER}/")[0] if f"/{WORK_FOLDER}/" in note else note.rpartition("/")[0]
    if not path.startswith(f"{home}/") or ".." in path.split("/"):
        return
    bucket, key, _ = files.fs.split_path(path)
    found = files.persistently(lambda: files.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key), path)
    for one in found.get("Uploads") or ():
        if one["Key"] == key:
            _abort(files, {"Bucket": bucket, "Key": key, "UploadId": one["UploadId"]}, path)
