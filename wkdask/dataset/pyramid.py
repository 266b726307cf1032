"""What a layer offers to make its coarser magnifications, and to keep them true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wkdask.dataset.arguments import storage_of
from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError
from wkdask.formats import Codec
from wkdask.geometry import BoundingBox, Mag, MagLike, Vec3IntLike
from wkdask.images import Selection, find_layers
from wkdask.operations import (
    Coarser,
    Orientation,
    Running,
    Sampling,
    SamplingModes,
    ValueMap,
    plan_append,
    plan_downsample,
    set_up,
)
from wkdask.operations.source import FromImages
from wkdask.plan import Plan

PathLike = str | Path


class PyramidVerbs:
    """The verbs of a layer that make magnifications of its magnifications; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    def plan_downsample(
        self,
        coarser: Coarser = Coarser(),
        sampling: Sampling = Sampling(),
        *,
        chunk_shape: Vec3IntLike | int | None = None,
        shard_shape: Vec3IntLike | int | None = None,
        compress: bool | Codec = True,
        running: Running = Running(),
    ) -> Plan:
        """Plan what `downsample` and its kin do; nothing is written until ``plan.run()`` or ``plan.compute()``.

        Parameters
        ----------
        coarser
            Which magnifications, made of which.
        sampling
            By which mode and kernel, and up to which.
        chunk_shape, shard_shape, compress
            As in `Layer.add_mag`.
        running
            Threads and memory.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> layer.plan_downsample(Coarser(mags=(Mag("32-32-4"),))).tasks > 0
        True
        """
        self._store.require_writable()
        layer = self._store.properties.layer(self._name)
        storage = storage_of(layer.data_format, chunk_shape, shard_shape, compress)
        return plan_downsample(self._store.location, self._name, coarser, storage=storage, sampling=sampling, running=running)

    def _run(self, coarser: Coarser, sampling: Sampling, only_setup: bool = False, **options: Any) -> None:
        plan = self.plan_downsample(coarser, sampling, **options)
        if only_setup:
            set_up(plan)
        elif plan.stages:
            plan.run()

    def downsample(
        self,
        from_mag: MagLike | None = None,
        coarsest_mag: MagLike | None = None,
        interpolation_mode: str = "default",
        compress: bool | Codec = True,
        sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
        align_with_other_layers: bool | Any = True,
        *,
        chunk_shape: Vec3IntLike | int | None = None,
        shard_shape: Vec3IntLike | int | None = None,
        allow_overwrite: bool = False,
        only_setup_mags: bool = False,
    ) -> None:
        """Make the coarser magnifications of the layer's pyramid, each of the one before, in one plan.

        Stopped or killed at any moment, the same call goes on where it was.

        Parameters
        ----------
        from_mag
            What to start from; default: the coarsest that there is.
        coarsest_mag
            Where to end; default: where the longer of x and y has 100 voxels at most.
        interpolation_mode
            ``default`` (median for colour, mode for segmentation), ``median``, ``mode``, ``nearest``, ``bilinear``, ``max``
            or ``min``.
        compress
            Whether chunks are compressed, or by which codec.
        sampling_mode
            ``anisotropic``, ``isotropic`` or ``constant_z``.
        align_with_other_layers
            Whether to take the mags that other layers of this dataset (or of the dataset given) have.
        chunk_shape, shard_shape
            As in `Layer.add_mag`.
        allow_overwrite
            Whether magnifications that exist are made anew, in the chunks that they have. What an unfinished run with other
            settings has made is given up.
        only_setup_mags
            Only make and list empty magnifications.

        Raises
        ------
        MagExistsError
            Where a magnification exists and is not to be made anew.
        InputError
            Where the mags can not be made.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> layer.downsample(coarsest_mag=16)
        >>> [str(mag) for mag in layer.mags]
        ['1', '2-2-1', '4-4-1', '8-8-1', '16-16-2']
        """
        aligned: tuple[Mag, ...] = ()
        if align_with_other_layers:
            other = self._store.properties if align_with_other_layers is True else align_with_other_layers.properties
            aligned = tuple(Mag(mag.mag) for layer in other.data_layers for mag in layer.mags if layer.name != self._name)
        start = None if from_mag is None else Mag(from_mag)
        coarsest = None if coarsest_mag is None else Mag(coarsest_mag)
        sampling = Sampling(True, coarsest, SamplingModes.parse(sampling_mode), interpolation_mode)
        coarser = Coarser(start, (), aligned, allow_overwrite)
        shapes = {"chunk_shape": chunk_shape, "shard_shape": shard_shape}
        self._run(coarser, sampling, only_setup_mags, compress=compress, **shapes)

    def downsample_mag(
        self,
        from_mag: MagLike,
        target_mag: MagLike,
        interpolation_mode: str = "default",
        compress: bool | Codec = True,
        *,
        allow_overwrite: bool = False,
        only_setup_mag: bool = False,
    ) -> None:
        """Make one magnification of another, which may be any multiple of it along each axis.

        Parameters
        ----------
        from_mag, target_mag
            Of which, and which.
        interpolation_mode, compress, allow_overwrite
            As in `downsample`.
        only_setup_mag
            Only make and list it, empty.

        See Also
        --------
        downsample_mag_list : The same with chunk and shard shapes.
        """
        coarser = Coarser(Mag(from_mag), (Mag(target_mag),), (), allow_overwrite)
        self._run(coarser, Sampling(interpolation=interpolation_mode), only_setup_mag, compress=compress)

    def downsample_mag_list(
        self,
        from_mag: MagLike,
        target_mags: Iterable[MagLike],
        interpolation_mode: str = "default",
        compress: bool | Codec = True,
        *,
        chunk_shape: Vec3IntLike | int | None = None,
        shard_shape: Vec3IntLike | int | None = None,
        allow_overwrite: bool = False,
        only_setup_mags: bool = False,
    ) -> None:
        """Make a list of magnifications, sorted, each of the one before.

        Parameters
        ----------
        from_mag, target_mags
            Of which, and which.
        interpolation_mode, compress, chunk_shape, shard_shape, allow_overwrite, only_setup_mags
            As in `downsample`.
        """
        mags = tuple(map(Mag, target_mags))
        if not mags:
            raise InputError("The list of magnifications is empty. Give at least one.")
        coarser = Coarser(Mag(from_mag), mags, (), allow_overwrite)
        shapes = {"chunk_shape": chunk_shape, "shard_shape": shard_shape}
        self._run(coarser, Sampling(interpolation=interpolation_mode), only_setup_mags, compress=compress, **shapes)

    def redownsample(self, interpolation_mode: str = "default", compress: bool | Codec = True) -> None:
        """Make all magnifications but the finest anew, each of the one before.

        Until a unit is made anew, readers see the one that was there.

        Parameters
        ----------
        interpolation_mode
            As in `downsample`.
        compress
            Accepted for scripts that give it; chunks stay compressed as they are.
        """
        del compress
        self._redo(interpolation_mode, None)

    def update_pyramid(self, bounding_box: BoundingBox, interpolation_mode: str = "default") -> None:
        """Redo what a change of the finest magnification makes of the coarser ones: only the units under a box.

        The result is that of `redownsample`, for the work of the units that the box meets in each magnification.

        Parameters
        ----------
        bounding_box
            What has changed, in mag-1 voxels.
        interpolation_mode
            By which the pyramid was made, as in `downsample`.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import BoundingBox, Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> layer.get_mag(1).write(np.full((8, 8, 2), 255, "uint8"), absolute_offset=(0, 0, 0))
        >>> layer.update_pyramid(BoundingBox((0, 0, 0), (8, 8, 2)))
        >>> int(layer.get_mag("2-2-1").read(absolute_offset=(0, 0, 0), size=(8, 8, 2)).min())
        255
        """
        self._redo(interpolation_mode, bounding_box)

    def _redo(self, interpolation_mode: str, within: BoundingBox | None) -> None:
        self._store.require_writable()
        layer = self._store.properties.layer(self._name)
        mags = sorted((Mag(mag.mag) for mag in layer.mags), key=lambda mag: mag.sort_key)
        if len(mags) > 1:
            coarser = Coarser(mags[0], tuple(mags[1:]), (), True, within)
            self._run(coarser, Sampling(interpolation=interpolation_mode))

    def plan_append_images(
        self,
        images: PathLike | Sequence[PathLike],
        *,
        selection: Selection = Selection(),
        orientation: Orientation = Orientation(),
        values: ValueMap | None = None,
        interpolation_mode: str = "default",
        running: Running = Running(),
    ) -> Plan:
        """Plan what `append_images` does; nothing is written until ``plan.run()`` or ``plan.compute()``."""
        sections = self._sections(images, selection, orientation, values)
        return self._plan_append(sections, interpolation_mode, running=running)

    def _sections(
        self, images: PathLike | Sequence[PathLike], selection: Selection, orientation: Orientation, values: ValueMap | None
    ) -> FromImages:
        self._store.require_writable()
        found = find_layers(images, replace(selection, merge=True, layer_name=self._name))
        if len(found) != 1:
            raise InputError(
                f"The images have {len(found)} channels that would be layers, expected one. Choose one: channel=0."
            )
        return FromImages(found[0].stack, orientation, values=values)

    def _plan_append(self, sections: FromImages, interpolation_mode: str, **options: Any) -> Plan:
        sampling = Sampling(interpolation=interpolation_mode)
        return plan_append(self._store.location, self._name, sections, sampling=sampling, **options)

    def append_images(
        self,
        images: PathLike | Sequence[PathLike],
        *,
        selection: Selection = Selection(),
        orientation: Orientation = Orientation(),
        values: ValueMap | None = None,
        interpolation_mode: str = "default",
        allow_overwrite: bool = False,
    ) -> None:
        """Add sections behind the last one, in all magnifications.

        Only the units that hold the layer's end, or lie behind it, are written. The layer's box grows when all is complete.
        Stopped or killed at any moment, the same call goes on where it was.

        Parameters
        ----------
        images
            A file, a folder, a zip of images, a pattern, or a list of files: sections of the layer's finest magnification, as
            wide and high as the layer, of its dtype and channels.
        selection
            Which of them, in which order.
        orientation, values
            As the layer's own images were treated.
        interpolation_mode
            By which the pyramid was made, as in `downsample`.
        allow_overwrite
            Whether to begin anew where a call with other images or settings was stopped in the middle; what that one added
            is replaced. Sections that are in the layer's box are not.

        Raises
        ------
        InputError
            Where the sections do not fit the layer; nothing is written.
        PlanRefusedError
            Where another call was stopped and is to be finished first.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> depth = layer.bounding_box.size.z
        >>> layer.append_images("em/")
        >>> layer.bounding_box.size.z == 2 * depth
        True
        """
        sections = self._sections(images, selection, orientation, values)
        self._plan_append(sections, interpolation_mode, overwrite=allow_overwrite).run()
