"""``wkdask convert``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wkdask.storage import Location

FORMATS = ("zarr3",)


class Category(StrEnum):
    """What a layer's voxels mean."""

    color = "color"
    segmentation = "segmentation"


class Missing(StrEnum):
    """What stands for slices that the numbering leaves out."""

    zeros = "zeros"
    repeat = "repeat"
    ignore = "ignore"


class Show(StrEnum):
    """How progress is shown."""

    auto = "auto"
    rich = "rich"
    plain = "plain"
    none = "none"


def convert(
    source: Annotated[Path, typer.Argument(readable=False, help="Folder of image slices, or one multi-page file.")],
    target: Annotated[str, typer.Argument(help="Folder of the dataset; a second layer is added to an existing one.")],
    voxel_size: Annotated[str, typer.Option(metavar="X,Y,Z", help="Edges of one voxel, such as 11.24,11.24,28.")],
    unit: Annotated[str, typer.Option(help="Unit of the voxel size, by its full name.")] = "nanometer",
    layer_name: Annotated[str | None, typer.Option(help="Default: the name of the source.")] = None,
    category: Annotated[Category, typer.Option(help="What the voxels mean.")] = Category.color,
    data_format: Annotated[str, typer.Option(help="How voxels are stored: zarr3.")] = "zarr3",
    name: Annotated[str | None, typer.Option(help="Name of a new dataset. Default: the name of the target.")] = None,
    chunk_shape: Annotated[str, typer.Option(metavar="X,Y,Z", help="Voxels of a chunk, such as 32 or 32,32,32.")] = "32",
    shard_shape: Annotated[
        str | None,
        typer.Option(metavar="X,Y,Z", help="Voxels of a shard. Default: 4096,4096,32; 1024 for coarser mags of deep layers."),
    ] = None,
    compress: Annotated[bool, typer.Option(help="Whether chunks are compressed.")] = True,
    codec: Annotated[str, typer.Option(metavar="NAME[:LEVEL]", help="Compressor: zstd, gzip or none.")] = "zstd:5",
    downsample: Annotated[bool, typer.Option(help="Whether coarser magnifications are made.")] = True,
    max_mag: Annotated[str | None, typer.Option(help="Coarsest magnification, such as 16 or 16-16-8.")] = None,
    sampling_mode: Annotated[str, typer.Option(help="anisotropic, isotropic or constant_z.")] = "anisotropic",
    interpolation_mode: Annotated[
        str, typer.Option(help="default (median for color, mode for segmentation), median, mode, nearest, bilinear, max, min.")
    ] = "default",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Slices that one task reads. Default: a chunk's depth.")] = None,
    missing: Annotated[Missing | None, typer.Option(help="What stands for missing slices. Default: refuse.")] = None,
    overwrite_existing: Annotated[bool, typer.Option(help="Delete the dataset at the target first.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Tasks at once. Default: the number of cores.")] = None,
    distribution_strategy: Annotated[
        str, typer.Option(help="Where tasks run: threads, processes, sequential, local, or tcp://HOST:PORT.")
    ] = "threads",
    memory_limit: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Memory to use, such as 4GB. Default: 60 % of what there is.")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="Folder for what is being written. Default: a hidden one in the target.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    progress: Annotated[Show, typer.Option(help="A bar, a line now and then, or nothing.")] = Show.auto,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Convert a stack of images into a layer with its pyramid.

    Stopped or killed at any moment, the same command goes on where it was.
    """
    from wkdask.cli.output import emit, report_json, show_progress, typed_command
    from wkdask.clusters import open_pool
    from wkdask.errors import InputError
    from wkdask.formats import parse_codec
    from wkdask.geometry import Mag
    from wkdask.images import find_images
    from wkdask.metadata import LengthUnit, VoxelSize
    from wkdask.operations import Into, Running, Sampling, SamplingModes, Storage, plan_convert
    from wkdask.plan import parse_bytes
    from wkdask.storage import Location

    if data_format not in FORMATS:
        raise InputError(f"The format {data_format!r} is not available yet. Use {', '.join(FORMATS)}.")
    size = VoxelSize.parse(voxel_size, LengthUnit.parse(unit))
    chosen = parse_codec(codec) if compress else None
    storage = Storage(shape_of(chunk_shape), shape_of(shard_shape) if shard_shape else None, chosen)
    coarsest = Mag(max_mag) if max_mag else None
    sampling = Sampling(downsample, coarsest, SamplingModes.parse(sampling_mode), interpolation_mode)
    limit = parse_bytes(memory_limit) if memory_limit else None
    pool = open_pool(distribution_strategy, jobs, limit)
    running = Running(pool.slots, limit or 0, typed_command(), batch_size or 0, str(scratch) if scratch else "")
    place = Location.of(target)
    stack = find_images(source, missing.value if missing else None)
    into = Into(layer_name, category.value, name)
    plan = plan_convert(stack, place, size, into=into, storage=storage, sampling=sampling, running=running)
    plan.check_memory(limit, pool.slots, pool.processes)
    if overwrite_existing:
        check_deletable(place, source)
    else:
        plan.setup.check()
    if dry_run:
        emit(plan.describe() if as_json else plan, "convert --dry-run", as_json)
        return
    if overwrite_existing:  # only now, when all that was given is known to be usable
        place.delete()
        plan = plan_convert(stack, place, size, into=into, storage=storage, sampling=sampling, running=running)
    for note in plan.notes if not quiet else ():
        typer.echo(f"note: {note}", err=True)
    with show_progress(progress.value if not quiet else "none", verbose, pool) as tell:
        report = plan.run(pool=pool, memory_limit=limit, progress=tell)
    if as_json or not quiet:
        emit(report_json(report, plan) if as_json else report, "convert", as_json)


def shape_of(text: str) -> tuple[int, int, int]:
    """Read ``32`` or ``32,32,32``.

    Examples
    --------
    >>> shape_of("32"), shape_of("64,64,32")
    ((32, 32, 32), (64, 64, 32))
    """
    from wkdask.errors import InputError

    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise InputError(f"{text!r} is no shape. Write it as 32 or 32,32,32.")
    x, y, z = numbers * 3 if len(numbers) == 1 else numbers
    return (x, y, z)


def check_deletable(place: Location, source: Path) -> None:
    """Refuse to delete anything but a dataset, or our unfinished one, and that while a run works on it or images lie in it."""
    from wkdask.errors import DatasetExistsError, InputError, LockedError
    from wkdask.operations import check_overwritable
    from wkdask.storage import WORK_FOLDER
    from wkdask.storage.lease import current_owner

    if not (place.is_file() or place.is_folder()):
        return
    check_overwritable(place)
    if place.is_local and Path(place.url).is_symlink():
        raise DatasetExistsError(
            f"{place} is a link to {Path(place.url).resolve()}. Give that folder, or delete the link yourself."
        )
    if place.is_local and source.resolve().is_relative_to(Path(place.url).resolve()):
        raise InputError(f"The images lie in {place}, which would be deleted first. Move them, or give another target.")
    owner = current_owner(place / WORK_FOLDER / "run.json")
    if owner and owner.alive:
        raise LockedError(f"{place} is in use by {owner}. Wait for it to end, or stop it.")
