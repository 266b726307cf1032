"""What a layer offers to list magnifications that lie elsewhere: by their path, or by a link."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wkdask.arrays.opening import place_of
from wkdask.dataset.store import DatasetStore
from wkdask.errors import DatasetNotFoundError, InputError, NotLocalError, StorageError, UnfitError
from wkdask.formats import ArrayHandle, find_format
from wkdask.geometry import BoundingBox, Mag, MagLike, NDBoundingBox
from wkdask.metadata import DataFormat, LayerProperties, MagProperties, Properties
from wkdask.operations.existing import resolved
from wkdask.operations.target import mag_properties
from wkdask.storage import Location, is_place
from wkdask.storage.explained import explained

if TYPE_CHECKING:
    from wkdask.dataset.mag_view import MagView

PathLike = str | os.PathLike[str]
Places = AbstractContextManager[str]


def require_path(given: object, storage_options: Mapping[str, Any] | None) -> None:
    """Refuse options of something that is open already, and has its own."""
    if storage_options is not None and not is_place(given):
        raise InputError(f"{given!r} is open, with options of its own. Give storage_options when its dataset is opened.")


def mag_view_of(mag: MagView | PathLike, storage_options: Mapping[str, Any] | None = None) -> MagView:
    """Return a magnification that is given itself, or by its folder in a dataset, which is then opened for reading only.

    Of a folder's URL, options may be given as of `Dataset`.

    Raises
    ------
    InputError
        Where the folder has no name of a magnification, or options are given of one that is open.
    """
    require_path(mag, storage_options)
    if not is_place(mag):
        return mag
    from wkdask.dataset.dataset import Dataset

    place = Location.of(mag, storage_options)
    return Dataset.open(place.parent.parent, read_only=True).get_layer(place.parent.name).get_mag(place.name)


def reference_path(dataset: Location, place: Location) -> str:
    """Return how the JSON of a dataset says a place: relative where it lies in the dataset, else as absolute path or URL.

    Examples
    --------
    >>> reference_path(Location("/lab/a"), Location("/lab/a/em/1")), reference_path(Location("/lab/a"), Location("/lab/b/em/1"))
    ('./em/1', '/lab/b/em/1')
    """
    inside = place.url.removeprefix(f"{dataset.url}/")
    return place.documented if inside == place.url else f"./{inside}"


def place_of_view(view: MagView) -> Location:
    """Return where a magnification's array lies."""
    store = view.layer._store
    return place_of(store.location, view.layer.name, view.layer.properties.mag(view.mag.to_tuple()))


def require_local(*places: Location) -> None:
    """Raise `NotLocalError` where no link can be made, as a place is not local."""
    for place in places:
        if not place.is_local:
            raise NotLocalError(f"{place} is not local, but only local folders can be linked. Add a reference instead.")


def link_to(target: Location, link: Location, *, relative: bool) -> None:
    """Make a link where nothing is yet.

    Parameters
    ----------
    target, link
        Local folders.
    relative
        Whether the link says how to get from one to the other, so that both can be moved together.

    Raises
    ------
    NotLocalError
        Where one of them is not local.
    InputError
        Where something has the link's name already.
    """
    require_local(target, link)
    link.parent.make_folder()
    aim = resolved(target)
    text = os.path.relpath(aim, resolved(link.parent)) if relative else aim
    try:
        with explained(link, "made"):
            os.symlink(text, link.url, target_is_directory=True)
    except StorageError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise InputError(f"{link} exists already, so no link is made there. Choose another name, or delete it.") from None
        raise


class ReferenceVerbs:
    """The verbs of a layer that list magnifications which lie elsewhere; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    if TYPE_CHECKING:  # of the class that this is a part of

        @property
        def properties(self) -> LayerProperties:
            """What the JSON says."""

        @property
        def bounding_box(self) -> NDBoundingBox:
            """The layer's box."""

        def get_mag(self, mag: MagLike) -> MagView:
            """Return a magnification."""

        def extend_bounding_box(self, box: NDBoundingBox) -> None:
            """Let the box grow."""

        def require_writable(self) -> None:
            """Refuse where nothing may be changed."""

        def _require_absent(self, properties: Properties, mag: tuple[int, int, int]) -> None:
            """Refuse what the layer has already."""

        def _list(self, new: MagProperties) -> None:
            """Add a magnification to the JSON."""

    def add_mag_as_ref(
        self,
        foreign_mag_view_or_path: MagView | PathLike,
        *,
        mag: MagLike | None = None,
        extend_layer_bounding_box: bool = True,
        storage_options: Mapping[str, Any] | None = None,
    ) -> MagView:
        """Add a magnification of another layer, which stays where it is: the JSON gets its path or URL. It is only read.

        Parameters
        ----------
        foreign_mag_view_or_path
            The magnification, or its folder in a dataset. Its layer has the same format, dtype, channels and order of axes.
        mag
            Which it is here: its voxels are taken for larger or smaller ones. Default: the same.
        extend_layer_bounding_box
            Whether the layer's box grows to hold all of it.
        storage_options
            Of the magnification where it is a URL, as in `Dataset`. They hold as long as this dataset is open: no document
            keeps them.

        Raises
        ------
        MagExistsError
            Where the layer has it already.
        UnfitError
            Where format, dtype, channels or axes differ.
        ReadOnlyError
            Where nothing may be changed.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> foreign = Dataset.open("brain").get_layer("color")
        >>> layer = Dataset("memory://references", (4, 4, 35)).add_layer("em", "color")
        >>> mag = layer.add_mag_as_ref(foreign.get_mag("2-2-1"))
        >>> bool((mag.read() == foreign.get_mag("2-2-1").read()).all()), layer.is_mag_view_foreign(mag)
        (True, True)
        """
        view = mag_view_of(foreign_mag_view_or_path, storage_options)
        place = place_of_view(view)
        path = reference_path(self._store.location, place)
        self._store.know(place)
        return self._add_foreign(view, mag, lambda _: nullcontext(path), extend_layer_bounding_box)

    def add_symlink_mag(
        self,
        foreign_mag_view_or_path: MagView | PathLike,
        *,
        mag: MagLike | None = None,
        make_relative: bool = False,
        extend_layer_bounding_box: bool = True,
    ) -> MagView:
        """Add a magnification of another layer by a link in this layer's folder; both are local. It is only read.

        Parameters
        ----------
        foreign_mag_view_or_path, mag, extend_layer_bounding_box
            As in `add_mag_as_ref`.
        make_relative
            Whether the link is a relative one, so that both datasets can be moved together.

        Raises
        ------
        NotLocalError
            Where one of both is not local. Others are those of `add_mag_as_ref`.
        """
        if is_place(foreign_mag_view_or_path):
            require_local(Location.of(foreign_mag_view_or_path))  # before it is looked for
        view = mag_view_of(foreign_mag_view_or_path)

        @contextmanager
        def link(wanted: Mag) -> Iterator[str]:
            place = self._store.location / self._name / wanted.to_layer_name()
            path = reference_path(self._store.location, place)
            link_to(place_of_view(view), place, relative=make_relative)
            try:
                yield path
            except BaseException:
                if path not in {found.path for found in self.properties.mags}:
                    place.delete()
                raise

        return self._add_foreign(view, mag, link, extend_layer_bounding_box)

    def add_mag_from_zarrarray(
        self,
        mag: MagLike,
        path: PathLike,
        move: bool = False,
        extend_layer_bounding_box: bool = True,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> MagView:
        """Add a Zarr array as a magnification; it begins at the dataset's origin.

        Parameters
        ----------
        mag
            Which it is.
        path
            Folder or URL of the array, of the layer's format, dtype, channels and order of axes.
        move
            Whether its folder is moved into the layer's, and is the layer's own then; both are local. Else it stays where it
            is, and is only read where that is outside of the dataset, or in another layer's folder.
        extend_layer_bounding_box
            Whether the layer's box grows to hold all of it.
        storage_options
            Of the array where it is a URL, as in `add_mag_as_ref`.

        Raises
        ------
        MagExistsError
            Where the layer has it already.
        InputError
            Where the layer is not in Zarr, or the array is none of its format, or not like the layer.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset("adopted", (4, 4, 35)).add_layer("em", "color")
        >>> layer.add_mag_from_zarrarray(1, "brain/color/1", move=True).read().shape[0], layer.bounding_box.topleft
        (1, Vec3Int(0, 0, 0))
        """
        self.require_writable()
        self._require_absent(self._store.properties, Mag(mag).to_tuple())
        place, target = Location.of(path, storage_options), self._store.location
        array = self._opened_zarr(place)
        self._require_axes(array.spec.axes)
        if move and place != (own := target / self._name / Mag(mag).to_layer_name()):
            _move(place, own)
            place = own
            array = find_format(str(self.properties.data_format)).open(place)
        new = mag_properties(target, array, Mag(mag).to_tuple(), str(self.properties.data_format))
        self._store.know(place)
        self._list(new.updated(path=reference_path(target, place)))
        if extend_layer_bounding_box:
            self.extend_bounding_box(BoundingBox((0, 0, 0), array.spec.end).from_mag_to_mag1(Mag(mag)))
        return self.get_mag(mag)

    def _opened_zarr(self, place: Location) -> ArrayHandle:
        """Open an array of the layer's own format, dtype and channels."""
        layer = self.properties
        if layer.data_format not in (DataFormat.Zarr, DataFormat.Zarr3):
            raise InputError(
                f"Layer '{self._name}' is {layer.data_format}, not Zarr. Add the array to a layer in zarr or zarr3."
            )
        try:
            array = find_format(str(layer.data_format)).open(place)
        except DatasetNotFoundError as error:
            raise InputError(f"{place} is no array in {layer.data_format}, as layer '{self._name}' is. {error}") from None
        channels = dict(zip(array.spec.axes, array.spec.shape, strict=True)).get("c", 1)
        self._require_alike(str(place), (layer.data_format, array.spec.dtype, channels))
        return array

    def _require_alike(self, name: str, found: tuple[Any, str, int]) -> None:
        layer = self.properties
        wanted = (layer.data_format, layer.dtype, layer.num_channels)
        for what, is_, needed in zip(("format", "dtype", "number of channels"), found, wanted, strict=True):
            if is_ != needed:
                raise UnfitError(
                    f"The {what} of {name} is {is_}, that of layer '{self._name}' is {needed}. Copy it, or add it to a "
                    "layer like it."
                )

    def _require_axes(self, axes: tuple[str, ...]) -> None:
        layer = self.properties
        if layer.mags and axes != layer.axes():
            raise UnfitError(
                f"The axes are stored as {axes}, those of layer '{self._name}' as {layer.axes()}; all magnifications of a "
                "layer have one order. Copy it with add_mag_as_copy."
            )

    def _add_foreign(self, view: MagView, mag: MagLike | None, placed: Callable[[Mag], Places], extend: bool) -> MagView:
        """List a magnification of another layer at the path that is made of its mag here, or given up where that fails."""
        self.require_writable()
        wanted, source = view.mag if mag is None else Mag(mag), view.layer.properties
        self._require_absent(self._store.properties, wanted.to_tuple())
        self._require_alike(f"layer '{source.name}'", (source.data_format, source.dtype, source.num_channels))
        self._require_axes(source.axes())
        said = source.mag(view.mag.to_tuple())
        order = {axis: place for place, axis in enumerate(source.axes()) if axis in "cxyz"}
        with placed(wanted) as path:
            self._list(said.updated(mag=wanted.to_tuple(), path=path, axis_order=said.axis_order or order))
        if extend:
            self.extend_bounding_box(box_under(view.layer.properties.box(), view.mag, wanted))
        return self.get_mag(wanted)


def box_under(box: NDBoundingBox, mag: Mag, other: Mag) -> NDBoundingBox:
    """Return what a box, in mag-1 voxels, is when the voxels of a mag are taken for those of another one.

    Examples
    --------
    >>> box_under(BoundingBox((0, 0, 0), (9, 8, 8)), Mag(2), Mag(1)).size
    Vec3Int(5, 4, 4)
    """
    return box if mag == other else box.align_with_mag(mag, ceil=True).in_mag(mag).from_mag_to_mag1(other)


def _move(folder: Location, target: Location) -> None:
    """Move a folder, to another file system too: there it appears whole, before the old one is deleted."""
    for place in (folder, target):
        if not place.is_local:
            raise NotLocalError(
                f"{place} is not local, so it can not be moved. Leave out move=True to refer to it, or copy it."
            )
    if os.path.islink(folder.url):
        raise InputError(f"{folder} is a link to {resolved(folder)}, so it is not moved. Give that folder.")
    if os.path.lexists(target.url):
        raise InputError(f"{target} exists already, so nothing is moved there. Delete it first.")
    target.parent.make_folder()
    with explained(target, "written"):
        try:
            os.rename(folder.url, target.url)
        except OSError:
            beside = Path(f"{target.url}.moving")
            shutil.rmtree(beside, ignore_errors=True)
            shutil.copytree(folder.url, beside, symlinks=True)
            os.rename(beside, target.url)
            shutil.rmtree(folder.url)
