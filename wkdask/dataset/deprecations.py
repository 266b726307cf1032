"""Older spellings that still work, in one table: what replaces each, and the warning that says so."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from wkdask.errors import ConflictingArgumentsError

PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "args": "executor",
        "block_len": "chunk_shape",
        "chunk_size": "chunk_shape",
        "chunks_per_shard": "shard_shape, which is in voxels",
        "czi_channel": "channel",
        "dtype_per_channel": "dtype",
        "dtype_per_layer": "dtype, which is that of one channel",
        "file_len": "shard_shape, which is in voxels",
        "folder_path": "folder",
        "scale": "voxel_size",
    }
)
"""Parameters that have another name now."""

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "Dataset.add_copy_layer": "Dataset.add_layer_as_copy",
        "Dataset.add_fs_copy_layer": "Dataset.add_layer_as_copy",
        "Dataset.add_remote_layer": "Dataset.add_layer_as_ref",
        "Dataset.create": "Dataset(path, voxel_size)",
        "Dataset.fs_copy_dataset": "Dataset.copy_dataset",
        "Dataset.get_color_layer": "Dataset.get_color_layers",
        "Dataset.get_or_create": "Dataset(path, voxel_size, exist_ok=True)",
        "Dataset.get_segmentation_layer()": "Dataset.get_segmentation_layer(layer_name)",
        "Dataset.scale": "Dataset.voxel_size",
        "Layer.add_copy_mag": "Layer.add_mag_as_copy",
        "Layer.add_fs_copy_mag": "Layer.add_mag_as_copy",
        "Layer.add_remote_mag": "Layer.add_mag_as_ref",
        "Layer.dtype_per_channel": "Layer.dtype",
        "Layer.get_best_mag": "Layer.get_finest_mag",
        "Layer.is_remote_to_dataset": "Layer.is_foreign",
        "View.read_xyz": "View.read_cxyz",
    }
)
"""Methods and properties that have another name now."""

# Frames from here to whoever called the verb that has the older spelling: that function is the one that calls those below.
_CALLER = 3


def warn_name(old: str, stacklevel: int = _CALLER) -> None:
    """Warn that a method or property of `NAMES` has another name now; called by that method itself.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_name("Dataset.scale")
    >>> str(caught[0].message)
    'Dataset.scale is deprecated. Use Dataset.voxel_size.'
    """
    warnings.warn(f"{old} is deprecated. Use {NAMES[old]}.", DeprecationWarning, stacklevel=stacklevel)


def warn_parameters(stacklevel: int = _CALLER, **given: Any) -> None:
    """Warn of each of these parameters of `PARAMETERS` that is not None; called by the verb that takes them.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_parameters(chunk_size=32, block_len=None)
    >>> [str(warning.message) for warning in caught]
    ['chunk_size is deprecated. Give chunk_shape.']
    """
    for old, value in given.items():
        if value is not None:
            warnings.warn(f"{old} is deprecated. Give {PARAMETERS[old]}.", DeprecationWarning, stacklevel=stacklevel)


def one_of(**given: Any) -> Any:
    """Return the one of several spellings of a parameter that was given, or None.

    Raises
    ------
    ConflictingArgumentsError
        Where several were.

    Examples
    --------
    >>> one_of(chunk_shape=None, chunk_size=32)
    32
    """
    found = {name: value for name, value in given.items() if value is not None}
    if len(found) > 1:
        first, *_, last = found
        raise ConflictingArgumentsError(f"Both {first} and {last} were given. Give one of them.")
    return next(iter(found.values()), None)
