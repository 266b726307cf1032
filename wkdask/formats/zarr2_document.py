"""The document of a Zarr 2 array, ``.zarray``: building it, and reading it with nothing taken on trust.

Specification: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html#metadata
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wkdask.errors import MetadataError
from wkdask.formats.chunk_codecs import BLOSC_NAMES, COMPRESSORS, blosc_settings
from wkdask.formats.chunk_document import axis_names, check_grid, whole_numbers
from wkdask.formats.spec import ArraySpec, Codec

_DTYPE = re.compile(r"([<>|])([buif])([1248])")
_KINDS = {"b": "uint", "u": "uint", "i": "int", "f": "float"}
_ENDLESS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

FILTERS = frozenset({"delta", "fixedscaleoffset", "astype", "quantize", "bitround", "packbits", "shuffle"})
CHECKSUMS = frozenset({"adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"})
MAX_FILTERS = 8


@dataclass(frozen=True, slots=True)
class Layout:
    """How an array's chunks lie in their files.

    Parameters
    ----------
    order
        ``F``: first axis fastest, or ``C``: last axis fastest.
    separator
        Between the numbers of a chunk's file: ``.`` or ``/``.
    dtype
        Of the stored voxels, in numpy's spelling with byte order; ``|b1`` for booleans, which are read as uint8.
    compressor, filters
        Settings as numcodecs takes them, as JSON; filters in the order of encoding.
    """

    order: Literal["C", "F"] = "F"
    separator: str = "/"
    dtype: str = "|u1"
    compressor: str | None = None
    filters: tuple[str, ...] = ()


def compressor_of(codec: Codec | None, itemsize: int) -> str | None:
    """Return the settings of a compressor that we write."""
    if codec is None:
        return None
    if codec.name.startswith("blosc"):
        return json.dumps({"id": "blosc", **blosc_settings(codec, itemsize)})
    return json.dumps({"id": codec.name, "level": codec.level})


def build_document(spec: ArraySpec, layout: Layout) -> bytes:
    """Return the ``.zarray`` of an array."""
    fill = spec.fill
    endless = next((name for name, value in _ENDLESS.items() if str(value) == str(fill)), None)
    document = {
        "zarr_format": 2,
        "shape": spec.shape,
        "chunks": spec.chunk,
        "dtype": layout.dtype,
        "order": layout.order,
        "fill_value": endless or fill,
        "filters": [json.loads(f) for f in layout.filters] or None,
        "compressor": json.loads(layout.compressor) if layout.compressor else None,
        "dimension_separator": layout.separator,
    }
    return json.dumps(document, indent=4).encode()


def parse(document: dict[str, Any], names: object = None) -> tuple[ArraySpec, Layout]:
    """Return what a ``.zarray`` says, after checking each thing that we rely on; ``names`` are those of the axes, if known."""
    if document["zarr_format"] != 2:
        raise MetadataError(f"zarr_format is {str(document['zarr_format'])[:80]!r}, expected 2.")
    shape = whole_numbers("shape", document["shape"], least=0)
    chunk = whole_numbers("chunks", document["chunks"])
    stored = document["dtype"]
    dtype = _plain_dtype(stored)
    check_grid(shape, chunk, dtype)
    order, separator = document["order"], document.get("dimension_separator") or "."
    if order not in ("C", "F"):
        raise MetadataError(f"order is {str(order)[:80]!r}, expected 'C' or 'F'.")
    if separator not in (".", "/"):
        raise MetadataError(f"dimension_separator is {str(separator)[:80]!r}, expected '.' or '/'.")
    compressor = document.get("compressor")
    filters = document.get("filters") or []
    if not isinstance(filters, list) or len(filters) > MAX_FILTERS:
        raise MetadataError(f"filters are {str(filters)[:80]}, expected a list of at most {MAX_FILTERS}.")
    layout = Layout(
        order,
        separator,
        stored,
        _checked(compressor, COMPRESSORS, "compressor") if compressor is not None else None,
        tuple(_checked(one, FILTERS | CHECKSUMS | COMPRESSORS, "filter") for one in filters),
    )
    axes = axis_names(names, len(shape))
    return ArraySpec(shape, dtype, axes, chunk, chunk, _codec(compressor), fill=_fill(document["fill_value"], dtype)), layout


def _plain_dtype(stored: object) -> str:
    """Return what voxels become in memory."""
    found = _DTYPE.fullmatch(stored) if isinstance(stored, str) else None
    order, kind, size = found.groups() if found else ("", "", "0")
    good = {"b": "1", "u": "1248", "i": "1248", "f": "48"}.get(kind, "")
    if size not in good or not good or (order == "|") != (size == "1"):
        raise MetadataError(
            f"dtype is {str(stored)[:80]!r}, expected whole numbers, floats of 4 or 8 bytes or |b1, such as '<u2'."
        )
    return f"{_KINDS[kind]}{int(size) * 8}"


def _fill(value: object, dtype: str) -> float:
    if value is None:
        return 0
    if isinstance(value, str) and dtype.startswith("float") and value in _ENDLESS:
        return _ENDLESS[value]
    if isinstance(value, (int, float)) and dtype.startswith("float"):
        return float(value)
    if isinstance(value, (int, float)) and math.isfinite(value) and int(value) == value:
        limits = np.iinfo(dtype)
        if limits.min <= value <= limits.max:
            return int(value)
    raise MetadataError(f"fill_value is {str(value)[:80]!r}, expected a number that {dtype} can hold, or null.")


def _checked(settings: Any, known: frozenset[str], what: str) -> str:
    """Return the settings of a codec as JSON, after refusing those that we do not know or that could do harm."""
    name = settings["id"]
    if name not in known:
        raise MetadataError(f"the {what} is {str(name)[:80]!r}, expected one of {', '.join(sorted(known))}.")
    for key in ("dtype", "astype", "encode_dtype", "decode_dtype"):
        if key in settings:
            _plain_dtype(settings[key])
    size = settings.get("elementsize", 1)
    if type(size) is not int or not 1 <= size <= 64:
        raise MetadataError(f"the elementsize of {name} is {str(size)[:80]}, expected a whole number from 1 to 64.")
    if name == "lzma" and settings.get("format", 1) not in (1, 2):
        raise MetadataError(f"the format of lzma is {str(settings['format'])[:80]}, expected 1 (xz) or 2.")
    if name in FILTERS | CHECKSUMS:
        _constructed(settings)
    return json.dumps(settings)


def _constructed(settings: dict[str, Any]) -> None:
    import numcodecs

    try:
        numcodecs.get_codec(dict(settings))
    except Exception as error:  # noqa: BLE001 - each filter has its own ways to refuse
        raise MetadataError(f"the filter {str(settings)[:160]} is not sound: {str(error)[:160]}.") from None


def _codec(settings: dict[str, Any] | None) -> Codec | None:
    """Return the compressor by our name for it, with its level where it has one."""
    if settings is None:
        return None
    name, level = settings["id"], settings.get("level")
    if name == "blosc":
        cname, level = settings.get("cname", "lz4"), settings.get("clevel", 5)
        if cname not in BLOSC_NAMES:
            raise MetadataError(f"the cname of blosc is {str(cname)[:80]!r}, expected one of {', '.join(BLOSC_NAMES)}.")
        name = f"blosc-{cname}"
    if level is not None and (type(level) is not int or not -131072 <= level <= 22):
        raise MetadataError(f"the level of {name} is {str(level)[:80]}, expected a whole number.")
    return Codec(name, level)
