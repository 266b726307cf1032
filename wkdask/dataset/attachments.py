"""The attachments of a segmentation layer: listing, adding, renaming and finding them.

The dataset's JSON lists them; each change is a function of what that says at the moment, so that no other writer's is lost.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

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
from wkdask.dataset.attachments_older import OlderAttachmentVerbs
from wkdask.dataset.store import DatasetStore
from wkdask.errors import DatasetExistsError, InputError, ReadOnlyError, StorageError
from wkdask.metadata import AttachmentProperties, AttachmentsProperties, Properties, validate_layer_name
from wkdask.metadata.document import listed
from wkdask.operations.copying_trees import files_below
from wkdask.operations.existing import resolved
from wkdask.storage import WORK_FOLDER, Location, copy_file
from wkdask.storage.lease import Lease

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer

A = TypeVar("A", bound=Attachment)

KINDS: tuple[type[Attachment], ...] = (
    MeshAttachment,
    AgglomerateAttachment,
    ConnectomeAttachment,
    SegmentIndexAttachment,
    SegmentStatisticsAttachment,
    CumsumAttachment,
)


class Attachments(OlderAttachmentVerbs):
    """The attachments of a segmentation layer. Get them from `SegmentationLayer.attachments`.

    Iterating yields all of them.

    Examples
    --------
    >>> from wkdask import Dataset
    >>> cells = Dataset("cells", (4, 4, 35)).add_layer("cells", "segmentation", dtype="uint32")
    >>> mesh = MeshAttachment.from_path_and_name("/data/coarse", "coarse", data_format="zarr3")
    >>> _ = cells.attachments.add_attachment_as_ref(mesh)
    >>> [found.name for found in cells.attachments], cells.attachments.meshes[0].path
    (['coarse'], '/data/coarse')
    >>> cells.attachments.delete_attachment(mesh)
    >>> cells.attachments.is_empty
    True
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    @property
    def meshes(self) -> tuple[MeshAttachment, ...]:
        """Meshes of its segments."""
        return tuple(self._of_kind(MeshAttachment))

    @property
    def agglomerates(self) -> tuple[AgglomerateAttachment, ...]:
        """Which segments belong together."""
        return tuple(self._of_kind(AgglomerateAttachment))

    @property
    def connectomes(self) -> tuple[ConnectomeAttachment, ...]:
        """Synapses between agglomerates."""
        return tuple(self._of_kind(ConnectomeAttachment))

    @property
    def segment_index(self) -> SegmentIndexAttachment | None:
        """Where each segment has voxels."""
        return next(self._of_kind(SegmentIndexAttachment), None)

    @property
    def segment_statistics(self) -> SegmentStatisticsAttachment | None:
        """What was measured of each segment."""
        return next(self._of_kind(SegmentStatisticsAttachment), None)

    @property
    def cumsum(self) -> CumsumAttachment | None:
        """Offsets of ids."""
        return next(self._of_kind(CumsumAttachment), None)

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return next(iter(self), None) is None

    def __iter__(self) -> Iterator[Attachment]:
        for kind in KINDS:
            yield from self._of_kind(kind)

    def __repr__(self) -> str:
        return f"Attachments({list(self)!r})"

    def add_attachment_as_ref(self, attachment: A, new_name: str | None = None) -> A:
        """List an attachment where it lies.

        Parameters
        ----------
        attachment
            Of this or another dataset, or made by ``from_path_and_name``.
        new_name
            Default: its name.

        Returns
        -------
        The attachment as this layer has it.

        Raises
        ------
        InputError
            Where the layer has one of its kind and name. Of kinds that a layer has one of, that is replaced.

        Notes
        -----
        In the dataset's own folder the path that is listed is relative, else it is absolute or a URL.
        """
        self._store.require_writable()
        name = validate_layer_name(attachment.name if new_name is None else new_name)
        place = attachment.location
        inside = self._below_dataset(place)
        outside = place.url if attachment.dataset is None else place.documented
        self._store.know(place)
        return self._listed(attachment, name, f"./{inside}" if inside else outside)

    def add_attachment_as_copy(self, attachment: A, new_name: str | None = None) -> A:
        """Copy an attachment into the layer's folder, byte by byte, and list it.

        Parameters
        ----------
        attachment
            Of this or another dataset, or made by ``from_path_and_name``.
        new_name
            Default: its name.

        Returns
        -------
        The copy.

        Raises
        ------
        InputError
            Where the layer has one of its kind and name, or a link lies below it.
        DatasetExistsError
            Where something lies at its place already.
        LockedError
            Where another process is about to copy one to the same place.
        ReadOnlyError
            Where the layer's folder is a link out of the dataset.
        """
        self._store.require_writable()
        name = attachment.name if new_name is None else new_name
        kind = type(attachment)
        with self.claimed_place(kind, name, attachment.properties.data_format, "copying") as place:
            self._copy(attachment.location, place)
            return self._listed(attachment, name, f"./{self._below_dataset(place)}")

    @contextmanager
    def claimed_place(self, kind: type[Attachment], name: str, data_format: str, doing: str) -> Iterator[Location]:
        """Give the `new_place` of an attachment, which no other process gets while the block lasts.

        Raises
        ------
        LockedError
            Where another process has it; or as of `new_place`.
        """
        self.new_place(kind, name, data_format)  # before anything is written for the claim
        claim = self._store.location / WORK_FOLDER / "attachments" / f"{self._layer.name}.{kind.container_name}.{name}.json"
        with Lease(claim, f"{doing} the {kind.title} {name!r}"):
            yield self.new_place(kind, name, data_format)  # which nobody has made since

    def new_place(self, kind: type[Attachment], name: str, data_format: str) -> Location:
        """Return where a new attachment is to lie in the layer's folder.

        Raises
        ------
        InputError
            Where the layer has one of its kind and name, or no attachment may have this name.
        DatasetExistsError
            Where something lies there already.
        ReadOnlyError
            Where the layer's folder is a link out of the dataset, or the dataset is read-only.
        """
        self._store.require_writable()
        validate_layer_name(name)
        if not kind.single:
            _require_new(self._layer.properties.attachments or AttachmentsProperties(), kind, name, self._layer.name)
        dataset = self._store.location
        place = dataset / self._layer.name / kind.path_below_layer(name, data_format)
        if place.is_local and not resolved(place).startswith(f"{resolved(dataset)}/{self._layer.name}/"):
            raise ReadOnlyError(
                f"{place} lies beyond a link, so nothing is written there. Add a reference to the attachment instead."
            )
        if place.is_file() or place.is_folder():
            raise DatasetExistsError(f"{place} is there already. Give another name, or delete it first.")
        return place

    def rename_attachment(self, attachment: A, new_name: str) -> A:
        """Give an attachment of the layer another name; its files stay where they are.

        Raises
        ------
        InputError
            Where the layer does not have it, or has another one of that name.
        """
        validate_layer_name(new_name)

        def renamed(old: AttachmentsProperties) -> AttachmentsProperties:
            found = _named(old, attachment, attachment.name, self._layer.name)
            if new_name != attachment.name:
                _require_new(old, attachment, new_name, self._layer.name)
            return _replaced(old, attachment, found, found.updated(name=new_name))

        self._update(renamed)
        return self._get(attachment, new_name)

    def delete_attachment(self, attachment: Attachment) -> None:
        """Take an attachment off the list; its files stay, whosever they are.

        Raises
        ------
        InputError
            Where the layer does not have it.
        """

        def without(old: AttachmentsProperties) -> AttachmentsProperties:
            return _replaced(old, attachment, _named(old, attachment, attachment.name, self._layer.name), None)

        self._update(without)

    def detect_legacy_attachments(self) -> None:
        """List the files that older programs left in the layer's folder without listing them.

        These are ``meshes/*.hdf5``, ``agglomerates/*.hdf5``, ``connectomes/*.hdf5``, ``segmentIndex/*.hdf5`` and
        ``agglomerates/cumsum.json``. Such of them as are listed stay as they are, and so do those whose names no attachment
        may have.
        """
        self._store.require_writable()
        had = {found.path for found in self}
        for kind in (MeshAttachment, AgglomerateAttachment, ConnectomeAttachment, SegmentIndexAttachment):
            folder = self._store.location / self._layer.name / kind.container_name
            for name in (n.removesuffix(".hdf5") for n in folder.names() if n.endswith(".hdf5")):
                self._detect(kind, folder / f"{name}.hdf5", name, AttachmentDataFormat.HDF5, had)
        place = self._store.location / self._layer.name / AgglomerateAttachment.container_name / "cumsum.json"
        if place.is_file():
            self._detect(CumsumAttachment, place, "cumsum", AttachmentDataFormat.JSON, had)

    def _detect(self, kind: type[Attachment], place: Location, name: str, form: AttachmentDataFormat, had: set[str]) -> None:
        if place.url in had or (kind.single and next(self._of_kind(kind), None) is not None):
            return
        try:
            self.add_attachment_as_ref(kind.from_path_and_name(place, name, data_format=form))
        except InputError as error:
            warnings.warn(f"{place} is not listed: {error}", UserWarning, stacklevel=3)

    @property
    def _store(self) -> DatasetStore:
        return self._layer._store

    def _of_kind(self, kind: type[A]) -> Iterator[A]:
        found = _members(self._layer.properties.attachments or AttachmentsProperties(), kind)
        yield from (kind(one, self._store.location) for one in found)

    def _get(self, attachment: A, name: str) -> A:
        return next(found for found in self._of_kind(type(attachment)) if found.name == name)

    def _listed(self, attachment: A, name: str, path: str) -> A:
        new = attachment.properties.updated(name=name, path=path)

        def added(old: AttachmentsProperties) -> AttachmentsProperties:
            if attachment.single:
                return old.updated(**{attachment.member: new})
            _require_new(old, attachment, name, self._layer.name)
            return _replaced(old, attachment, None, new)

        self._update(added)
        return self._get(attachment, name)

    def _update(self, change: Callable[[AttachmentsProperties], AttachmentsProperties]) -> None:
        def changed(old: Properties) -> Properties:
            layer = old.layer(self._layer.name)
            new = change(layer.attachments or AttachmentsProperties())
            return old.with_layer(layer.updated(attachments=new if new.to_dict() else None))

        self._store.update(changed)

    def _below_dataset(self, place: Location) -> str:
        """Return the path of a place below the dataset; nothing where it lies elsewhere."""
        root = f"{self._store.location.url}/"
        return place.url.removeprefix(root) if place.url.startswith(root) else ""

    def _copy(self, source: Location, target: Location) -> None:
        """Copy a file or folder, or nothing of it."""
        if f"{resolved(target)}/".startswith(f"{resolved(source)}/"):
            raise InputError(f"{source} holds the place that it would be copied to. Give what belongs to the attachment alone.")
        if not source.is_file() and not source.is_folder():
            raise StorageError(f"{source} can not be copied: there is nothing. Check the attachment's path.")
        scratch = self._store.location / WORK_FOLDER / "tmp" / f"attachment-{secrets.token_hex(6)}"
        try:
            for below in files_below(source):
                copy_file(source / below if below else source, target / below if below else target, scratch)
        except BaseException:
            target.delete()
            raise
        finally:
            scratch.delete()


def _members(old: AttachmentsProperties, kind: type[Attachment] | Attachment) -> tuple[AttachmentProperties, ...]:
    found: Any = getattr(old, kind.member)
    return found if isinstance(found, tuple) else (found,) if found else ()


def _named(old: AttachmentsProperties, kind: Attachment, name: str, layer: str) -> AttachmentProperties:
    found = _members(old, kind)
    for one in found:
        if one.name == name:
            return one
    names = listed(repr(one.name) for one in found)
    raise InputError(f"Layer '{layer}' has no {kind.title} {name!r}; it has {names}. Use one of these.")


def _require_new(old: AttachmentsProperties, kind: Attachment | type[Attachment], name: str, layer: str) -> None:
    if any(one.name == name for one in _members(old, kind)):
        raise InputError(f"Layer '{layer}' has a {kind.title} {name!r} already. Give another name.")


def _replaced(
    old: AttachmentsProperties, kind: Attachment, before: AttachmentProperties | None, after: AttachmentProperties | None
) -> AttachmentsProperties:
    """Return all attachments with one in the place of another: without it, or with one more, where either is None."""
    if kind.single:
        return old.updated(**{kind.member: after})
    found = [after if one is before else one for one in _members(old, kind)]
    found += [after] if before is None else []
    left = [one for one in found if one is not None]
    return old.updated(**{kind.member: left or None})
