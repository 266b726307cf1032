"""``wkdask convert``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wkdask.cli import options as o

if TYPE_CHECKING:
    from wkdask.storage import Location


class Category(StrEnum):
    """What a layer's voxels mean."""

    color = "color"
    segmentation = "segmentation"
    auto = "auto"


class Missing(StrEnum):
    """What stands for slices that the numbering leaves out."""

    error = "error"
    close = "close"
    repeat = "repeat"
    zeros = "zeros"
    ignore = "ignore"


class LayersBy(StrEnum):
    """Which files become one layer."""

    enforce_layer_per_file = "enforce_layer_per_file"
    enforce_single_layer = "enforce_single_layer"
    enforce_layer_per_folder = "enforce_layer_per_folder"
    enforce_layer_per_toplevel_folder = "enforce_layer_per_toplevel_folder"
    inspect_every_file = "inspect_every_file"
    inspect_single_file = "inspect_single_file"


def convert(
    source: Annotated[Path, typer.Argument(readable=False, help="Image file, folder or zip of images, or quoted pattern.")],
    target: Annotated[str, typer.Argument(help="Folder of the dataset; further layers are added to an existing one.")],
    voxel_size: Annotated[
        str | None,
        typer.Option(metavar="X,Y,Z", help="Edges of one voxel, such as 11.24,11.24,28. Default: what the images say."),
    ] = None,
    unit: Annotated[str, typer.Option(help="Unit of the voxel size, by its full name.")] = "nanometer",
    layer_name: Annotated[
        str | None, typer.Option(help="Default: the name of the source; with several layers a prefix.")
    ] = None,
    category: Annotated[Category, typer.Option(help="What the voxels mean; auto looks at them.")] = Category.color,
    data_format: Annotated[str, typer.Option(help="How voxels are stored: zarr3 or wkw.")] = "zarr3",
    name: Annotated[str | None, typer.Option(help="Name of a new dataset. Default: the name of the target.")] = None,
    chunk_shape: o.ChunkShape = "32",
    shard_shape: o.ShardShape = None,
    chunks_per_shard: o.ChunksPerShard = None,
    compress: o.Compress = True,
    codec: o.CodecName = None,
    downsample: Annotated[bool, typer.Option(help="Whether coarser magnifications are made.")] = True,
    max_mag: o.MaxMag = None,
    sampling_mode: o.SamplingMode = "anisotropic",
    interpolation_mode: o.Interpolation = "default",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Slices that one task reads. Default: a chunk's depth.")] = None,
    missing: Annotated[Missing, typer.Option(help="What stands for slices that the numbering leaves out.")] = Missing.error,
    z_from_name: Annotated[
        str | None, typer.Option(metavar="REGEX", help="The slice's number in a file's name: a pattern with one group.")
    ] = None,
    layers_by: Annotated[LayersBy, typer.Option(help="Which files become one layer.")] = LayersBy.inspect_single_file,
    max_layers: Annotated[int, typer.Option(min=1, help="More layers than these are an error.")] = 20,
    channel: Annotated[int | None, typer.Option(min=0, help="Take this channel only.")] = None,
    timepoint: Annotated[int | None, typer.Option(min=0, help="Take this time point only.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the layer, such as uint8. Default: that of the images.")] = None,
    rescale: Annotated[
        str | None,
        typer.Option(
            metavar="MIN,MAX", help="Values that become the dtype's ends; or percentiles, percentiles:1,99, per-slice."
        ),
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Make light dark and dark light.")] = False,
    flip: Annotated[str, typer.Option(metavar="AXES", help="Axes of the result to mirror, such as x or yz.")] = "",
    swap_xy: Annotated[bool, typer.Option("--swap-xy", help="Make the images' rows x and their columns y.")] = False,
    topleft: Annotated[str, typer.Option(metavar="X,Y,Z", help="Where the first voxel lies, in mag-1 voxels.")] = "0,0,0",
    mag: Annotated[str, typer.Option(help="The magnification that the images are.")] = "1",
    overwrite_existing: Annotated[bool, typer.Option(help="Delete the dataset at the target first.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Give up an unfinished conversion into the same layer, and begin anew.")
    ] = False,
    jobs: o.Jobs = None,
    distribution_strategy: o.Strategy = "threads",
    memory_limit: o.MemoryLimit = None,
    scratch: o.Scratch = None,
    dry_run: o.DryRun = False,
    as_json: o.AsJson = False,
    progress: o.Progress = o.Show.auto,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
) -> None:
    """Convert a stack of images into a layer with its pyramid; of several stacks or channels, each into its own.

    Stopped or killed at any moment, the same command goes on where it was.
    """
    from wkdask.cli.output import typed_command
    from wkdask.cli.running import Telling, run_all, storage_of
    from wkdask.clusters import open_pool
    from wkdask.geometry import Mag
    from wkdask.images import ConversionLayerMapping, Selection, find_layers
    from wkdask.metadata import LengthUnit, VoxelSize, dtype_name
    from wkdask.operations import Orientation, Running, Sampling, SamplingModes, Treatment, parse_rescale, plan_imports
    from wkdask.plan import parse_bytes
    from wkdask.storage import Location

    size = VoxelSize.parse(voxel_size, LengthUnit.parse(unit)) if voxel_size else None
    storage = storage_of(data_format, chunk_shape, shard_shape, chunks_per_shard, compress, codec)
    sampling = Sampling(downsample, Mag(max_mag) if max_mag else None, SamplingModes.parse(sampling_mode), interpolation_mode)
    treatment = Treatment(
        category=None if category is Category.auto else category.value,
        dataset=name,
        orientation=Orientation(flips_of(flip), swap_xy),
        topleft=o.shape_of(topleft),
        mag=Mag(mag),
        dtype=dtype_name(dtype) if dtype else None,
        rescale=parse_rescale(rescale) if rescale else None,
        invert=invert,
        fresh=overwrite_existing,
    )
    selection = Selection(
        missing=missing.value,
        z_from_name=z_from_name,
        mapping=ConversionLayerMapping(layers_by.value),
        channel=channel,
        timepoint=timepoint,
        max_layers=max_layers,
        layer_name=layer_name,
    )
    limit = parse_bytes(memory_limit) if memory_limit else None
    pool = open_pool(distribution_strategy, jobs, limit)
    running = Running(pool.slots, limit or 0, typed_command(), batch_size or 0, str(scratch) if scratch else "", restart)
    place = Location.of(target)
    layers = find_layers(source, selection)
    make = partial(plan_imports, layers, place, size, treatment, storage=storage, sampling=sampling, running=running)
    plans = make()
    telling = Telling("convert", dry_run, as_json, progress, verbose, quiet)
    if overwrite_existing:
        for plan in plans:
            plan.check_memory(limit, pool.slots, pool.processes)
        check_deletable(place, (path for layer in layers for path in layer.stack.paths))
        if not dry_run:  # only now, when all that was given is known to be usable
            place.delete()
            plans = make()
    run_all(plans, pool, limit, telling)


def flips_of(text: str) -> tuple[bool, bool, bool]:
    """Read which axes are mirrored.

    Examples
    --------
    >>> flips_of("xz"), flips_of("")
    ((True, False, True), (False, False, False))
    """
    from wkdask.errors import InputError

    axes = text.replace(",", "").lower()
    if set(axes) - set("xyz"):
        raise InputError(f"{text!r} does not name axes. Write those to mirror, such as x or y,z.")
    return ("x" in axes, "y" in axes, "z" in axes)


def check_deletable(place: Location, images: Iterable[str]) -> None:
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
    if place.is_local:
        gone = f"{os.path.realpath(place.url)}{os.sep}"
        lost = next((path for path in images if os.path.realpath(path).startswith(gone)), None)
        if lost is not None:
            raise InputError(
                f"'{lost}' lies in {place}, which would be deleted first. Move the images, or give another target."
            )
    owner = current_owner(place / WORK_FOLDER / "run.json")
    if owner and owner.alive:
        raise LockedError(f"{place} is in use by {owner}. Wait for it to end, or stop it.")
