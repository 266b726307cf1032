"""Lengths as image files write them, in nanometer."""

from __future__ import annotations

import math

UNITS = {
    "pm": 1e-3,
    "Å": 0.1,
    "angstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "µm": 1e3,
    "um": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "dm": 1e8,
    "m": 1e9,
    "km": 1e12,
    "Mm": 1e15,  # these two are others in small letters
    "Pm": 1e24,
    "meter": 1e9,
    "in": 2.54e7,
    "inch": 2.54e7,
}


def nanometer(value: str | float | None, unit: str | None) -> float | None:
    """Return a length in nanometer, or None where it is no length: absent, not positive, or in an unknown unit.

    Examples
    --------
    >>> nanometer("0.25", "µm"), nanometer(4, "nm"), nanometer("0", "µm"), nanometer(1, "pixel")
    (250.0, 4.0, None, None)
    >>> nanometer(1, "Mm"), nanometer(1, "MM"), nanometer(1, "mm")
    (1000000000000000.0, 1000000.0, 1000000.0)
    """
    # both signs for micro; ImageJ escapes them
    name = (unit or "").strip().replace("\\u00B5", "µ").replace("\u03bc", "µ")
    factor = UNITS.get(name) or UNITS.get(name.lower())
    try:
        length = float(value) * factor if value is not None and factor is not None else math.nan
    except ValueError:
        return None
    return length if math.isfinite(length) and length > 0 else None
