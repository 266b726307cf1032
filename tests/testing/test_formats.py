"""Every format of the package passes the suite that other formats are held to; what differs between them is in one table."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import pytest

from wkdask.formats import FORMATS
from wkdask.testing import FormatConformance
from wkdask.testing.strategies import DTYPES
from wkdask.testing.suite import Suite

BLOSC = ("blosc-lz4:1", "blosc-zstd:1")
OPTIONS: dict[str, dict[str, Any]] = {
    "zarr3": {"finds_damage": frozenset({"zstd", "gzip"}), "codecs": ("none", "zstd:1", "gzip:1", *BLOSC)},
    "wkw": {"keeps_shape": False, "codecs": ("none", "lz4", "lz4hc:3")},
    "zarr": {"codecs": ("none", "zstd:1", "gzip:1", *BLOSC)},
    "n5": {"codecs": ("none", "gzip:1", "zstd:1", "lz4", *BLOSC)},
    "neuroglancerPrecomputed": {
        "dtypes": tuple(dtype for dtype in DTYPES if dtype not in ("int64", "float64")),
        "shrinks": False,
        "renames_units": True,
        "names_axes": False,
    },
}
"""By format: attributes of its test class that are not the usual ones."""

KNOWN: dict[tuple[str, str], str] = {}
"""By format and test: what a format is known to do otherwise."""


def suite_of(name: str, suite: type[Suite] = FormatConformance, **further: Any) -> type[Suite]:
    """Make the test class of a format, of a whole suite or a part of it."""
    attributes: dict[str, Any] = {"format": FORMATS[name], **OPTIONS.get(name, {}), **further}
    for (where, test), reason in KNOWN.items():
        if where == name:
            attributes[test] = pytest.mark.xfail(reason=reason, raises=AssertionError)(copied(getattr(FormatConformance, test)))
    return type(f"Test_{name}", (suite,), attributes)


def copied(function: FunctionType) -> FunctionType:
    """Return a function that can be marked without marking the other."""
    return FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


for each in FORMATS:
    globals()[f"Test_{each}"] = suite_of(each)
