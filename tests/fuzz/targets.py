"""All targets by name. The first byte of an input says which of a target's files the others replace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.fuzz import arrays, documents
from tests.fuzz.damage import Slot, mutated

TARGETS: dict[str, Callable[[Path], Iterator[Slot]]] = {
    "wkw": arrays.wkw,
    "zarr3": arrays.zarr3,
    "zarr3_documents": arrays.zarr3_documents,
    "zarr2": arrays.zarr2,
    "n5": arrays.n5,
    "precomputed": arrays.precomputed,
    "datasets": documents.datasets,
    "volumes": documents.volumes,
}


class Target:
    """What is fuzzed: some files, one of which is damaged at a time.

    Parameters
    ----------
    name
        One of `TARGETS`.
    folder
        Where its local files lie.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.slots = list(TARGETS[name](folder))

    def seeds(self) -> Iterator[bytes]:
        """Yield the inputs that leave each file as it is."""
        for number, slot in enumerate(self.slots):
            yield bytes([number]) + slot.content

    def slot(self, data: bytes) -> Slot:
        """Return the file that an input is of."""
        return self.slots[(data[0] if data else 0) % len(self.slots)]

    def check(self, data: bytes) -> None:
        """Damage a file and look; see `Slot.check`."""
        self.slot(data).check(data[1:])

    def mutate(self, data: bytes, seed: int, plain: Callable[[bytes], bytes]) -> bytes:
        """Return another input: of the same file, or of the sound bytes of any.

        What native libraries do with a file is not seen by the search, which would leave out files that differ in nothing else.
        """
        if seed % 5 < 2 or not data:
            number = seed // 5 % len(self.slots)
            data = bytes([number]) + self.slots[number].content
        return data[:1] + mutated(self.slot(data), data[1:], seed, plain)
