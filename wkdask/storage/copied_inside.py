"""Copies that a store makes by itself, by one request each, of objects that are still what was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wkdask.storage.address import S3
from wkdask.storage.conditional import quoted
from wkdask.storage.faults import is_conflict

if TYPE_CHECKING:
    from wkdask.storage.remote import RemoteFiles

MOST_AT_ONCE = 5 << 30
"""Of a copy by one request to S3."""


def copy_inside(files: RemoteFiles, source: str, target: str, tag: str) -> str:
    """Let a store copy an object; return the new one's tag, empty where none is told.

    Parameters
    ----------
    files
        The store, S3 or Google's.
    source, target
        Paths in it.
    tag
        Of the source, as `Stat.tag` has it, which it must have still; empty: any.

    Raises
    ------
    OSError
        Where it has another one, or is gone.
    """
    call = _copied_by_s3 if files.protocol in S3 else _copied_by_google
    try:
        return files.persistently(lambda: call(files.fs, source, target, tag), target)
    except Exception as error:
        if not (is_conflict(error) or isinstance(error, FileNotFoundError)):
            raise
    raise OSError(f"{source} was changed or deleted while it was copied")


def _copied_by_s3(fs: Any, source: str, target: str, tag: str) -> str:
    bucket, key, _ = fs.split_path(target)
    done = fs.call_s3("copy_object", Bucket=bucket, Key=key, **source_of_s3(fs, source, tag))
    return quoted((done.get("CopyObjectResult") or {}).get("ETag"))


def source_of_s3(fs: Any, source: str, tag: str) -> dict[str, Any]:
    """Return what requests to S3 say of the object that is copied: its tag, and the customer's key that encrypts it."""
    bucket, key, _ = fs.split_path(source)
    given = {f"CopySource{name}": value for name, value in fs.s3_additional_kwargs.items() if name.startswith("SSECustomer")}
    return {"CopySource": {"Bucket": bucket, "Key": key}, **given, **({"CopySourceIfMatch": tag} if tag else {})}


def _copied_by_google(fs: Any, source: str, target: str, tag: str) -> str:
    """Do so in as many requests as the store wants for a large object."""
    (bucket, key, _), (old_bucket, old_key, _) = fs.split_path(target), fs.split_path(source)
    more: dict[str, str] = {"sourceGeneration": tag} if tag.isdecimal() else {}
    done: dict[str, Any] = {}
    while not done.get("done"):
        words = "b/{}/o/{}/rewriteTo/b/{}/o/{}"
        headers = {"Content-Type": "application/json"}
        done = fs.call("POST", words, old_bucket, old_key, bucket, key, headers=headers, json_out=True, **more)
        more["rewriteToken"] = str(done.get("rewriteToken") or "")
    return str((done.get("resource") or {}).get("generation") or "")
