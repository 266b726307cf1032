"""What a dataset offers to make one layer of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wkdask.dataset.store import DatasetStore
from wkdask.errors import InputError
from wkdask.operations import Running, Sampling, Storage
from wkdask.operations.lazy_layer import LazyLayer
from wkdask.operations.merge import Mask, Over, plan_merge
from wkdask.plan import Plan

if TYPE_CHECKING:
    from wkdask.dataset.layer import Layer


class MergeVerbs:
    """The verbs of a dataset that lay layers over each other; a part of `wkdask.Dataset`."""

    _store: DatasetStore

    if TYPE_CHECKING:

        def get_layer(self, layer_name: str) -> Layer:
            """Return a layer."""

    def plan_merge_layers(
        self,
        layer_name: str,
        over: Layer | LazyLayer | Sequence[Layer | LazyLayer],
        under: Layer | LazyLayer,
        mask: Layer | LazyLayer | str | Sequence[Layer | LazyLayer | str | None] | None = None,
        *,
        storage: Storage | None = None,
        sampling: Sampling = Sampling(),
        running: Running = Running(),
    ) -> Plan:
        """Plan what `merge_layers` does; nothing is written until ``plan.run()`` or ``plan.compute()``."""
        self._store.require_writable()
        layers = list(over) if isinstance(over, Sequence) else [over]
        masks = list(mask) if isinstance(mask, Sequence) and not isinstance(mask, str) else [mask] * len(layers)
        if not layers or len(masks) != len(layers):
            raise InputError(f"{len(masks)} masks were given for {len(layers)} layers. Give one for each, or one for all.")
        overs = [Over(_lazy(one), _mask(its)) for one, its in zip(layers, masks, strict=True)]
        place = self._store.location
        return plan_merge(place, layer_name, overs, _lazy(under), storage=storage, sampling=sampling, running=running)

    def merge_layers(
        self,
        layer_name: str,
        over: Layer | LazyLayer | Sequence[Layer | LazyLayer],
        under: Layer | LazyLayer,
        mask: Layer | LazyLayer | str | Sequence[Layer | LazyLayer | str | None] | None = None,
        *,
        storage: Storage | None = None,
        sampling: Sampling = Sampling(),
    ) -> Layer:
        """Make a new layer of layers that are laid over each other, with its pyramid.

        Stopped or killed at any moment, the same call goes on where it was.

        Parameters
        ----------
        layer_name
            Of the new layer.
        over
            What lies above, or several layers, the uppermost first; of any dataset, moved or cropped by `Layer.lazy` or not.
        under
            What lies below. All have the same finest magnification, dtype and channels.
        mask
            Where the voxels of ``over`` count: where a layer, of any dtype, is not 0; ``"stored"``: where the chunk is stored,
            even if the voxel is 0, as in a volume annotation in which something was erased; None: where the voxel is not 0.
            One for all layers, or one for each. Of several channels, one that is not 0 is enough.
        storage, sampling
            How voxels lie on disk, and which coarser magnifications are made; default: as for a new layer.

        Raises
        ------
        InputError
            Where the layers do not fit each other.
        LayerExistsError
            Where the dataset has such a layer.

        Examples
        --------
        >>> import numpy as np
        >>> from wkdask import BoundingBox, Dataset
        >>> dataset = Dataset("memory://merging", (4, 4, 4))
        >>> for name, voxels in {"below": [1, 1, 1, 1], "above": [0, 5, 0, 6]}.items():
        ...     layer = dataset.add_layer(name, "segmentation", bounding_box=BoundingBox((0, 0, 0), (4, 1, 1)))
        ...     layer.add_mag(1).write(np.array(voxels, "uint8").reshape(4, 1, 1))
        >>> merged = dataset.merge_layers("merged", dataset.get_layer("above"), dataset.get_layer("below"))
        >>> merged.get_mag(1).read().ravel().tolist()
        [1, 5, 1, 6]
        """
        self.plan_merge_layers(layer_name, over, under, mask, storage=storage, sampling=sampling).run()
        return self.get_layer(layer_name)


def _lazy(layer: Layer | LazyLayer) -> LazyLayer:
    return layer if isinstance(layer, LazyLayer) else layer.lazy()


def _mask(mask: Layer | LazyLayer | str | None) -> Mask:
    if mask is None:
        return None
    if mask == "stored":
        return "stored"
    if isinstance(mask, str):
        raise InputError(f"There is no mask {mask!r}. Give a layer, 'stored', or none.")
    return _lazy(mask)
