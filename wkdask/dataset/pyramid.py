"""What a layer offers to make its coarser magnifications, and to keep them true."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wkdask.clusters.executors import running_on
from wkdask.dataset.arguments import storage_of
from wkdask.dataset.deprecations import warn_parameters
from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError
from wkdask.formats import Codec
from wkdask.geometry import BoundingBox, Mag, MagLike, NDBoundingBox, Vec3IntLike
from wkdask.operations import Coarser, Running, Sampling, SamplingModes, plan_downsample, set_up
from wkdask.plan import Plan

if TYPE_CHECKING:
    from wkdask.dataset.mag_view import MagView

Shape = Vec3IntLike | int | None
BoxLike = NDBoundingBox | str | Iterable[Any]


class PyramidVerbs:
    """The verbs of a layer that make magnifications of its magnifications; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    def plan_downsample(
        self,
        coarser: Coarser = Coarser(),
        sampling: Sampling = Sampling(),
        *,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        chunks_per_shard: Shape = None,
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
            As in `Layer.add_mag`. Magnifications that are made anew must have what is given here.
        chunks_per_shard
            Instead of ``shard_shape``: chunks of a shard along x, y, z.
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
        storage = storage_of(layer.data_format, chunk_shape, shard_shape, compress, chunks_per_shard=chunks_per_shard)
        given = {"chunk": chunk_shape is not None, "shard": storage.shard is not None, "codec": compress is not True}
        coarser = replace(coarser, chosen=frozenset(what for what, was_given in given.items() if was_given))
        return plan_downsample(self._store.location, self._name, coarser, storage=storage, sampling=sampling, running=running)

    def _from(self, mag: MagLike | None, view: MagView | None) -> Mag | None:
        """Return the mag to start from, which may be given in two ways."""
        if view is None:
            return None if mag is None else Mag(mag)
        layer = view.layer
        if (layer.name, layer._store.location) != (self._name, self._store.location):
            raise InputError(
                f"from_mag_view is a magnification of layer '{layer.name}' of {layer._store.location}, not of layer "
                f"'{self._name}' of {self._store.location}. Give one of the layer's own, or leave it out."
            )
        if mag is not None and Mag(mag) != view.mag:
            raise InputError(f"from_mag is {Mag(mag)}, but from_mag_view is mag {view.mag}. Give one of them.")
        return view.mag

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
        buffer_shape: Shape = None,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        chunks_per_shard: Shape = None,
        force_sampling_scheme: bool = False,
        allow_overwrite: bool = False,
        only_setup_mags: bool = False,
        from_mag_view: MagView | None = None,
        executor: Any = None,
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
            ``default`` (median for colour, mode for segmentation), ``median``, ``mode``, ``mean`` (or ``bilinear``),
            ``bicubic``, ``nearest``, ``max`` or ``min``, in any case.
        compress
            Whether chunks are compressed, or by which codec.
        sampling_mode
            ``anisotropic``, ``isotropic`` or ``constant_z``.
        align_with_other_layers
            Whether to take the mags that other layers of this dataset (or of the dataset given) have.
        chunk_shape, shard_shape
            As in `Layer.add_mag`.
        chunks_per_shard
            Deprecated; instead of ``shard_shape``: chunks of a shard along x, y, z.
        allow_overwrite
            Whether magnifications that exist are made anew, in the chunks, shards and compression that they have; others that
            are given are refused. What an unfinished run with other settings has made is given up, and made anew from where
            that run started.
        only_setup_mags
            Only make and list empty magnifications.
        from_mag_view
            Instead of ``from_mag``: the magnification itself.
        buffer_shape, force_sampling_scheme
            Accepted for scripts that give them: tasks are cut to the memory, and the sampling mode is always kept to.
        executor
            As of `View.for_each_chunk`.

        Raises
        ------
        MagExistsError
            Where a magnification exists and is not to be made anew.
        InputError
            Where the mags can not be made, or not in what is given.
        PlanRefusedError
            Where an earlier run was stopped in the middle, and this one would not mend what it left.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> layer.downsample(coarsest_mag=16)
        >>> [str(mag) for mag in layer.mags]
        ['1', '2-2-1', '4-4-1', '8-8-1', '16-16-2']
        """
        del buffer_shape, force_sampling_scheme
        warn_parameters(chunks_per_shard=chunks_per_shard)
        aligned: tuple[Mag, ...] = ()
        if align_with_other_layers:
            other = self._store.properties if align_with_other_layers is True else align_with_other_layers.properties
            aligned = tuple(Mag(mag.mag) for layer in other.data_layers for mag in layer.mags if layer.name != self._name)
        coarsest = None if coarsest_mag is None else Mag(coarsest_mag)
        sampling = Sampling(True, coarsest, SamplingModes.parse(sampling_mode), interpolation_mode)
        coarser = Coarser(self._from(from_mag, from_mag_view), (), aligned, allow_overwrite)
        shapes = {"chunk_shape": chunk_shape, "shard_shape": shard_shape, "chunks_per_shard": chunks_per_shard}
        with running_on(executor):
            self._run(coarser, sampling, only_setup_mags, compress=compress, **shapes)

    def downsample_mag(
        self,
        from_mag: MagLike,
        target_mag: MagLike,
        interpolation_mode: str = "default",
        compress: bool | Codec = True,
        *,
        buffer_shape: Shape = None,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        chunks_per_shard: Shape = None,
        allow_overwrite: bool = False,
        only_setup_mag: bool = False,
        from_mag_view: MagView | None = None,
        executor: Any = None,
    ) -> None:
        """Make one magnification of another, which may be any multiple of it along each axis.

        Parameters
        ----------
        from_mag, target_mag
            Of which, and which.
        interpolation_mode, compress, chunk_shape, shard_shape, chunks_per_shard, allow_overwrite, from_mag_view
            As in `downsample`.
        only_setup_mag
            Only make and list it, empty.
        buffer_shape
            Accepted for scripts that give it.
        executor
            As of `View.for_each_chunk`.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> layer.downsample_mag(1, "8-8-2", chunk_shape=16, shard_shape=64)
        >>> layer.get_mag("8-8-2").spec.unit
        (1, 64, 64, 64)
        """
        del buffer_shape
        warn_parameters(chunks_per_shard=chunks_per_shard)
        coarser = Coarser(self._from(from_mag, from_mag_view), (Mag(target_mag),), (), allow_overwrite)
        shapes = {"chunk_shape": chunk_shape, "shard_shape": shard_shape, "chunks_per_shard": chunks_per_shard}
        with running_on(executor):
            self._run(coarser, Sampling(interpolation=interpolation_mode), only_setup_mag, compress=compress, **shapes)

    def downsample_mag_list(
        self,
        from_mag: MagLike,
        target_mags: Iterable[MagLike],
        interpolation_mode: str = "default",
        compress: bool | Codec = True,
        *,
        buffer_shape: Shape = None,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        chunks_per_shard: Shape = None,
        allow_overwrite: bool = False,
        only_setup_mags: bool = False,
        from_mag_view: MagView | None = None,
        executor: Any = None,
    ) -> None:
        """Make a list of magnifications, sorted, each of the one before.

        Parameters
        ----------
        from_mag, target_mags
            Of which, and which.
        interpolation_mode, compress, chunk_shape, shard_shape, chunks_per_shard
            As in `downsample`.
        allow_overwrite, only_setup_mags, from_mag_view
            As in `downsample`.
        buffer_shape
            Accepted for scripts that give it.
        executor
            As of `View.for_each_chunk`.
        """
        del buffer_shape
        warn_parameters(chunks_per_shard=chunks_per_shard)
        mags = tuple(map(Mag, target_mags))
        if not mags:
            raise InputError("The list of magnifications is empty. Give at least one.")
        coarser = Coarser(self._from(from_mag, from_mag_view), mags, (), allow_overwrite)
        shapes = {"chunk_shape": chunk_shape, "shard_shape": shard_shape, "chunks_per_shard": chunks_per_shard}
        with running_on(executor):
            self._run(coarser, Sampling(interpolation=interpolation_mode), only_setup_mags, compress=compress, **shapes)

    def redownsample(
        self,
        interpolation_mode: str = "default",
        compress: bool | Codec = True,
        *,
        buffer_shape: Shape = None,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        executor: Any = None,
    ) -> None:
        """Make all magnifications but the finest anew, each of the one before.

        Until a unit is made anew, readers see the one that was there. A unit, or file, is made of the voxels in the layer's
        box alone: what it held beyond the box, since the layer was larger once, becomes 0 in these magnifications. The finest
        one keeps it.

        Parameters
        ----------
        interpolation_mode
            As in `downsample`.
        chunk_shape, shard_shape, compress
            Refused where the magnifications have others; they keep what they have.
        buffer_shape
            Accepted for scripts that give it.
        executor
            As of `View.for_each_chunk`.
        """
        del buffer_shape
        with running_on(executor):
            self._redo(interpolation_mode, None, chunk_shape=chunk_shape, shard_shape=shard_shape, compress=compress)

    def update_pyramid(self, bounding_box: BoxLike, interpolation_mode: str = "default") -> None:
        """Redo what a change of the finest magnification makes of the coarser ones: only the units under a box.

        The result is that of `redownsample`, for the work of the units that the box meets in each magnification. In those,
        too, what lies beyond the layer's box becomes 0.

        Parameters
        ----------
        bounding_box
            What has changed, in mag-1 voxels: a box, or what `BoundingBox.from_auto` takes for one, such as
            ``((x, y, z), (width, height, depth))``. Of a box with other axes, what it covers along x, y and z counts.
        interpolation_mode
            By which the pyramid was made, as in `downsample`.

        Raises
        ------
        InputError
            Where this is no box, or has no voxel in common with the layer's.

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
        try:
            box = BoundingBox.from_auto(bounding_box)
        except (TypeError, ValueError):
            raise InputError(
                f"{bounding_box!r} is no box. Give a BoundingBox, or its corner and size: ((0, 0, 0), (64, 64, 64))."
            ) from None
        self._redo(interpolation_mode, box)

    def _redo(self, interpolation_mode: str, within: BoundingBox | None, **options: Any) -> None:
        self._store.require_writable()
        layer = self._store.properties.layer(self._name)
        mags = [Mag(mag.mag) for mag in layer.finest_first]
        if len(mags) > 1:
            coarser = Coarser(mags[0], tuple(mags[1:]), (), True, within)
            self._run(coarser, Sampling(interpolation=interpolation_mode), **options)
