"""``wkdask info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wkdask.dataset import Dataset
    from wkdask.storage import Location


def info(
    target: Annotated[str, typer.Argument(help="A dataset, finished or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say what a dataset holds: layers, magnifications, boxes, dtypes, chunks, shards, codecs, bytes on disk."""
    from wkdask.cli.output import emit
    from wkdask.dataset import Dataset
    from wkdask.errors import DatasetNotFoundError
    from wkdask.metadata import FILE_NAME
    from wkdask.storage import Location

    place = Location.of(target)
    unfinished = unfinished_runs(place)
    if (place / FILE_NAME).is_file():
        found = described(Dataset.open(place, read_only=True))
    elif unfinished:
        found = {"path": str(place), "layers": []}
    else:
        raise DatasetNotFoundError(f"{place} is no dataset: {FILE_NAME} is missing. Check the path.")
    found["unfinished"] = unfinished
    emit(found if as_json else as_text(found), "info", as_json)


def unfinished_runs(place: Location) -> list[dict[str, Any]]:
    """Return the runs that are under way or were left: layer, units done, units in all, the command that goes on.

    None are known where nothing is listed.
    """
    from wkdask.errors import NotListedError
    from wkdask.plan import Journal, unfinished_jobs

    runs = []
    try:
        jobs = unfinished_jobs(place)
    except NotListedError:
        return []
    for key, document in jobs.items():
        done = len({(receipt.stage, receipt.number) for receipt in Journal(place, key).read()})
        total = sum(document.get("tasks") or [0])
        runs.append({"layer": key, "units_done": done, "units": total, "command": document.get("command") or ""})
    return runs


def described(dataset: Dataset) -> dict[str, Any]:
    """Return what a dataset holds, as JSON."""
    size = dataset.voxel_size_with_unit
    layers = []
    for layer in dataset.layers.values():
        mags = []
        for view in layer.mags.values():
            spec = view.spec
            mags.append(
                {
                    "mag": view.name,
                    "axes": spec.axes,
                    "shape": view.array.box.shape,
                    "chunk_shape": spec.chunk,
                    "shard_shape": spec.unit,
                    "codec": str(spec.codec or "none"),
                    "bytes": view.array.box.size * spec.itemsize,
                    "bytes_on_disk": view.bytes_on_disk(),
                }
            )
        box = layer.bounding_box
        facts = {"name": layer.name, "category": layer.category, "dtype": str(layer.dtype), "num_channels": layer.num_channels}
        facts |= {"data_format": str(layer.data_format), "bounding_box": {"topleft": box.topleft, "size": box.size}}
        if layer.category == "segmentation":
            facts["largest_segment_id"] = layer.properties.largest_segment_id
        layers.append({**facts, "mags": mags})
    voxel = {"factor": size.factor, "unit": str(size.unit)}
    return {"path": dataset.path, "name": dataset.name, "voxel_size": voxel, "layers": layers}


def as_text(found: dict[str, Any]) -> str:
    """Return what `described` found for people."""
    from wkdask.plan import format_bytes

    lines = [f"{found.get('name') or found['path']}"]
    if "voxel_size" in found:
        edges = " x ".join(f"{edge:g}" for edge in found["voxel_size"]["factor"])
        lines[0] += f", voxels of {edges} {found['voxel_size']['unit']}, at {found['path']}"
    for layer in found["layers"]:
        box = layer["bounding_box"]
        lines.append(
            f"{layer['name']}: {layer['category']}, {layer['num_channels']} x {layer['dtype']}, {layer['data_format']}, "
            f"box {tuple(box['topleft'])} + {tuple(box['size'])}"
            + (f", largest segment id {_known(layer['largest_segment_id'])}" if "largest_segment_id" in layer else "")
        )
        lines += [
            f"  {mag['mag']:>10}  {' x '.join(map(str, mag['shape']))} ({''.join(mag['axes'])}), "
            f"chunks {tuple(mag['chunk_shape'])}, shards {tuple(mag['shard_shape'])}, {mag['codec']}, "
            f"{format_bytes(mag['bytes_on_disk'])} on disk for {format_bytes(mag['bytes'])}"
            for mag in layer["mags"]
        ]
    for run in found["unfinished"]:
        go_on = f"run {run['command']} to go on" if run["command"] else "run the same again to go on"
        lines.append(f"{run['layer']}: unfinished, {run['units_done']} of {run['units']} units; {go_on}")
    return "\n".join(lines)


def _known(value: int | None) -> str:
    return "not known" if value is None else str(value)
