"""From anything that holds images to the layers it becomes: found, ordered, checked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from wkdask.errors import InputError, UnsupportedImageDataError, UnsupportedImageFormatError
from wkdask.images.channels import layers_of_channels
from wkdask.images.found import FoundLayer, Stack
from wkdask.images.frames import Indexed, find_frames, in_memory
from wkdask.images.mapping import LayerFiles, distinct, group_files
from wkdask.images.numbering import natural_order, numbers_by_pattern, place_slices, varying_numbers
from wkdask.images.picture import Picture, extension_of, parsed
from wkdask.images.places import FilePath, each, joined, name_of, settled, shown
from wkdask.images.selection import ConversionLayerMapping, Selection
from wkdask.images.sources import ImageFiles, image_files
from wkdask.images.stack import Decoding, ImageStack, shown_times
from wkdask.images.volume_find import SEGMENTATION_WORDS, find_volumes
from wkdask.images.volume_tree import tree_at
from wkdask.storage import Location

PROBED_BEFORE_THREADS = 8
SLOW_PROBE_SECONDS = 0.002
MOST_NOTES = 20
Source = str | Path | Sequence[Any] | Indexed
"""Paths; or an array, or frames one behind the other."""
SAME_KIND = {"tiff": "tif", "jpeg": "jpg"}


def find_layers(source: Source, selection: Selection | None = None) -> list[FoundLayer]:
    """Find images, check all of them, and say which layers they become.

    Files of one layer are alike in what a plane is and in the axes around the planes. Their planes follow each other along z
    in the order of the files. Where the first file has several planes along z, others may have more or less of them; where it
    has one, so have all.

    Parameters
    ----------
    source
        A file; a folder or a zip file, with all that lies below; a pattern such as ``em/*.tif`` or ``**/*.png``; or a list
        of files; all may be URLs. Or a chunked volume: a folder or zip file of Zarr, such as OME-Zarr, a
        folder of N5, or of a precomputed volume. Or an array, or a sequence of frames; see `wkdask.images.frames.find_frames`.
    selection
        Which images, in which order, as which layers. Default: ``Selection()``.

    Returns
    -------
    list of FoundLayer
        In the order of their first files, which is natural except in a list; channels in their order.

    Raises
    ------
    InputError
        If there is nothing at the path, the numbering has gaps or doubles, or there are too many layers.
    StorageError
        If a file or folder may not be read.
    UnsupportedImageFormatError
        If no file has a readable extension, kinds are mixed in a layer, or a codec is not installed.
    UnsupportedImageDataError
        If images of one layer differ, or their channels do not fit.
    CorruptImageError
        If a file is truncated or not what its name says.

    Examples
    --------
    >>> import tempfile, numpy, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for z in range(3):
    ...         tifffile.imwrite(f"{folder}/em_{z}.tif", numpy.zeros((4, 5), "uint8"))
    ...     found = find_layers(folder, Selection(layer_name="em"))
    ...     [(layer.name, layer.stack.shape, layer.category) for layer in found]
    [('em', (3, 4, 5), None)]
    """
    chosen = Selection() if selection is None else selection
    source = settled(source)
    if in_memory(source):
        return find_frames(source, chosen)
    if (tree := tree_at(source)) is not None:
        return find_volumes(tree, chosen)
    images = image_files(cast("str | Path | Sequence[str | Path]", source))
    if chosen.scale:
        raise InputError(f"scale is {chosen.scale}, but '{images.label}' has no levels, as OME-Zarr has. Leave it out.")
    if chosen.mapping is ConversionLayerMapping.INSPECT_EVERY_FILE and not chosen.merge:
        _parsed_all(images.folder, images.names)  # remembered, so that the mapping need not parse one by one
    groups = group_files(images, chosen, lambda name: _is_deep(parsed(joined(images.folder, name))))
    _refuse_many(len(groups), chosen, images)
    layers = [layer for group in groups for layer in _layers(images, group, chosen)]
    _refuse_many(len(layers), chosen, images)
    names = distinct(layer.name for layer in layers)
    return [replace(layer, name=name) for layer, name in zip(layers, names, strict=True)]


def find_images(source: Source, missing: str | None = None) -> Stack:
    """Find images that are one stack, check all of them, and say how they follow each other.

    Parameters
    ----------
    source
        As for `find_layers`; all that is found is one stack.
    missing
        What a gap in the numbering of the files becomes, as in `Selection`.

    Returns
    -------
    ImageStack or Volume
        Images in natural order of their names; or a chunked volume.

    Raises
    ------
    WkdaskError
        As `find_layers`; several channels that do not fit into one layer are an `UnsupportedImageDataError`.

    Examples
    --------
    >>> import tempfile, numpy, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for z in range(3):
    ...         tifffile.imwrite(f"{folder}/slice_{z}.tif", numpy.full((4, 5), z, "uint8"))
    ...     stack = find_images(folder)
    ...     stack.shape, stack.dtype, stack.read(1, 3, 0, 4)[:, 0, 0, 0].tolist()
    ((3, 4, 5), 'uint8', [1, 2])
    """
    [layer] = find_layers(source, Selection(missing=missing, merge=True, allow_multiple_layers=False))
    return layer.stack


def _is_deep(picture: Picture) -> bool:
    return any(name in "tz" for name, _ in picture.dims)


def _refuse_many(count: int, selection: Selection, images: ImageFiles) -> None:
    if count > selection.max_layers:
        raise InputError(
            f"The images in '{shown(images.folder)}' would become {count} layers; {selection.max_layers} at most "
            "are allowed. Allow more (max_layers), or choose a mapping that puts more files into one layer."
        )


def _layers(images: ImageFiles, group: LayerFiles, selection: Selection) -> list[FoundLayer]:
    """Return the layers of files that belong together: one, or one for each channel."""
    names, numbers, order = _ordered(group.files, selection, images.listed)
    _refuse_mixed_kinds(images.folder, names)
    plan, notes = place_slices(names, selection.filling, numbers)
    pictures = _parsed_all(images.folder, names)
    dims = _refuse_differences(images.folder, names, pictures)
    channels, left_out = layers_of_channels(joined(images.folder, names[0]), pictures[0], selection)
    part = shown_times(joined(images.folder, names[0]), dict(pictures[0].dims).get("t", 1), selection.timepoint)
    voxel_size, doubt = _voxel_size(names, pictures)
    said = sorted({note for picture in pictures for note in picture.notes})
    if len(said) > MOST_NOTES:
        said[MOST_NOTES:] = [f"and {len(said) - MOST_NOTES} more notes on single files"]
    depths = [dict(picture.dims).get("z", 1) for picture in pictures]
    stack = ImageStack(
        folder=images.folder,
        files=tuple(names),
        plan=plan,
        depths=(depths[0],) if len(set(depths)) == 1 else tuple(depths),
        form=pictures[0].form,
        dims=dims,
        decoding=_decoding(pictures),
        missing=selection.filling,
        notes=(*order, *notes, *left_out, *doubt, *said),
    )
    found = FoundLayer(group.name, stack, _category(images, names), None, voxel_size)
    return [
        replace(
            found,
            name=group.name + one.suffix,
            stack=replace(stack, part=replace(part, first_channel=one.first, channels=one.count)),
            color=one.color,
        )
        for one in channels
    ]


def _ordered(files: Sequence[str], selection: Selection, listed: bool) -> tuple[list[str], list[int] | None, tuple[str, ...]]:
    """Return the files in the order of z, their numbers where gaps are to be looked for, and notes."""
    if selection.z_from_name is not None:
        numbers = numbers_by_pattern(files, selection.z_from_name)
        order = sorted(range(len(files)), key=numbers.__getitem__)
        return [files[index] for index in order], [numbers[index] for index in order], ()
    if selection.sort_key is None and not listed:
        return list(files), varying_numbers(files), ()
    try:
        names = sorted(files, key=selection.sort_key) if selection.sort_key else list(files)
    except TypeError as error:
        raise InputError(f"The sort key's results can not be compared: {error}. Return values of one kind.") from error
    told = varying_numbers(names)
    surprising = not selection.sort_key and names != natural_order(names)
    notes = ("the slices stand in the order of the list, which is not that of their names",) if surprising else ()
    return names, told if told is not None and told == sorted(told) else None, notes


def _refuse_mixed_kinds(folder: FilePath, names: Sequence[str]) -> None:
    found = Counter(map(extension_of, names))
    kinds = Counter[str]()
    for extension, count in found.items():
        kinds[SAME_KIND.get(extension, extension)] += count
    if len(kinds) > 1:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise UnsupportedImageFormatError(
            f"The images of one layer in '{shown(folder)}' are of mixed kinds: {counts}; one was expected. Put each "
            "kind into a folder of its own."
        )


def _parsed_all(folder: FilePath, names: Sequence[str]) -> list[Picture]:
    """Parse all files: by one thread where the disk answers at once (the work is Python's), else by several."""
    if isinstance(folder, Location):
        return each(folder, lambda name: parsed(folder / name), names)
    paths = [joined(folder, name) for name in names]
    parsed(paths[0])  # imports the reader
    begin = time.perf_counter()
    for path in paths[:PROBED_BEFORE_THREADS]:
        parsed(path)
    seconds = (time.perf_counter() - begin) / PROBED_BEFORE_THREADS
    if seconds < SLOW_PROBE_SECONDS:
        return [parsed(path) for path in paths]
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(parsed, paths))


def _refuse_differences(folder: FilePath, names: Sequence[str], pictures: list[Picture]) -> tuple[tuple[str, int], ...]:
    """Return the axes around the planes that all files have, z with extent 0, after checking that they have them."""
    first = pictures[0]
    axes = [name for name, _ in first.dims]
    for name, picture in zip(names, pictures, strict=True):
        alike = (picture.form, _around(picture), picture.colour) == (first.form, _around(first), first.colour)
        if not alike or ("z" in dict(picture.dims) and [axis for axis, _ in picture.dims] != axes):
            raise UnsupportedImageDataError(
                f"Slices differ: '{joined(folder, names[0])}' has {_described(first)}, '{joined(folder, name)}' "
                f"has {_described(picture)}; all slices must be alike. Remove or convert those that differ."
            )
    return tuple((name, 0 if name == "z" else extent) for name, extent in first.dims)


def _around(picture: Picture) -> tuple[tuple[str, int], ...]:
    return tuple(axis for axis in picture.dims if axis[0] != "z")


def _described(picture: Picture) -> str:
    axes = "".join(f", {extent} along {name}" for name, extent in picture.dims)
    return f"{picture.form}{'' if picture.colour == 'grey' else ' ' + picture.colour}{axes}"


def _decoding(pictures: list[Picture]) -> Decoding:
    return Decoding(
        rows=tuple(sorted({picture.row_step for picture in pictures})),
        columns=tuple(sorted({picture.column_step for picture in pictures})),
        plane_bytes=max(picture.decoded_bytes for picture in pictures),
    )


def _voxel_size(names: Sequence[str], pictures: list[Picture]) -> tuple[tuple[float, float, float] | None, tuple[str, ...]]:
    """Return the first voxel size that a file tells, and a note where another file tells another."""
    told = [(name, picture.voxel_size) for name, picture in zip(names, pictures, strict=True) if picture.voxel_size]
    if not told:
        return None, ()
    others = [name for name, size in told if size != told[0][1]]
    note = (f"'{told[0][0]}' and '{others[0]}' tell different voxel sizes; the first counts",) if others else ()
    return told[0][1], note


def _category(images: ImageFiles, names: Sequence[str]) -> str | None:
    source = name_of(images.folder)
    paths = [f"{source}/{name}".lower() for name in names]
    return "segmentation" if all(any(word in path for word in SEGMENTATION_WORDS) for path in paths) else None
