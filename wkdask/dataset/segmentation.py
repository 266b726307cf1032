"""What segmentation layers have beside voxels: their largest id, and all that belongs to their segments."""

from __future__ import annotations

from collections.abc import Iterable

from wkdask.dataset.attachments import Attachments
from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError, SegmentIdError


class SegmentationParts:
    """The part of `wkdask.SegmentationLayer` that lists what belongs to its segments."""

    _store: DatasetStore
    _name: str

    @property
    def largest_segment_id(self) -> int | None:
        """The largest id in use; None where it is not known. Writing voxels does not change it.

        Raises
        ------
        SegmentIdError
            On setting what is no whole number from 0 on.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> cells = Dataset("cells", (4, 4, 35)).add_layer("cells", "segmentation", dtype="uint64")
        >>> cells.largest_segment_id = 2**64 - 1
        >>> cells.largest_segment_id
        18446744073709551615
        """
        return self._store.properties.layer(self._name).largest_segment_id

    @largest_segment_id.setter
    def largest_segment_id(self, value: int | None) -> None:
        new = None if value is None else _segment_id(value)
        self._store.update(lambda old: old.with_layer(old.layer(self._name).updated(largest_segment_id=new)))

    @property
    def attachments(self) -> Attachments:
        """Meshes, agglomerates, connectomes, segment index, statistics and cumsum of the layer."""
        return Attachments(self)  # type: ignore[arg-type]

    @property
    def mappings(self) -> list[str]:
        """Names of the mapping files of older datasets, without their endings; setting saves.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> cells = Dataset("cells", (4, 4, 35)).add_layer("cells", "segmentation", dtype="uint32")
        >>> cells.mappings = ["agglomerate_view_70"]
        >>> cells.mappings
        ['agglomerate_view_70']
        """
        return list(self._store.properties.layer(self._name).mappings or ())

    @mappings.setter
    def mappings(self, value: Iterable[str] | None) -> None:
        if isinstance(value, str):
            raise InputError(f"mappings is the text {value!r}, expected a list of names. Give [{value!r}].")
        names = list(value or ())
        self._store.update(lambda old: old.with_layer(old.layer(self._name).updated(mappings=names or None)))


def _segment_id(value: object) -> int:
    whole = value.is_integer() if isinstance(value, float) else hasattr(value, "__index__") and not isinstance(value, bool)
    if not whole or (found := int(value)) < 0:  # type: ignore[call-overload]
        raise SegmentIdError(f"{value!r} is no segment id. Give a whole number from 0 on, or None where it is not known.")
    return int(found)
