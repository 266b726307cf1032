"""What a view tells of how its voxels are stored: its array, and which of its files there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wkdask.dataset.voxels import Voxels
from wkdask.errors import InputError
from wkdask.formats import Zarr3Array
from wkdask.formats.stored import stored_indexes
from wkdask.geometry import BoundingBox, NDBoundingBox, NormalizedBoundingBox, Vec3Int
from wkdask.metadata import DataFormat
from wkdask.storage import Location

if TYPE_CHECKING:
    import numpy as np
    import tensorstore

    from wkdask.dataset.view import View

DRIVERS = ("zarr3", "zarr", "n5")
"""Formats of which each magnification is an array to tensorstore, which calls them so too."""


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """How a magnification is stored.

    Parameters
    ----------
    data_format
        Such as ``zarr3``.
    voxel_type
        The dtype of one channel.
    num_channels
        Channels of a voxel.
    chunk_shape, shard_shape
        Along x, y, z, in voxels of the mag: of the smallest piece that can be read, and of a file.
    compression_mode
        Whether chunks are compressed.
    bounding_box
        Of the stored array, all of its axes, in voxels of the mag.
    codecs
        Of Zarr 3: what each chunk goes through, as its document says; else nothing.
    chunk_key_encoding
        Of Zarr 3: how files are named, as its document says; else None.
    """

    data_format: DataFormat | str
    voxel_type: np.dtype[Any]
    num_channels: int
    chunk_shape: Vec3Int
    shard_shape: Vec3Int
    compression_mode: bool
    bounding_box: NDBoundingBox
    codecs: tuple[Mapping[str, Any], ...] = ()
    chunk_key_encoding: Mapping[str, Any] | None = None

    @property
    def chunks_per_shard(self) -> Vec3Int:
        """Chunks of a file along x, y, z."""
        return Vec3Int([n // m for n, m in zip(self.shard_shape, self.chunk_shape, strict=True)])


class DiskVerbs(Voxels):
    """The verbs of a view that tell how it is stored; a part of `wkdask.View`."""

    @property
    def info(self) -> ArrayInfo:
        """How the magnification is stored: format, dtype, chunks, shards, compression, extent.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> info = Dataset.open("brain").get_layer("color").get_mag("2-2-1").info
        >>> str(info.data_format), info.voxel_type, info.chunk_shape, info.compression_mode
        ('zarr3', dtype('uint8'), Vec3Int(32, 32, 32), True)
        """
        spec, handle = self.spec, self.array.handle
        chunk, unit = (Vec3Int([shape[spec.axes.index(axis)] for axis in "xyz"]) for shape in (spec.chunk, spec.unit))
        said = json.loads(handle.layout.said or "{}") if isinstance(handle, Zarr3Array) else {}
        return ArrayInfo(
            self.data_format,
            self.get_dtype(),
            self.num_channels,
            chunk,
            unit,
            spec.codec is not None,
            NDBoundingBox(spec.offset, spec.shape, spec.axes, tuple(range(len(spec.axes)))),
            tuple(said.get("codecs", ())),
            said.get("chunk_key_encoding"),
        )

    @property
    def data_format(self) -> DataFormat | str:
        """How voxels are stored, such as ``zarr3``."""
        return self._layer.data_format

    @property
    def normalized_bounding_box(self) -> NormalizedBoundingBox:
        """The view's box in mag-1 voxels, with all stored axes."""
        box, array = self.bounding_box, self.boxed_array
        own = {a: (n, size) for a, n, size in zip(box.axes, box.topleft, box.size, strict=True)}
        stored = dict(zip(array.axes, zip(array.box.start, array.box.shape, strict=True), strict=True))
        pairs = [own.get(axis, stored[axis]) for axis in array.axes]
        return NormalizedBoundingBox(tuple(a for a, _ in pairs), tuple(n for _, n in pairs), array.axes)

    @property
    def path(self) -> str:
        """The folder or URL of the array."""
        return str(self._location)

    @property
    def is_foreign(self) -> bool:
        """Whether a reference or a link leads to the array, which belongs to others, so that it is only read from here."""
        return self._layer.is_mag_view_foreign(self._mag)

    @property
    def _location(self) -> Location:
        return self.array.handle.location

    def get_zarr_array(self) -> tensorstore.TensorStore:
        """Return the stored array as a `tensorstore.TensorStore`, in stored axes; it knows neither box nor mag.

        Raises
        ------
        InputError
            Where the format is not Zarr or N5, or the dataset does not lie on a local disk. `to_dask` and `to_xarray` work for
            all.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> Dataset.open("brain").get_layer("color").get_mag(1).get_zarr_array()[0, 5, 6, 7].read().result()
        array(18, dtype=uint8)
        """
        driver, place = str(self.data_format), self._location
        if driver not in DRIVERS or not place.is_local:
            raise InputError(
                f"{place} is {self.data_format}, which tensorstore does not open here; it opens {', '.join(DRIVERS)} on local "
                "disks. Use to_dask or to_xarray."
            )
        import tensorstore

        spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{place.url}/"}}
        write = not (self.read_only or self.is_foreign)
        return tensorstore.open(spec, open=True, read=True, write=write).result()

    def get_bounding_boxes_on_disk(self) -> Iterator[BoundingBox]:
        """Yield the boxes of the files that there are, in mag-1 voxels, as far as they meet the view's box; x slowest.

        A file is a shard, or a chunk where there are no shards. Of files that differ in other axes only, the box comes once.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import BoundingBox, Dataset
        >>> dataset = Dataset("memory://on-disk", (4, 4, 35))
        >>> layer = dataset.add_layer("color", "color", bounding_box=BoundingBox((0, 0, 0), (100, 100, 100)))
        >>> mag = layer.add_mag(1, chunk_shape=32, shard_shape=32)
        >>> mag.write(np.ones((8, 8, 8), "uint8"), absolute_offset=(90, 40, 0))
        >>> list(mag.get_bounding_boxes_on_disk())
        [BoundingBox(topleft=(64, 32, 0), size=(32, 32, 32)), BoundingBox(topleft=(96, 32, 0), size=(4, 32, 32))]
        """
        spec, whole = self.spec, self._spatial_box()
        at = [spec.axes.index(axis) for axis in "xyz"]
        seen = set()
        for index in sorted(tuple(index[i] for i in at) for index in stored_indexes(self.array.handle)):
            if index in seen:
                continue
            seen.add(index)
            start = Vec3Int([n * spec.unit[i] + spec.offset[i] for n, i in zip(index, at, strict=True)])
            size = Vec3Int([spec.unit[i] for i in at])
            box = BoundingBox(start, size).from_mag_to_mag1(self._mag).intersected_with(whole, dont_assert=True)
            if not box.is_empty():
                yield box

    def get_views_on_disk(self, read_only: bool | None = None) -> Iterator[View]:
        """Yield a view of each of `get_bounding_boxes_on_disk`, for reading only or not; default: as this one."""
        for box in self.get_bounding_boxes_on_disk():
            yield self._view_at(box, read_only)
