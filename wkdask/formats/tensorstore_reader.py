"""Reading local arrays by tensorstore: the one module that knows it.

tensorstore decodes and places chunks with all threads and without the interpreter lock. It is never used for writing: it
would hold whole decoded shards.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np
import tensorstore

from wkdask.errors import DamagedError, StorageError
from wkdask.formats.spec import ArraySpec
from wkdask.geometry.grid import Box
from wkdask.storage import Location, Stat

KEPT_BYTES = 64 << 20
"""Decoded chunks and shard indexes that a process keeps, for all arrays together; checked against the file at each use."""


@lru_cache(maxsize=1)
def _keeping() -> Any:
    return tensorstore.Context({"cache_pool": {"total_bytes_limit": KEPT_BYTES}})


@lru_cache(maxsize=256)
def _open(location: Location, driver: str, changed: Stat | None, keep: bool) -> Any:  # noqa: ARG001 - changed: open it anew
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": location.url + "/"}}
    context = _keeping() if keep else None
    return tensorstore.open(spec, open=True, read=True, write=False, context=context).result()


def read_local(location: Location, driver: str, box: Box, spec: ArraySpec, *, keep: bool = True) -> np.ndarray[Any, Any]:
    """Read a box that lies within a local array, Fortran-ordered.

    With ``keep``, decoded chunks are kept for a while: neighbouring cut-outs share many.

    Raises
    ------
    DamagedError
        Where a file does not decode or fails a checksum; the file is named.
    StorageError
        Where the system does not let us read a file.
    """
    if not box.size:
        return np.zeros(box.shape, spec.dtype, order="F")
    try:
        keep = keep and box.size * spec.itemsize <= KEPT_BYTES // 4  # a larger one would only drive all else out
        store = _open(location, driver, (location / "zarr.json").stat(), keep)
        return np.asarray(store[box.slices].read(order="F").result())
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
