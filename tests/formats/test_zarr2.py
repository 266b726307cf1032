"""Zarr 2 as every format must be."""

from __future__ import annotations

from typing import ClassVar

from wkdask.formats import Zarr2
from wkdask.testing import FormatConformance


class TestZarr2(FormatConformance):
    """Arrays that we make."""

    format: ClassVar[Zarr2] = Zarr2()
