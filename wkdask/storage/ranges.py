"""A range of an object in one request, with what the answer tells of the whole: its size, and which version it is.

fsspec's own calls throw that away, so that each range would cost a second request. What is called instead is below the public
names of s3fs, gcsfs and fsspec's http; any other file system is asked twice.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from wkdask.errors import StorageError
from wkdask.storage.faults import IgnoresRangeError, said

PIECE_BYTES = 1 << 20
WORD = "wkdask-write"
"""The name under which writers leave words with an object."""
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)")
_UNSATISFIABLE = 416
ANY_ZLIB = zlib.MAX_WBITS | 32
"""Gzip, or zlib's own form."""


@dataclass(frozen=True, slots=True)
class Range:
    """Some bytes of a file, and the file that they are of.

    Parameters
    ----------
    data
        The bytes; fewer than were asked for where the file ends before.
    size
        Of the whole file.
    version
        Changes when the file does; empty where the store tells none.
    words
        What its last writers left with it, see `wkdask.storage.conditional`; empty where nothing is told.
    """

    data: bytes
    size: int
    version: str
    words: str = ""


def ask(fs: Any, path: str, start: int, stop: int) -> Range:
    """Read a range; from a negative start, which takes a stop of 0, the last bytes.

    Raises
    ------
    FileNotFoundError
        Where there is no such object.
    IgnoresRangeError, StorageError
        Where a store, a web server does not send ranges, but whole files.
    """
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    asked = {"s3": _ask_s3, "http": _ask_http, "https": _ask_http, "gs": _ask_gcs, "gcs": _ask_gcs}.get(protocol)
    if asked is None:
        return _ask_twice(fs, path, start, stop)
    found = _ask_plainly(fs, path, start, stop)
    if found is None:
        from fsspec.asyn import sync

        found = cast(Range, sync(fs.loop, asked, fs, path, start, stop))
    if len(found.data) < min(_most(start, stop), max(0, found.size - max(0, start))):
        raise ConnectionError(f"the answer ends after {len(found.data)} bytes")
    return found


def _ask_twice(fs: Any, path: str, start: int, stop: int) -> Range:
    info = fs.info(path)
    if info["type"] == "directory":
        raise FileNotFoundError(path)
    size = int(info["size"])
    version = next((str(info[key]) for key in ("ETag", "etag", "created", "LastModified", "mtime") if info.get(key)), "")
    first, last = (max(0, size + start), size) if start < 0 else (start, min(stop, size))
    data = bytes(fs.cat_file(path, start=first, end=last)) if first < last else b""
    return Range(data, size, version)


def _most(start: int, stop: int) -> int:
    return -start if start < 0 else stop - start


def _answered(
    path: str, asked: tuple[int, int], data: bytes, content_range: str | None, version: str, words: str = ""
) -> Range:
    """Return the range that a store sent.

    A whole object is refused where a range of it was asked for, as of objects that the store decompresses for the way.
    """
    if len(data) > _most(*asked) or (asked[0] > 0 and not content_range):
        raise IgnoresRangeError(path)
    return Range(data, _size(path, content_range, asked[0], data), version, words)


def _header(start: int, stop: int) -> str:
    return f"bytes={start}" if start < 0 else f"bytes={start}-{stop - 1}"


def _ask_plainly(fs: Any, path: str, start: int, stop: int) -> Range | None:
    """Ask for an object on S3 by a plain request, see `wkdask.storage.s3_ranges`; None where its client should be asked."""
    plain = getattr(fs, "plain_requests", None)
    bucket, key, version = fs.split_path(path) if plain else ("", "", None)
    if not plain or version:
        return None
    answer = plain.get(bucket, key, _header(start, stop), _most(start, stop))
    if answer is None:
        return None
    data, headers = answer
    words = headers.get(f"x-amz-meta-{WORD}", "")
    return _answered(path, (start, stop), data, headers.get("Content-Range"), headers.get("ETag", ""), words)


async def _ask_s3(fs: Any, path: str, start: int, stop: int) -> Range:
    bucket, key, version = fs.split_path(path)
    more = {"VersionId": version} if version else {}
    try:
        answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, Range=_header(start, stop), **more)
    except OSError as error:
        if "InvalidRange" not in str(error.__cause__ or error):
            raise
        answer = None
    if answer is None:
        info = await fs._info(path)
        return Range(b"", int(info["size"]), str(info.get("ETag", "")))
    try:
        data = await _body(answer["Body"].iter_chunks(PIECE_BYTES), _most(start, stop))
    finally:
        answer["Body"].close()
    words = (answer.get("Metadata") or {}).get(WORD, "")
    return _answered(path, (start, stop), data, answer.get("ContentRange"), answer.get("ETag", ""), words)


async def _ask_gcs(fs: Any, path: str, start: int, stop: int) -> Range:
    try:
        headers, data = await fs._call("GET", fs.url(path), headers={"Range": _header(start, stop)})
    except Exception as error:  # gcsfs has a class of its own
        if said(error)[0] != _UNSATISFIABLE:
            raise
        headers = None
    if headers is None:
        info = await fs._info(path)
        return Range(b"", int(info["size"]), str(info.get("generation", "")))
    version = headers.get("X-Goog-Generation") or headers.get("ETag", "")
    words = headers.get(f"X-Goog-Meta-{WORD}", "")
    return _answered(path, (start, stop), data, headers.get("Content-Range"), version, words)


async def _ask_http(fs: Any, url: str, start: int, stop: int) -> Range:
    found = await _ask_web(fs, url, start, stop)
    if found is None:  # the server does not know ranges that are counted from the end
        size = (await ask_web_size(fs, url))[0]
        found = await _ask_web(fs, url, max(0, size + start), max(1, size))
    return cast(Range, found)


async def _ask_web(fs: Any, url: str, start: int, stop: int) -> Range | None:
    """Return a range, as it lies there; None where the server can not mean what was asked for, as it begins at the end."""
    async with await _request(fs, url, _header(start, stop)) as answer:
        told, most, name = answer.headers.get("Content-Range"), _most(start, stop), _shown(answer.url)
        if start < 0 and (answer.status in (400, 501) or (answer.status in (206, _UNSATISFIABLE) and not told)):
            return None
        if answer.status == _UNSATISFIABLE:
            return Range(b"", _size(name, told, start, b""), _version(answer))
        fs._raise_not_found_for_status(answer, url)
        data = await _body(answer.content.iter_chunked(PIECE_BYTES), most)
        if (packed := _packed(answer)) and len(data) <= most:  # unasked
            if answer.status == 206 and (start or len(data) != _size(name, told, start, data)):
                raise StorageError(f"{name} is sent compressed ({packed}), of which a range says nothing. Use another server.")
            data = _decompressed(name, data, packed, most)
            return Range(data, len(data), _version(answer)) if len(data) <= most else _refuse_whole(name)
        if len(data) > most or (start > 0 and answer.status != 206):
            _refuse_whole(name)
        if answer.status == 206 and not told:
            raise StorageError(f"{name}: the server sent a range and not which one (no Content-Range). Use another server.")
        return Range(data, _size(name, told, start, data), _version(answer))


def _refuse_whole(name: str) -> NoReturn:
    raise StorageError(
        f"{name} came whole, when a range was asked for: the server sends none (status 206 was expected). Let it send "
        "ranges, or take a copy of the files that was made without them, such as by wget."
    )


async def ask_web_size(fs: Any, url: str) -> tuple[int, str]:
    """Return bytes and version of a file on a web server: as it says, or as the first byte tells, or by counting.

    A size of 0 is not believed: some servers say it of what they make while they send it. Nor is that of compressed files.
    """
    async with await _request(fs, url, "", "head") as answer:
        length = answer.headers.get("Content-Length", "")
        if answer.status == 200 and length.isdecimal() and int(length) and not _packed(answer):
            return int(length), _version(answer)
    async with await _request(fs, url, _header(0, 1)) as answer:
        told = answer.headers.get("Content-Range")
        if answer.status == _UNSATISFIABLE:
            return _size(_shown(answer.url), told, 0, b""), _version(answer)
        fs._raise_not_found_for_status(answer, url)
        if answer.status != 206:
            return await _counted(answer), _version(answer)
        if told and not _packed(answer):
            return _size(_shown(answer.url), told, 0, b""), _version(answer)
    async with await _request(fs, url, "") as answer:
        fs._raise_not_found_for_status(answer, url)
        return await _counted(answer), _version(answer)


async def _counted(answer: Any) -> int:
    """Return the bytes of a whole file that a server sends."""
    if packed := _packed(answer):
        return len(_decompressed(_shown(answer.url), await answer.read(), packed, 1 << 40))
    return sum([len(piece) async for piece in answer.content.iter_chunked(PIECE_BYTES)])


def _packed(answer: Any) -> str:
    """Return how a server compressed what it sends; empty where it did not."""
    found = str(answer.headers.get("Content-Encoding", "")).lower()
    return "" if found == "identity" else found


async def _request(fs: Any, url: str, asked: str, method: str = "get") -> Any:
    """Return a request for what lies there as it does: what is compressed for the way has no ranges of its own."""
    options = dict(fs.kwargs)
    headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"} | ({"Range": asked} if asked else {})
    send = getattr(await fs.set_session(), method)
    return send(fs.encode_url(url), headers=headers, **{"allow_redirects": True, **options, "auto_decompress": False})


def _version(answer: Any) -> str:
    return str(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")


def _decompressed(name: str, data: bytes, packed: str, most: int) -> bytes:
    """Return what a server compressed for the way, all members of it; one byte more than is wanted is enough."""
    if packed not in ("gzip", "x-gzip", "deflate"):
        raise StorageError(f"{name} is sent compressed by {packed}, which was not asked for. Use another server, or a copy.")
    found = bytearray()
    while data and len(found) <= most:
        unpack = zlib.decompressobj(ANY_ZLIB)
        try:
            found += unpack.decompress(data, most + 1 - len(found))
        except zlib.error as error:
            raise StorageError(f"{name} is sent as {packed}, and is none: {error}. Use another server, or a copy.") from None
        if not unpack.eof and len(found) <= most:
            raise ConnectionError(f"the compressed answer ends after {len(found)} bytes")
        data = unpack.unused_data
    return bytes(found)


def _shown(url: Any) -> str:
    return str(url.with_user(None).with_query(None))


async def _body(pieces: AsyncIterator[bytes], most: int) -> bytes:
    """Return the body of an answer, as it comes; where there is more than was asked for, no more of it than tells that."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > most:
            break
    return bytes(body)


def _size(name: str, content_range: str | None, start: int, data: bytes) -> int:
    """Return the size of a file, a range of which came; of one that came whole, that is what came.

    Raises
    ------
    StorageError
        Where another range came than was asked for, or nothing tells how large the file is.
    """
    found = _CONTENT_RANGE.fullmatch(content_range or "")
    if not found:
        return len(data)
    first, last, size = found.groups()
    if size == "*":
        raise StorageError(f"{name}: the server does not tell its size ({content_range}). Copy the dataset to another one.")
    wanted = max(0, int(size) + start) if start < 0 else start
    if first is not None and (int(first) != wanted or int(last) - int(first) + 1 < len(data)):
        raise StorageError(f"{name}: from byte {wanted} on was asked for, {content_range} came. Copy the dataset to a disk.")
    return int(size)
