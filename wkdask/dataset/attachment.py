"""Attachments as values: files and folders that belong to a segmentation, such as its meshes.

What lies in them is not looked at: they are listed in the dataset's JSON by name, path and format, and copied byte by byte.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Self

from wkdask.errors import InputError
from wkdask.metadata import AttachmentProperties, PathKind, classify_path, validate_layer_name
from wkdask.storage import Location

PathLike = str | os.PathLike[str]


class AttachmentDataFormat(StrEnum):
    """How an attachment is stored."""

    Zarr3 = "zarr3"
    HDF5 = "hdf5"
    JSON = "json"
    NeuroglancerPrecomputed = "neuroglancerPrecomputed"


_ARRAYS = frozenset({AttachmentDataFormat.Zarr3, AttachmentDataFormat.HDF5})


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file or folder that belongs to a segmentation layer; its kinds are classes of their own.

    Parameters
    ----------
    properties
        What the dataset's JSON says of it, or is to say.
    dataset
        The dataset that relative paths start from; None where the path is absolute or a URL.

    Examples
    --------
    >>> mesh = MeshAttachment.from_path_and_name("/data/brain/cells/meshes/coarse", "coarse", data_format="zarr3")
    >>> mesh.name, mesh.path, str(mesh.data_format)
    ('coarse', '/data/brain/cells/meshes/coarse', 'zarr3')
    """

    properties: AttachmentProperties
    dataset: Location | None = None

    member: ClassVar[str] = ""
    """Where `AttachmentsProperties` has it."""
    type_name: ClassVar[str] = ""
    """The reference's name of the kind."""
    title: ClassVar[str] = "attachment"
    container_name: ClassVar[str] = ""
    """The folder in the layer's that copies lie in."""
    single: ClassVar[bool] = False
    """Whether a layer has one at most."""
    formats: ClassVar[frozenset[AttachmentDataFormat]] = frozenset()

    @classmethod
    def from_path_and_name(
        cls,
        path: PathLike | Location,
        name: str,
        *,
        data_format: str | AttachmentDataFormat,
        dataset_path: PathLike | Location | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the attachment that lies at a place; nothing is read.

        Parameters
        ----------
        path
            Absolute, a URL, or relative: to ``dataset_path`` where that is given, else to the working folder.
        name
            How the layer knows it: as layers are named.
        data_format
            How it is stored.
        dataset_path
            The dataset that a relative path starts from.
        storage_options
            Of ``dataset_path`` where that is given, else of the path, where it is a URL: as in `Dataset`.

        Raises
        ------
        InputError
            No such attachment may have this name or format.
        """
        if not cls.member:
            raise InputError("An attachment is of some kind. Use MeshAttachment, AgglomerateAttachment or another one.")
        form = cls._format(data_format)
        text = path.url if isinstance(path, Location) else os.fspath(path)
        dataset = None if dataset_path is None else Location.of(dataset_path, storage_options)
        if dataset is None and classify_path(text) not in (PathKind.RELATIVE, PathKind.OUTSIDE):
            place = Location.of(path, storage_options)
            dataset = place if place.options else None  # links from there are opened with them
        if classify_path(text) in (PathKind.RELATIVE, PathKind.OUTSIDE) and dataset is None:
            text = Location.of(text).url
        properties = AttachmentProperties(name=validate_layer_name(name), path=text, data_format=form.value)
        found = cls(properties, dataset)
        found.location  # noqa: B018 - says where a path can lead nowhere
        return found

    @classmethod
    def _format(cls, given: str | AttachmentDataFormat) -> AttachmentDataFormat:
        for form in cls.formats:
            if form == given:
                return form
        known = ", ".join(sorted(cls.formats))
        raise InputError(f"A {cls.title} can not be stored as {str(given)[:40]!r}; it can be {known}. Use one of these.")

    @property
    def name(self) -> str:
        """How the layer knows it."""
        return self.properties.name

    @property
    def data_format(self) -> AttachmentDataFormat | str:
        """How it is stored; text where the format is not known here."""
        found = self.properties.data_format
        return next((form for form in AttachmentDataFormat if form == found), found)

    @property
    def location(self) -> Location:
        """Where it lies.

        Raises
        ------
        MetadataError
            Where a relative path can lead nowhere.
        """
        if self.dataset is None:
            return Location.of(self.properties.path)
        if self.properties.path_kind is PathKind.RELATIVE:
            return self.dataset / self.properties.relative_path()
        return self.dataset.linked(self.properties.path)

    @property
    def path(self) -> str:
        """Absolute path or URL of where it lies."""
        return self.location.url

    @classmethod
    def path_below_layer(cls, name: str, data_format: str) -> str:
        """Return where an attachment of this kind lies in the layer's folder.

        Examples
        --------
        >>> MeshAttachment.path_below_layer("coarse", "hdf5")
        'meshes/coarse.hdf5'
        """
        suffix = {"hdf5": ".hdf5", "json": ".json"}.get(data_format, "")
        return f"{cls.container_name}/{name}{suffix}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, path={self.properties.path!r}, data_format={self.data_format!s})"


class MeshAttachment(Attachment):
    """Meshes of segments."""

    __slots__ = ()
    type_name = "mesh"
    member, title, container_name = "meshes", "mesh", "meshes"
    formats = _ARRAYS | {AttachmentDataFormat.NeuroglancerPrecomputed}


class ConnectomeAttachment(Attachment):
    """Synapses between agglomerates."""

    __slots__ = ()
    type_name = "connectome"
    member, title, container_name, formats = "connectomes", "connectome", "connectomes", _ARRAYS


class SegmentIndexAttachment(Attachment):
    """Where each segment has voxels."""

    __slots__ = ()
    type_name = "segmentIndex"
    member, title, container_name, formats, single = "segment_index", "segment index", "segmentIndex", _ARRAYS, True


class SegmentStatisticsAttachment(Attachment):
    """What was measured of each segment."""

    __slots__ = ()
    type_name = "segmentStatistics"
    member, title, container_name, single = "segment_statistics", "segment statistics", "segmentStatistics", True
    formats = frozenset({AttachmentDataFormat.Zarr3})


class CumsumAttachment(Attachment):
    """Offsets of ids by which segmentations that were made in pieces are put together."""

    __slots__ = ()
    type_name = "cumsum"
    member, title, container_name, single = "cumsum", "cumsum", "cumsum", True
    formats = frozenset({AttachmentDataFormat.Zarr3, AttachmentDataFormat.JSON})
