"""Every error that wkdask raises.

::

    WkdaskError
    ├── InputError (ValueError)                    what the caller gave is wrong
    │   └── ImageConversionError                   a source of images can not be converted
    │       ├── UnsupportedImageFormatError
    │       ├── UnsupportedImageDataError
    │       └── CorruptImageError
    ├── DatasetError (RuntimeError)                a dataset, layer or mag is not as the call needs it
    │   ├── DatasetNotFoundError (FileNotFoundError)
    │   ├── DatasetExistsError (FileExistsError)
    │   ├── LayerNotFoundError, MagNotFoundError (IndexError)
    │   └── LayerExistsError, MagExistsError (IndexError)
    ├── MetadataError (ValueError)                 a JSON document is not what it should be
    ├── StorageError (OSError)                     bytes can not be read or written
    │   ├── ReadOnlyError (RuntimeError)
    │   └── ConflictError                          two writers changed one document in different ways
    ├── DamagedError (ValueError)                  a file's bytes contradict its checksum, index or size
    └── PlanError (RuntimeError)
        ├── PlanRefusedError                       it can not fit, or differs from the unfinished one
        ├── UnitsFailedError                       some units failed; the others are done
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


class DatasetExistsError(DatasetError, FileExistsError):
    """There is something already where a dataset should be made."""

    __new__ = FileExistsError.__new__  # type: ignore[assignment]


class LayerNotFoundError(DatasetError, IndexError):
    """The dataset has no layer of this name."""


class LayerExistsError(DatasetError, IndexError):
    """The dataset has a layer of this name already."""


class MagNotFoundError(DatasetError, IndexError):
    """The layer has no such magnification."""


class MagExistsError(DatasetError, IndexError):
    """The layer has this magnification already."""


class MetadataError(WkdaskError, ValueError):
    """A JSON document does not say what its format demands."""


class StorageError(WkdaskError, OSError):
    """Bytes can not be read from, or written to, where they should be."""


class ReadOnlyError(StorageError, RuntimeError):
    """The dataset was opened for reading only."""


class ConflictError(StorageError):
    """Two writers changed the same part of one document."""


class DamagedError(WkdaskError, ValueError):
    """The bytes of a file contradict its checksum, its index or its size."""

    exit_code = 5


class PlanError(WkdaskError, RuntimeError):
    """A plan can not be run, or did not come to its end."""


class PlanRefusedError(PlanError):
    """The plan does not fit, or differs from the unfinished one at its target; nothing was written."""

    exit_code = 3


class UnitsFailedError(PlanError):
    """Some units failed; all others are done, and the next run tries just those again."""

    exit_code = 4


class LockedError(PlanError):
    """Another run works on the same target."""

    exit_code = 6


class InterruptedRunError(PlanError):
    """The run was stopped; running it again goes on."""

    exit_code = 130
