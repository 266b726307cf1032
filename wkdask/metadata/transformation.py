"""Coordinate transformations of layers: from a layer's own voxels to the dataset's, in mag-1 voxels, order x, y, z.

They are values: immutable, equal where their JSON is, with all keys kept that are not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import StrictStr, model_validator
from pydantic_core import PydanticCustomError

from wkdask.errors import InputError, MetadataError
from wkdask.metadata.affine import AffineCoordinateTransformation
from wkdask.metadata.chain import CoordinateTransformation, Pair, SingleTransformation, plain_numbers, split_pairs
from wkdask.metadata.document import Document, Number, shorten

if TYPE_CHECKING:
    from wkdask.geometry.landmarks import Floats, ThinPlateSpline

Point = tuple[Number, Number, Number]


class Correspondences(Document):
    """Landmarks of a thin-plate spline: where they are, and where they are mapped to."""

    source: tuple[Point, ...]
    target: tuple[Point, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.source) != len(self.target):
            counts = {"a": len(self.source), "b": len(self.target)}
            raise PydanticCustomError("found", "{a} source points and {b} target points, expected as many of each", counts)
        return self


class ThinPlateSplineCoordinateTransformation(SingleTransformation):
    """The smoothest map through landmarks, with the kernel r² log r.

    Parameters
    ----------
    source, target
        (n, 3) landmarks in voxels, and where they are mapped to; at least 4 that do not lie in one plane.

    Examples
    --------
    >>> corners = [(0, 0, 0), (8, 0, 0), (0, 8, 0), (0, 0, 8), (8, 8, 8)]
    >>> bent = ThinPlateSplineCoordinateTransformation(corners, [*corners[:4], (8, 8, 9)])
    >>> bent.apply([(8, 8, 8)]).round(6).tolist(), bent.inverse().apply([(8, 8, 9)]).round(6).tolist()
    ([[8.0, 8.0, 9.0]], [[8.0, 8.0, 8.0]])
    """

    always_written: ClassVar[frozenset[str]] = frozenset({"type"})

    type: Literal["thin_plate_spline"] = "thin_plate_spline"
    correspondences: Correspondences

    def __init__(self, source: Any, target: Any, **others: Any) -> None:
        points = {"source": plain_numbers(source), "target": plain_numbers(target)}
        super().__init__(correspondences=points, **others)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def from_pairs(cls, pairs: Iterable[Pair]) -> Self:
        """Return the spline through landmarks, given as source and target of each."""
        return cls(*split_pairs(pairs))

    @property
    def source(self) -> tuple[Point, ...]:
        """Where the landmarks are."""
        return self.correspondences.source

    @property
    def target(self) -> tuple[Point, ...]:
        """Where they are mapped to."""
        return self.correspondences.target

    @property
    def pairs(self) -> tuple[tuple[Point, Point], ...]:
        """Source and target of each landmark."""
        return tuple(zip(self.source, self.target, strict=True))

    def apply(self, points: Any) -> Floats:
        """Return where (n, 3) points are mapped to.

        Raises
        ------
        InputError
            The landmarks define no spline.
        """
        return _spline(self.source, self.target).apply(points)

    def inverse(self) -> Self:
        """Return the spline through the same landmarks from target to source.

        It leads back exactly at the landmarks, and nearly so between them: the true inverse is no spline.
        """
        return type(self)(self.target, self.source)


class OtherCoordinateTransformation(SingleTransformation):
    """A transformation of a type that is not known here; it is kept as it is."""

    type: StrictStr

    def apply(self, points: Any) -> Floats:
        """Raise `InputError`, as nobody here knows how."""
        raise self._unknown("applied")

    def inverse(self) -> CoordinateTransformation:
        """Raise `InputError`, as nobody here knows how."""
        raise self._unknown("inverted")

    def _unknown(self, verb: str) -> InputError:
        return InputError(f"A transformation of type {shorten(self.type)} can not be {verb}: it is not known. Use another one.")


def parse_transformations(raw: Sequence[Any] | None, where: str) -> tuple[SingleTransformation, ...]:
    """Return the transformations that the JSON of a layer lists.

    Raises
    ------
    MetadataError
        One of them is not what its type says; the message names it.

    Examples
    --------
    >>> [found] = parse_transformations([{"type": "new", "power": 9}], "layer 'color'")
    >>> found.type, found.to_dict()
    ('new', {'type': 'new', 'power': 9})
    """
    kinds: dict[str, type[SingleTransformation]] = {
        "affine": AffineCoordinateTransformation,
        "thin_plate_spline": ThinPlateSplineCoordinateTransformation,
    }
    found: list[SingleTransformation] = []
    for number, one in enumerate(raw or ()):
        place = f"{where}, coordinateTransformations[{number}]"
        if not isinstance(one, dict):
            raise MetadataError(f"{place} is {shorten(one)}, expected an object. Correct the document.")
        name = one.get("type")
        kind = kinds.get(name, OtherCoordinateTransformation) if isinstance(name, str) else OtherCoordinateTransformation
        found.append(kind.from_dict(one, place))
    return tuple(found)


@lru_cache(maxsize=8)
def _spline(source: tuple[Point, ...], target: tuple[Point, ...]) -> ThinPlateSpline:
    from wkdask.geometry.landmarks import ThinPlateSpline

    return ThinPlateSpline.through(source, target)
