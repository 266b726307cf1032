"""What the commands share that import voxels: plans for all layers, run one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wkdask.cli.groups import Means
    from wkdask.cli.running import Telling
    from wkdask.images import FoundLayer
    from wkdask.operations import Sampling, Storage, Treatment
    from wkdask.plan import Plan, Pool
    from wkdask.storage import Location

NUMBERED = str.maketrans("123", "xyz")


@dataclass(frozen=True)
class Import:
    """What is to become of voxels, and with what means.

    Parameters
    ----------
    target
        Folder of the dataset.
    voxel_size
        Edges, or None, and their unit, as typed.
    treatment, storage
        Values and orientation, and how voxels are to lie on disk.
    sampling
        How coarser magnifications are made.
    means, batch_size, restart
        As typed.
    """

    target: str
    voxel_size: tuple[str | None, str]
    treatment: Treatment
    storage: Storage
    sampling: Sampling
    means: Means
    batch_size: int = 0
    restart: bool = False


def run_import(find: Callable[[], list[FoundLayer]], wanted: Import, telling: Telling) -> None:
    """Find layers, and make them, or only say how.

    What is at the target is deleted first where the treatment says so, but only when all that was given is known to be usable.
    """
    from wkdask.cli.running import run_all
    from wkdask.metadata import LengthUnit, VoxelSize
    from wkdask.operations import plan_imports
    from wkdask.storage import Location

    edges, unit = wanted.voxel_size
    size = VoxelSize.parse(edges, LengthUnit.parse(unit)) if edges else None
    pool, limit = wanted.means.pool()
    running = wanted.means.running(pool, limit, batch_size=wanted.batch_size, restart=wanted.restart)
    place, layers = Location.of(wanted.target), find()
    storage, sampling = wanted.storage, wanted.sampling
    make = partial(plan_imports, layers, place, size, wanted.treatment, storage=storage, sampling=sampling, running=running)
    plans = make()
    if wanted.treatment.fresh:
        check_replaceable(place, layers, plans, pool, limit)
        if not telling.dry_run:
            place.delete()
            plans = make()
    run_all(plans, pool, limit, telling)


def check_replaceable(place: Location, layers: list[FoundLayer], plans: list[Plan], pool: Pool, limit: int | None) -> None:
    """Refuse to delete what is at the target where the plans do not fit into memory, or where it may not be deleted."""
    for plan in plans:
        plan.check_memory(limit, pool.slots, pool.processes)
    check_deletable(place, (path for layer in layers for path in layer.stack.paths))


def flips_of(text: str) -> tuple[bool, bool, bool]:
    """Read which axes are mirrored, by their names or as numbers from 1.

    Examples
    --------
    >>> flips_of("xz"), flips_of("1,3"), flips_of("")
    ((True, False, True), (True, False, True), (False, False, False))
    """
    from wkdask.errors import InputError

    axes = text.replace(",", "").lower().translate(NUMBERED)
    if set(axes) - set("xyz"):
        raise InputError(f"{text!r} does not name axes. Write those to mirror, such as x or y,z.")
    return ("x" in axes, "y" in axes, "z" in axes)


def check_deletable(place: Location, images: Iterable[str]) -> None:
    """Refuse to delete anything but a dataset, or our unfinished one, and that while a run works on it or images lie in it."""
    from wkdask.errors import DatasetExistsError, InputError
    from wkdask.operations import check_overwritable
    from wkdask.operations.cleaning import require_nobody

    if not (place.is_file() or place.is_folder()):
        return
    check_overwritable(place)
    if place.is_local and Path(place.url).is_symlink():
        raise DatasetExistsError(
            f"{place} is a link to {Path(place.url).resolve()}. Give that folder, or delete the link yourself."
        )
    if place.is_local:
        gone = f"{os.path.realpath(place.url)}{os.sep}"
        lost = next((path for path in images if os.path.realpath(path).startswith(gone)), None)
        if lost is not None:
            raise InputError(
                f"'{lost}' lies in {place}, which would be deleted first. Move the images, or give another target."
            )
    require_nobody(place)
