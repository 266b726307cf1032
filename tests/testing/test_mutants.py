"""The suite finds what it is there for: mistakes of those who write formats, planted one by one into a format that passes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis
import numpy as np
import pytest

from tests.testing.npy_format import NOTHING, NpyArray, NpyFormat, UnitWriter
from wkdask.errors import WkdaskError
from wkdask.formats import ArraySpec
from wkdask.testing import FormatConformance

WRITES = "test_any_writes_read_like_numpy"
UNITS = "test_units_appear_when_they_are_whole"
ZEROS = "test_units_that_become_zero_are_zero"
HOSTILE_UNITS = "test_damaged_units"
HOSTILE_DOCUMENTS = "test_damaged_documents"


class DropsLastPlanes(NpyArray):
    """Border chunks lose their last plane."""

    def store(self, index, chunks, scratch):
        border = {cell: block for cell, block in chunks.items() if block.shape != self.spec.chunk}
        for block in border.values():
            block[..., -1] = 0
        return super().store(index, chunks, scratch)


class PublishesEarly(NpyArray):
    """What was put is there before the block ends."""

    def unit(self, index, scratch=None):
        class Early(UnitWriter):
            def put(self, region, block):
                super().put(region, block)
                self.publish()

        return Early(self, index, self.unit_location(index), scratch, part=False)


class PublishesAfterErrors(NpyArray):
    """Half a unit is published where its writer fails."""

    def unit(self, index, scratch=None):
        class Careless(UnitWriter):
            def __exit__(self, kind, error, trace):
                self.publish()

        return Careless(self, index, self.unit_location(index), scratch, part=False)


class ForgetsZeros(NpyArray):
    """A unit of zeros is not written, but the one before it stays."""

    def store(self, index, chunks, scratch):
        return super().store(index, chunks, scratch) if any(block.any() for block in chunks.values()) else NOTHING


class KeepsOldChunks(NpyArray):
    """Chunks that were not put are those of before."""

    def store(self, index, chunks, scratch):
        old = self.load(index)
        start = self.spec.grid.unit_box(index).start
        tiles = self.spec.grid.chunks(self.spec.grid.unit_box(index).intersect(self.spec.grid.box))
        for n in range(len(tiles) if old is not None else 0):
            chunks.setdefault(tiles.cell(n), old[tiles.box(n).relative_to(start).slices])
        return super().store(index, chunks, scratch)


class JoinsWithoutLastPart(NpyArray):
    """The last part of several is lost."""

    def join(self, index, parts, scratch=None):
        return super().join(index, parts[:1] + parts[1:-1], scratch)


class PutsWholeChunksOnly(NpyArray):
    """A region that begins inside of a chunk is taken for the chunk's first voxels."""

    def unit(self, index, scratch=None):
        class Shifted(UnitWriter):
            def put(self, region, block):
                super().put(region, block)
                for cell in self.chunks:
                    start = self.array.spec.grid.chunks().box_at(cell).start
                    shift = [min(0, a - b) for a, b in zip(start, region.start, strict=True)]
                    self.chunks[cell] = np.roll(self.chunks[cell], shift, tuple(range(len(shift))))

        return Shifted(self, index, self.unit_location(index), scratch, part=False)


class ForgetsNeighbours(NpyArray):
    """A box that is written takes what lies beside it in its units along."""

    def write(self, box, block):
        for number in (units := self.spec.grid.units(box)).covering(box):
            index = units.cell(number)
            whole = self.spec.grid.unit_box(index).intersect(self.spec.grid.box)
            voxels, hit = np.zeros(whole.shape, self.spec.dtype), whole.intersect(box)
            voxels[hit.relative_to(whole.start).slices] = block[hit.relative_to(box.start).slices]
            with self.unit(index, self.scratch) as out:
                out.put(whole, voxels)


@dataclass(frozen=True)
class ReadsStale(NpyArray):
    """What was read once is never read again."""

    seen: dict = field(default_factory=dict, compare=False)

    def load(self, index):
        return self.seen.setdefault(tuple(index), super().load(index))


@dataclass(frozen=True)
class LendsItsCache(NpyArray):
    """Callers get the very memory that the next one gets."""

    seen: dict = field(default_factory=dict, compare=False)

    def read(self, box, *, keep=True):
        found = super().read(box)
        if box in self.seen and np.array_equal(self.seen[box][0], found):
            return self.seen[box][1]
        self.seen[box] = found.copy(), found
        return found


@dataclass(frozen=True)
class PicklesVoxels(NpyArray):
    """The handle takes voxels along to every worker."""

    ballast: bytes = bytes(5000)


class ReadsWithGaps(NpyArray):
    """A view into something larger, which stays in memory with it."""

    def read(self, box, *, keep=True):
        return np.repeat(super().read(box), 2, axis=0)[::2]


class CastsBlocks(NpyArray):
    """Another dtype is made to fit."""

    def write(self, box, block):
        super().write(box, block.astype(self.spec.dtype))


class ListsAllUnits(NpyArray):
    """Units that nobody wrote are listed."""

    def written_units(self):
        tiles = self.spec.grid.units()
        yield from (tiles.cell(n) for n in range(len(tiles)))


class KnowsOddNames(NpyArray):
    """Numbers are read in any spelling."""

    def unit_of(self, path):
        try:
            found = tuple(map(int, path.removesuffix(".npy").split("-")))
        except ValueError:
            return None
        return found if len(found) == len(self.spec.shape) else None


class InspectsWrongly(NpyArray):
    """The digest is another one every time."""

    def inspect(self, index):
        found = super().inspect(index)
        return found and replace(found, digest=len(self.location.url) + found.stamp % 999 + id(found) % 99991)


class LeavesFiles(NpyArray):
    """What was put aside stays there."""

    def store(self, index, chunks, scratch):
        (self.scratch / "aside").write_bytes(b"some")
        return super().store(index, chunks, scratch)


class LeavesFilesBeside(NpyArray):
    """What was put aside stays among the units."""

    def store(self, index, chunks, scratch):
        (self.location / "aside").write_bytes(b"some")
        return super().store(index, chunks, scratch)


class ForgetsSizes(NpyArray):
    """The new shape is not written down."""

    def resize(self, shape):
        if len(shape) != len(self.spec.shape):
            super().resize(shape)


class SwallowsDamage(NpyArray):
    """A damaged unit counts as none."""

    def load(self, index):
        try:
            return super().load(index)
        except WkdaskError:
            return None


class TrustsFiles(NpyArray):
    """Files are read as numpy reads them."""

    def load(self, index):
        place = self.unit_location(index)
        return np.load(io.BytesIO(place.read_bytes()), allow_pickle=False) if place.is_file() else None

    def store(self, index, chunks, scratch):
        written = super().store(index, chunks, scratch)
        if not written.size:
            return written
        voxels, out = NpyArray.load(self, index), io.BytesIO()
        np.save(out, voxels)
        self.unit_location(index).write_bytes(out.getvalue(), scratch)
        return self.inspect(index)


class FindsAnywhere(NpyFormat):
    """Every place holds an array."""

    def detect(self, location):
        return True


class CreatesOverOthers(NpyFormat):
    """An array that is there is replaced."""

    def create(self, location, spec):
        if self.detect(location):
            location.delete()
        return super().create(location, spec)


class ForgetsChoices(NpyFormat):
    """The fill value is not read."""

    def parse(self, data, where):
        return replace(super().parse(data, where), fill=0)


class TrustsDocuments(NpyFormat):
    """What is missing or odd is left to Python."""

    def parse(self, data, where):
        import json

        said = json.loads(data)
        return replace(super().parse(data, where), shape=tuple(said["shape"]), dtype=said["dtype"].lower())

    def open(self, location, end=None):
        import json

        json.loads((location / "npy.json").read_bytes())["shape"]
        return super().open(location, end)


class AllocatesClaims(NpyFormat):
    """As much memory is taken as the document says."""

    def parse(self, data, where):
        spec = super().parse(data, where)
        bytearray(min(max(spec.shape) << 15, 1 << 30))
        return spec


class RefusesADtype(NpyFormat):
    """A dtype that every format has is missing."""

    def at(self, location, spec: ArraySpec):
        return super().at(location, replace(spec, dtype="none") if spec.dtype == "int64" else spec)


MUTANTS: list[tuple[type, str]] = [
    (DropsLastPlanes, WRITES),
    (PublishesEarly, UNITS),
    (PublishesEarly, WRITES),
    (PublishesAfterErrors, UNITS),
    (PublishesAfterErrors, WRITES),
    (ForgetsZeros, ZEROS),
    (ForgetsZeros, WRITES),
    (KeepsOldChunks, WRITES),
    (KeepsOldChunks, ZEROS),
    (JoinsWithoutLastPart, "test_parts_are_joined"),
    (PutsWholeChunksOnly, "test_regions_that_fill_no_chunks"),
    (ForgetsNeighbours, WRITES),
    (ForgetsNeighbours, "test_units_are_written_in_any_order_by_threads"),
    (ReadsStale, WRITES),
    (LendsItsCache, "test_blocks_belong_to_the_caller"),
    (PicklesVoxels, "test_handles_pickle_small"),
    (ReadsWithGaps, "test_blocks_belong_to_the_caller"),
    (CastsBlocks, "test_blocks_that_do_not_fit_are_refused"),
    (ListsAllUnits, WRITES),
    (KnowsOddNames, "test_names_of_files_that_are_no_units"),
    (InspectsWrongly, UNITS),
    (LeavesFiles, UNITS),
    (LeavesFilesBeside, UNITS),
    (ForgetsSizes, WRITES),
    (ForgetsSizes, "test_arrays_shrink_and_grow"),
    (SwallowsDamage, HOSTILE_UNITS),
    (TrustsFiles, HOSTILE_UNITS),
    (FindsAnywhere, "test_arrays_are_found_opened_and_made_once"),
    (CreatesOverOthers, "test_arrays_are_found_opened_and_made_once"),
    (ForgetsChoices, "test_offsets_and_fill_values_are_kept_or_refused"),
    (TrustsDocuments, HOSTILE_DOCUMENTS),
    (AllocatesClaims, HOSTILE_DOCUMENTS),
    (RefusesADtype, "test_all_choices_are_taken"),
]
"""What is planted, and the test that finds it."""


@pytest.fixture(autouse=True)
def plain_search() -> Iterator[None]:
    """Search for failures without making them smaller, more often, and the same way every time."""
    before = hypothesis.settings.default
    some = {"max_examples": 400, "phases": [hypothesis.Phase.generate], "report_multiple_bugs": False}
    plain = hypothesis.settings(**some, database=None, derandomize=True)
    hypothesis.settings.register_profile("mutants", parent=plain, deadline=None)
    hypothesis.settings.load_profile("mutants")
    yield
    hypothesis.settings.register_profile("before", parent=before)
    hypothesis.settings.load_profile("before")


@pytest.mark.parametrize(("mutant", "test"), MUTANTS, ids=[f"{mutant.__name__}-{test}" for mutant, test in MUTANTS])
def test_planted_mistakes_are_found(mutant: type, test: str) -> None:
    form: Any = mutant() if issubclass(mutant, NpyFormat) else type("Mutant", (NpyFormat,), {"arrays": mutant})()
    attributes = {"format": form, "finds_damage": frozenset({"none", "gzip"}), "stores": ("memory",)}
    suite = type("Suite", (FormatConformance,), attributes)()
    with pytest.raises((Exception, pytest.fail.Exception)):
        getattr(suite, test)()
