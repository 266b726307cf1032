"""Copies that a store makes by itself, of objects that are still what was seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wkdask.errors import ConflictError
from wkdask.storage.address import GCS, S3
from wkdask.storage.conditional import quoted, tag_of
from wkdask.storage.faults import is_conflict

if TYPE_CHECKING:
    from wkdask.storage.remote import RemoteFiles

MOST_AT_ONCE = 5 << 30
"""Of a copy by one request to S3."""


def copies_inside(files: Any, others: Any) -> bool:
    """Whether one store holds the files of both, and copies one to the other by itself."""
    return getattr(files, "protocol", "") in S3 | GCS and getattr(others, "fs", None) is files.fs


def copy_inside(files: RemoteFiles, source: str, target: str, tag: str) -> str:
    """Let a store copy an object; return the new one's tag.

    Parameters
    ----------
    files
        The store, S3 or Google's.
    source, target
        Paths in it.
    tag
        Of the source, as `Stat.tag` has it; empty: any. A bucket of Google's that keeps versions copies the one with the tag.

    Raises
    ------
    ConflictError
        Where the source has another tag, or is gone.
    """
    with unchanged(files, source, FileNotFoundError):
        if files.protocol in S3:
            return files.persistently(lambda: _copied_by_s3(files.fs, source, target, tag), target)
        more = {"sourceGeneration": tag} if tag.isdecimal() else {}
        while True:  # a large object takes some requests
            done = files.persistently(lambda: _copied_by_google(files.fs, source, target, more), target)
            if done.get("done"):
                return str((done.get("resource") or {}).get("generation") or "")
            more["rewriteToken"] = str(done["rewriteToken"])


@contextmanager
def unchanged(files: RemoteFiles, source: str, *missing: type[Exception]) -> Iterator[None]:
    """Say that an object was changed where a condition on it does not hold, or an error tells that it is missing."""
    try:
        yield
    except Exception as error:
        if not (is_conflict(error) or isinstance(error, missing)):
            raise
        name = f"{files.protocol}://{source.lstrip('/')}"
        raise ConflictError(
            f"{name} was changed or deleted while it was copied. Stop its writers, and run the same again."
        ) from error


def source_of_s3(fs: Any, source: str, tag: str) -> dict[str, Any]:
    """Return what requests to S3 say of the object that is copied: its tag, and the customer's key that encrypts it."""
    bucket, key, _ = fs.split_path(source)
    given = {f"CopySource{name}": value for name, value in fs.s3_additional_kwargs.items() if name.startswith("SSECustomer")}
    return {"CopySource": {"Bucket": bucket, "Key": key}, **given, **({"CopySourceIfMatch": tag} if tag else {})}


def _copied_by_s3(fs: Any, source: str, target: str, tag: str) -> str:
    bucket, key, _ = fs.split_path(target)
    done = fs.call_s3("copy_object", Bucket=bucket, Key=key, **source_of_s3(fs, source, tag))
    return quoted(tag_of(done.get("CopyObjectResult") or {}))


def _copied_by_google(fs: Any, source: str, target: str, more: dict[str, str]) -> dict[str, Any]:
    (bucket, key, _), (old_bucket, old_key, _) = fs.split_path(target), fs.split_path(source)
    headers, words = {"Content-Type": "application/json"}, "b/{}/o/{}/rewriteTo/b/{}/o/{}"
    done: dict[str, Any] = fs.call("POST", words, old_bucket, old_key, bucket, key, headers=headers, json_out=True, **more)
    if not (done.get("done") or done.get("rewriteToken")):
        raise ConnectionError("the answer does not tell whether the copy is done, as if it came from somewhere else")
    return done
