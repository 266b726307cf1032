"""Older spellings of what attachments offer; each warns, and names the new one."""

from __future__ import annotations

import os
import warnings
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from wkdask.dataset.agglomerates import AgglomerateAttachment
from wkdask.dataset.attachment import (
    Attachment,
    AttachmentDataFormat,
    ConnectomeAttachment,
    CumsumAttachment,
    MeshAttachment,
    PathLike,
    SegmentIndexAttachment,
)
from wkdask.dataset.references import link_to
from wkdask.dataset.server_names import refuse
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer

Format = str | AttachmentDataFormat


class OlderAttachmentVerbs:
    """The older verbs of `wkdask.Attachments`. Relative paths start from the dataset."""

    _layer: Layer

    if TYPE_CHECKING:  # of the class that this is a part of

        def add_attachment_as_ref(self, attachment: Any, new_name: str | None = None) -> Any:
            """List an attachment where it lies."""

        def add_attachment_as_copy(self, attachment: Any, new_name: str | None = None) -> Any:
            """Copy an attachment."""

        def claimed_place(
            self, kind: type[Attachment], name: str, data_format: str, doing: str
        ) -> AbstractContextManager[Location]:
            """Give the place of a new attachment, to this process alone."""

    def add_mesh(self, path: PathLike, *, name: str, data_format: Format) -> MeshAttachment:
        """List meshes: older than `add_attachment_as_ref`."""
        _warn("add_mesh", "add_attachment_as_ref(MeshAttachment.from_path_and_name(...))")
        found: MeshAttachment = self._add(MeshAttachment, path, name, data_format)
        return found

    def add_agglomerate(self, path: PathLike, *, name: str, data_format: Format) -> AgglomerateAttachment:
        """List an agglomerate view: older than `add_attachment_as_ref`."""
        _warn("add_agglomerate", "add_attachment_as_ref(AgglomerateAttachment.from_path_and_name(...))")
        found: AgglomerateAttachment = self._add(AgglomerateAttachment, path, name, data_format)
        return found

    def add_connectome(self, path: PathLike, *, name: str, data_format: Format) -> ConnectomeAttachment:
        """List a connectome: older than `add_attachment_as_ref`."""
        _warn("add_connectome", "add_attachment_as_ref(ConnectomeAttachment.from_path_and_name(...))")
        found: ConnectomeAttachment = self._add(ConnectomeAttachment, path, name, data_format)
        return found

    def set_segment_index(self, path: PathLike, *, name: str, data_format: Format) -> SegmentIndexAttachment:
        """List the segment index: older than `add_attachment_as_ref`."""
        _warn("set_segment_index", "add_attachment_as_ref(SegmentIndexAttachment.from_path_and_name(...))")
        found: SegmentIndexAttachment = self._add(SegmentIndexAttachment, path, name, data_format)
        return found

    def set_cumsum(self, path: PathLike, *, name: str, data_format: Format) -> CumsumAttachment:
        """List the cumsum: older than `add_attachment_as_ref`."""
        _warn("set_cumsum", "add_attachment_as_ref(CumsumAttachment.from_path_and_name(...))")
        found: CumsumAttachment = self._add(CumsumAttachment, path, name, data_format)
        return found

    def add_attachments(self, *other: Attachment) -> list[Attachment]:
        """List attachments where they lie: older than `add_attachment_as_ref`."""
        _warn("add_attachments", "add_attachment_as_ref")
        return [self.add_attachment_as_ref(one) for one in other]

    def add_copy_attachments(self, *other: Attachment) -> list[Attachment]:
        """Copy attachments: older than `add_attachment_as_copy`."""
        _warn("add_copy_attachments", "add_attachment_as_copy")
        return [self.add_attachment_as_copy(one) for one in other]

    def add_symlink_attachments(self, *other: Attachment, make_relative: bool = False) -> list[Attachment]:
        """Link to attachments from the layer's folder, and list the links: older than `add_attachment_as_ref`.

        Parameters
        ----------
        *other
            Local ones.
        make_relative
            Whether links are relative, so that both can be moved together.

        Raises
        ------
        LockedError
            Where another process is about to make one at the same place.
        """
        _warn("add_symlink_attachments", "add_attachment_as_ref")
        return [self._linked(one, make_relative) for one in other]

    def upload_attachment(
        self,
        attachment: Attachment,
        *,
        transfer_mode: Any = None,  # noqa: ARG002
        common_storage_prefix: str | None = None,  # noqa: ARG002
    ) -> None:
        """Upload an attachment to a server; parameters as of `Dataset.upload`.

        Raises
        ------
        ServerNotSupportedError
            Always, so far.
        """
        refuse(f"Uploading {attachment!r}", "Copy it with add_attachment_as_copy.")

    def _linked(self, attachment: Attachment, make_relative: bool) -> Attachment:
        kind, form = type(attachment), attachment.properties.data_format
        with self.claimed_place(kind, attachment.name, form, "linking") as link:
            link_to(attachment.location, link, relative=make_relative)
            try:
                found: Attachment = self.add_attachment_as_ref(kind.from_path_and_name(link, attachment.name, data_format=form))
            except BaseException:
                link.delete()
                raise
            return found

    def _add(self, kind: type[Attachment], path: PathLike, name: str, data_format: Format) -> Any:
        dataset = self._layer._store.location
        return self.add_attachment_as_ref(
            kind.from_path_and_name(os.fspath(path), name, data_format=data_format, dataset_path=dataset)
        )


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated. Use {new}.", DeprecationWarning, stacklevel=3)
