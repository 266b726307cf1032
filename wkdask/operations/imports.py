"""From the layers that were found in images to plans: voxel size, category, values and codec are decided here."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from wkdask.errors import InputError
from wkdask.geometry import Mag
from wkdask.geometry.grid import Box
from wkdask.images import FoundLayer, Stack, Volume
from wkdask.metadata import FILE_NAME, LengthUnit, Properties, VoxelSize
from wkdask.operations.choices import Running, Sampling, Storage
from wkdask.operations.convert import Into, plan_convert
from wkdask.operations.probe import diagonal, guess_category, sample_planes, with_probed_codec
from wkdask.operations.source import Orientation
from wkdask.operations.tiles import Array
from wkdask.operations.values import Rescale, plan_values
from wkdask.plan import Plan, Report, unfinished_jobs
from wkdask.storage import WORK_FOLDER, Location

LOG = logging.getLogger("wkdask")
LABEL_DTYPES = ("uint64", "int64")
"""Integers that no colour layer may have."""
LIKELY_LABELS = ("uint32", "int32")
SAMPLE_VOXELS = 16 << 20
"""Voxels that are read at once to find percentiles."""
PROBED_EDGE = 64
"""Of the chunks that are compressed to choose a codec, however large a layer's chunks are."""


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done to all layers of one import.

    Parameters
    ----------
    category
        ``color`` or ``segmentation``; None: as metadata, names and voxels suggest.
    assumed
        The category of layers whose metadata say nothing of it, where `category` is None; None: as names and voxels suggest.
    dataset
        Name of a new dataset; default: that of its folder.
    orientation, topleft, mag
        How and where images lie; see `Into`. ``topleft`` None: where the images' metadata say, else at 0.
    dtype
        Of the layers; default: that of the images.
    rescale, invert
        What becomes of values; see `wkdask.operations.values.ValueMap`.
    fresh
        Whether a dataset that is at the target is to be deleted first, so that it says nothing of the new one.
    """

    category: str | None = None
    dataset: str | None = None
    orientation: Orientation = Orientation()
    topleft: tuple[int, int, int] | None = None
    mag: Mag = Mag(1)
    dtype: str | None = None
    rescale: Rescale | None = None
    invert: bool = False
    fresh: bool = False
    assumed: str | None = None


def plan_imports(
    layers: Sequence[FoundLayer],
    target: Location,
    voxel_size: VoxelSize | None,
    treatment: Treatment = Treatment(),
    *,
    storage: Storage = Storage(),
    sampling: Sampling = Sampling(),
    running: Running = Running(),
) -> list[Plan]:
    """Return a plan for each layer that is not there yet. Nothing is written.

    Parameters
    ----------
    layers
        From `wkdask.images.find_layers`.
    target
        The dataset; made where it does not exist.
    voxel_size
        Of a mag-1 voxel; None: that of the dataset, else what the images say.
    treatment
        Category, orientation, values.
    storage, sampling, running
        As for `plan_convert`.

    Returns
    -------
    list of Plan
        To be run one after the other. Of several layers, those that an earlier run of the same import completed are left out.

    Raises
    ------
    InputError
        Where the voxel size is not known, or images can not be such layers.
    """
    size, note = _voxel_size(layers, None if treatment.fresh else target / FILE_NAME, voxel_size, treatment.mag)
    storage.shapes(layers[0].stack.shape[::-1], first=True, depth=layers[0].stack.shape[0])  # refused before anything is read
    plans = []
    for layer in layers:
        category = treatment.category or layer.declared or treatment.assumed or _category(layer)
        topleft, said = _place(layer, treatment)
        into = Into(
            layer.name,
            category,
            treatment.dataset,
            treatment.orientation,
            topleft,
            treatment.mag,
            None,
            layer.color,
            layer.window,
        )
        stack = layer.stack
        if treatment.dtype or treatment.rescale or treatment.invert:
            sample = _sampler(stack)
            values = plan_values(stack.dtype, treatment.dtype, treatment.rescale, treatment.invert, sample)
            into = replace(into, values=values, window=None)
        chosen = with_probed_codec(storage, category, partial(_chunks, stack, storage.chunk_shape))
        plan = plan_convert(stack, target, size, into=into, storage=chosen, sampling=sampling, running=running)
        plans.append(replace(plan, notes=(*plan.notes, *said, *note)))
    return plans if len(plans) == 1 else [plan for plan in plans if not _is_done(plan)] or plans


def _place(layer: FoundLayer, treatment: Treatment) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Return where a layer begins, in mag-1 voxels, and what to say about where that comes from."""
    if treatment.topleft is not None:
        return treatment.topleft, ()
    if layer.offset is None or not any(layer.offset):
        return (0, 0, 0), ()
    x, y, z = layer.offset
    if treatment.orientation.swap_xy:
        x, y = y, x
    begin = (x * treatment.mag.x, y * treatment.mag.y, z * treatment.mag.z)
    return begin, (f"layer '{layer.name}' begins at {begin}, as the metadata say; --topleft (topleft) puts it elsewhere",)


def run_plans(plans: Sequence[Plan], **options: Any) -> list[Report]:
    """Run plans one after the other, after checking all of their targets; ``options`` go to `wkdask.plan.Plan.run`.

    What users should know, such as where the voxel size comes from, is logged.
    """
    for note in dict.fromkeys(note for plan in plans for note in plan.notes):
        LOG.warning("%s", note)
    for plan in plans:
        plan.setup.check()
        plan.check_memory(options.get("memory_limit"))
    return [plan.run(**options) for plan in plans]


def _voxel_size(
    layers: Sequence[FoundLayer], document: Location | None, given: VoxelSize | None, mag: Mag
) -> tuple[VoxelSize, tuple[str, ...]]:
    """Return the voxel size, and what to say about where it comes from."""
    if given is not None:
        return given, ()
    if document is not None and document.is_file():
        return Properties.from_json(document.read_bytes(), str(document)).voxel_size, ()
    found = {layer.voxel_size for layer in layers if layer.voxel_size is not None}
    if len(found) != 1:
        sizes = [str(VoxelSize(size, LengthUnit.NANOMETER)) for size in sorted(found)]
        said = f"they say {' and '.join(sizes)}" if sizes else "they do not say it"
        raise InputError(
            f"The voxel size was not given, and can not be taken from the images: {said}. Give it as voxel_size=(X, Y, Z), or "
            "--voxel-size X,Y,Z on the command line."
        )
    edges = next(iter(found))
    size = VoxelSize((edges[0] / mag.x, edges[1] / mag.y, edges[2] / mag.z), LengthUnit.NANOMETER)
    return size, (f"voxel size {size} as the images' metadata say",)


def _category(layer: FoundLayer) -> str:
    """Return what a layer is by its dtype, its path, and where these suggest labels by its voxels."""
    stack = layer.stack
    if stack.channels > 1 or stack.dtype.startswith("float"):
        return "color"
    if stack.dtype in LABEL_DTYPES:
        return "segmentation"
    if layer.category != "segmentation" and stack.dtype not in LIKELY_LABELS:
        return "color"

    def read(box: Box) -> Array:
        z, y, x = zip(box.start, box.stop, strict=True)
        return stack.read(*z, *y, *x)

    return guess_category(read, stack.shape, stack.dtype)


def _sampler(stack: Stack) -> Callable[[], Iterable[Array]]:
    if isinstance(stack, Volume):
        return stack.samples
    return lambda: sample_planes(partial(_plane, stack), stack.shape[0])


def _plane(stack: Stack, z: int) -> Array:
    """Return a plane; of one that is large, every n-th voxel, as it is read in bands."""
    _, height, width = stack.shape
    rows = -(-max(1, SAMPLE_VOXELS // (width * stack.channels)) // stack.row_step) * stack.row_step
    if rows >= height:
        return stack.read(z, z + 1, 0, height)
    step = -(-height // rows) | 1  # an odd one meets all columns of an image whose width is a power of two
    bands = (stack.read(z, z + 1, y, min(y + rows, height)) for y in range(0, height, rows))
    return np.concatenate([band.reshape(-1)[::step] for band in bands])


def _chunks(stack: Stack, chunk: tuple[int, int, int]) -> Iterator[Array]:
    """Yield some chunks along the diagonal of a stack."""
    for box in diagonal(Box((0, 0, 0), stack.shape), [min(n, PROBED_EDGE) for n in chunk[::-1]]):
        z, y, x = zip(box.start, box.stop, strict=True)
        yield stack.read(*z, *y, *x).transpose()


def _is_done(plan: Plan) -> bool:
    """Whether an earlier run of this very plan made its layer."""
    place = plan.target / WORK_FOLDER / "receipts" / f"{plan.milestones[0].name}.json"
    document = plan.target / FILE_NAME
    if not (place.is_file() and document.is_file()) or plan.journal.key in unfinished_jobs(plan.target):
        return False
    there = Properties.from_json(document.read_bytes(), str(document)).layer_names
    try:
        made_by = json.loads(place.read_bytes()).get("plan")
    except (ValueError, AttributeError):
        return False
    return plan.journal.key in there and made_by == plan.fingerprint
