"""``wkdask convert``."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from wkdask.cli import options as o
from wkdask.cli.groups import Layout, Means, Output, Pyramid, with_groups


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


@with_groups
def convert(
    source: Annotated[
        str,
        typer.Argument(
            readable=False,
            help="Image file, folder or zip of images, quoted pattern, or volume (Zarr, OME-Zarr, N5, precomputed); or a URL.",
        ),
    ],
    target: Annotated[str, typer.Argument(help="Folder of the dataset; further layers are added to an existing one.")],
    voxel_size: Annotated[
        str | None,
        typer.Option(metavar="X,Y,Z", help="Edges of one voxel, such as 11.24,11.24,28. Default: what the images say."),
    ] = None,
    unit: o.Unit = "nanometer",
    layer_name: Annotated[
        str | None, typer.Option(help="Default: the name of the source; with several layers a prefix.")
    ] = None,
    category: Annotated[
        Category | None,
        typer.Option(help="What the voxels mean; auto looks at them. Default: color, unless metadata say labels."),
    ] = None,
    data_format: o.DataFormat = "zarr3",
    name: o.DatasetName = None,
    *,
    layout: Layout,
    axis_order: Annotated[str, typer.Option(help="How axes are stored; czyx is what other OME-Zarr programs expect.")] = "cxyz",
    pyramid: Pyramid,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Slices that one task reads. Default: a chunk's depth.")] = None,
    missing: Annotated[Missing, typer.Option(help="What stands for slices that the numbering leaves out.")] = Missing.error,
    z_from_name: Annotated[
        str | None, typer.Option(metavar="REGEX", help="The slice's number in a file's name: a pattern with one group.")
    ] = None,
    layers_by: Annotated[LayersBy, typer.Option(help="Which files become one layer.")] = LayersBy.inspect_single_file,
    max_layers: Annotated[int, typer.Option(min=1, help="More layers than these are an error.")] = 20,
    channel: Annotated[int | None, typer.Option(min=0, help="Take this channel only.")] = None,
    timepoint: Annotated[int | None, typer.Option(min=0, help="Take this time point only.")] = None,
    axes: Annotated[
        str | None, typer.Option(metavar="AXES", help="What the axes of a volume are, in stored order, such as zyx or tczyx.")
    ] = None,
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
    topleft: Annotated[
        str | None,
        typer.Option(metavar="X,Y,Z", help="Where the first voxel lies, in mag-1 voxels. Default: as volumes say, else 0,0,0."),
    ] = None,
    mag: Annotated[str, typer.Option(help="The magnification that the images are.")] = "1",
    overwrite_existing: o.OverwriteExisting = False,
    restart: o.Restart = False,
    means: Means,
    output: Output,
) -> None:
    """Convert a stack of images into a layer with its pyramid; of several stacks or channels, each into its own.

    Stopped or killed at any moment, the same command goes on where it was.
    """
    from wkdask.cli.importing import Import, flips_of, run_import
    from wkdask.geometry import Mag
    from wkdask.images import ConversionLayerMapping, Selection, find_layers
    from wkdask.metadata import dtype_name
    from wkdask.operations import Orientation, Treatment, parse_rescale

    treatment = Treatment(
        category=None if category in (None, Category.auto) else category.value,
        assumed="color" if category is None else None,
        dataset=name,
        orientation=Orientation(flips_of(flip), swap_xy),
        topleft=o.shape_of(topleft) if topleft else None,
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
        axes=axes,
    )
    wanted = Import(
        target,
        (voxel_size, unit),
        treatment,
        replace(layout.storage(data_format), axis_order=axis_order),
        pyramid.sampling(),
        means,
        batch_size or 0,
        restart,
    )
    telling = output.telling("convert", replaces=overwrite_existing)
    run_import(lambda: find_layers(source, selection), wanted, telling)
