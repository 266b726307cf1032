"""Chunks whose codecs zarr-python has: slower than our own readers, but it knows all that are registered.

The one module that knows zarr-python. It is given single chunks in memory, and only decodes.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from wkdask.errors import DamagedError, MetadataError
from wkdask.geometry.grid import Index


def require_registered(name: str, where: str) -> None:
    """Raise `MetadataError` where zarr-python knows no such codec."""
    from zarr.registry import get_codec_class

    try:
        known = "pickle" not in name.lower() and get_codec_class(name)  # pickled data can run any code
    except Exception:  # noqa: BLE001 - whatever a package that registers codecs raises when it is imported
        known = False
    if known:
        return
    raise MetadataError(
        f"{where}: the codec {name[:80]!r} is not known here, expected one that zarr-python knows. Install what "
        "registers it (entry point zarr.codecs), or convert the array where it can be read."
    )


def decode_general(codecs: list[Any], data_type: str, data: bytes, shape: Index) -> np.ndarray[Any, Any]:
    """Return the voxels of a chunk of a shape; bool as uint8.

    Raises
    ------
    DamagedError
        Where it does not decode.
    MetadataError
        Where zarr-python does not take the codecs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some codecs are no part of the specification yet
        array = _opened(codecs, data_type, data, shape)
        try:
            found = np.asarray(array[...])
        except Exception as error:  # noqa: BLE001 - codecs of others raise what they like
            raise DamagedError(f"{type(error).__name__}: {error}"[:300]) from None
    return found.view("u1") if found.dtype == bool else found


def _opened(codecs: list[Any], data_type: str, data: bytes, shape: Index) -> Any:
    """Return an array in memory with a single chunk."""
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shape}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": False if data_type == "bool" else 0,
        "codecs": codecs,
    }
    files = {"zarr.json": json.dumps(document).encode(), "/".join(["c", *"0" * len(shape)]): data}
    store = MemoryStore({name: default_buffer_prototype().buffer.from_bytes(found) for name, found in files.items()})
    try:
        return zarr.open_array(store, mode="r", zarr_format=3)
    except Exception as error:  # noqa: BLE001 - as above
        said = f"{type(error).__name__}: {error}"[:300]
        raise MetadataError(f"its codecs are nothing that zarr-python opens: {said}.") from None
