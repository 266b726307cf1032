"""What a JPEG stream declares, looked at before a decoder makes room for it."""

from __future__ import annotations

import struct
from typing import BinaryIO

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # all kinds of frames, and JPEG-LS
PROGRESSIVE = frozenset([0xC2, 0xC6, 0xCA, 0xCE])
SCAN = 0xDA
ALONE = frozenset([0x01, *range(0xD0, 0xDA)])


def declared_size(data: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) of the first frame of a JPEG stream, or None where there is none.

    Examples
    --------
    >>> declared_size(bytes.fromhex("ffd8 ffc0 0011 08 0010 0020 03 012200 021101 031101"))
    (16, 32)
    """
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in FRAMES:
            rows, columns = struct.unpack_from(">HH", data, at + 5)
            return rows, columns
        if marker == 0xFF:
            at += 1
        else:
            at += 2 if marker in ALONE else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def refuse_other_size(data: bytes, rows: int, columns: int) -> None:
    """Raise ValueError if a JPEG stream is larger than the strip or tile that it should fill.

    Parameters
    ----------
    data
        The stream.
    rows, columns
        Of the strip or tile; encoders may round them up to their blocks.
    """
    size = declared_size(data)
    if size is None:
        raise ValueError("a strip or tile holds no JPEG image")
    if size[0] > rows + 64 or size[1] > columns + 64:
        raise ValueError(f"a JPEG image of {size[1]} x {size[0]} voxels lies in a strip or tile of {columns} x {rows}")


def is_held_whole(file: BinaryIO) -> bool:
    """Return whether a decoder holds the coefficients of a whole picture, as colours or details come one after the other.

    Parameters
    ----------
    file
        At its first byte. Of a damaged stream, the worst is said.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> for progressive in (False, True):
    ...     Image.new("RGB", (8, 8)).save(file := io.BytesIO(), "JPEG", progressive=progressive)
    ...     is_held_whole(io.BytesIO(file.getvalue()))
    False
    True
    """
    file.seek(2)
    components = 255
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        marker, length = head[1], max(2, int.from_bytes(head[2:]))
        if marker in PROGRESSIVE:
            return True
        if marker == 0xFF or marker in ALONE:
            file.seek(-3 if marker == 0xFF else -2, 1)
            continue
        if marker == SCAN:
            return file.read(1) < bytes([components])
        if marker in FRAMES:
            components = (file.read(6) or b"\0")[-1]
            file.seek(length - 8, 1)
        else:
            file.seek(length - 2, 1)
    return True
