"""What a layer offers to make and delete magnifications."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from wkdask.arrays.opening import place_of
from wkdask.dataset.arguments import storage_of
from wkdask.dataset.deprecations import warn_parameters
from wkdask.dataset.store import DatasetStore
from wkdask.dataset.zarr3_config import Zarr3Config
from wkdask.errors import InputError, MagExistsError, MetadataError
from wkdask.formats import ArrayHandle, Codec, find_format
from wkdask.geometry import Mag, MagLike, Vec3IntLike
from wkdask.metadata import LayerProperties, MagProperties, Properties
from wkdask.operations.existing import places, resolved
from wkdask.operations.pyramid import new_arrays
from wkdask.operations.target import mag_properties
from wkdask.storage import Location

if TYPE_CHECKING:
    from wkdask.dataset.mag_view import MagView

Shape = Vec3IntLike | int | None
Compress = bool | Codec | Zarr3Config

USUAL_EDGES = (32, 64)
"""Edges of chunks that WEBKNOSSOS is made for."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A magnification that is to be made."""

    array: ArrayHandle
    config: Zarr3Config | None
    data_format: str

    def create(self) -> None:
        """Make the array."""
        if self.config is not None:
            self.config.create(self.array.location, self.array.spec)
        else:
            find_format(self.data_format).create(self.array.location, self.array.spec)


class AddMagVerbs:
    """The verbs of a layer that make and delete magnifications; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str
    _unlisted: MagProperties | None

    if TYPE_CHECKING:  # of the class that this is a part of

        @property
        def properties(self) -> LayerProperties:
            """What the JSON says."""

        def get_mag(self, mag: MagLike) -> MagView:
            """Return a magnification."""

        def require_writable(self) -> None:
            """Refuse where nothing may be changed."""

        def _write_groups(self) -> None:
            """Tell other readers."""

    def add_mag(
        self,
        mag: MagLike,
        *,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        chunks_per_shard: Shape = None,
        compress: Compress = True,
    ) -> MagView:
        """Add an empty magnification.

        Parameters
        ----------
        mag
            Which.
        chunk_shape, shard_shape
            In voxels of that mag, powers of two; default 32^3, and 1024^3 or, for flat layers, 4096 x 4096 x 32.
        chunks_per_shard
            Older form of ``shard_shape``: chunks of a shard along x, y, z.
        compress
            Whether chunks are compressed, or by which codec; default zstd, level 5. Or a `wkdask.Zarr3Config`.

        Raises
        ------
        MagExistsError
            Where the layer has it already.
        InputError
            Where the format has no such chunks, shards or codecs.
        ReadOnlyError
            Where nothing may be changed.

        Warns
        -----
        UserWarning
            Where chunks are no cubes of 32 or 64, for which WEBKNOSSOS is made.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset("memory://add-mag", (4, 4, 35)).add_layer("em", "color")
        >>> layer.add_mag("2-2-1", shard_shape=(128, 128, 32)).spec.unit
        (1, 128, 128, 32)
        """
        warn_parameters(chunks_per_shard=chunks_per_shard)
        planned = self._planned(mag, chunk_shape, shard_shape, chunks_per_shard, compress)
        _warn_of_chunks(planned.array)
        return self._added(planned, Mag(mag))

    @contextmanager
    def new_mag(
        self,
        mag: MagLike,
        *,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        chunks_per_shard: Shape = None,
        compress: Compress = True,
    ) -> Iterator[MagView]:
        """Add a magnification that nobody else sees before the ``with`` block ends; where that fails, it is deleted.

        A box of the layer that has grown meanwhile stays so.

        Parameters
        ----------
        mag, chunk_shape, shard_shape, chunks_per_shard, compress
            As in `add_mag`.

        Yields
        ------
        MagView
            To be written. It stays valid afterwards.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> with layer.new_mag("16-16-2") as mag:
        ...     mag.write(np.ones((4, 3, 10), "uint8"))
        ...     Mag("16-16-2") in layer.mags
        False
        >>> int(layer.get_mag("16-16-2").read().sum())
        120
        """
        warn_parameters(4, chunks_per_shard=chunks_per_shard)
        planned = self._planned(mag, chunk_shape, shard_shape, chunks_per_shard, compress)
        _warn_of_chunks(planned.array, 4)
        new = mag_properties(self._store.location, planned.array, Mag(mag).to_tuple(), planned.data_format)
        folder = planned.array.location.parent
        was_there = folder.is_folder()
        planned.create()
        hidden = self._with_unlisted(new)
        try:
            yield hidden.get_mag(mag)
            self._list(new)
        except BaseException:
            if new.mag not in {found.mag for found in self.properties.mags}:  # else it is another one's, who was quicker
                planned.array.location.delete()
                if not (was_there or folder.names()):  # in which others may have made magnifications since
                    folder.delete()
            raise
        hidden._unlisted = None

    def get_or_add_mag(
        self,
        mag: MagLike,
        *,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        chunks_per_shard: Shape = None,
        compress: Compress | None = None,
    ) -> MagView:
        """Return a magnification, which is made where there is none.

        Parameters
        ----------
        mag, chunk_shape, shard_shape, chunks_per_shard
            As in `add_mag`. What is given, one that is there must have.
        compress
            As in `add_mag`; None: as it is, or as usual.

        Raises
        ------
        InputError
            Where the magnification is there, but is not stored so.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> str(layer.get_or_add_mag(1).spec.codec), layer.get_or_add_mag(8, compress=False).spec.codec
        ('zstd:5', None)
        """
        warn_parameters(chunks_per_shard=chunks_per_shard)
        wanted = Mag(mag)
        if wanted.to_tuple() not in {found.mag for found in self.properties.mags}:
            planned = self._planned(wanted, chunk_shape, shard_shape, chunks_per_shard, compress)
            _warn_of_chunks(planned.array)
            return self._added(planned, wanted)
        view = self.get_mag(wanted)
        asked = self._asked(wanted, chunk_shape, shard_shape, chunks_per_shard, compress)
        has = view.array.handle
        given_shard = shard_shape is not None or chunks_per_shard is not None
        parts = [
            ("chunks of", chunk_shape is not None, has.spec.chunk, asked.array.spec.chunk),
            ("shards of", given_shard, has.spec.unit, asked.array.spec.unit),
            ("the codec", compress is not None, str(has.spec.codec), str(asked.array.spec.codec)),
            ("the layout", asked.config is not None, getattr(has, "layout", None), getattr(asked.array, "layout", None)),
        ]
        for what, was_given, found, expected in parts:
            if was_given and found != expected:
                raise InputError(
                    f"Mag {wanted} of layer '{self._name}' has {what} {found}, not {expected}. Leave that out, or delete the "
                    "magnification first."
                )
        return view

    def delete_mag(self, mag: MagLike) -> None:
        """Delete a magnification: its files, or where it is a reference or a link, just that.

        Raises
        ------
        MagNotFoundError
            Where the layer does not have it.
        ReadOnlyError
            Where nothing may be changed.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> layer.delete_mag("4-4-1")
        >>> [str(mag) for mag in layer.mags]
        ['1', '2-2-1']
        """
        self.require_writable()
        target, before = self._store.location, self._store.properties
        gone = self.properties.mag(Mag(mag).to_tuple())
        self._store.update(lambda old: old.with_layer(old.layer(self._name).without_mag(gone.mag)))
        try:
            place = place_of(target, self._name, gone)
        except MetadataError:  # it leads nowhere
            return
        if _may_delete(target, before, self._name, gone, place):
            place.delete()
        self._write_groups()

    def _added(self, planned: _Planned, mag: Mag) -> MagView:
        planned.create()
        self._list(mag_properties(self._store.location, planned.array, mag.to_tuple(), planned.data_format))
        return self.get_mag(mag)

    def _planned(self, mag: MagLike, chunk: Shape, shard: Shape, per_shard: Shape, compress: Compress | None) -> _Planned:
        """Return what is to be made, after refusing what the layer has already."""
        self.require_writable()
        self._require_absent(self._store.properties, Mag(mag).to_tuple())
        return self._asked(Mag(mag), chunk, shard, per_shard, compress)

    def _asked(self, mag: Mag, chunk: Shape, shard: Shape, per_shard: Shape, compress: Compress | None) -> _Planned:
        layer = self.properties
        form = str(layer.data_format)
        config = compress if isinstance(compress, Zarr3Config) else None
        if config is not None and form != "zarr3":
            raise InputError(
                f"Layer '{self._name}' is {form}, but a Zarr3Config was given. Give compress=True, False or a codec."
            )
        codec = compress if isinstance(compress, bool | Codec) else True
        if compress is not None and config is None and not isinstance(compress, bool | Codec):
            raise InputError(f"compress is {compress!r}; expected True, False, a codec or a Zarr3Config.")
        storage = storage_of(form, chunk, shard, codec, chunks_per_shard=per_shard)
        array = new_arrays(layer, self._store.location / self._name, [mag], storage)[mag]
        return _Planned(config.at(array.location, array.spec) if config else array, config, form)

    def _require_absent(self, properties: Properties, mag: tuple[int, int, int]) -> None:
        if mag in {found.mag for found in properties.layer(self._name).mags}:
            raise MagExistsError(f"Layer '{self._name}' has a magnification {Mag(mag)} already. Use get_mag to open it.")

    def _list(self, new: MagProperties) -> None:
        """Add a magnification to the JSON, unless another process was quicker."""

        def listed(old: Properties) -> Properties:
            self._require_absent(old, new.mag)
            return old.with_layer(old.layer(self._name).with_mag(new))

        self._store.update(listed)
        self._write_groups()

    def _with_unlisted(self, mag: MagProperties) -> Self:
        """Return the layer with a magnification that the JSON does not list."""
        hidden = copy.copy(self)
        hidden._unlisted = mag
        return hidden


def _warn_of_chunks(array: ArrayHandle, stacklevel: int = 3) -> None:
    edges = {n for axis, n in zip(array.spec.axes, array.spec.chunk, strict=True) if axis in "xyz"}
    if len(edges) > 1 or not edges <= set(USUAL_EDGES):
        warnings.warn(
            f"The chunks {array.spec.chunk} are no cubes of 32 or 64 voxels, for which WEBKNOSSOS is made.",
            stacklevel=stacklevel,
        )


def _may_delete(target: Location, properties: Properties, layer: str, mag: MagProperties, place: Location) -> bool:
    """Whether what lies at a magnification's place, a folder or a link, is the layer's, and nothing else lies in it."""
    root, above = resolved(target), place.parent
    folder, _, inside = place.url.removeprefix(f"{target.url}/").partition("/")
    others = {name for name in properties.layer_names if name != layer}
    if not place.url.startswith(f"{target.url}/") or not inside or folder in others:
        return False
    if resolved(above) != root + above.url.removeprefix(target.url):  # by a link
        return False
    own, here = f"{layer}/{mag.name}", resolved(place)
    if here != f"{resolved(above)}/{place.name}":
        return True  # only the link
    used = [other for name, other in places(target, properties) if name != own]
    return not any(f"{other}/".startswith(f"{here}/") for other in used)
