"""Every error that wkdask raises.

::

    WkdaskError
    ├── InputError (ValueError)                    what the caller gave is wrong
    │   ├── ConflictingArgumentsError (AttributeError)
    │   ├── LayerNameError (AssertionError)
    │   ├── UnknownCategoryError (RuntimeError)
    │   ├── UnfitError (AssertionError)
    │   ├── NotSegmentationError (TypeError)
    │   ├── UnsupportedFormatError (NotImplementedError)  files of this format are listed and copied, not read
    │   ├── SegmentIdError (AssertionError)        no segment can have this id
    │   ├── BoxError (AssertionError)              a box is empty, begins below 0, cuts voxels, or is not within its view
    │   ├── ShapeError (AssertionError)            an array has other axes or channels than the layer
    │   ├── DtypeError (TypeError)                 an array has another dtype than the layer
    │   ├── GeometryError (AssertionError)         numbers that are no vector, magnification or box
    │   │   └── GeometryKeyError (KeyError)        there is no axis, or no key, of that name
    │   └── ImageConversionError                   a source of images can not be converted
    │       ├── UnsupportedImageFormatError
    │       ├── UnsupportedImageDataError
    │       └── CorruptImageError
    ├── DatasetError (RuntimeError)                a dataset, layer or mag is not as the call needs it
    │   ├── DatasetNotFoundError (FileNotFoundError)
    │   │   ├── VoxelSizeMissingError (ValueError)
    │   │   └── LayerFilesNotFoundError (AssertionError)
    │   ├── DatasetExistsError (FileExistsError)
    │   │   ├── DatasetMismatchError (AssertionError)
    │   │   └── NotAFolderError (NotADirectoryError)
    │   ├── NotLocalError (AssertionError)
    │   ├── LayerNotFoundError (IndexError)
    │   ├── MagNotFoundError (IndexError, KeyError)
    │   ├── MagExistsError (IndexError, ValueError)
    │   └── LayerExistsError (IndexError)
    │       └── LayerMismatchError (AssertionError)
    ├── MetadataError (ValueError)                 a JSON document is not what it should be
    ├── StorageError (OSError)                     bytes can not be read or written
    │   ├── NotListedError                         a store does not tell what it has
    │   ├── ReadOnlyError (RuntimeError)
    │   └── ConflictError                          two writers changed one document in different ways
    ├── DamagedError (ValueError)                  a file's bytes contradict its checksum, index or size
    ├── ServerNotSupportedError (NotImplementedError)  what needs a WEBKNOSSOS server
    └── PlanError (RuntimeError)
        ├── PlanRefusedError                       it can not fit, or differs from the unfinished one
        ├── UnitsFailedError                       some units failed; the others are done
        ├── InputChangedError                      what a plan reads was changed meanwhile
        ├── LockedError                            another run works on the same target
        └── InterruptedRunError                    stopped by the user; the next run goes on

The first sentence of a message says what was found and what was expected, the second what to do. ``exit_code`` is what the
command line returns for it.
"""

from __future__ import annotations


class WkdaskError(Exception):
    """Root of all errors of this package."""

    exit_code = 1


class InputError(WkdaskError, ValueError):
    """An argument, or a file that the caller named, is not usable."""

    exit_code = 2


class ConflictingArgumentsError(InputError, AttributeError):
    """One thing was given in two ways."""


class LayerNameError(InputError, AssertionError):
    """No layer can have this name."""


class UnknownCategoryError(InputError, RuntimeError):
    """A layer is ``color`` or ``segmentation``, nothing else."""


class UnfitError(InputError, AssertionError):
    """What was given does not fit the layer, its dataset, or its format."""


class NotSegmentationError(InputError, TypeError):
    """The layer is no segmentation."""


class UnsupportedFormatError(InputError, NotImplementedError):
    """Files of this format can be listed and copied, but what is in them is not read."""


class SegmentIdError(InputError, AssertionError):
    """No segment can have this id."""


class BoxError(InputError, AssertionError):
    """A box is empty, begins below 0, cuts voxels of a magnification, or is not within what it should be."""


class ShapeError(InputError, AssertionError):
    """An array has not the axes or channels that the layer has."""


class DtypeError(InputError, TypeError):
    """An array has not the dtype that the layer has."""


class GeometryError(InputError, AssertionError):
    """Numbers are no vector, magnification or box, or not one that a call can work with."""


class GeometryKeyError(GeometryError, KeyError):
    """A vector or box has no axis, or a document no key, of that name."""

    __str__ = Exception.__str__  # KeyError shows the representation of its message


class ImageConversionError(InputError):
    """A source of images can not be converted."""

    exit_code = 1


class UnsupportedImageFormatError(ImageConversionError):
    """No reader knows this kind of file."""


class UnsupportedImageDataError(ImageConversionError):
    """The file is readable, but its axes, channels or dtype have no place in a layer."""


class CorruptImageError(ImageConversionError):
    """A file ends too early, or is not what its name says."""


class DatasetError(WkdaskError, RuntimeError):
    """A dataset, layer or magnification is not in the state that a call needs."""


class DatasetNotFoundError(DatasetError, FileNotFoundError):
    """There is no dataset at this place."""

    # RuntimeError.__new__, which comes first, refuses what pickle makes of an OSError
    __new__ = FileNotFoundError.__new__  # type: ignore[assignment]


class VoxelSizeMissingError(DatasetNotFoundError, ValueError):
    """There is no dataset at this place, and none can be made without the size of its voxels."""


class LayerFilesNotFoundError(DatasetNotFoundError, AssertionError):
    """There are no files that a layer could be made of."""


class DatasetExistsError(DatasetError, FileExistsError):
    """There is something already where a dataset should be made."""

    __new__ = FileExistsError.__new__  # type: ignore[assignment]


class DatasetMismatchError(DatasetExistsError, AssertionError):
    """The dataset that is there has another name or other voxels."""


class NotAFolderError(DatasetExistsError, NotADirectoryError):
    """There is a file where a dataset should be made."""


class NotLocalError(DatasetError, AssertionError):
    """Only folders of the local file system can do this."""


class LayerNotFoundError(DatasetError, IndexError):
    """The dataset has no layer of this name."""


class LayerExistsError(DatasetError, IndexError):
    """The dataset has a layer of this name already."""


class LayerMismatchError(LayerExistsError, AssertionError):
    """The layer that is there is not what was asked for."""


class MagNotFoundError(DatasetError, IndexError, KeyError):
    """The layer has no such magnification."""

    __str__ = Exception.__str__  # KeyError shows the representation of its message


class MagExistsError(DatasetError, IndexError, ValueError):
    """The layer has this magnification already."""


class MetadataError(WkdaskError, ValueError):
    """A JSON document does not say what its format demands."""


class StorageError(WkdaskError, OSError):
    """Bytes can not be read from, or written to, where they should be."""


class NotListedError(StorageError):
    """A store does not tell what it has, so that only what is known by its name can be read."""


class ReadOnlyError(StorageError, RuntimeError):
    """The dataset was opened for reading only."""


class ConflictError(StorageError):
    """Two writers changed the same part of one document."""


class DamagedError(WkdaskError, ValueError):
    """The bytes of a file contradict its checksum, its index or its size."""

    exit_code = 5


class ServerNotSupportedError(WkdaskError, NotImplementedError):
    """What needs a WEBKNOSSOS server is not built yet."""


class PlanError(WkdaskError, RuntimeError):
    """A plan can not be run, or did not come to its end."""


class PlanRefusedError(PlanError):
    """The plan does not fit, or differs from the unfinished one at its target; nothing was written."""

    exit_code = 3


class UnitsFailedError(PlanError):
    """Some units failed; all others are done, and the next run tries just those again."""

    exit_code = 4


class InputChangedError(PlanError):
    """A file that a plan reads was changed while it ran; nothing that was made of it since is listed."""


class LockedError(PlanError):
    """Another run works on the same target."""

    exit_code = 6


class InterruptedRunError(PlanError):
    """The run was stopped; running it again goes on."""

    exit_code = 130
