"""Agglomerates of a segmentation: which segments belong together, made from graphs and read as such."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wkdask.dataset.attachment import _ARRAYS, Attachment, AttachmentDataFormat, PathLike
from wkdask.errors import UnsupportedFormatError
from wkdask.operations.agglomerates import AgglomerateView, read_view, write_view
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.dataset.agglomerate_graph import AgglomerateGraph
    from wkdask.dataset.layer import SegmentationLayer


class AgglomerateAttachment(Attachment):
    """Which segments belong together.

    Examples
    --------
    >>> from wkdask import AgglomerateGraph, Dataset
    >>> graph = AgglomerateGraph()
    >>> for segment in (1, 2, 3):
    ...     graph.add_segment(segment, position=(segment, 0, 0))
    >>> graph.add_affinity_edge(1, 3, affinity=0.9)
    >>> cells = Dataset("cells", (4, 4, 35)).add_layer("cells", "segmentation", dtype="uint32")
    >>> made = AgglomerateAttachment.create_and_add_to(cells, "by_hand", graph)
    >>> sorted(made.to_graph().edges)
    [(1, 3)]
    """

    __slots__ = ()
    type_name = "agglomerate"
    member, title, container_name, formats = "agglomerates", "agglomerate view", "agglomerates", _ARRAYS

    @classmethod
    def create(
        cls,
        path: PathLike | Location,
        graph: AgglomerateGraph,
        *,
        segmentation_dtype: Any = "uint32",
        storage_options: Mapping[str, Any] | None = None,
    ) -> AgglomerateAttachment:
        """Write a graph of segments as an agglomerate view in Zarr 3; its name is that of the folder.

        Parameters
        ----------
        path
            A folder or URL where nothing is.
        graph
            Of the segments 1 to n, without a gap.
        segmentation_dtype
            Of segment ids: uint32 or uint64.
        storage_options
            Of a URL, as in `Dataset`.

        Raises
        ------
        DatasetExistsError
            Something is there already.
        LockedError
            Another process is about to write one there.
        InputError
            A segment is missing, or a value does not fit.
        """
        place = Location.of(path, storage_options)
        made = cls.from_path_and_name(place, place.name, data_format=AttachmentDataFormat.Zarr3)
        write_view(AgglomerateView.of(graph.to_agglomerate_graph_data(segmentation_dtype)), place)
        return made

    @classmethod
    def create_and_add_to(cls, layer: SegmentationLayer, name: str, graph: AgglomerateGraph) -> AgglomerateAttachment:
        """Write a graph into a layer's folder, with the layer's dtype where the format has it, and list it there.

        Raises
        ------
        DatasetExistsError
            Something lies at its place already.
        LockedError
            Another process is about to write one there.
        InputError
            The layer has one of this name; or as of `create`.
        """
        attachments = layer.attachments
        dtype = "uint64" if layer.dtype.itemsize == 8 else "uint32"
        with attachments.claimed_place(cls, name, AttachmentDataFormat.Zarr3, "writing") as place:
            return attachments.add_attachment_as_ref(cls.create(place, graph, segmentation_dtype=dtype))

    def to_graph(self) -> AgglomerateGraph:
        """Read the agglomerate view as a graph.

        Raises
        ------
        UnsupportedFormatError
            It is not stored as Zarr 3.
        MetadataError
            Its arrays do not fit together.
        """
        from wkdask.dataset.agglomerate_graph import AgglomerateGraph

        if self.data_format != AttachmentDataFormat.Zarr3:
            raise UnsupportedFormatError(
                f"The agglomerate view {self.name!r} is stored as {self.data_format}; only zarr3 is read here. Open it with "
                "h5py."
            )
        return AgglomerateGraph.from_view(read_view(self.location))
