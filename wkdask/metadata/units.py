"""Units of length and the size of a voxel.

The names are those of ``scale.unit`` in ``datasource-properties.json``; abbreviations are understood but never written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from wkdask.errors import InputError
from wkdask.geometry import Vec3Float, Vec3FloatLike


class LengthUnit(StrEnum):
    """A unit of length, written with its full English name.

    Examples
    --------
    >>> LengthUnit("micrometer").in_nanometer
    1000.0
    >>> LengthUnit.parse("µm")
    <LengthUnit.MICROMETER: 'micrometer'>
    """

    YOCTOMETER = "yoctometer"
    ZEPTOMETER = "zeptometer"
    ATTOMETER = "attometer"
    FEMTOMETER = "femtometer"
    PICOMETER = "picometer"
    NANOMETER = "nanometer"
    MICROMETER = "micrometer"
    MILLIMETER = "millimeter"
    CENTIMETER = "centimeter"
    DECIMETER = "decimeter"
    METER = "meter"
    HECTOMETER = "hectometer"
    KILOMETER = "kilometer"
    MEGAMETER = "megameter"
    GIGAMETER = "gigameter"
    TERAMETER = "terameter"
    PETAMETER = "petameter"
    EXAMETER = "exameter"
    ZETTAMETER = "zettameter"
    YOTTAMETER = "yottameter"
    ANGSTROM = "angstrom"
    INCH = "inch"
    FOOT = "foot"
    YARD = "yard"
    MILE = "mile"
    PARSEC = "parsec"

    @classmethod
    def parse(cls, text: str) -> LengthUnit:
        """Return the unit of a full name or an abbreviation.

        Raises
        ------
        InputError
            There is no unit of this name.

        Examples
        --------
        >>> LengthUnit.parse("nm") is LengthUnit.NANOMETER
        True
        """
        if isinstance(text, str):
            name = text.strip()
            if name in _ABBREVIATIONS:
                return _ABBREVIATIONS[name]
            if name.lower() in cls._value2member_map_:
                return cls(name.lower())
        raise InputError(f"{text!r} is not a unit of length. Use one of {', '.join(cls)}.")

    @property
    def in_nanometer(self) -> float:
        """Nanometers in one of this unit."""
        return _UNITS[self][1]


_UNITS = {
    LengthUnit.YOCTOMETER: ("ym", 1e-15),
    LengthUnit.ZEPTOMETER: ("zm", 1e-12),
    LengthUnit.ATTOMETER: ("am", 1e-9),
    LengthUnit.FEMTOMETER: ("fm", 1e-6),
    LengthUnit.PICOMETER: ("pm", 1e-3),
    LengthUnit.NANOMETER: ("nm", 1.0),
    LengthUnit.MICROMETER: ("µm", 1e3),
    LengthUnit.MILLIMETER: ("mm", 1e6),
    LengthUnit.CENTIMETER: ("cm", 1e7),
    LengthUnit.DECIMETER: ("dm", 1e8),
    LengthUnit.METER: ("m", 1e9),
    LengthUnit.HECTOMETER: ("hm", 1e11),
    LengthUnit.KILOMETER: ("km", 1e12),
    LengthUnit.MEGAMETER: ("Mm", 1e15),
    LengthUnit.GIGAMETER: ("Gm", 1e18),
    LengthUnit.TERAMETER: ("Tm", 1e21),
    LengthUnit.PETAMETER: ("Pm", 1e24),
    LengthUnit.EXAMETER: ("Em", 1e27),
    LengthUnit.ZETTAMETER: ("Zm", 1e30),
    LengthUnit.YOTTAMETER: ("Ym", 1e33),
    LengthUnit.ANGSTROM: ("Å", 0.1),
    LengthUnit.INCH: ("in", 2.54e7),
    LengthUnit.FOOT: ("ft", 3.048e8),
    LengthUnit.YARD: ("yd", 9.144e8),
    LengthUnit.MILE: ("mi", 1.609344e12),
    LengthUnit.PARSEC: ("pc", 3.085677581e25),
}
"""Abbreviation, and nanometers in one of it."""

_ABBREVIATIONS = {abbreviation: unit for unit, (abbreviation, _) in _UNITS.items()} | {
    "\u03bcm": LengthUnit.MICROMETER,
    "um": LengthUnit.MICROMETER,
    "\u212b": LengthUnit.ANGSTROM,
}


@dataclass(frozen=True, init=False)
class VoxelSize:
    """The edges of one mag-1 voxel along x, y and z.

    Parameters
    ----------
    factor
        Three finite positive numbers.
    unit
        What they count.

    Raises
    ------
    InputError
        The factor is not three finite positive numbers, or the unit has no known name.

    Examples
    --------
    >>> VoxelSize((0.004, 0.004, 0.035), LengthUnit.MICROMETER).to_nanometer()
    Vec3Float(4.0, 4.0, 35.0)
    """

    factor: Vec3Float
    unit: LengthUnit

    def __init__(self, factor: Vec3FloatLike, unit: LengthUnit | str = LengthUnit.NANOMETER) -> None:
        object.__setattr__(self, "factor", _checked_factor(factor))
        object.__setattr__(self, "unit", LengthUnit.parse(unit))

    @classmethod
    def parse(cls, text: str | Sequence[float], unit: LengthUnit | str = LengthUnit.NANOMETER) -> VoxelSize:
        """Return the voxel size that a text such as ``"4,4,35"``, or three numbers, spell.

        Raises
        ------
        InputError
            It does not spell three finite positive numbers.

        Examples
        --------
        >>> VoxelSize.parse("4,4,35").factor
        Vec3Float(4.0, 4.0, 35.0)
        """
        return cls(text, unit)

    def __str__(self) -> str:
        return f"{' x '.join(f'{edge:g}' for edge in self.factor)} {self.unit}"

    def to_nanometer(self) -> Vec3Float:
        """Return the edges in nanometers."""
        return self.factor * self.unit.in_nanometer


def _checked_factor(found: Vec3FloatLike) -> Vec3Float:
    try:
        edges = Vec3Float(found)
    except InputError:
        raise _bad_factor(found) from None
    if not all(math.isfinite(edge) and edge > 0 for edge in edges):
        raise _bad_factor(found)
    return edges


def _bad_factor(found: object) -> InputError:
    shown = repr(found)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return InputError(f"{shown} is not a voxel size. Give three finite positive numbers, for example 4,4,35.")
