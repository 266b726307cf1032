"""From trees of chunked volumes to the layers they become: OME-NGFF images with their labels, other arrays one each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wkdask.errors import (
    CorruptImageError,
    DamagedError,
    DatasetNotFoundError,
    InputError,
    MetadataError,
    UnsupportedImageDataError,
    UnsupportedImageFormatError,
)
from wkdask.formats import find_format
from wkdask.geometry.grid import Box
from wkdask.images.channels import LayerChannels, layers_of_channels
from wkdask.images.found import FoundLayer, Stack
from wkdask.images.mapping import distinct, layer_name
from wkdask.images.picture import Form
from wkdask.images.selection import Selection
from wkdask.images.stack import shown_times
from wkdask.images.volume import Readable, Volume
from wkdask.images.volume_described import described, finest_scale, own_factors
from wkdask.images.volume_ome import Channel, Described, chosen_dataset, known_axes
from wkdask.images.volume_tree import N5, PRECOMPUTED, Node, walk
from wkdask.storage.zip_files import archive_of

SUFFIXES = (".ozx", ".zip", ".zarr", ".n5", ".precomputed", ".ome")
BIOFORMATS2RAW = "bioformats2raw.layout"
WHITE = (255, 255, 255)
SEGMENTATION_WORDS = ("segmentation", "labels")


@dataclass(frozen=True, slots=True)
class Image:
    """An array that becomes one layer or several: where it lies, what is known of it, and whether it is of labels."""

    node: Node
    name: str
    told: Described | None = None
    above: dict[str, Any] | None = None
    documents: tuple[Node, ...] = ()
    labels: bool = False


@dataclass(frozen=True, slots=True)
class _Channels:
    """What `layers_of_channels` looks at of a picture."""

    form: Form
    dims: tuple[tuple[str, int], ...]
    channel_colors: tuple[tuple[int, int, int] | None, ...]
    channel_names: tuple[str, ...]
    colour = "grey"


def find_volumes(root: Node, selection: Selection) -> list[FoundLayer]:
    """Return the layers that a tree becomes; see `wkdask.images.find_layers`.

    Of the selection, what is said of files has no meaning here: order, gaps, mapping.

    Raises
    ------
    InputError
        Where there are several volumes, or more than allowed.
    MetadataError, UnsupportedImageFormatError, UnsupportedImageDataError
        Where a volume can not be read, or not be layers.
    """
    images = list(_images(root, selection))
    if not images:
        raise UnsupportedImageFormatError(f"'{_shown(root)}' is a group without arrays. Give another, or an image file.")
    notes: tuple[str, ...] = ()
    if not selection.allow_multiple_layers:
        labels = [image.node.path for image in images if image.labels]
        if labels and len(labels) < len(images):
            images = [image for image in images if not image.labels]
            notes = (f"the labels {', '.join(labels)} were left out; each can be given as a volume of its own",)
        if len(images) > 1:
            some = ", ".join(f"'{image.node.path}'" for image in images[:5])
            raise UnsupportedImageDataError(
                f"'{_shown(root)}' holds {len(images)} volumes ({some}), one was expected. Give one of these folders, or let "
                "them become several layers."
            )
    if selection.layer_name is not None:
        several = len(images) > 1
        images = [
            replace(one, name=f"{selection.layer_name}_{one.name}" if several else selection.layer_name) for one in images
        ]
    layers = [layer for image in images for layer in _layers(image, selection, root, notes)]
    _refuse_many(len(layers), selection.max_layers, root)
    return [replace(layer, name=name) for layer, name in zip(layers, distinct(layer.name for layer in layers), strict=True)]


def _refuse_many(count: int, most: int, root: Node) -> None:
    if count > most:
        raise InputError(
            f"'{_shown(root)}' would become {count} layers or more; {most} at most are allowed. Allow more (max_layers), or "
            "give a part of it."
        )


def _shown(node: Node) -> str:
    return str(archive_of(node.place) or node.place)


def _label(root: Node) -> str:
    name = Path(_shown(root)).name
    while (stem := name[: -len(Path(name).suffix)]) and Path(name).suffix.lower() in SUFFIXES:
        name = stem
    return name


def _images(root: Node, selection: Selection) -> Iterator[Image]:
    """Yield all images below a group, in natural order, those of labels behind the image that they belong to."""
    count = 0
    label = _label(root)
    for node in walk(root, _is_image):
        inner = node.path.replace("/", "_")
        for image in _images_of(node, inner or label, selection.scale):
            count += 1
            _refuse_many(count, selection.max_layers, root)
            yield image


def _is_image(node: Node) -> bool:
    ome = node.ome
    if "plate" in ome or "well" in ome:
        what, give = (
            ("plate", "a field of one of its wells, such as A/1/0") if "plate" in ome else ("well", "a field, such as 0")
        )
        raise UnsupportedImageDataError(
            f"'{_shown(node)}' is a {what} of a screen, whose images have no place beside each other. Give {give}."
        )
    return _is_ome(node) or "labels" in ome or BIOFORMATS2RAW in ome or _pyramid(node) is not None


def _is_ome(node: Node) -> bool:
    """Whether a group is an OME-NGFF image; in N5 others say ``multiscales`` too, with a ``transform`` of each level."""
    told = node.ome.get("multiscales")
    first = told[0] if isinstance(told, list) and told and isinstance(told[0], dict) else {}
    levels = first.get("datasets")
    other = isinstance(levels, list) and any(isinstance(level, dict) and "transform" in level for level in levels)
    return "multiscales" in node.ome and not (node.data_format == N5 and other)


def _pyramid(node: Node) -> Node | None:
    """Return the finest level of a pyramid of N5: s0, or in a group that lists factors the array of the least ones."""
    if node.data_format != N5 or node.is_array:
        return None
    finest = node.child("s0")
    if finest is not None and finest.is_array:
        return finest
    listed = node.attributes.get("downsamplingFactors")
    if not isinstance(listed, list) or not all(isinstance(factors, list) for factors in listed):
        return None
    levels = [level for level in node.children() if level.is_array]
    return min(levels, key=lambda level: math.prod(own_factors(level.attributes) or [math.inf]), default=None)


def _images_of(node: Node, name: str, scale: int) -> Iterator[Image]:
    if scale and (node.is_array or node.data_format in (N5, PRECOMPUTED)):
        raise InputError(f"scale is {scale}, but '{_shown(node)}' is no OME-Zarr image with levels. Leave it out.")
    if node.is_array:
        yield Image(node, name, documents=(node,))
    elif BIOFORMATS2RAW in node.ome:
        for child in node.children():
            if child.path.rpartition("/")[2].isdecimal() and "multiscales" in child.ome:
                yield from _images_of(child, f"{name}_{child.path.rpartition('/')[2]}", scale)
    elif _is_ome(node):
        yield _ome_image(node, name, "image-label" in node.ome, scale)
        labels = node.child("labels")
        yield from _labels(labels, f"{name}_", scale) if labels is not None else ()
    elif "labels" in node.ome:
        yield from _labels(node, "", scale)
    elif (finest := _pyramid(node)) is not None:
        yield Image(finest, name, above=node.attributes, documents=(node, finest))


def _labels(group: Node, prefix: str, scale: int) -> Iterator[Image]:
    names = group.ome.get("labels")
    for name in names if isinstance(names, list) else ():
        node = group.child(str(name))
        if node is None or "multiscales" not in node.ome:
            raise MetadataError(f"{group.place} lists the labels {str(name)[:80]!r}, which are no OME image. Correct it.")
        yield _ome_image(node, f"{prefix}{str(name).replace('/', '_')}", True, scale)


def _ome_image(node: Node, name: str, labels: bool, scale: int) -> Image:
    path, told = chosen_dataset(node.ome, str(node.place), scale)
    array = node.child(path)
    if array is None or not array.is_array:
        raise MetadataError(f"{node.place} names the array {path[:80]!r}, which is not there. Restore it, or correct the list.")
    told = told.reversed() if array.data_format == N5 else told  # which counts axes the other way round
    return Image(array, name, told, documents=(node, array), labels=labels)


def _layers(image: Image, selection: Selection, root: Node, notes: tuple[str, ...]) -> list[FoundLayer]:
    """Return the layers of one array: one, or one for each channel."""
    node, where = image.node, str(image.node.place)
    array = _opened(node)
    told = _told(image, len(array.spec.shape), selection.axes)
    if len(told.axes) != len(array.spec.shape):
        raise UnsupportedImageDataError(
            f"{where} has {len(array.spec.shape)} axes, but {len(told.axes)} are named: {', '.join(told.axes)}. Name as many, "
            "such as --axes zyx, in Python axes='zyx'."
        )
    extent = dict(zip(told.axes, array.spec.shape, strict=True))
    if not all(extent.values()):
        raise UnsupportedImageDataError(f"{where} has the shape {array.spec.shape}, without voxels. Give another volume.")
    _probe(array, where)
    offset, note = told.offset
    documents = tuple(one.place / name for one in image.documents for name in one.documents)
    part = shown_times(where, extent.get("t", 1), selection.timepoint)
    volume = Volume(array, told.axes, image.name, documents, part, (*notes, *([note] if note else ())))
    integers = array.spec.dtype.startswith(("uint", "int"))
    declared = "segmentation" if integers and (image.labels or _says_labels(node)) else None
    said = f"{_label(root)}/{node.path}".lower()
    guess = "segmentation" if any(word in said for word in SEGMENTATION_WORDS) else None
    found = FoundLayer(layer_name(image.name), volume, guess, None, told.voxel_size, declared, offset)
    return divided(found, where, extent.get("c", 1), told, selection)


def divided(found: FoundLayer, where: str, count: int, told: Described, selection: Selection) -> list[FoundLayer]:
    """Return the layers of a volume of so many channels: one, or one for each of them.

    Parameters
    ----------
    found, where
        The layer that all of them would be, and how messages call it.
    count
        Channels.
    told
        How they are shown.
    selection
        Which of them, and whether they may become layers.
    """
    return [_of_channels(found, one, told.channels) for one in _channels(where, found.stack, count, told, selection)]


def _says_labels(node: Node) -> bool:
    return node.data_format == PRECOMPUTED and node.document.get("type") == "segmentation"


def _told(image: Image, rank: int, axes: str | None) -> Described:
    """Return what is known of an array, with the axes that the user gave, where that is so."""
    if axes is None:
        return image.told or described(image.node, rank, image.above or {})
    named = known_axes(list(axes), str(image.node.place))
    try:
        told = image.told or described(image.node, rank, image.above or {})
    except UnsupportedImageDataError:
        told = Described(())
    return replace(told, axes=named) if len(named) == len(told.axes) else Described(named)


def _channels(where: str, volume: Stack, count: int, told: Described, selection: Selection) -> list[LayerChannels]:
    """Divide channels into layers, by the rules of images."""
    _, height, width = volume.shape
    colors = tuple(channel.color for channel in told.channels)
    names = tuple(channel.label for channel in told.channels)
    form = Form(height, width, 1, volume.dtype)
    divided, _ = layers_of_channels(where, _Channels(form, (("c", count),), colors, names), selection)  # type: ignore[arg-type]
    if len(divided) < 2 or len(names) != count:
        return divided
    labels = [layer_name(name) if name else "" for name in names]
    known = [label if labels.count(label) == 1 else "" for label in labels]
    return [replace(one, suffix=f"_{label}") if (label := known[one.first]) else one for one in divided]


def _of_channels(found: FoundLayer, one: LayerChannels, told: tuple[Channel, ...]) -> FoundLayer:
    """Return the layer of some channels, shown as the metadata say; white is how layers are shown anyway."""
    volume = found.stack
    part = replace(volume.part, first_channel=one.first, channels=one.count)
    shown = told[one.first] if one.count == 1 and one.first < len(told) and not found.declared else Channel()
    color = one.color or (shown.color if shown.color != WHITE else None)
    name = found.name + one.suffix
    return replace(found, name=name, stack=replace(volume, part=part), color=color, window=shown.window)


def _opened(node: Node) -> Readable:
    """Open an array by its format.

    Raises
    ------
    UnsupportedImageFormatError
        Where the format does not know such voxels, or such chunks.
    """
    place = node.place
    if node.data_format == PRECOMPUTED:
        key, _ = finest_scale(node)
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise MetadataError(f"{place / 'info'} has the key {key[:80]!r}, expected a folder beside it. Correct it.")
        place = place / key
    try:
        return find_format(node.data_format).open(place)
    except (MetadataError, DatasetNotFoundError) as error:
        raise UnsupportedImageFormatError(f"The volume can not be read: {error}") from error


def _probe(array: Readable, where: str) -> None:
    """Read one voxel, so that what can not be decoded is refused before anything is written.

    Raises
    ------
    UnsupportedImageFormatError
        Where it can not.
    """
    try:
        array.read(Box((0,) * len(array.spec.shape), (1,) * len(array.spec.shape)), keep=False)
    except CorruptImageError:  # of a zip file
        raise
    except (DamagedError, InputError) as error:
        raise UnsupportedImageFormatError(
            f"{where} can not be decoded: {str(error)[:400]} Where the codec is foreign, write the volume anew with "
            "another, such as zstd or gzip."
        ) from error
