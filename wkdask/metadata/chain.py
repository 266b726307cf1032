"""What coordinate transformations have in common, and chains of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from wkdask.errors import InputError
from wkdask.metadata.document import Document

if TYPE_CHECKING:
    from wkdask.geometry.landmarks import Floats

Pair = tuple[Sequence[float], Sequence[float]]


class CoordinateTransformation(ABC):
    """What all transformations offer."""

    @property
    @abstractmethod
    def steps(self) -> tuple[SingleTransformation, ...]:
        """The transformations that are applied one after the other, as the JSON lists them."""

    @abstractmethod
    def apply(self, points: Any) -> Floats:
        """Return where points are mapped to.

        Parameters
        ----------
        points
            (n, 3): x, y, z in voxels.

        Returns
        -------
        (n, 3) floats.
        """

    @abstractmethod
    def inverse(self) -> CoordinateTransformation:
        """Return the transformation back."""

    def then(self, *others: CoordinateTransformation) -> CoordinateTransformation:
        """Return this transformation followed by others; neighbours that are affine become one.

        Examples
        --------
        >>> from wkdask import AffineCoordinateTransformation
        >>> moved = AffineCoordinateTransformation.from_translation((1, 2, 3))
        >>> moved.then(AffineCoordinateTransformation.from_scale(2)).apply([(0, 0, 0)]).tolist()
        [[2.0, 4.0, 6.0]]
        """
        return chained(step for part in (self, *others) for step in part.steps)

    def chain(self, other: CoordinateTransformation) -> CoordinateTransformation:
        """Return this transformation followed by another one: the same as `then`."""
        return self.then(other)

    def __matmul__(self, before: object) -> CoordinateTransformation:
        """Return the transformation that applies the right side first, as matrices do."""
        return before.then(self) if isinstance(before, CoordinateTransformation) else NotImplemented


class SingleTransformation(CoordinateTransformation, Document):
    """One transformation as the JSON lists it: immutable, with all keys kept that are not known."""

    @property
    def steps(self) -> tuple[SingleTransformation, ...]:
        """The transformation itself."""
        return (self,)

    def product(self, following: SingleTransformation) -> SingleTransformation | None:
        """Return the one transformation that does what this and a following one do; None where there is none."""
        return None


class ChainedCoordinateTransformation(CoordinateTransformation):
    """Transformations that are applied one after the other. Get one from `CoordinateTransformation.then`."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Iterable[SingleTransformation]) -> None:
        self._steps = tuple(steps)

    @property
    def steps(self) -> tuple[SingleTransformation, ...]:
        """The transformations, first to last."""
        return self._steps

    def apply(self, points: Any) -> Floats:
        """Return where (n, 3) points are mapped to."""
        from wkdask.geometry.landmarks import points_of

        found = points_of(points)
        for step in self._steps:
            found = step.apply(found)
        return found

    def inverse(self) -> CoordinateTransformation:
        """Return the inverses in reverse."""
        return chained(back for step in reversed(self._steps) for back in step.inverse().steps)

    def __eq__(self, other: object) -> bool:
        return self._steps == other._steps if isinstance(other, ChainedCoordinateTransformation) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._steps)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._steps)!r})"


def chained(steps: Iterable[SingleTransformation]) -> CoordinateTransformation:
    """Return transformations as one; neighbours that are affine, and have nothing else to say, are multiplied."""
    found: list[SingleTransformation] = []
    for step in steps:
        product = found[-1].product(step) if found else None
        found[-1 if product else len(found) :] = [product or step]
    return found[0] if len(found) == 1 else ChainedCoordinateTransformation(found)


def split_pairs(pairs: Iterable[Pair]) -> tuple[list[Sequence[float]], list[Sequence[float]]]:
    """Return the sources and the targets of pairs."""
    found = list(pairs)
    if any(len(pair) != 2 for pair in found):
        raise InputError("A landmark is no pair. Give source and target of each.")
    return [source for source, _ in found], [target for _, target in found]


def plain_numbers(value: Any) -> Any:
    """Return nested sequences, arrays among them, as lists of Python's numbers."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | dict):
        return [plain_numbers(item) for item in value]
    return value
