"""Older names of what a layer offers, each with a warning that tells the new one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from wkdask.clusters.executors import running_on
from wkdask.dataset.copying import Compress, Shape, StorageOptions, wishes_of
from wkdask.dataset.deprecations import warn_name, warn_parameters
from wkdask.dataset.references import mag_view_of
from wkdask.geometry import Mag, MagLike
from wkdask.operations.copying_shape import Wishes

if TYPE_CHECKING:
    from wkdask.dataset.mag_view import MagView

PathLike = str | os.PathLike[str]


class OlderLayerNames:
    """Verbs and properties of a layer that have another name now; a part of `wkdask.Layer`."""

    if TYPE_CHECKING:  # of the class that this is a part of

        @property
        def dtype(self) -> np.dtype[Any]:
            """The dtype of one channel."""

        @property
        def is_foreign(self) -> bool:
            """Whether it shows another dataset's data."""

        def get_finest_mag(self) -> MagView:
            """Return the finest magnification."""

        def add_mag_as_ref(
            self,
            foreign_mag_view_or_path: MagView | PathLike,
            *,
            mag: MagLike | None = None,
            extend_layer_bounding_box: bool = True,
            storage_options: StorageOptions = None,
        ) -> MagView:
            """Add a reference."""

        def _copied_mag(
            self, view: MagView, to: Mag, wishes: Wishes, *, extend: bool, exists_ok: bool = False, title: str | None = None
        ) -> MagView:
            """Add a copy."""

    @property
    def dtype_per_channel(self) -> np.dtype[Any]:
        """The dtype of one channel: the older name of `dtype`."""
        warn_name("Layer.dtype_per_channel")
        return self.dtype

    @property
    def is_remote_to_dataset(self) -> bool:
        """Whether it shows another dataset's data: the older name of `is_foreign`."""
        warn_name("Layer.is_remote_to_dataset")
        return self.is_foreign

    def get_best_mag(self) -> MagView:
        """Return the finest magnification: the older name of `get_finest_mag`."""
        warn_name("Layer.get_best_mag")
        return self.get_finest_mag()

    def add_copy_mag(
        self,
        foreign_mag_view_or_path: MagView | PathLike,
        extend_layer_bounding_box: bool = True,
        chunk_shape: Shape = None,
        chunks_per_shard: Shape = None,
        compress: Compress = None,
        executor: Any = None,
        *,
        shard_shape: Shape = None,
        exists_ok: bool = False,
        progress_desc: str | None = None,
        storage_options: StorageOptions = None,
    ) -> MagView:
        """Copy a magnification of another layer: the older name of `add_mag_as_copy`."""
        warn_name("Layer.add_copy_mag")
        warn_parameters(chunks_per_shard=chunks_per_shard)
        view = mag_view_of(foreign_mag_view_or_path, storage_options)
        wishes = wishes_of(None, chunk_shape, shard_shape, chunks_per_shard, compress)
        with running_on(executor):
            return self._copied_mag(
                view, view.mag, wishes, extend=extend_layer_bounding_box, exists_ok=exists_ok, title=progress_desc
            )

    def add_fs_copy_mag(
        self,
        foreign_mag_view_or_path: MagView | PathLike,
        extend_layer_bounding_box: bool = True,
        *,
        exists_ok: bool = False,
        storage_options: StorageOptions = None,
    ) -> MagView:
        """Copy a magnification file by file: an older name of `add_mag_as_copy`, which does so where nothing is to change."""
        warn_name("Layer.add_fs_copy_mag")
        view = mag_view_of(foreign_mag_view_or_path, storage_options)
        return self._copied_mag(view, view.mag, Wishes(), extend=extend_layer_bounding_box, exists_ok=exists_ok)

    def add_remote_mag(
        self,
        foreign_mag_view_or_path: MagView | PathLike,
        extend_layer_bounding_box: bool = True,
        *,
        storage_options: StorageOptions = None,
    ) -> MagView:
        """Add a magnification of another layer, which stays where it is: the older name of `add_mag_as_ref`."""
        warn_name("Layer.add_remote_mag")
        return self.add_mag_as_ref(
            foreign_mag_view_or_path, extend_layer_bounding_box=extend_layer_bounding_box, storage_options=storage_options
        )
