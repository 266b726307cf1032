"""Reading local arrays by tensorstore: opening, keeping chunks, and what its errors mean.

tensorstore decodes and places chunks with all threads and without the interpreter lock. It is never used for writing: it
would hold whole decoded shards. It is imported where it is first used: many commands read no voxels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from wkdask.errors import DamagedError, StorageError
from wkdask.formats.spec import ArraySpec
from wkdask.geometry.grid import Box
from wkdask.storage import Location, Stat

KEPT_BYTES = 64 << 20
"""Decoded chunks and shard indexes that a process keeps, for all arrays together; checked against the file at each use."""


@lru_cache(maxsize=1)
def keeping() -> Any:
    """Return the context of arrays whose decoded chunks are kept."""
    import tensorstore

    return tensorstore.Context({"cache_pool": {"total_bytes_limit": KEPT_BYTES}})


@lru_cache(maxsize=256)
def _open(location: Location, driver: str, changed: Stat | None, keep: bool) -> Any:  # noqa: ARG001 - changed: open it anew
    import tensorstore

    spec = {"driver": driver, "kvstore": {"driver": "file", "path": location.url + "/"}}
    context = keeping() if keep else None
    return tensorstore.open(spec, open=True, read=True, write=False, context=context).result()


def read_local(
    location: Location, driver: str, box: Box, spec: ArraySpec, *, keep: bool = True, order: Literal["C", "F"] = "F"
) -> np.ndarray[Any, Any]:
    """Read a box that lies within a local array; bool becomes uint8.

    With ``keep``, decoded chunks are kept for a while: neighbouring cut-outs share many. ``order`` is that of the result in
    memory; it is read fastest in the one on disk.

    Raises
    ------
    DamagedError
        Where a file does not decode or fails a checksum; the file is named.
    StorageError
        Where the system does not let us read a file.
    """
    if not box.size:
        return np.zeros(box.shape, spec.dtype, order=order)
    keep = keep and is_kept(box, spec)
    with explained_reading(location):
        store = _open(location, driver, (location / "zarr.json").stat(), keep)
        found = np.asarray(store[box.slices].read(order=order).result())
    return found.view(np.uint8) if found.dtype == bool else found


def is_kept(box: Box, spec: ArraySpec) -> bool:
    """Whether the chunks of a box are worth keeping: those of a large one would only drive all else out."""
    return box.size * spec.itemsize <= KEPT_BYTES // 4


@contextmanager
def explained_reading(location: Location) -> Iterator[None]:
    """Turn tensorstore's errors into ones that name the file, or else the array's place, and what to do."""
    try:
        yield
    except (ValueError, OSError, LookupError, RuntimeError) as error:
        said = str(error)
        name = _file_named(said) or str(location)
        if "os_error_code" in said:  # the system refused, so that nothing is known of the file's bytes
            raise StorageError(f"{name} can not be read: {said[:300]}. Check its owner and mode.") from None
        raise DamagedError(f"{name} is damaged: {said[:300]}. Write it again, or restore it.") from None


def _file_named(said: str) -> str | None:
    """Return the path of the file that a message is about, which escapes all but plain characters."""
    found = re.search(r'local file "((?:[^"\\]|\\.)*)"', said)
    return found and found[1].encode("latin-1").decode("unicode_escape").encode("latin-1").decode(errors="replace")
