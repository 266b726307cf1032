"""The front door: datasets, layers, magnifications, attachments."""

from wkdask.dataset.agglomerates import AgglomerateAttachment
from wkdask.dataset.attachment import (
    Attachment,
    AttachmentDataFormat,
    ConnectomeAttachment,
    CumsumAttachment,
    MeshAttachment,
    SegmentIndexAttachment,
    SegmentStatisticsAttachment,
)
from wkdask.dataset.attachments import Attachments
from wkdask.dataset.dataset import Dataset
from wkdask.dataset.layer import Layer, SegmentationLayer
from wkdask.dataset.layer_link import LayerToLink
from wkdask.dataset.mag_view import MagView
from wkdask.dataset.on_disk import ArrayInfo
from wkdask.dataset.remote_dataset import RemoteDataset
from wkdask.dataset.view import View
from wkdask.dataset.zarr3_config import Zarr3Config

__all__ = [
    "AgglomerateAttachment",
    "ArrayInfo",
    "Attachment",
    "AttachmentDataFormat",
    "Attachments",
    "ConnectomeAttachment",
    "CumsumAttachment",
    "Dataset",
    "Layer",
    "LayerToLink",
    "MagView",
    "MeshAttachment",
    "RemoteDataset",
    "SegmentIndexAttachment",
    "SegmentStatisticsAttachment",
    "SegmentationLayer",
    "View",
    "Zarr3Config",
]
