"""Documents as models: bytes or parsed JSON in, bytes or parsed JSON out; nothing here touches files."""

from wkdask.metadata.affine import AffineCoordinateTransformation
from wkdask.metadata.chain import CoordinateTransformation
from wkdask.metadata.document import Document, dump_json, load_json
from wkdask.metadata.element_class import MetadataWarning, dtype_name, from_element_class, to_element_class
from wkdask.metadata.layer import (
    COLOR_CATEGORY,
    DEFAULT_AXES,
    SEGMENTATION_CATEGORY,
    DataFormat,
    LayerCategoryType,
    LayerProperties,
)
from wkdask.metadata.legacy import modernised
from wkdask.metadata.mag import (
    AttachmentProperties,
    AttachmentsProperties,
    AxisProperties,
    BoundingBoxProperties,
    MagProperties,
    mag_name,
)
from wkdask.metadata.merge import merge
from wkdask.metadata.ome import ome_attributes
from wkdask.metadata.path import PathKind, classify_path, resolve_relative, validate_layer_name
from wkdask.metadata.properties import FILE_NAME, VERSION, IdProperties, Properties, ScaleProperties
from wkdask.metadata.transformation import OtherCoordinateTransformation, ThinPlateSplineCoordinateTransformation
from wkdask.metadata.units import LengthUnit, VoxelSize
from wkdask.metadata.view import DatasetViewConfiguration, LayerViewConfiguration

__all__ = [
    "COLOR_CATEGORY",
    "DEFAULT_AXES",
    "FILE_NAME",
    "SEGMENTATION_CATEGORY",
    "VERSION",
    "AffineCoordinateTransformation",
    "AttachmentProperties",
    "AttachmentsProperties",
    "AxisProperties",
    "BoundingBoxProperties",
    "CoordinateTransformation",
    "DataFormat",
    "DatasetViewConfiguration",
    "Document",
    "IdProperties",
    "LayerCategoryType",
    "LayerProperties",
    "LayerViewConfiguration",
    "LengthUnit",
    "MagProperties",
    "MetadataWarning",
    "OtherCoordinateTransformation",
    "PathKind",
    "Properties",
    "ScaleProperties",
    "ThinPlateSplineCoordinateTransformation",
    "VoxelSize",
    "classify_path",
    "dtype_name",
    "dump_json",
    "from_element_class",
    "load_json",
    "mag_name",
    "merge",
    "modernised",
    "ome_attributes",
    "resolve_relative",
    "to_element_class",
    "validate_layer_name",
]
