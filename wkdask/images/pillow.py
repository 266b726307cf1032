"""PNG, JPEG, BMP and GIF, decoded by pillow a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wkdask.errors import CorruptImageError, UnsupportedImageDataError
from wkdask.images.picture import LARGEST_RATIO, Form

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from wkdask.images.byte_source import ByteSource

MODES = {"L": (1, "uint8"), "RGB": (3, "uint8"), "I;16": (1, "uint16")}
WITH_ALPHA = ("LA", "RGBA", "PA", "La", "RGBa")


@dataclass(frozen=True, slots=True)
class PillowPicture:
    """A parsed picture of one page; it can only be decoded as a whole."""

    path: str
    form: Form
    pages: int = 1
    notes: tuple[str, ...] = ()

    @property
    def row_step(self) -> int:
        """Rows that are decoded together: all."""
        return self.form.height

    @property
    def dims(self) -> tuple[tuple[str, int], ...]:
        """No axes lie outside of the one plane."""
        return ()

    @property
    def column_step(self) -> int:
        """Columns that are decoded together: all."""
        return self.form.width

    @property
    def colour(self) -> str:
        """What the samples of a plane are."""
        return "rgb" if self.form.channels == 3 else "grey"

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Pictures know no voxel size."""
        return None

    @property
    def channel_colors(self) -> tuple[tuple[int, int, int], ...]:
        """Pictures know no colours of channels."""
        return ()

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Pictures know no names of channels."""
        return ()

    @property
    def decoded_bytes(self) -> int:
        """Memory that decoding takes at once: all of the picture."""
        form = self.form
        return form.height * form.width * form.channels * (2 if form.dtype == "uint16" else 1)

    def read(self, source: ByteSource, page: int, rows: tuple[int, int], columns: tuple[int, int], out: NDArray[Any]) -> None:
        """Fill ``out[y, x, c]`` with a window of the picture."""
        import numpy as np

        del page
        with source.file() as file:
            image = _opened(self.path, file)
            try:
                pixels = np.asarray(image.convert(_shown_mode(image)) if image.mode == "P" else image)
            except Exception as error:
                raise CorruptImageError(
                    f"Page 0 of '{self.path}' can not be decoded: {error}. Write the file anew, or leave it out."
                ) from error
        out[...] = pixels.reshape(self.form.height, self.form.width, self.form.channels)[
            rows[0] : rows[1], columns[0] : columns[1]
        ]


def parse_with_pillow(path: str, source: ByteSource) -> PillowPicture:
    """Learn the form of a picture from its header.

    Parameters
    ----------
    path
        The file.
    source
        Its bytes.

    Returns
    -------
    PillowPicture
        With one page.

    Raises
    ------
    CorruptImageError
        If it is not what its name says, or claims an impossible size.
    UnsupportedImageDataError
        If it is too large for pillow, has an alpha channel or several frames.
    """
    with source.file() as file:
        image = _opened(path, file)
        frames = getattr(image, "n_frames", 1)
        mode, (width, height) = _shown_mode(image), image.size
    if mode not in MODES or "transparency" in image.info:
        found = "an alpha channel" if mode in WITH_ALPHA or mode in MODES else f"the colour mode {mode}"
        raise UnsupportedImageDataError(
            f"'{path}' has {found} (mode {mode}); expected grey of 8 or 16 bit, or RGB of 8 bit. Save it as grey or RGB."
        )
    if frames != 1:
        raise UnsupportedImageDataError(
            f"'{path}' has {frames} frames; one was expected. Save the frames as files of their own."
        )
    channels, dtype = MODES[mode]
    declared = width * height * channels * (2 if dtype == "uint16" else 1)
    if declared > source.size * LARGEST_RATIO:
        raise CorruptImageError(
            f"'{path}' declares {declared} bytes of image data but is {source.size} bytes long; it is truncated or damaged. "
            "Write the file anew, or leave it out."
        )
    return PillowPicture(path, Form(height, width, channels, dtype))


def _shown_mode(image: Image.Image) -> str:
    """Return the mode of a picture, for one with a palette that of its colours: L where all of them are grey, else RGB.

    Only the header is looked at, and the whole palette, so that the answer is the same for all pictures of a series.
    """
    if image.mode != "P" or image.palette is None:
        return str(image.mode)
    order, colours = image.palette.getdata()
    if order[:3] not in ("RGB", "BGR"):
        return str(image.mode)
    step, table = len(order), bytes(colours)
    return "L" if table[0::step] == table[1::step] == table[2::step] else "RGB"


def _opened(path: str, file: Any) -> Image.Image:
    from PIL import Image

    try:
        return Image.open(file, formats=("PNG", "JPEG", "BMP", "GIF"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnsupportedImageDataError(
            f"'{path}' is larger than pillow decodes safely: {error} Convert it to TIFF with tiles or strips."
        ) from error
    except Exception as error:
        raise CorruptImageError(
            f"'{path}' can not be read as an image: {error}. Write the file anew, or leave it out."
        ) from error
