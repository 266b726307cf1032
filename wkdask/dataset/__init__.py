"""The front door: datasets, layers, magnifications."""

from wkdask.dataset.dataset import Dataset
from wkdask.dataset.layer import Layer, SegmentationLayer
from wkdask.dataset.mag_view import MagView

__all__ = ["Dataset", "Layer", "MagView", "SegmentationLayer"]
