"""``wkdask convert-raw``."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from wkdask.cli import options as o
from wkdask.cli.groups import Layout, Means, Output, Pyramid, with_groups


class Order(StrEnum):
    """Which axis comes first in a file: x in Fortran's order, z in that of C."""

    F = "F"
    C = "C"


class Meaning(StrEnum):
    """What voxels mean."""

    color = "color"
    segmentation = "segmentation"


@with_groups
def convert_raw(
    source: Annotated[str, typer.Argument(help="File of voxels, one after the other.")],
    target: Annotated[str, typer.Argument(help="Folder of the dataset; further layers are added to an existing one.")],
    shape: Annotated[str, typer.Option(metavar="X,Y,Z", help="Voxels along x, y and z, such as 1024,1024,512.")],
    voxel_size: o.VoxelSize = None,
    unit: o.Unit = "nanometer",
    dtype: Annotated[str, typer.Option(help="Of the layer, such as uint8.")] = "uint8",
    source_dtype: Annotated[
        str | None, typer.Option(help="Of the file, such as uint16, or >u2 with the greatest byte first. Default: the layer's.")
    ] = None,
    order: Annotated[Order, typer.Option(help="F: x is the fastest axis in the file; C: z is.")] = Order.F,
    header: Annotated[int, typer.Option(min=0, metavar="BYTES", help="Bytes before the first voxel.")] = 0,
    layer_name: Annotated[str, typer.Option(help="Name of the layer.")] = "color",
    category: Annotated[Meaning, typer.Option(help="What the voxels mean.")] = Meaning.color,
    name: o.DatasetName = None,
    rescale_min_max: Annotated[
        str | None,
        typer.Option(
            "--rescale-min-max", "--rescale", metavar="MIN,MAX", help="Values that become the dtype's least and greatest."
        ),
    ] = None,
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
    """Convert a file of raw voxels, which says nothing of itself, into a layer with its pyramid.

    Stopped or killed at any moment, the same command goes on where it was.
    """
    from wkdask.cli.importing import Import, flips_of, run_import
    from wkdask.images import find_raw
    from wkdask.metadata import dtype_name
    from wkdask.operations import Orientation, Treatment, parse_rescale

    treatment = Treatment(
        category=category.value,
        dataset=name,
        orientation=Orientation(flips_of(flip_axes)),
        dtype=dtype_name(dtype),
        rescale=parse_rescale(rescale_min_max) if rescale_min_max else None,
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
    telling = output.telling("convert-raw", replaces=overwrite_existing)
    found = partial(find_raw, source, o.shape_of(shape), source_dtype or dtype, order.value, header=header, name=layer_name)
    run_import(lambda: [found()], wanted, telling)
