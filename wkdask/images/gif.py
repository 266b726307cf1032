"""The blocks of a GIF file: how many frames there are and which colours, without decoding any.

Specification: https://www.w3.org/Graphics/GIF/spec-gif89a.txt
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

EXTENSION, IMAGE, END = b"\x21", b"\x2c", b"\x3b"


@dataclass(frozen=True, slots=True)
class GifBlocks:
    """Frames of a GIF file, and whether all colours of all of them are grey."""

    frames: int
    grey: bool


def read_blocks(file: BinaryIO) -> GifBlocks:
    """Walk through a GIF file from its beginning to its end.

    Parameters
    ----------
    file
        At its first byte.

    Raises
    ------
    ValueError
        If it ends before its last block.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (3, 2)).save(file, "GIF", save_all=True, append_images=[Image.new("L", (3, 2), 9)])
    >>> read_blocks(io.BytesIO(file.getvalue()))
    GifBlocks(frames=2, grey=True)
    """
    _exactly(file, 10)
    grey = _table_is_grey(file, _exactly(file, 3)[0])
    frames = 0
    while (kind := _exactly(file, 1)) != END:
        if kind == EXTENSION:
            _exactly(file, 1)
        elif kind == IMAGE:
            frames += 1
            grey = _table_is_grey(file, _exactly(file, 9)[8]) and grey
            _exactly(file, 1)
        else:
            raise ValueError(f"frame {frames} is followed by a block of the unknown kind 0x{kind.hex()}")
        while length := _exactly(file, 1)[0]:
            _exactly(file, length)
    return GifBlocks(frames, grey)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it ends before its last block")
    return data


def _table_is_grey(file: BinaryIO, flags: int) -> bool:
    """Return whether a table of colours is grey; one that is not there is."""
    table = _exactly(file, 3 << (flags & 7) + 1) if flags & 0x80 else b""
    return table[0::3] == table[1::3] == table[2::3]
