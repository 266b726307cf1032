"""The Dask-native way to make, process and analyse WEBKNOSSOS datasets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wkdask._version import __version__

if TYPE_CHECKING:
    from wkdask.clusters import cluster
    from wkdask.dataset import (
        AgglomerateAttachment,
        ArrayInfo,
        Attachment,
        AttachmentDataFormat,
        Attachments,
        ConnectomeAttachment,
        CumsumAttachment,
        Dataset,
        Layer,
        LayerToLink,
        MagView,
        MeshAttachment,
        RemoteDataset,
        SegmentationLayer,
        SegmentIndexAttachment,
        SegmentStatisticsAttachment,
        View,
        Zarr3Config,
    )
    from wkdask.dataset.agglomerate_graph import AgglomerateGraph
    from wkdask.dataset.bigwarp import read_bigwarp_landmarks
    from wkdask.dataset.composing import Component, compose
    from wkdask.dataset.storing import store
    from wkdask.errors import WkdaskError
    from wkdask.geometry import (
        BoundingBox,
        Mag,
        MagLike,
        NDBoundingBox,
        NormalizedBoundingBox,
        Vec3Float,
        Vec3FloatLike,
        Vec3Int,
        Vec3IntLike,
        VecInt,
        VecIntLike,
    )
    from wkdask.images import ConversionLayerMapping, Selection
    from wkdask.metadata import (
        COLOR_CATEGORY,
        SEGMENTATION_CATEGORY,
        AffineCoordinateTransformation,
        CoordinateTransformation,
        DataFormat,
        DatasetViewConfiguration,
        LayerCategoryType,
        LayerViewConfiguration,
        LengthUnit,
        ThinPlateSplineCoordinateTransformation,
        VoxelSize,
    )
    from wkdask.operations import Coarser, Orientation, Running, Sampling, SamplingModes
    from wkdask.plan import Plan, Report

_HOMES = {
    "COLOR_CATEGORY": "metadata",
    "SEGMENTATION_CATEGORY": "metadata",
    "AffineCoordinateTransformation": "metadata",
    "AgglomerateAttachment": "dataset",
    "AgglomerateGraph": "dataset.agglomerate_graph",
    "ArrayInfo": "dataset",
    "Attachment": "dataset",
    "AttachmentDataFormat": "dataset",
    "Attachments": "dataset",
    "BoundingBox": "geometry",
    "Coarser": "operations",
    "Component": "dataset.composing",
    "ConnectomeAttachment": "dataset",
    "ConversionLayerMapping": "images",
    "CoordinateTransformation": "metadata",
    "CumsumAttachment": "dataset",
    "DataFormat": "metadata",
    "Dataset": "dataset",
    "DatasetViewConfiguration": "metadata",
    "Layer": "dataset",
    "LayerCategoryType": "metadata",
    "LayerToLink": "dataset",
    "LayerViewConfiguration": "metadata",
    "LengthUnit": "metadata",
    "Mag": "geometry",
    "MagLike": "geometry",
    "MagView": "dataset",
    "MeshAttachment": "dataset",
    "NDBoundingBox": "geometry",
    "NormalizedBoundingBox": "geometry",
    "Orientation": "operations",
    "Plan": "plan",
    "RemoteDataset": "dataset",
    "Report": "plan",
    "Running": "operations",
    "Sampling": "operations",
    "SamplingModes": "operations",
    "SegmentIndexAttachment": "dataset",
    "SegmentStatisticsAttachment": "dataset",
    "SegmentationLayer": "dataset",
    "Selection": "images",
    "ThinPlateSplineCoordinateTransformation": "metadata",
    "Vec3Float": "geometry",
    "Vec3FloatLike": "geometry",
    "Vec3Int": "geometry",
    "Vec3IntLike": "geometry",
    "VecInt": "geometry",
    "VecIntLike": "geometry",
    "View": "dataset",
    "VoxelSize": "metadata",
    "WkdaskError": "errors",
    "Zarr3Config": "dataset",
    "cluster": "clusters",
    "compose": "dataset.composing",
    "read_bigwarp_landmarks": "dataset.bigwarp",
    "store": "dataset.storing",
}

__all__ = [  # noqa: RUF022 - sorted by letters alone
    "AffineCoordinateTransformation",
    "AgglomerateAttachment",
    "AgglomerateGraph",
    "ArrayInfo",
    "Attachment",
    "AttachmentDataFormat",
    "Attachments",
    "BoundingBox",
    "COLOR_CATEGORY",
    "Coarser",
    "Component",
    "ConnectomeAttachment",
    "ConversionLayerMapping",
    "CoordinateTransformation",
    "CumsumAttachment",
    "DataFormat",
    "Dataset",
    "DatasetViewConfiguration",
    "Layer",
    "LayerCategoryType",
    "LayerToLink",
    "LayerViewConfiguration",
    "LengthUnit",
    "Mag",
    "MagLike",
    "MagView",
    "MeshAttachment",
    "NDBoundingBox",
    "NormalizedBoundingBox",
    "Orientation",
    "Plan",
    "RemoteDataset",
    "Report",
    "Running",
    "SEGMENTATION_CATEGORY",
    "Sampling",
    "SamplingModes",
    "SegmentIndexAttachment",
    "SegmentStatisticsAttachment",
    "SegmentationLayer",
    "Selection",
    "ThinPlateSplineCoordinateTransformation",
    "Vec3Float",
    "Vec3FloatLike",
    "Vec3Int",
    "Vec3IntLike",
    "VecInt",
    "VecIntLike",
    "View",
    "VoxelSize",
    "WkdaskError",
    "Zarr3Config",
    "__version__",
    "cluster",
    "compose",
    "read_bigwarp_landmarks",
    "store",
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
