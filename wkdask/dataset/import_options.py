"""From the parameters of `Dataset.from_images` to what operations take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wkdask.dataset.arguments import rescale_of, shape_of, storage_of, voxel_size_of
from wkdask.errors import InputError
from wkdask.geometry import Mag
from wkdask.images import FoundLayer, Selection, find_layers
from wkdask.images.picture import EXTENSIONS
from wkdask.metadata import dtype_name
from wkdask.operations import Orientation, Running, Sampling, SamplingModes, Treatment, plan_imports
from wkdask.plan import Plan, parse_bytes
from wkdask.storage import Location, Options, storage_options
from wkdask.storage.address import kind_of
from wkdask.storage.options import usual_options


def limit_of(options: Mapping[str, Any]) -> int | None:
    """Return the bytes that an import may take, or None for the default."""
    given = options["memory_limit"]
    return None if given is None else parse_bytes(given)


def found_of(options: Mapping[str, Any], *, merge: bool = False) -> list[FoundLayer]:
    """Return the layers that images become, from the parameters of `ImportVerbs.from_images` by name."""
    o = options
    if o["use_bioformats"]:
        raise InputError(
            f"use_bioformats=True was given, but readers are built in here, for {', '.join(EXTENSIONS)}. "
            "Leave it out, or convert other files to OME-TIFF with bioformats2raw or Fiji first."
        )
    selection = Selection(
        missing=o["missing"],
        sort_key=_of_path(o["z_slices_sort_key"]),
        z_from_name=o["z_from_name"],
        mapping=_of_path(o["map_filepath_to_layer_name"]),
        channel=o["channel"],
        timepoint=o["timepoint"],
        truncate_rgba_to_rgb=o["truncate_rgba_to_rgb"],
        allow_multiple_layers=o["allow_multiple_layers"],
        max_layers=o["max_layers"],
        layer_name=o["layer_name"],
        merge=merge,
        axes=o["axes"],
        scale=o["scale"] or 0,
    )
    with storage_options(_options_of_input(o)):
        return find_layers(o["input_path"], selection)


def _options_of_input(o: Mapping[str, Any]) -> Options:
    """Return what holds of the URLs of images: what is given for them, else what is given for an output of the same kind."""
    output, given = o["output_path"], o.get("storage_options")
    if o["input_storage_options"] is not None:
        return Options(o["input_storage_options"])
    if given is None and isinstance(output, Location):
        given = output.options
    start = f"{Location.of(output).url.partition('://')[0]}://"
    return usual_options().knowing(start, Options(given)) if given and kind_of(start) else usual_options()


def plans_of(options: Mapping[str, Any], layers: Sequence[FoundLayer]) -> list[Plan]:
    """Return the plans of an import, from the parameters of `ImportVerbs.from_images` by name."""
    o = options
    treatment = Treatment(
        category=o["layer_category"],
        dataset=o["name"],
        orientation=Orientation((o["flip_x"], o["flip_y"], o["flip_z"]), o["swap_xy"]),
        topleft=shape_of(o["topleft"]),
        mag=Mag(o["mag"]),
        dtype=None if o["dtype"] is None else dtype_name(o["dtype"]),
        rescale=rescale_of(o["rescale"]),
        invert=o["invert"],
    )
    shapes = (o["chunk_shape"], o["shard_shape"])
    storage = storage_of(o["data_format"], *shapes, o["compress"], chunks_per_shard=o["chunks_per_shard"])
    coarsest = None if o["coarsest_mag"] is None else Mag(o["coarsest_mag"])
    return plan_imports(
        layers,
        Location.of(o["output_path"], o.get("storage_options")),
        voxel_size_of(o["voxel_size"], o["voxel_size_with_unit"]),
        treatment,
        storage=replace(storage, axis_order=o["axis_order"]),
        sampling=Sampling(o["downsample"], coarsest, SamplingModes.parse(o["sampling_mode"]), o["interpolation_mode"]),
        running=Running(o["jobs"] or 0, limit_of(o) or 0, batch_size=o["batch_size"] or 0, restart=o["restart"]),
    )


def _of_path(function: Any) -> Any:
    """Return a user's function of a path as one of its text; what is no function is left for others to refuse."""
    return (lambda text: function(Path(text))) if callable(function) else function
