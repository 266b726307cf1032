"""The targets of `make fuzz`: sound files are read as they are, some damaged ones are borne, and what is not is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fuzz.arrays import Reader, with_checksum
from tests.fuzz.damage import Finding, Slot, mutated
from tests.fuzz.targets import TARGETS, Target
from wkdask.errors import DamagedError, InputError
from wkdask.formats import find_format
from wkdask.storage import Location

SOME = dict.fromkeys(TARGETS, 40) | {"n5": 20}
"""Damaged files of each target, beside the sound ones."""


def flipped(content: bytes) -> bytes:
    """Flip one bit, or return a byte."""
    at = len(content) * 2 // 3
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :] if content else b"x"


@pytest.mark.parametrize("name", TARGETS)
def test_sound_files_and_some_damaged_ones(name: str, tmp_path: Path) -> None:
    target = Target(name, tmp_path)
    seeds = list(target.seeds())
    for seed in seeds:
        target.check(seed)
    rng = random.Random(0)
    for _ in range(SOME[name]):
        data = target.mutate(rng.choice(seeds), rng.getrandbits(30), flipped)
        target.check(data)
    for seed in seeds:  # each file was put back
        assert target.slot(seed).place.read_bytes() == seed[1:]


def slot_of(folder: Path, look: Callable[[Slot], object]) -> Slot:
    place = Location(str(folder / "a.json"))
    place.write_bytes(b'{"a": [1, {"b": "c"}]}')
    return Slot("a", place, place.read_bytes(), place, look)  # type: ignore[arg-type]


def fails(error: Exception) -> Callable[[Slot], object]:
    """Return a look that fails inside."""

    def look(slot: Slot) -> None:
        def inner() -> None:
            raise error

        slot.attempt(inner)

    return look


def test_errors_of_ours_that_name_the_file_are_borne_and_no_others(tmp_path: Path) -> None:
    slot_of(tmp_path, fails(DamagedError(f"{tmp_path}/a.json is damaged."))).check(b"")
    with pytest.raises(Finding, match="does not name"):
        slot_of(tmp_path, fails(InputError("It is damaged."))).check(b"")
    with pytest.raises(KeyError):
        slot_of(tmp_path, fails(KeyError("a"))).check(b"")


def test_what_takes_too_long_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.damage.MOST_SECONDS", -1.0)
    with pytest.raises(Finding, match="processor time"):
        slot_of(tmp_path, lambda slot: None).check(b"")
    monkeypatch.setattr("tests.fuzz.damage.MOST_SECONDS", 1000.0)
    monkeypatch.setattr("tests.fuzz.damage.MOST_BYTES", -1)
    with pytest.raises(Finding, match="of memory"):
        slot_of(tmp_path, lambda slot: None).check(b"")


def test_wrong_voxels_are_found(tmp_path: Path) -> None:
    found = set()
    for slot in Target("zarr3", tmp_path).slots:
        if "none" not in slot.label and not slot.label.endswith("repaired"):
            continue
        damaged = slot.content[:8] + bytes([slot.content[8] ^ 1]) + slot.content[9:]
        slot.check(damaged)  # voxels that no checksum guards may be wrong
        if slot.label.endswith("none unit"):
            whole = find_format("zarr3").open(slot.root / "1")
            truth = whole.read(whole.spec.grid.box)
            with pytest.raises(Finding, match="wrong voxels"):
                assert isinstance(slot.look, Reader)
                replace(slot, look=replace(slot.look, truth=truth)).check(damaged)
            found.add(slot.label)
    assert len(found) == 2


def test_a_repaired_index_is_read(tmp_path: Path) -> None:
    slot = next(slot for slot in Target("zarr3", tmp_path).slots if slot.label.endswith("repaired"))
    broken = slot.content[:-1] + bytes([slot.content[-1] ^ 1])
    assert slot.repair(broken) == slot.content == with_checksum(broken, 16 * 8)


def test_mutations_depend_on_the_seed_alone_and_change_something(tmp_path: Path) -> None:
    for name in ("wkw", "datasets"):
        slot = Target(name, tmp_path).slots[0]
        made = [mutated(slot, slot.content, seed, flipped) for seed in range(60)]
        assert made == [mutated(slot, slot.content, seed, flipped) for seed in range(60)]
        assert len(set(made)) > 15 and sum(one != slot.content for one in made) > 45
