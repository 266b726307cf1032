"""Writing chunks of Neuroglancer volumes, each a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wkdask.formats.precomputed_chunks import encode
from wkdask.formats.precomputed_info import Scale
from wkdask.formats.shard import PartFile, SingleChunk
from wkdask.formats.spec import ArraySpec
from wkdask.formats.writing import UnitFile, require_fit
from wkdask.geometry.grid import Box
from wkdask.storage import Location


class ChunkFile(UnitFile):
    """The writer of a unit; see `wkdask.formats.spec.UnitWriter`."""

    def __init__(
        self,
        spec: ArraySpec,
        scale: Scale,
        index: Sequence[int],
        place: Location,
        scratch: Location | None,
        chunks: type[SingleChunk] | type[PartFile] = SingleChunk,
    ) -> None:
        super().__init__(replace(spec, codec=None), index, place, scratch, chunks, lambda _: 0)
        self._encoded, self._scale = spec, scale

    def put(self, region: Box, block: np.ndarray[Any, Any]) -> None:
        """Encode and append the unit's only chunk.

        Parameters
        ----------
        region
            Voxels of the array in that chunk. What it lacks of the chunk becomes 0.
        block
            Its voxels, in stored axes.
        """
        spec = self._encoded
        require_fit(block, region, spec.dtype)
        for index in spec.grid.units(region).cells_of():
            self.number(index)  # says where it is not of this unit
            whole = spec.grid.unit_box(index).intersect(spec.grid.box)
            voxels = block
            if region != whole:
                voxels = np.zeros(whole.shape, block.dtype)
                hit = whole.intersect(region)
                voxels[hit.relative_to(whole.start).slices] = block[hit.relative_to(region.start).slices]
            if _any_bit(voxels):
                self.put_encoded(index, encode(spec, self._scale, voxels))


def _any_bit(voxels: np.ndarray[Any, Any]) -> bool:
    """Whether any bit is set; -0.0 counts as a value."""
    return bool(voxels.view(f"u{voxels.itemsize}").any())
