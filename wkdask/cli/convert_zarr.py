"""``wkdask convert-zarr``."""

from __future__ import annotations

from typing import Annotated

import typer

from wkdask.cli import options as o
from wkdask.cli.groups import Layout, Means, Output, Pyramid, with_groups


@with_groups
def convert_zarr(
    source: Annotated[
        str, typer.Argument(readable=False, help="Folder, URL or zip file of a Zarr array, or of a group of them.")
    ],
    target: Annotated[str, typer.Argument(help="Folder of the dataset; further layers are added to an existing one.")],
    voxel_size: o.VoxelSize = None,
    unit: o.Unit = "nanometer",
    layer_name: Annotated[
        str, typer.Option(help="Name of the layer; of several arrays, what stands before each name.")
    ] = "color",
    is_segmentation_layer: Annotated[bool, typer.Option(help="Whether the voxels are labels.")] = False,
    axes: Annotated[str, typer.Option(metavar="AXES", help="What the axes are, in stored order.")] = "xyz",
    name: o.DatasetName = None,
    flip_axes: o.FlipAxes = "",
    data_format: o.DataFormat = "zarr3",
    *,
    layout: Layout,
    pyramid: Pyramid,
    overwrite_existing: o.OverwriteExisting = False,
    restart: o.Restart = False,
    means: Means,
    output: Output,
) -> None:
    """Convert Zarr arrays whose axes are x, y, z into a layer with its pyramid; ``convert`` takes them as metadata say.

    Stopped or killed at any moment, the same command goes on where it was.
    """
    from wkdask.cli.importing import Import, flips_of, run_import
    from wkdask.images import Selection, find_layers
    from wkdask.operations import Orientation, Treatment

    treatment = Treatment(
        category="segmentation" if is_segmentation_layer else "color",
        dataset=name,
        orientation=Orientation(flips_of(flip_axes)),
        fresh=overwrite_existing,
    )
    wanted = Import(
        target,
        (voxel_size, unit),
        treatment,
        layout.storage(data_format),
        pyramid.sampling(),
        means,
        restart=restart,
    )
    telling = output.telling("convert-zarr", replaces=overwrite_existing)
    run_import(lambda: find_layers(source, Selection(layer_name=layer_name, axes=axes)), wanted, telling)
