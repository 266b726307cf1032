"""The Dask-native way to make, process and analyse WEBKNOSSOS datasets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wkdask._version import __version__

if TYPE_CHECKING:
    from wkdask.dataset import Dataset, Layer, MagView, SegmentationLayer
    from wkdask.errors import WkdaskError
    from wkdask.geometry import BoundingBox, Mag, NDBoundingBox, Vec3Int
    from wkdask.images import ConversionLayerMapping, Selection
    from wkdask.metadata import DataFormat, LayerCategoryType, LengthUnit, VoxelSize
    from wkdask.operations import Coarser, Orientation, Running, Sampling, SamplingModes
    from wkdask.plan import Plan, Report

_HOMES = {
    "BoundingBox": "geometry",
    "Coarser": "operations",
    "ConversionLayerMapping": "images",
    "DataFormat": "metadata",
    "Dataset": "dataset",
    "Layer": "dataset",
    "LayerCategoryType": "metadata",
    "LengthUnit": "metadata",
    "Mag": "geometry",
    "MagView": "dataset",
    "NDBoundingBox": "geometry",
    "Orientation": "operations",
    "Plan": "plan",
    "Report": "plan",
    "Running": "operations",
    "Sampling": "operations",
    "SamplingModes": "operations",
    "SegmentationLayer": "dataset",
    "Selection": "images",
    "Vec3Int": "geometry",
    "VoxelSize": "metadata",
    "WkdaskError": "errors",
}

__all__ = [
    "BoundingBox",
    "Coarser",
    "ConversionLayerMapping",
    "DataFormat",
    "Dataset",
    "Layer",
    "LayerCategoryType",
    "LengthUnit",
    "Mag",
    "MagView",
    "NDBoundingBox",
    "Orientation",
    "Plan",
    "Report",
    "Running",
    "Sampling",
    "SamplingModes",
    "SegmentationLayer",
    "Selection",
    "Vec3Int",
    "VoxelSize",
    "WkdaskError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing the package costs next to nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'wkdask' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"wkdask.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
