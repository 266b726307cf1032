"""What all tests of the suite share: the choices of those who derive from it, and arrays to test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wkdask.formats import ArraySpec, Format
from wkdask.storage import Location
from wkdask.testing import strategies
from wkdask.testing.model import ArrayModel, Store, temporary_place


class Suite:
    """See `wkdask.testing.FormatConformance`, which says what the attributes mean."""

    format: ClassVar[Format]
    dtypes: ClassVar[Sequence[str]] = strategies.DTYPES
    axes: ClassVar[Sequence[Sequence[str]]] = ()
    codecs: ClassVar[Sequence[str]] = ()
    stores: ClassVar[tuple[Store, ...]] = ("local", "memory")
    examples: ClassVar[int] = 0
    keeps_shape: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True
    renames_units: ClassVar[bool] = False
    names_axes: ClassVar[bool] = True
    finds_damage: ClassVar[frozenset[str]] = frozenset()
    memory: ClassVar[int] = 256 << 20
    steps: ClassVar[int] = 6

    def all_codecs(self) -> Sequence[str]:
        """Return the codecs to test."""
        return self.codecs or self.format.codecs

    def all_axes(self) -> Sequence[Sequence[str]]:
        """Return the axes to test."""
        further = strategies.FURTHER_AXES if self.format.further_axes else ()
        return self.axes or (*strategies.AXES, *further)

    def specs(self, **choices: Any) -> st.SearchStrategy[ArraySpec]:
        """Return the strategy of all arrays to test."""
        found = {"dtypes": self.dtypes, "codecs": self.all_codecs(), "axes": self.all_axes()} | choices
        return strategies.specs_of(self.format, **found)

    def plain(self, dtype: str = "", codec: str = "", axes: Sequence[str] = ()) -> ArraySpec:
        """Return an array of two units along each axis of space, the second one not full."""
        names = tuple(axes or self.all_axes()[0])
        pieces = [(4, 8 if self.format.sharded else 4) if axis in "xyz" else (1, 1) for axis in names]
        shape = tuple(2 * unit - 1 if axis in "xyz" else 1 for axis, (_, unit) in zip(names, pieces, strict=True))
        chunk, unit = (tuple(edges) for edges in zip(*pieces, strict=True))
        return ArraySpec(shape, dtype or self.dtypes[0], names, chunk, unit, strategies.codec_of(codec or self.all_codecs()[0]))

    def settings(self, steps: int = 50) -> settings:
        """Return how Hypothesis goes about it."""
        found = settings(deadline=None, stateful_step_count=steps)
        return settings(found, max_examples=self.examples) if self.examples else found

    def seen(self, place: Location) -> Location:
        """Return where others read what is made at a place; derive from it where that is another URL."""
        return place

    def explore(self, body: Callable[..., None], *drawn: st.SearchStrategy[Any]) -> None:
        """Call a function with what is drawn, at a place of its own in either kind of store, many times."""

        @self.settings()
        @given(store=st.sampled_from(self.stores), values=st.tuples(*drawn))
        def run(store: Store, values: tuple[Any, ...]) -> None:
            with temporary_place(store) as place:
                body(place, *values)

        run()

    def filled(self, place: Location, spec: ArraySpec, seed: int = 0) -> ArrayModel:
        """Return an array of which every voxel was written, none of them zero."""
        model = ArrayModel(self.format, place, spec)
        block = np.random.default_rng(seed).integers(1, 100, spec.shape).astype(spec.dtype)
        model.write(spec.grid.box, block)
        return model

    @staticmethod
    def nowhere() -> Location:
        """Return a place that nothing is written to."""
        return Location("memory://wkdask-testing/nowhere/layer/1")
