"""The box of a layer: what it is, and arrays that follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from wkdask.arrays.opening import layer_ends
from wkdask.dataset.positions import spread
from wkdask.dataset.store import DatasetStore
from wkdask.errors import UnfitError
from wkdask.formats import ArrayHandle, find_format
from wkdask.geometry import Mag, NDBoundingBox, NormalizedBoundingBox
from wkdask.geometry.grid import Box
from wkdask.metadata import LayerProperties
from wkdask.operations.choices import stored_shape
from wkdask.storage import WORK_FOLDER
from wkdask.storage.document import exclusively
from wkdask.storage.lease import alone

if TYPE_CHECKING:
    from wkdask.dataset.mag_view import MagView


class BoxVerbs:
    """The box of a layer; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    if TYPE_CHECKING:  # of the class that this is a part of

        @property
        def properties(self) -> LayerProperties:
            """What the JSON says."""

        @property
        def mags(self) -> Mapping[Mag, MagView]:
            """Its magnifications."""

        def require_writable(self) -> None:
            """Refuse where nothing may be changed."""

        def is_mag_view_foreign(self, mag: MagView) -> bool:
            """Whether a magnification lies elsewhere."""

        def _write_groups(self) -> None:
            """Tell other readers."""

    @property
    def bounding_box(self) -> NDBoundingBox:
        """The box of the layer, in mag-1 voxels; setting it resizes the arrays of all mags that are the layer's own.

        It is a `BoundingBox`, or where the layer has further axes, such as t, one with these; channels are no part of it.
        A box that names none of the further axes leaves these as they are.

        Voxels that the new box leaves out are erased in those arrays: they are 0 when the box grows again. A voxel of a
        coarser magnification stays where the box has a part of it. Mags that are references or links are not changed.

        Raises
        ------
        UnfitError
            Where the box begins below 0, or has an axis that the layer does not have.
        ReadOnlyError
            Where nothing may be changed.

        Examples
        --------
        >>> from wkdask import BoundingBox, Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> whole = layer.bounding_box
        >>> layer.bounding_box = BoundingBox((0, 0, 0), (32, 48, 20))
        >>> layer.bounding_box = whole
        >>> bool(layer.get_mag(1).read(absolute_offset=(32, 0, 0)).any())
        False
        """
        return self.properties.box()

    @bounding_box.setter
    def bounding_box(self, box: NDBoundingBox) -> None:
        with self._resizing():
            self._resize(box, lambda _: box)

    @property
    def normalized_bounding_box(self) -> NormalizedBoundingBox:
        """The box of the layer, in mag-1 voxels, with its channels and in the order in which its axes are stored.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> Dataset.open("brain").get_layer("color").normalized_bounding_box.size
        VecInt(1, 64, 48, 20, axes=('c', 'x', 'y', 'z'))
        """
        layer, box = self.properties, self.properties.box()
        bounds = {axis: box.get_bounds(axis) for axis in box.axes} | {"c": (0, layer.num_channels)}
        axes = [axis for axis in layer.axes() if axis in bounds]
        start, stop = zip(*(bounds[axis] for axis in axes), strict=True)
        return NormalizedBoundingBox(start, [b - a for a, b in zip(start, stop, strict=True)], axes)

    def extend_bounding_box(self, box: NDBoundingBox) -> None:
        """Let the layer's box grow so that it contains another one; what others make of it meanwhile is kept."""
        self.require_writable()
        if self._contains(box):
            return
        with self._resizing():
            if not self._contains(box):
                whole = self.bounding_box
                self._resize(whole.extended_by(spread(box, whole)), lambda found: found.extended_by(spread(box, found)))

    def _contains(self, box: NDBoundingBox) -> bool:
        whole = self.bounding_box
        return whole.contains_bbox(spread(box, whole))

    @contextmanager
    def _resizing(self) -> Iterator[None]:
        """Let those who resize the layer take turns, as its box and its arrays are several documents."""
        self.require_writable()
        location = self._store.location
        work = location / WORK_FOLDER
        with ExitStack() as turns:
            turns.enter_context(exclusively(work, f"{location.url}/{self._name} box"))
            if not location.is_local:
                turns.enter_context(alone(work / f"{self._name}.box.turns", f"changing the box of layer {self._name}"))
            self._store.look_again()
            yield

    def _resize(self, box: NDBoundingBox, listed: Callable[[NDBoundingBox], NDBoundingBox]) -> None:
        """Let arrays reach to the end of a box, and list the box that is made of the one that is listed then."""
        if min(box.topleft) < 0:
            raise UnfitError(
                f"The box {box} begins below 0, where no array can store voxels. Give one that begins at 0 or above."
            )
        strange = set(box.axes) - {"c", *self.bounding_box.axes}
        if strange:
            raise UnfitError(
                f"The box has the axes {box.axes}, layer '{self._name}' has {self.bounding_box.axes}. Leave out "
                f"{', '.join(sorted(strange))}."
            )
        old, new = self.properties, self.properties.with_bounding_box(box)  # says what no layer can have
        shrinks = not new.box().contains_bbox(old.box())
        for mag, view in self.mags.items():
            if not self.is_mag_view_foreign(view):
                _resize_array(view.array.handle, new, mag, old if shrinks else None)
        self._store.update(lambda found: found.with_layer(_with_box(found.layer(self._name), listed)))
        self._write_groups()


def _with_box(layer: LayerProperties, listed: Callable[[NDBoundingBox], NDBoundingBox]) -> LayerProperties:
    return layer.with_bounding_box(listed(layer.box()))


def _resize_array(handle: ArrayHandle, layer: LayerProperties, mag: Mag, shrunk: LayerProperties | None) -> None:
    """Let an array reach to the end of a layer's box; where it had a larger box, erase before what that leaves out."""
    spec, form = handle.spec, str(layer.data_format)
    first = layer.mag(mag.to_tuple()).channel_index
    ends = layer_ends(layer, mag.to_tuple(), first)
    channels = ends.pop("c")
    whole = dict(zip(spec.axes, spec.shape, strict=True)).get("c", 1) == channels[1] - channels[0]
    shape = stored_shape(form, spec, {axis: stop for axis, (_, stop) in ends.items()})
    if shrunk:
        had = layer_ends(shrunk, mag.to_tuple(), first) if find_format(form).cubic else {"c": channels}
        kept = _stored_box(handle, {**ends, "c": channels})
        erase_beside(handle, kept, _stored_box(handle, {"c": channels}), _stored_box(handle, had))
    if not (shrunk and whole) or find_format(form).exact:  # whose last chunks are cut off where the array ends
        shape = tuple(map(max, spec.shape, shape))
    handle.resize(shape)


def _stored_box(handle: ArrayHandle, ends: Mapping[str, tuple[int, int]]) -> Box:
    """Return the voxels of an array, counted from its first, between the given ends; all of them along other axes."""
    spec = handle.spec
    pairs = [ends.get(axis, pair) for axis, *pair in zip(spec.axes, spec.box.start, spec.box.stop, strict=True)]
    return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs)).relative_to(spec.offset)


def erase_beside(handle: ArrayHandle, kept: Box, within: Box, had: Box | None = None) -> None:
    """Set voxels to what those have that are not stored: all that are not kept, of those within a box.

    Files of which nothing is kept are deleted; of others, only the chunks that are changed are encoded again.

    Parameters
    ----------
    handle
        The array.
    kept, within
        Boxes of the array, counted from its first voxel.
    had
        The box beside which there is nothing; default: the array's. In WKW files reach far beyond it.

    Examples
    --------
    >>> from wkdask.formats import ArraySpec, Zarr3
    >>> from wkdask.storage import Location
    >>> spec = ArraySpec((1, 32, 16, 16), "uint8", tuple("cxyz"), (1, 8, 8, 8), (1, 16, 16, 16))
    >>> array = Zarr3().create(Location("memory://erase/em/1"), spec)
    >>> array.write(spec.grid.box, np.ones(spec.shape, "uint8"))
    >>> erase_beside(array, Box((0, 0, 0, 0), (1, 15, 16, 16)), spec.grid.box)
    >>> list(array.written_units()), int(array.read(spec.grid.box).sum()) == 15 * 16 * 16
    ([(0, 0, 0, 0)], True)
    """
    grid, fill = handle.spec.grid, np.asarray(handle.spec.fill, handle.spec.dtype)
    for index in list(handle.written_units()):
        unit = grid.unit_box(index)
        if unit.intersect(within) == unit.intersect(grid.box) and not unit.intersect(kept).size:
            place = handle.unit_location(index)
            with exclusively(handle.scratch, place.url):
                place.delete()
            continue
        for box in beside(unit.intersect(within).intersect(had or grid.box), kept):
            handle.write(box, np.broadcast_to(fill, box.shape))


def beside(box: Box, kept: Box) -> Iterator[Box]:
    """Yield boxes that together are all of a box but what is kept; none has a voxel in common with another.

    Examples
    --------
    >>> [(part.start, part.stop) for part in beside(Box((0, 0), (4, 4)), Box((1, 2), (9, 3)))]
    [((0, 0), (1, 4)), ((1, 0), (4, 2)), ((1, 3), (4, 4))]
    """
    inner = box.intersect(kept)
    if not inner.size:
        yield from [box] if box.size else []
        return
    for axis, (a, b) in enumerate(zip(inner.start, inner.stop, strict=True)):
        start, stop = list(box.start), list(box.stop)
        if start[axis] < a:
            yield replace(box, stop=(*stop[:axis], a, *stop[axis + 1 :]))
        if b < stop[axis]:
            yield replace(box, start=(*start[:axis], b, *start[axis + 1 :]))
        start[axis], stop[axis] = a, b
        box = Box(tuple(start), tuple(stop))
