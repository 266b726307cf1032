"""Files of any store that fsspec knows; objects appear when their upload is complete."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from glob import has_magic
from typing import Any, TypeVar

from wkdask.storage.address import GCS, HTTP, S3, Address, kind_of
from wkdask.storage.conditional import put_if, quoted, tag_of
from wkdask.storage.faults import IgnoresRangeError, NoBucketError, is_absent, said
from wkdask.storage.location import Stat
from wkdask.storage.options import Options
from wkdask.storage.ranges import Range, ask, ask_web_size
from wkdask.storage.retries import persistently
from wkdask.storage.stores import file_system
from wkdask.storage.uploads import SPOOL_BYTES, RemoteWriter, abort_noted, is_note

T = TypeVar("T")

NO_FOLDERS = S3 | GCS | HTTP
DELETED_AT_ONCE = LISTED_AT_ONCE = 1000

_buckets: set[tuple[str, str]] = set()
"""Buckets that were seen, so that what is not found in them is not there."""


def remote_files(url: str, options: Options) -> tuple[RemoteFiles, str]:
    """Return the store of a URL, and the path as the store spells it."""
    address = Address.of(url, options)
    given = address.options if kind_of(url) else Options({**_said_by(address), **address.options}, address.options.links)
    fs = file_system(address.protocol, given)
    return RemoteFiles(fs, address.protocol), str(fs._strip_protocol(address.url))


def _said_by(address: Address) -> dict[str, Any]:
    """Return the options that a URL says itself, such as the host of ``ftp://``, where its kind is not one of ours."""
    import fsspec

    with suppress(ImportError, ValueError):  # which making the client tells better
        return dict(fsspec.get_filesystem_class(address.protocol)._get_kwargs_from_urls(address.url))
    return {}


def _folders_between(above: str, keys: Iterable[str]) -> set[str]:
    """Return the folders below one that some objects lie in.

    Examples
    --------
    >>> sorted(_folders_between("a", ["a/b/c/d", "a/e"]))
    ['a/b/', 'a/b/c/']
    """
    found = set[str]()
    for key in keys:
        folder = key.rpartition("/")[0]
        while len(folder) > len(above) and f"{folder}/" not in found:
            found.add(f"{folder}/")
            folder = folder.rpartition("/")[0]
    return found


def _deepest_first(folders: Iterable[str]) -> list[str]:
    return sorted(folders, key=lambda folder: -folder.count("/"))


def stat_of(found: Mapping[str, Any]) -> Stat:
    """Return size, time and tag of an object, as a client of fsspec or S3 tells them."""
    changed: Any = found.get("created") or found.get("LastModified") or found.get("mtime")
    stamp = int(changed.timestamp() * 1e9) if hasattr(changed, "timestamp") else 0
    tag = found.get("generation") or found.get("ETag") or f"{found['size']}-{stamp}"
    return Stat(int(found["size"] or 0), stamp, str(tag))


def _calmly(call: Callable[[], T]) -> T:
    """Call again where threads changed fsspec's memory file system, a dict, while it was looked through."""
    while True:
        try:
            return call()
        except RuntimeError as error:
            if "changed size during iteration" not in str(error):
                raise


class RemoteFiles:
    """See `wkdask.storage.location.Location`.

    Parameters
    ----------
    fs
        Of fsspec.
    protocol
        Of the URLs that led here.
    """

    def __init__(self, fs: Any, protocol: str) -> None:
        self.fs, self.protocol = fs, protocol

    def persistently(self, call: Callable[[], T], path: str) -> T:
        """Call, and try again where that may help; a bucket that is not there is told from an object that is not."""
        try:
            url = path if "://" in path else f"{self.protocol}://{path.lstrip('/')}"
            return persistently(lambda: _calmly(call), url)
        except Exception as error:
            if not isinstance(error, FileNotFoundError) and not is_absent(error):
                raise
            if said(error)[1] == "NoSuchBucket":
                raise NoBucketError(str(error)) from error
            if self.protocol in GCS and "/" in path.strip("/"):  # where the answer does not say
                self._require_bucket(path)
            if not is_absent(error):
                raise OSError(str(error)) from error
            if not isinstance(error, FileNotFoundError):  # 410, of web servers
                raise FileNotFoundError(path) from error
            raise

    def read(self, path: str, start: int, stop: int | None) -> bytes:
        """Return a range of an object."""
        if stop is not None and stop <= start:
            return b""
        if start == 0 and stop is None:
            return bytes(self.persistently(lambda: self.fs.cat_file(path), path))
        try:
            data = bytes(self.persistently(lambda: self.fs.cat_file(path, start=start, end=stop), path))
        except Exception as error:  # of classes that clients have of their own
            if said(error)[0] == 416:
                return b""
            raise
        if stop is not None and len(data) > stop - start:
            raise IgnoresRangeError(path)
        return data

    def read_range(self, path: str, start: int, stop: int) -> Range:
        """Return a range, and what it is of."""
        return self.persistently(lambda: ask(self.fs, path, start, stop), path)

    def stat(self, path: str) -> Stat | None:
        """Return size, time and tag, or None."""
        try:
            found = self.persistently(lambda: self.info(path), path)
        except FileNotFoundError:
            self._require_bucket(path)
            return None
        if found["type"] == "directory":
            return None
        return stat_of(found)

    def info(self, path: str) -> dict[str, Any]:
        """Return what the store says of one object, by one request, which is not tried again."""
        if self.protocol in S3:
            bucket, key, _ = self.fs.split_path(path)
            if not key:
                return {"type": "directory"}
            try:
                found = self.fs.call_s3("head_object", Bucket=bucket, Key=key)
            except PermissionError:
                self.fs.cat_file(path, start=0, end=1)  # whose answer says why, as answers to HEAD have no body
                raise
            return {**found, "ETag": tag_of(found), "size": found["ContentLength"], "type": "file"}
        if self.protocol in GCS:
            bucket, key, _ = self.fs.split_path(path)
            if not key:
                return {"type": "directory"}
            return dict(self.fs._process_object(bucket, self.fs.call("GET", "b/{}/o/{}", bucket, key, json_out=True)))
        if self.protocol in HTTP:
            from fsspec.asyn import sync

            size, version = sync(self.fs.loop, ask_web_size, self.fs, path)
            return {"type": "file", "size": size, "ETag": version}
        return dict(self.fs.info(path))

    def _require_bucket(self, path: str) -> None:
        """Raise `NoBucketError` where what was not found is not there because its bucket is not; HEAD does not say."""
        bucket = path.lstrip("/").partition("/")[0]
        if self.protocol not in S3 | GCS or (self.fs._fs_token, bucket) in _buckets:
            return
        try:
            self.persistently(lambda: self._ask_for_bucket(bucket), bucket)
        except FileNotFoundError as error:
            raise NoBucketError(bucket) from error
        except OSError as error:
            if said(error)[0] not in (401, 403):  # no right to ask for the bucket, which says that it is there
                raise
        _buckets.add((self.fs._fs_token, bucket))

    def _ask_for_bucket(self, bucket: str) -> None:
        if self.protocol in S3:
            self.fs.call_s3("head_bucket", Bucket=bucket)
        else:
            self.fs.call("GET", "b/{}", bucket)

    def is_folder(self, path: str) -> bool:
        """Whether anything lies below."""
        if self.protocol in S3:
            return bool(self._page(path, 1).get("Contents"))
        if self.protocol in GCS:
            bucket, key, _ = self.fs.split_path(path)
            wanted = {"prefix": f"{key.strip('/')}/" if key.strip("/") else "", "maxResults": 1, "json_out": True}
            return bool(self.persistently(lambda: self.fs.call("GET", "b/{}/o", bucket, **wanted), path).get("items"))
        if self.protocol in HTTP:
            return bool(self.names(path))
        return bool(self.persistently(lambda: self.fs.isdir(path), path))

    def _page(self, path: str, most: int, after: str = "") -> dict[str, Any]:
        """Return what S3 says of some of the objects below a path, those behind a key."""
        bucket, key, _ = self.fs.split_path(path)
        wanted = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key.strip("/") else "", "MaxKeys": most}
        wanted |= {"StartAfter": after} if after else {}
        return dict(self.persistently(lambda: self.fs.call_s3("list_objects_v2", **wanted), path))

    def _keys(self, path: str) -> tuple[list[str], bool]:
        """Return some keys below a path, and whether there are more."""
        page = self._page(path, LISTED_AT_ONCE)
        return [one["Key"] for one in page.get("Contents") or ()], bool(page.get("IsTruncated"))

    def _listed(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield what S3 says of all objects below a path, in order."""
        after = ""
        while page := self._page(path, LISTED_AT_ONCE, after).get("Contents"):
            yield from page
            if page[-1]["Key"] <= after:
                raise OSError(f"its list of objects does not go on behind {after}")
            after = page[-1]["Key"]

    def names(self, path: str) -> list[str]:
        """Return the names below a path."""
        if self.protocol in S3 and self.fs.split_path(path)[0]:
            return self._names(path)
        try:
            found = self.persistently(lambda: self.fs.ls(path, detail=False), path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = (entry.rstrip("/").rpartition("/")[2] for entry in found if entry.strip("/") != path.strip("/"))
        return sorted({name for name in names if name})

    def _names(self, path: str) -> list[str]:
        """Do so by S3's own request, of which what is not there needs no second one."""
        bucket, key, _ = self.fs.split_path(path)
        prefix = f"{key.strip('/')}/" if key.strip("/") else ""
        wanted = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}
        found: set[str] = set()
        while True:
            page = self.persistently(lambda: self.fs.call_s3("list_objects_v2", **wanted), path)
            entries = [one["Key"] for one in page.get("Contents") or ()]
            entries += [one["Prefix"] for one in page.get("CommonPrefixes") or ()]
            names = {entry.removeprefix(prefix).strip("/") for entry in entries if entry.startswith(prefix)} - {""}
            more = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not more:
                return sorted(found | names)
            if more == wanted.get("ContinuationToken") or names <= found:
                raise OSError(f"its list of names does not go on behind {max(found | names, default='its start')}")
            found |= names
            wanted["ContinuationToken"] = more

    def below(self, path: str) -> Iterator[tuple[str, int]]:
        """Yield path and bytes of each object below a path."""
        return ((name, self._size(f"{path}/{name}", entry["size"])) for name, entry in self._entries(path))

    def stats_below(self, path: str) -> Iterator[tuple[str, Stat]] | None:
        """Yield path, size, time and tag of each object below a path, as lists tell them; None where they do not."""
        return ((name, stat_of(entry)) for name, entry in self._entries(path)) if self.protocol in S3 | GCS else None

    def _entries(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        root = f"{path.strip('/')}/"
        if self.protocol in S3:
            bucket = self.fs.split_path(path)[0]
            found = (
                (f"{bucket}/{one['Key']}", {**one, "size": one["Size"], "ETag": quoted(one.get("ETag"))})
                for one in self._listed(path)
            )
        else:
            found = iter(self.persistently(lambda: self.fs.find(path, detail=True), path).items())
        yield from ((name.strip("/").removeprefix(root), one) for name, one in found if name.strip("/").startswith(root))

    def _size(self, path: str, listed: int | None) -> int:
        """Return the bytes of an object, which the lists of web servers do not tell."""
        if listed is None and (stat := self.stat(path)):
            return stat.size
        return listed or 0

    def make_folder(self, path: str) -> None:
        """Create a folder where the store knows folders."""
        if self.protocol not in NO_FOLDERS:
            self.fs.makedirs(path, exist_ok=True)

    def delete(self, path: str) -> None:
        """Remove an object, or all below a path; uploads that are noted there end."""
        if self.protocol in S3:
            self._delete_keys(path)
            return
        if self.protocol in GCS:
            self._delete_object(path)
            there = self.is_folder(path)
        else:
            there = self.persistently(lambda: self.fs.exists(path), path)
        if there:
            self.persistently(lambda: self._remove(path), path)

    def _delete_object(self, path: str) -> None:
        """Delete one object on Google's store, which need not be there."""
        bucket, key, _ = self.fs.split_path(path)
        with suppress(FileNotFoundError):
            self.persistently(lambda: self.fs.call("DELETE", "b/{}/o/{}", bucket, key), path)

    def delete_files(self, path: str, names: Sequence[str], *, folder: bool = False) -> None:
        """Remove objects of a folder, and where that is wanted, what some stores keep of it; one request to S3."""
        if self.protocol in S3:
            bucket, key, _ = self.fs.split_path(path)
            keys = [f"{key}/{name}".lstrip("/") for name in names]
            self._delete_some(bucket, [*keys, f"{key}/"] if folder else keys, path)
            return
        for name in names:
            (self._delete_object if self.protocol in GCS else self.delete)(f"{path}/{name}")

    def _remove(self, path: str) -> None:
        try:
            if has_magic(path):  # which `rm` would take for a pattern, and delete what matches it
                self._remove_each(path)
            else:
                self.fs.rm(path, recursive=True)
        except FileNotFoundError:
            if self.fs.exists(path):  # as others delete, or write, here
                raise ConnectionError(f"{path} was changed while it was deleted") from None

    def _remove_each(self, path: str) -> None:
        for name, entry in sorted(self.fs.find(path, withdirs=True, detail=True).items(), reverse=True):
            if entry["type"] != "directory":
                self.fs.rm_file(name)
            elif self.protocol not in NO_FOLDERS:
                with suppress(FileNotFoundError):  # folders of fsspec's memory may be there by what lies in them alone
                    self.fs.rmdir(name)

    def _delete_keys(self, path: str) -> None:
        """Delete what lies below, and the object itself, and the folders, which some stores know, the deepest first."""
        bucket, key, _ = self.fs.split_path(path)
        if is_note(key):
            abort_noted(self, path)
        folders, before, more = {f"{key}/"}, list[str](), True
        while more:
            keys, more = self._keys(path)
            if keys and keys == before:
                raise PermissionError(f"{keys[0]} is still there after it was deleted")
            for one in filter(is_note, keys):
                abort_noted(self, f"{bucket}/{one}")
            folders |= _folders_between(key, keys)
            self._delete_some(bucket, keys if more else [*keys, *_deepest_first(folders), key], path)
            before = keys
            if keys and not more:
                found, more = self._folders(bucket, f"{key}/", path)
                if found and not more:
                    self._delete_some(bucket, _deepest_first({f"{key}/", *found}), path)

    def _folders(self, bucket: str, prefix: str, path: str) -> tuple[list[str], bool]:
        """Return the folders below one, as some stores keep them, and whether there are objects, too."""
        wanted = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}
        found = self.persistently(lambda: self.fs.call_s3("list_objects_v2", **wanted), path)
        below = [one["Prefix"] for one in found.get("CommonPrefixes") or ()]
        folders, left = list[str](), any(one["Key"] != prefix for one in found.get("Contents") or ())
        for folder in (one for one in below if one.startswith(prefix) and len(one) > len(prefix)):
            inside, more = self._folders(bucket, folder, path)
            folders += [folder, *inside]
            left = left or more
        return folders, left

    def _delete_some(self, bucket: str, keys: list[str], path: str) -> None:
        keys = [key for key in keys if key.strip("/")]
        for start in range(0, len(keys), DELETED_AT_ONCE):
            wanted = {"Objects": [{"Key": key} for key in keys[start : start + DELETED_AT_ONCE]], "Quiet": True}
            call = partial(self.fs.call_s3, "delete_objects", Bucket=bucket, Delete=wanted)
            for fault in self.persistently(call, path).get("Errors") or ():
                if not fault.get("Key", "").endswith("/"):  # a folder in which something was written meanwhile
                    kind = PermissionError if fault.get("Code") == "AccessDenied" else OSError
                    raise kind(f"{fault.get('Key')}: {fault.get('Code')}")

    def append(self, path: str, data: bytes) -> None:
        """Replace the object by one with the bytes added; objects do not grow."""
        old = self.read(path, 0, None) if self.stat(path) else b""
        self.put(path, old + data)

    def put(self, path: str, data: bytes) -> str:
        """Write an object in one request; return its tag, where the answer tells that."""
        if self.protocol in S3:
            bucket, key, _ = self.fs.split_path(path)
            put = partial(self.fs.call_s3, "put_object", Bucket=bucket, Key=key, Body=data)
            return self.persistently(lambda: tag_of(put()), path)
        self.persistently(lambda: self.fs.pipe_file(path, data), path)
        return ""

    def create(self, path: str, data: bytes) -> bool:
        """Write an object that must not exist."""
        return put_if(self, path, data, "") is not None

    @contextmanager
    def writer(self, path: str, temporary: str) -> Iterator[RemoteWriter]:
        """Give a writer that spools, and uploads at once when published."""
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            yield RemoteWriter(self, path, temporary, spool)
