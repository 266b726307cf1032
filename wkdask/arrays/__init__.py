"""Arrays with a place in the world: `MagArray`, and its views as dask and xarray arrays."""

from wkdask.arrays.mag_array import MagArray

__all__ = ["MagArray"]
