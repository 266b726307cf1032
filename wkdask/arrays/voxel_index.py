"""`VoxelIndex`: coordinates that are voxel centres, kept as arithmetic, so that 10^9 of them cost nothing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import xarray as xr
from xarray.indexes import CoordinateTransform, CoordinateTransformIndex, Index, PandasIndex

from wkdask.arrays.voxel_centres import VoxelCentres
from wkdask.errors import InputError


class VoxelTransform(CoordinateTransform):
    """Positions along one axis to voxel centres and back."""

    def __init__(self, centres: VoxelCentres, dim: str, coord_name: Hashable | None = None) -> None:
        super().__init__([dim if coord_name is None else coord_name], {dim: centres.size}, np.dtype("float64"))
        self.centres = centres

    def forward(self, dim_positions: dict[str, Any]) -> dict[Hashable, Any]:
        """Return the centres at positions."""
        return {self.coord_names[0]: self.centres.at(np.asarray(dim_positions[self.dims[0]]))}

    def reverse(self, coord_labels: dict[Hashable, Any]) -> dict[str, Any]:
        """Return the positions, not rounded, of coordinates."""
        return {self.dims[0]: self.centres.position(np.asarray(coord_labels[self.coord_names[0]]))}

    def equals(self, other: CoordinateTransform, exclude: frozenset[Hashable] | None = None) -> bool:  # noqa: ARG002
        """Whether both have the same centres."""
        return isinstance(other, VoxelTransform) and self.dims == other.dims and self.centres.same_as(other.centres)


class VoxelVariable(xr.Variable):
    """A coordinate that stays arithmetic when its dataset is chunked, as pandas' coordinates stay what they are."""

    __slots__ = ()

    def chunk(self, *_args: Any, **_kwargs: Any) -> Self:
        """Return itself."""
        return self.copy(deep=False)


class VoxelIndex(CoordinateTransformIndex):
    """An xarray index of voxel centres ``(i + 0.5) * spacing``, `i` being the absolute index of the voxel in its mag.

    Nothing is stored but a few numbers, also after `isel` with slices and `sel`. ``sel(x=slice(a, b))`` takes the voxels with
    a ≤ centre < b; either may be None. Arrays on the same grid but of other extent are aligned and concatenated by integer
    arithmetic.

    Examples
    --------
    >>> import xarray as xr
    >>> from wkdask.arrays.voxel_index import VoxelIndex
    >>> coords = xr.Coordinates.from_xindex(VoxelIndex.over("x", start=2, size=1_000_000_000, spacing=10.0))
    >>> xr.Dataset(coords=coords).sel(x=slice(30, 50)).x.values.tolist()
    [35.0, 45.0]
    """

    transform: VoxelTransform

    def __init__(self, transform: VoxelTransform) -> None:
        super().__init__(transform)

    @classmethod
    def over(cls, dim: str, start: int, size: int, spacing: float) -> VoxelIndex:
        """Return the index of an axis.

        Parameters
        ----------
        dim
            Name of the axis and of the coordinate.
        start, size
            Absolute index of the first voxel, and number of voxels.
        spacing
            Distance of the centres.
        """
        return cls(VoxelTransform(VoxelCentres.of_voxels(start, size, spacing), dim))

    @property
    def centres(self) -> VoxelCentres:
        """The arithmetic behind it."""
        return self.transform.centres

    @property
    def dim(self) -> str:
        """The axis."""
        return self.transform.dims[0]

    @property
    def coord_name(self) -> Hashable:
        """Name of the coordinate."""
        return self.transform.coord_names[0]

    @property
    def size(self) -> int:
        """Number of voxels."""
        return self.centres.size

    def with_centres(self, centres: VoxelCentres) -> VoxelIndex:
        """Return the index of other centres along the same axis."""
        return type(self)(VoxelTransform(centres, self.dim, self.coord_name))

    def coarsened(self, window: int, boundary: str = "exact", side: str = "left") -> VoxelIndex:
        """Return the index of the means of `window` voxels each; see `xarray.DataArray.coarsen`.

        With ``boundary="pad"`` the last centre is that of a whole window too, as it is in a pyramid.
        """
        return self.with_centres(self.centres.coarsened(window, boundary, side))

    def create_variables(self, variables: Mapping[Any, xr.Variable] | None = None) -> dict[Any, xr.Variable]:
        """Return the lazy coordinate, with the attributes of the one it replaces."""
        made = super().create_variables(variables)
        return {name: VoxelVariable(var.dims, var, var.attrs) for name, var in made.items()}

    def isel(self, indexers: Mapping[Any, int | slice | np.ndarray[Any, Any] | xr.Variable]) -> Index | None:
        """Select by position: slices give a `VoxelIndex`, arrays a pandas index, single numbers none."""
        indexer = indexers[self.dim]
        if isinstance(indexer, slice):
            return self.with_centres(self.centres.sliced(indexer))
        positions = np.asarray(indexer)
        if positions.ndim != 1:
            return None
        if positions.dtype == bool:
            positions = np.flatnonzero(positions)
        dim = indexer.dims[0] if isinstance(indexer, xr.Variable) else self.dim
        values = self.centres.at(np.where(positions < 0, positions + self.size, positions))
        return PandasIndex(pd.Index(values, name=self.coord_name), dim, coord_dtype=values.dtype)

    def sel(
        self, labels: dict[Any, Any], method: str | None = None, tolerance: float | Iterable[float] | None = None
    ) -> xr.IndexSelResult:
        """Select by coordinate.

        Parameters
        ----------
        labels
            A slice ``a:b`` takes a ≤ centre < b, with a step every so many of these. Numbers and arrays must be centres,
            unless a method says otherwise.
        method
            ``"nearest"`` or None.
        tolerance
            Largest distance allowed with ``"nearest"``; without it the outermost voxels answer for all that lies beyond.

        Raises
        ------
        KeyError
            No centre is there; the message names the nearest.
        """
        label = labels[self.coord_name]
        if method not in (None, "nearest"):
            raise InputError(f"Voxel coordinates know method='nearest', not {method!r}. Use that, or a slice.")
        if isinstance(label, slice):
            if method is not None or tolerance is not None:
                raise InputError("A slice of voxel coordinates takes neither a method nor a tolerance. Leave them out.")
            return xr.IndexSelResult({self.dim: self.centres.between(label.start, label.stop, label.step)})
        if tolerance is not None and method is None:
            raise InputError("A tolerance needs a method. Add method='nearest'.")
        values = np.asarray(label.values if isinstance(label, xr.DataArray | xr.Variable) else label)
        positions = self._positions(values, method is None, tolerance)
        if isinstance(label, xr.Variable):
            return xr.IndexSelResult({self.dim: xr.Variable(label.dims, positions)})
        if isinstance(label, xr.DataArray):
            return xr.IndexSelResult({self.dim: xr.DataArray(positions, coords=label.coords, dims=label.dims)})
        return xr.IndexSelResult({self.dim: int(positions) if positions.ndim == 0 else positions})

    def _positions(self, labels: np.ndarray[Any, Any], exact: bool, tolerance: Any) -> np.ndarray[Any, Any]:
        if labels.size and labels.dtype.kind not in "iuf":
            raise InputError(f"{labels.ravel()[0]!r} is no coordinate along {self.dim!r}. Give numbers.")
        if self.size == 0 and labels.size:
            raise KeyError(f"There is no voxel along {self.dim!r}, so none at {labels.ravel()[0]}. Select a larger part first.")
        positions = self.centres.nearest(labels)
        nearest = self.centres.at(positions)
        distance = np.abs(nearest - labels)
        rounding = 1e-9 * (np.abs(nearest) + self.centres.spacing)
        allowed = rounding if exact else np.inf if tolerance is None else np.asarray(tolerance)
        missed = ~(distance <= allowed)
        if missed.any():
            at, there = np.broadcast_to(labels, missed.shape)[missed][0], nearest[missed][0]
            remedy = "Select that, or use method='nearest'." if exact else "Select that, or allow a larger tolerance."
            raise KeyError(f"No voxel centre along {self.dim!r} is at {at:.15g}; the nearest is {there:.15g}. {remedy}")
        return positions

    def equals(self, other: Index, *, exclude: frozenset[Hashable] | None = None) -> bool:  # noqa: ARG002
        """Whether both have the same voxels."""
        return isinstance(other, VoxelIndex) and self.transform.equals(other.transform)

    def join(self, other: Index, how: str = "inner") -> VoxelIndex:
        """Return the common grid of two indexes: the overlap, or the hull of both.

        Raises
        ------
        InputError
            The spacings, or the places of the centres within them, differ.
        """
        if not isinstance(other, VoxelIndex):
            raise InputError(f"Voxel coordinates along {self.dim!r} can not be joined with a {type(other).__name__}.")
        return self.with_centres(self.centres.joined(self._comparable(other), how))

    def reindex_like(self, other: Index) -> dict[Hashable, Any]:
        """Return the position of each of the other's voxels here, -1 where there is none."""
        if not isinstance(other, VoxelIndex):
            raise InputError(f"Voxel coordinates along {self.dim!r} can not be reindexed like a {type(other).__name__}.")
        shift = self.centres.steps_to(self._comparable(other))
        stride = other.centres.step // self.centres.step if other.size > 1 else 1
        positions = shift + stride * np.arange(other.size)
        return {self.dim: np.where((positions >= 0) & (positions < self.size), positions, -1)}

    def _comparable(self, other: VoxelIndex) -> VoxelCentres:
        centres = other.centres.like(self.centres)
        if centres is None:
            raise InputError(
                f"The voxels along {self.dim!r} lie on different grids: {self.centres} and {other.centres}. "
                "Bring both to one mag, for example by coarsen, or reset the coordinate by drop_vars."
            )
        return centres

    @classmethod
    def concat(  # type: ignore[override]
        cls, indexes: Sequence[Index], dim: Hashable, positions: Iterable[Iterable[int]] | None = None
    ) -> Index:
        """Return the index of adjacent pieces, in their order; of others, a pandas index of all values."""
        pieces = [index for index in indexes if isinstance(index, VoxelIndex)]
        if positions is None and pieces and len(pieces) == len(indexes):
            whole: VoxelCentres | None = pieces[0].centres
            for piece in pieces[1:]:
                whole = whole.followed_by(piece.centres) if whole is not None else None
            if whole is not None:
                return pieces[0].with_centres(whole)
        name = pieces[0].coord_name if pieces else dim
        plain = [PandasIndex(index.to_pandas_index().rename(name), dim) for index in indexes]
        return PandasIndex.concat(plain, dim, positions)

    def to_pandas_index(self) -> pd.Index:
        """Return all centres, in memory."""
        return pd.Index(self.centres.values(), name=self.coord_name)

    def rename(self, name_dict: Mapping[Any, Hashable], dims_dict: Mapping[Any, Hashable]) -> VoxelIndex:
        """Return the index under other names."""
        dim = str(dims_dict.get(self.dim, self.dim))
        return type(self)(VoxelTransform(self.centres, dim, name_dict.get(self.coord_name, self.coord_name)))

    def __dask_tokenize__(self) -> object:
        return (type(self).__name__, self.dim, self.coord_name, self.centres)

    def _repr_inline_(self, max_width: int) -> str:
        return f"{type(self).__name__} ({self.centres})"[: max(max_width, 12)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dim!r}, {self.centres})"
