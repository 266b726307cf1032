"""Which channels of an image become layers together, and in which colours."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

from wkdask.errors import InputError, UnsupportedImageDataError
from wkdask.images.picture import Picture
from wkdask.images.places import FilePath
from wkdask.images.selection import Selection

Color = tuple[int, int, int]
PRIMARIES: tuple[Color, ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
GOLDEN_ANGLE = (3 - math.sqrt(5)) / 2
"""As a part of the circle."""
MOST_NAMED = 6


@dataclass(frozen=True, slots=True)
class LayerChannels:
    """Channels that lie side by side in the voxels of one layer.

    Attributes
    ----------
    first, count
        Counted through the samples of a plane, then through the planes.
    color
        To show the layer in, where it is one channel of several.
    suffix
        What tells the layer's name from those of the other channels; "" where it is the only one.
    """

    first: int
    count: int
    color: Color | None = None
    suffix: str = ""


def layers_of_channels(path: FilePath, picture: Picture, selection: Selection) -> tuple[list[LayerChannels], tuple[str, ...]]:
    """Divide the channels of an image into layers.

    One channel is a layer. Red, green and blue of uint8 are a layer together, and so are three channels of uint8 whatever
    they show. All others become one layer each, also colours of more than 8 bits, which WEBKNOSSOS does not mix.

    Parameters
    ----------
    path
        For messages.
    picture
        The parsed image.
    selection
        Its `channel`, `truncate_rgba_to_rgb`, `allow_multiple_layers` and `max_layers` count.

    Returns
    -------
    layers : list of LayerChannels
        In the order of the channels.
    notes : tuple of str
        What was left out.

    Raises
    ------
    InputError
        If there is no such channel, or there would be more layers than allowed.
    UnsupportedImageDataError
        If there would be several layers, and that is not allowed.
    """
    samples = picture.form.channels
    planes = dict(picture.dims).get("c", 1)
    total = samples * planes
    if selection.channel is not None:
        if not 0 <= selection.channel < total:
            raise InputError(
                f"'{path}' has no channel {selection.channel}; it has {total}, counted from 0. Choose one of those."
            )
        return [LayerChannels(selection.channel, 1, _told_color(picture, selection.channel, total))], ()
    shown = 3 if picture.colour == "rgba" and selection.truncate_rgba_to_rgb else samples
    notes = ("alpha was left out",) if shown < samples else ()
    small = picture.form.dtype == "uint8"
    mixed = small and shown == 3 and (picture.colour in ("rgb", "rgba") or planes == 1)
    if not mixed and (total == 1 or (small and total == 3)):
        return [LayerChannels(0, total)], notes
    if mixed and planes == 1:
        return [LayerChannels(0, 3)], notes
    if not selection.allow_multiple_layers:
        _refuse_channels(path, picture, total)
    count = planes if mixed else planes * shown
    if count > selection.max_layers:  # before there is a list of them: a document may claim any number
        raise InputError(
            f"'{path}' would become {count} layers; {selection.max_layers} at most are allowed. Allow more (max_layers), or "
            "choose one of its channels (channel)."
        )
    if mixed:
        layers = [LayerChannels(plane * samples, 3) for plane in range(planes)]
    else:
        channels = [plane * samples + sample for plane in range(planes) for sample in range(shown)]
        layers = [LayerChannels(channel, 1) for channel in channels]
    return [_named(picture, layer, index, total) for index, layer in enumerate(layers)], notes


def _named(picture: Picture, layer: LayerChannels, index: int, total: int) -> LayerChannels:
    suffix = f"__channel{index}"
    if layer.count > 1:
        return LayerChannels(layer.first, layer.count, None, suffix)
    told = _told_color(picture, layer.first, total) if len(set(picture.channel_colors)) > 1 else None
    return LayerChannels(layer.first, 1, told or default_color(index), suffix)


def _told_color(picture: Picture, channel: int, total: int) -> Color | None:
    """Return the colour that the file gives a channel, where it tells of each of them."""
    return picture.channel_colors[channel] if total > 1 and len(picture.channel_colors) == total else None


def default_color(index: int) -> Color:
    """Return the colour of a channel that has none: red, green, blue, then hues one golden angle apart.

    Examples
    --------
    >>> [default_color(index) for index in (0, 1, 2, 3)]
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 223, 0)]
    """
    if index < len(PRIMARIES):
        return PRIMARIES[index]
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(index * GOLDEN_ANGLE % 1, 1, 1))
    return red, green, blue


def _refuse_channels(path: FilePath, picture: Picture, total: int) -> None:
    names = [f"'{name}'" for name in picture.channel_names[:MOST_NAMED]] if len(picture.channel_names) == total else []
    named = f" ({', '.join(names)}{', ...' if total > MOST_NAMED else ''})" if names else ""
    raise UnsupportedImageDataError(
        f"'{path}' has {total} channels{named} of {picture.form.dtype}, which are {picture.colour}; a layer holds one, or "
        f"three of uint8. Choose one of 0 to {total - 1} (channel), or let them become several layers."
    )
