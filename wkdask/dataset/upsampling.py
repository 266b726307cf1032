"""What a layer offers to make its finer magnifications."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wkdask.clusters.executors import running_on
from wkdask.dataset.arguments import storage_of
from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError
from wkdask.formats import Codec
from wkdask.geometry import Mag, MagLike, Vec3IntLike
from wkdask.operations import Running, Sampling, SamplingModes
from wkdask.operations.upsample import Finer, plan_upsample
from wkdask.plan import Plan

if TYPE_CHECKING:
    from wkdask.dataset.mag_view import MagView

Shape = Vec3IntLike | int | None


class UpsampleVerbs:
    """The verbs of a layer that make finer magnifications; a part of `wkdask.Layer`."""

    _store: DatasetStore
    _name: str

    if TYPE_CHECKING:  # of the class that this is a part of

        def require_writable(self) -> None:
            """Refuse where nothing may be changed."""

    def plan_upsample(
        self,
        finer: Finer,
        sampling: Sampling = Sampling(),
        *,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        compress: bool | Codec = True,
        running: Running = Running(),
    ) -> Plan:
        """Plan what `upsample` does; nothing is written until ``plan.run()`` or ``plan.compute()``.

        Parameters
        ----------
        finer
            Which magnifications, made of which.
        sampling
            Its mode says which magnifications lie between the two.
        chunk_shape, shard_shape, compress
            As in `Layer.add_mag`. Magnifications that are made anew must have what is given here.
        running
            Threads and memory.

        Examples
        --------
        >>> from wkdask import Dataset
        >>> layer = Dataset.open("brain").get_layer("color")
        >>> print(layer.plan_upsample(Finer(Mag("4-4-1"), Mag("2-2-1"), overwrite=True)).name)
        upsample brain/color from mag 4-4-1
        """
        self.require_writable()
        layer = self._store.properties.layer(self._name)
        storage = storage_of(layer.data_format, chunk_shape, shard_shape, compress)
        given = {"chunk": chunk_shape is not None, "shard": shard_shape is not None, "codec": compress is not True}
        finer = replace(finer, chosen=frozenset(what for what, was_given in given.items() if was_given))
        return plan_upsample(self._store.location, self._name, finer, storage=storage, sampling=sampling, running=running)

    def upsample(
        self,
        from_mag: MagLike,
        finest_mag: MagLike = Mag(1),
        compress: bool | Codec = True,
        sampling_mode: SamplingModes | str = SamplingModes.ANISOTROPIC,
        align_with_other_layers: bool | Any = True,
        *,
        from_mag_view: MagView | None = None,
        buffer_shape: Shape = None,
        chunk_shape: Shape = None,
        shard_shape: Shape = None,
        allow_overwrite: bool = False,
        executor: Any = None,
    ) -> None:
        """Make finer magnifications of a coarse one, in one plan: every coarse voxel fills its whole block of finer ones.

        They cover the layer's box, rounded outwards to their own voxels; the box stays. Stopped or killed at any moment, the
        same call goes on where it was.

        Parameters
        ----------
        from_mag
            What to start from.
        finest_mag
            Where to end. Those in between are the ones that `downsample` would make between the two.
        compress
            Whether chunks are compressed, or by which codec.
        sampling_mode
            ``anisotropic``, ``isotropic`` or ``constant_z``.
        align_with_other_layers
            Whether to take the mags that other layers of this dataset (or of the dataset given) have.
        from_mag_view
            The magnification ``from_mag`` itself, which must be this layer's.
        chunk_shape, shard_shape
            As in `Layer.add_mag`.
        allow_overwrite
            Whether magnifications that exist are made anew, in the chunks, shards and compression that they have, and an
            unfinished run with other settings is given up.
        buffer_shape
            Accepted for scripts that give it.
        executor
            As of `View.for_each_chunk`.

        Raises
        ------
        MagExistsError
            Where a magnification exists and is not to be made anew.
        InputError
            Where the mags can not be made, or not in what is given.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import BoundingBox, Dataset
        >>> dataset = Dataset("memory://upsampling", (4, 4, 35))
        >>> layer = dataset.add_layer("color", "color", bounding_box=BoundingBox((0, 0, 0), (8, 8, 2)))
        >>> layer.add_mag("4-4-1").write(np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "uint8"))
        >>> layer.upsample("4-4-1")
        >>> [str(mag) for mag in layer.mags]
        ['1', '2-2-1', '4-4-1']
        >>> layer.get_mag(1).read()[0, :, 0, 0].tolist()
        [1, 1, 1, 1, 5, 5, 5, 5]
        """
        del buffer_shape
        start = Mag(from_mag)
        if from_mag_view is not None:
            view = from_mag_view.layer
            if (view.name, view._store.location, from_mag_view.mag) != (self._name, self._store.location, start):
                raise InputError(
                    f"from_mag_view is {view.name}/{from_mag_view.name} of {view._store.location}, not mag {start} of layer "
                    f"'{self._name}' of {self._store.location}. Leave it out."
                )
        aligned: tuple[Mag, ...] = ()
        if align_with_other_layers:
            other = self._store.properties if align_with_other_layers is True else align_with_other_layers.properties
            aligned = tuple(Mag(mag.mag) for layer in other.data_layers for mag in layer.mags if layer.name != self._name)
        sampling = Sampling(mode=SamplingModes.parse(sampling_mode))
        plan = self.plan_upsample(
            Finer(start, Mag(finest_mag), aligned, allow_overwrite),
            sampling,
            chunk_shape=chunk_shape,
            shard_shape=shard_shape,
            compress=compress,
        )
        if plan.stages:
            with running_on(executor):
                plan.run()
