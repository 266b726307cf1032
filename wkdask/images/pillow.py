"""PNG, JPEG, BMP and GIF, decoded by pillow a frame at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from wkdask.errors import CorruptImageError, ImageConversionError, UnsupportedImageDataError
from wkdask.images.gif import read_blocks
from wkdask.images.jpeg import is_held_whole
from wkdask.images.picture import Form, reason_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageFile

    from wkdask.images.byte_source import ByteSource

MODES = {
    "1": (1, "uint8", "grey"),
    "L": (1, "uint8", "grey"),
    "LA": (2, "uint8", "samples"),
    "RGB": (3, "uint8", "rgb"),
    "RGBA": (4, "uint8", "rgba"),
    "I;16": (1, "uint16", "grey"),
}
"""What pillow calls a kind of pixels: samples, numpy's type, colour."""
HELD_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""Bytes in which pillow holds a pixel; 4 for all other modes."""
FORMATS = ("PNG", "JPEG", "BMP", "GIF")
BAND = 1 << 16
"""Pixels that are taken out of pillow's picture at once."""
LARGEST_RATIO = 8 * 1040
"""What claims more bytes of pixels than this times its own size is damaged: deflate can do 1032, a bit becomes a byte."""
KEPT_FRAMES = 64 << 20
"""A film whose frames take less is decoded as a whole: each frame builds on the one before."""


@dataclass(frozen=True, slots=True)
class PillowPicture:
    """A parsed picture, or the frames of a GIF; each can only be decoded as a whole.

    ``mode`` is pillow's name for the pixels as they are given out; ``decoded_bytes`` what a plane takes while it is decoded.
    """

    path: str
    form: Form
    mode: str
    decoded_bytes: int
    pages: int = 1
    notes: tuple[str, ...] = ()

    @property
    def dims(self) -> tuple[tuple[str, int], ...]:
        """Frames are planes along z."""
        return (("z", self.pages),) if self.pages > 1 else ()

    @property
    def row_step(self) -> int:
        """Rows that are decoded together: all."""
        return self.form.height

    @property
    def column_step(self) -> int:
        """Columns that are decoded together: all."""
        return self.form.width

    @property
    def colour(self) -> str:
        """What the samples of a plane are."""
        return MODES[self.mode][2]

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

    def read(self, source: ByteSource, page: int, rows: tuple[int, int], columns: tuple[int, int], out: NDArray[Any]) -> None:
        """Fill ``out[y, x, c]`` with a window of the picture."""
        if out.size == 0:
            return
        try:
            if self.pages > 1 and self.pages * self._frame_bytes <= KEPT_FRAMES:
                out[...] = self._film(source)[page][rows[0] : rows[1], columns[0] : columns[1]]
                return
            with source.file() as file:
                image = _opened(self.path, file)
                image.seek(page)
                self._copy(image, rows, columns, out)
        except ImageConversionError:
            raise
        except Exception as error:
            raise CorruptImageError(
                f"Page {page} of '{self.path}' can not be decoded: {reason_of(error)}. Write the file anew, or leave it out."
            ) from error

    @property
    def _frame_bytes(self) -> int:
        return self.form.height * self.form.width * self.form.channels

    def _copy(self, image: Image.Image, rows: tuple[int, int], columns: tuple[int, int], out: NDArray[Any]) -> None:
        """Fill ``out[y, x, c]`` with a window of a picture, a band at a time, as each passes through several copies."""
        import numpy as np

        if image.size != (self.form.width, self.form.height):
            raise ValueError(f"it has {image.size[0]} x {image.size[1]} voxels, expected {self.form}")
        step = max(1, BAND // self.form.width)
        for y in range(*rows, step):
            band = image.crop((columns[0], y, columns[1], min(y + step, rows[1])))
            if band.mode != self.mode:
                band = band.convert(self.mode)
            target = out[y - rows[0] : y - rows[0] + step]
            target[...] = np.asarray(band).reshape(target.shape)

    def _film(self, source: ByteSource) -> list[NDArray[np.generic]]:
        """Return all frames; those of the last film are remembered."""
        import numpy as np

        status = source.status()
        key = self.path, status.st_size, status.st_mtime_ns
        height, width = self.form.height, self.form.width
        with _lock:
            if key not in _films:
                _films.clear()
                frames = []
                with source.file() as file:
                    image = _opened(self.path, file)
                    for page in range(self.pages):
                        image.seek(page)
                        frames.append(np.empty((height, width, self.form.channels), self.form.dtype))
                        self._copy(image, (0, height), (0, width), frames[-1])
                _films[key] = frames
            return _films[key]


_films: dict[tuple[str, int, int], list[Any]] = {}
_lock = threading.Lock()


def parse_with_pillow(path: str, source: ByteSource) -> PillowPicture:
    """Learn the form of a picture from its header.

    Parameters
    ----------
    path
        The file, for messages.
    source
        Its bytes.

    Returns
    -------
    PillowPicture
        With one page, or one for each frame of a GIF.

    Raises
    ------
    CorruptImageError
        If it is not what its name says, or claims an impossible size.
    UnsupportedImageDataError
        If it is an animated PNG, or of a kind whose values pillow would change.
    """
    with source.file() as file:
        image = _opened(path, file)
        _refuse_lost_bits(path, source)
        frames, mode, notes = _frames(path, source, image)
        if mode not in MODES:
            raise UnsupportedImageDataError(
                f"'{path}' has the colour mode {mode}; grey, RGB or RGBA was expected. Save it as one of them."
            )
        channels, dtype, _ = MODES[mode]
        form = Form(image.height, image.width, channels, dtype)
        claimed = image.width * image.height * HELD_BYTES.get(image.mode, 4) * frames
        decoded = _decoded_bytes(image, file, form, frames)
    if claimed == 0 or claimed > source.size * LARGEST_RATIO:
        raise CorruptImageError(
            f"'{path}' declares {claimed} bytes of image data but is {source.size} bytes long; it is truncated "
            "or damaged. Write the file anew, or leave it out."
        )
    return PillowPicture(path, form, mode, decoded + source.held, frames, notes)


def _decoded_bytes(image: ImageFile.ImageFile, file: BinaryIO, form: Form, frames: int) -> int:
    """Return what pillow takes to decode a picture, and what a band of it takes on its way."""
    pixels = form.height * form.width
    band = min(pixels, max(BAND, form.width)) * 16
    if frames > 1:  # a frame, the one before, and what is put in its place, in colour; and all of them, where they are kept
        kept = pixels * form.channels * frames
        return pixels * 20 + band + (kept if kept <= KEPT_FRAMES else 0)
    held = HELD_BYTES.get(image.mode, 4)
    if image.tile[0][0] == "bmp_rle":  # decoded into a buffer that grows, and that is copied
        held += 3
    elif image.format in ("JPEG", "MPO") and is_held_whole(file):
        held += 2 * len(image.getbands())
    return pixels * held + band


def _frames(path: str, source: ByteSource, image: Image.Image) -> tuple[int, str, tuple[str, ...]]:
    """Return how many frames there are, the mode that all of them can be given out in, and notes."""
    mode, notes = _shown_mode(image), []
    frames = getattr(image, "n_frames", 1) if image.format != "GIF" else 1
    if image.format == "PNG" and frames > 1:
        raise UnsupportedImageDataError(
            f"'{path}' is an animated PNG of {frames} frames; one was expected. Save the frames as files of their own."
        )
    if frames > 1:  # photographs with a preview
        notes.append(f"the file holds {frames} pictures; only the first is read")
    if image.format == "GIF":
        try:
            with source.file() as file:
                blocks = read_blocks(file)
        except ValueError as error:
            raise CorruptImageError(
                f"'{path}' is truncated or damaged: {error}. Write the file anew, or leave it out."
            ) from error
        frames, mode = blocks.frames, "L" if blocks.grey else "RGB"
    elif frames > 1:
        frames = 1
    if "transparency" in image.info:
        notes.append("some colours are declared transparent; they are taken as they are")
    if mode == "LA":
        notes.append("the second channel is the opacity")
    if mode == "1":
        notes.append("voxels of 1 bit are taken as the values 0 and 1")
    return frames, mode, tuple(notes)


def _refuse_lost_bits(path: str, source: ByteSource) -> None:
    """Refuse PNG files of which pillow would give other values than are written."""
    head = bytearray(26)
    if source.read_into(memoryview(head), 0) < 26 or head[:8] != b"\x89PNG\r\n\x1a\n":
        return
    depth, kind = head[24], head[25]
    if (depth == 16 and kind != 0) or (depth in (2, 4) and kind == 0):
        raise UnsupportedImageDataError(
            f"'{path}' has {'grey' if kind == 0 else 'colours'} of {depth} bit, of which only "
            f"{'8 or 16' if kind == 0 else '8'} bit can be read without changing the values. Save it as TIFF."
        )


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


def _opened(path: str, file: BinaryIO) -> ImageFile.ImageFile:
    """Return a picture whose header is read.

    `Image.open` does the same, but refuses what has more pixels than a limit of the process, which a large section of tissue
    has. Here the sizes of files and the memory of plans are the limits.
    """
    from PIL import Image

    Image.preinit()
    start = file.read(16)
    try:
        for name in FORMATS:
            factory, accepts = Image.OPEN[name]
            if accepts is not None and accepts(start) is True:
                file.seek(0)
                return factory(file, "")
    except Exception as error:
        raise CorruptImageError(
            f"'{path}' can not be read as an image: {reason_of(error)}. Write the file anew, or leave it out."
        ) from error
    raise CorruptImageError(
        f"'{path}' can not be read as an image: it begins with {start[:8]!r}, which is none of {', '.join(FORMATS)}. "
        "Write the file anew, or leave it out."
    )
