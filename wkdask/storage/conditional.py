"""Replacing an object only where nobody else did: the conditions of S3 and Google, and stores that ignore them."""

from __future__ import annotations

import json
import os
import secrets
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from wkdask.storage.address import GCS, S3
from wkdask.storage.faults import is_absent, is_conflict
from wkdask.storage.ranges import WORD
from wkdask.storage.turns import Turns

if TYPE_CHECKING:
    from wkdask.storage.remote import RemoteFiles

WORDS = 8
"""Of the last writers, which are kept with an object."""
REMEMBERED = 256

_turns = Turns()
_known: dict[tuple[str, str], bool] = {}
_remembering = threading.Lock()
_words: dict[tuple[str, str, str], str] = {}
"""Words of objects that were read or written, by store, path and tag."""


class StoreWarning(UserWarning):
    """A store lacks what safe writing needs."""


def put_if(files: RemoteFiles, path: str, data: bytes, tag: str) -> str | None:
    """Write an object where it is as it was when it had a tag; return its new tag, empty if none is told; None if it was not.

    A request may be done although its answer is lost, and then be sent again, by any layer below: it finds what it wrote
    itself. So the store is given a word of ours with the object, and asked for it where the condition does not hold. Those of
    the writers before are kept with it, as others may have changed the object between both requests.

    Parameters
    ----------
    files
        The store.
    path
        In it.
    data
        All that the object will hold.
    tag
        As `Stat.tag` had it; empty: the object must not exist.
    """
    if not (files.protocol in S3 or files.protocol in GCS):
        return _put_alone(files, path, data, tag)
    word = secrets.token_hex(8)
    words = ",".join([word, *filter(None, _words.get((files.fs._fs_token, path, tag), "").split(",")[: WORDS - 1])])

    def put() -> str | None:
        try:
            return _put(files.fs, files.protocol, path, data, (tag, words))
        except Exception as error:
            if not (is_conflict(error) or (tag and is_absent(error))):
                raise
        return "" if is_ours(files, path, word) else None  # asked here, where that error is no part of what may go wrong now

    done = files.persistently(put, path)
    if done:
        remember_words(files, path, done, words)
    return done


def remember_words(files: RemoteFiles, path: str, tag: str, words: str) -> None:
    """Remember the words that lie with an object as it is when it has a tag, for whoever writes it next."""
    with _remembering:
        _words[files.fs._fs_token, path, tag] = words
        while len(_words) > REMEMBERED:
            del _words[next(iter(_words))]


def _put(fs: Any, protocol: str, path: str, data: bytes, said: tuple[str, str]) -> str:
    """Send one request that has a condition, and words; return the object's new tag, where the answer tells it."""
    (bucket, key, _), (tag, words) = fs.split_path(path), said
    if protocol in S3:
        condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
        done = fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, Metadata={WORD: words}, **condition)
        return tag_of(done)
    between = secrets.token_hex(16)
    about = json.dumps({"name": key, "metadata": {WORD: words}})
    head = f"--{between}\nContent-Type: application/json; charset=UTF-8\n\n{about}\n"
    head += f"--{between}\nContent-Type: application/octet-stream\n\n"
    fs.call(
        "POST",
        f"{fs._location}/upload/storage/v1/b/{quote(bucket, safe='')}/o",
        uploadType="multipart",
        ifGenerationMatch=tag or "0",
        data=head.encode() + data + f"\n--{between}--".encode(),
        headers={"Content-Type": f'multipart/related; boundary="{between}"'},
    )
    return ""


def tag_of(answer: Mapping[str, Any]) -> str:
    """Return the tag of an object that an answer tells; ConnectionError where it tells none, as a store's own would."""
    if not answer.get("ETag"):
        raise ConnectionError("the answer tells no ETag, as if it came from somewhere else")
    return str(answer["ETag"])


def quoted(tag: str | None) -> str:
    """Return a tag that the body of an answer tells as headers have it, in quotes, which some stores leave out there.

    Examples
    --------
    >>> quoted("e111"), quoted('"e111"'), quoted(None)
    ('"e111"', '"e111"', '')
    """
    return f'"{tag}"' if tag and not tag.endswith('"') else tag or ""


def is_ours(files: RemoteFiles, path: str, word: str) -> bool:
    """Whether an object was written with a word, or is what others made of it since."""
    try:
        found = files.info(path)
    except FileNotFoundError:
        return False
    return word in str((found.get("Metadata") or found.get("metadata") or {}).get(WORD) or "").split(",")


def _put_alone(files: RemoteFiles, path: str, data: bytes, tag: str) -> str | None:
    """Do the same in a store that knows no conditions; only threads of this process take turns."""
    with _turns.of(f"{files.protocol}:{path}"):
        found = files.stat(path)
        if (found.tag if found else "") != tag:
            return None
        files.put(path, data)
        return ""


def keeps_conditions(files: RemoteFiles, folder: str, warn: Callable[[str], None] | None = None) -> bool:
    """Whether a store refuses writes whose conditions do not hold; tried once for each bucket, with objects in a folder.

    Warns
    -----
    StoreWarning
        Where it does not.
    """
    if files.protocol == "memory":
        return True
    if not (files.protocol in S3 or files.protocol in GCS):
        return False
    bucket = folder.lstrip("/").partition("/")[0]
    known = (files.fs._fs_token, bucket)
    if known not in _known:
        probes = [f".condition.{os.getpid():x}-{secrets.token_hex(6)}.tmp" for _ in range(2)]  # which wkdask clean knows, too
        with ThreadPoolExecutor(2) as threads:
            twice = threads.submit(_makes_once, files, f"{folder}/{probes[0]}")
            other = '"00000000000000000000000000000000"' if files.protocol in S3 else "1"
            changed = put_if(files, f"{folder}/{probes[1]}", b"1", other)
            _known[known] = twice.result() and changed is None
        files.delete_files(folder, probes)
        if not _known[known]:
            text = (
                f"The store of {files.protocol}://{bucket} ignores conditions on writes (If-None-Match, If-Match). Changes of "
                "documents are guarded by lease objects instead; do not let other programs change them at the same time."
            )
            (warn or _warn)(text)
    return _known[known]


def _makes_once(files: RemoteFiles, path: str) -> bool:
    put_if(files, path, b"1", "")
    return put_if(files, path, b"2", "") is None


def _warn(text: str) -> None:
    warnings.warn(text, StoreWarning, stacklevel=6)
